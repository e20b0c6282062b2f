package inbox

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// newTmpfs mounts a small file system.
func newTmpfs(t testing.TB, options string) string {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("only root can mount file systems")
	}
	dir := t.TempDir()
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", options, "tmpfs", dir).CombinedOutput(); err != nil {
		t.Skipf("no file system can be mounted: %v: %s", err, out)
	}
	t.Cleanup(func() { _ = exec.Command("umount", "-l", dir).Run() })
	return dir
}

// fillUp writes to a file until the disk is full.
func fillUp(t testing.TB, path string) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, size := range []int{64 << 10, 4096, 512, 1} {
		for block := make([]byte, size); ; {
			if _, err := f.Write(block); err != nil {
				break
			}
		}
	}
}

// A full disk refuses reports. What is there is delivered and removed even when
// others have taken the last byte, and then there is room again.
func TestFullDisk(t *testing.T) {
	onlySQLite(t)
	t.Run("files", func(t *testing.T) {
		for range soakRounds(1) {
			onFullDisk(t, 150_000, func(_ *testing.T, f *fullDisk) { f.drain(f.fill(0)) })
		}
	})
	t.Run("rows", func(t *testing.T) {
		n := 0
		onFullDisk(t, 10_000, func(_ *testing.T, f *fullDisk) { n = len(f.fill(0)) })

		// The reports that came last are in the log only: to write them to
		// where they belong needs room that is not there.
		onFullDisk(t, 10_000, func(t *testing.T, f *fullDisk) {
			f.drain(f.fill(n - 10))
			if !strings.Contains(f.log.String(), "uses its reserve") {
				t.Error("got rid of all reports without the reserve, want that it is needed")
			}
		})
	})
	t.Run("an empty log", func(t *testing.T) {
		onFullDisk(t, 10_000, func(t *testing.T, f *fullDisk) {
			var uids []string
			for range 20 {
				uids = append(uids, mustPut(t, f.s, testHead("a"), f.body).UID)
			}
			// To empty it once more gives back nothing.
			if err := f.s.base.(*sqlite).tidy(t.Context()); err != nil {
				t.Fatal(err)
			}
			fillUp(t, filepath.Join(f.disk, "other"))
			for _, uid := range uids {
				end(t, f.s, uid, "delivered")
			}
		})
	})
}

// onFullDisk runs a test with a store on a small disk, in a bubble: it tidies up
// only while the test waits.
func onFullDisk(t *testing.T, size int, test func(*testing.T, *fullDisk)) {
	t.Helper()
	disk := newTmpfs(t, "size=8m")
	synctest.Test(t, func(t *testing.T) { test(t, newFullDisk(t, disk, size)) })
}

// fullDisk is a store on a disk that gets full.
type fullDisk struct {
	t    testing.TB
	disk string
	s    *Store
	log  *logBuffer
	body []byte
}

func newFullDisk(t testing.TB, disk string, size int) *fullDisk {
	t.Helper()
	f := &fullDisk{t: t, disk: disk, body: randomBody(size)}
	dir := filepath.Join(f.disk, "inbox")
	var o Options
	o, f.log = quietOptions(dir)
	f.s = openTest(t, o)
	mustPut(t, f.s, testHead("a"), f.body)
	f.s.base.(*sqlite).makeReserve()
	return f
}

// fill stores reports until there is no room any more, those from n on in the
// log only.
func (f *fullDisk) fill(n int) (uids []string) {
	f.t.Helper()
	for {
		if n > 0 && len(uids) == n {
			err := f.s.submit(f.t.Context(), &op{raw: func(w *writer) error {
				return errors.Join(w.checkpoint(), w.pragma("PRAGMA wal_autocheckpoint = 0"))
			}})
			if err != nil {
				f.t.Fatal(err)
			}
		}
		receipt, err := put(f.s, testHead("a"), f.body)
		if errors.Is(err, ErrFull) && len(uids) > 5 {
			break
		}
		if err != nil {
			f.t.Fatalf("got %v after %d reports, want %v after more", err, len(uids), ErrFull)
		}
		uids = append(uids, receipt.UID)
	}
	if err := f.s.submit(f.t.Context(), &op{raw: func(w *writer) error { return w.pragma("PRAGMA wal_autocheckpoint = 64") }}); err != nil {
		f.t.Fatal(err)
	}
	if err := f.s.Ready(); !errors.Is(err, ErrFull) {
		f.t.Errorf("got %v from Ready, want %v", err, ErrFull)
	}
	return uids
}

// drain delivers the reports while there is not a byte left.
func (f *fullDisk) drain(uids []string) {
	f.t.Helper()
	other := filepath.Join(f.disk, "other")
	fillUp(f.t, other)
	for _, uid := range uids {
		end(f.t, f.s, uid, "delivered")
	}
	if err := os.Remove(other); err != nil {
		f.t.Fatal(err)
	}
	eventually(f.t, "there is room again", func() bool {
		info, err := os.Stat(f.s.files.path(dbName))
		return f.s.Ready() == nil && err == nil && info.Size() < 1<<20
	})
	if again := f.fill(0); len(again) < len(uids)*3/4 {
		f.t.Errorf("got room for %d reports, want as many as before (%d)", len(again), len(uids))
	}
	if n := len(reportIDs(f.t, f.s)); n != len(readAllBodies(f.t, f.s)) {
		f.t.Errorf("got %d reports that can be read, want all %d", len(readAllBodies(f.t, f.s)), n)
	}
}

// A disk that gets full while bodies and rows are written: what fails is not
// acknowledged, and leaves nothing behind.
func TestDiskFullAtAnyPoint(t *testing.T) {
	onlySQLite(t)
	disk := newTmpfs(t, "size=32m")
	dir := filepath.Join(disk, "inbox")
	s := openTest(t, testOptions(t, dir))
	other := filepath.Join(disk, "other")
	var ids []string
	points := []string{atWrite, atWritten, atSynced, atRenamed, atFolder, atCommit}
	for round := range soakRounds(1) * len(points) {
		if round > 0 && round%len(points) == 0 { // make room for the next
			for _, r := range mustList(t, s) {
				end(t, s, r.UID, "delivered")
			}
			ids = nil
		}
		point := points[round%len(points)]
		s.files.fault = func(at string) error {
			if at == point {
				fillUp(t, other)
			}
			return nil
		}
		for i := range 10 {
			id := fmt.Sprint(point, i)
			if round >= len(points) {
				id = fmt.Sprint(round, id)
			}
			_, err := put(s, testHead(id), bodyOf(id))
			if err != nil && !errors.Is(err, ErrFull) {
				t.Errorf("%s: got %v, want %v or none", point, err, ErrFull)
			}
			if err == nil {
				ids = append(ids, id)
			}
		}
		s.files.fault = nil
		// Bodies that stand in their rows never come to some of the points.
		if err := os.Remove(other); err != nil && round < len(points) {
			t.Fatalf("%s: %v", point, err)
		}
		eventually(t, "there is room again", func() bool { return s.Ready() == nil })
		checkKept(t, s, ids)
	}
	if len(ids) == 0 {
		t.Error("got none stored, want those for which there was room")
	}
}

func mustList(t testing.TB, s *Store) []Record {
	t.Helper()
	records, err := s.List(t.Context(), Filter{State: Waiting}, Page{Limit: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	return records
}

// No file can be made any more, though there is space.
func TestNoInodes(t *testing.T) {
	onlySQLite(t)
	disk := newTmpfs(t, "size=256m,nr_inodes=30")
	s := openTest(t, testOptions(t, filepath.Join(disk, "inbox")))
	body := randomBody(ownFile)
	var uids []string
	var err error
	for i := range 40 {
		var receipt Receipt
		if receipt, err = put(s, testHead(fmt.Sprint(i)), body); err != nil {
			break
		}
		uids = append(uids, receipt.UID)
	}
	if !errors.Is(err, ErrFull) {
		t.Fatalf("got %v, want %v", err, ErrFull)
	}
	if err := s.Ready(); !errors.Is(err, ErrFull) {
		t.Errorf("got %v from Ready, want %v", err, ErrFull)
	}
	for _, uid := range uids {
		end(t, s, uid, "delivered")
	}
	if err := s.Ready(); err != nil {
		t.Errorf("got %v from Ready, want none", err)
	}
	mustPut(t, s, testHead("again"), body)
}

// A disk that cannot be written is not opened, and is when it can.
func TestReadOnly(t *testing.T) {
	onlySQLite(t)
	disk := newTmpfs(t, "size=16m")
	dir := filepath.Join(disk, "inbox")
	s := openTest(t, testOptions(t, dir))
	mustPut(t, s, testHead("a"), bodyOf("a"))
	_ = s.Close()
	remount := func(mode string) {
		t.Helper()
		if out, err := exec.Command("mount", "-o", "remount,"+mode, disk).CombinedOutput(); err != nil {
			t.Skipf("%v: %s", err, out)
		}
	}
	remount("ro")
	if s, err := Open(t.Context(), testOptions(t, dir)); !errors.Is(err, ErrUnavailable) || !strings.Contains(err.Error(), "read-only") {
		t.Errorf("got %v and %v, want that it is read-only", s, err)
	}
	remount("rw")
	s = openTest(t, testOptions(t, dir))
	checkKept(t, s, []string{"a"})
}

// unprivileged starts a helper that is not root, so that modes mean something.
func unprivileged(t testing.TB, dir string, env ...string) *process {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("only root can start somebody else's process")
	}
	const nobody = 65534
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(exe)
	if err != nil {
		t.Fatal(err)
	}
	own, err := os.MkdirTemp("", "inbox-helper")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(own) })
	exe = filepath.Join(own, "helper")
	err = errors.Join(os.Chmod(own, 0o755), os.WriteFile(exe, data, 0o755), os.Chmod(filepath.Dir(dir), 0o755), os.Chmod(filepath.Dir(filepath.Dir(dir)), 0o755),
		os.Chown(dir, nobody, nobody))
	if err != nil {
		t.Fatal(err)
	}
	return startProcess(t, exe, dir, &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}, env...)
}

// Somebody changes the modes of the folders while the store is open.
func TestModesChange(t *testing.T) {
	onlySQLite(t)
	dir := filepath.Join(t.TempDir(), "inbox")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	p := unprivileged(t, dir)
	var ids []string
	take := func(n int) {
		t.Helper()
		for range n {
			select {
			case id, more := <-p.stored:
				if !more {
					t.Fatalf("the helper has ended: %s", p.stderr.String())
				}
				ids = append(ids, id)
			case <-time.After(20 * time.Second):
				t.Fatalf("nothing is stored any more: %s", p.stderr.String())
			}
		}
	}
	take(20)
	for _, folder := range []string{tmpName, bodiesName} {
		failed := strings.Count(p.stderr.String(), "permission denied")
		if err := os.Chmod(filepath.Join(dir, folder), 0); err != nil {
			t.Fatal(err)
		}
		eventually(t, "reports are refused", func() bool { return strings.Count(p.stderr.String(), "permission denied") > failed })
		if err := os.Chmod(filepath.Join(dir, folder), 0o700); err != nil {
			t.Fatal(err)
		}
		take(len(p.stored) + 20)
	}
	ids = append(ids, p.kill(0)...)
	s := openTest(t, testOptions(t, dir))
	checkKept(t, s, ids)
}

func TestUnwritableDirectory(t *testing.T) {
	onlySQLite(t)
	dir := filepath.Join(t.TempDir(), "inbox")
	if err := os.Mkdir(dir, 0o500); err != nil {
		t.Fatal(err)
	}
	p := unprivileged(t, dir)
	p.kill(1)
	if got := p.stderr.String(); !strings.Contains(got, "permission denied") || !strings.Contains(got, dir) {
		t.Errorf("got %q, want that permission is denied for the directory", got)
	}
}

// A process without file handles refuses the reports for which it needs one,
// and takes them when it has some again.
func TestNoFileHandles(t *testing.T) {
	onlySQLite(t)
	dir := filepath.Join(t.TempDir(), "inbox")
	p := startHelper(t, dir, "HELPER_HANDLES=1")
	ids := p.kill(1_000_000)
	if got := p.stderr.String(); !strings.Contains(got, "too many open files") || !strings.Contains(got, "handles are back") {
		t.Errorf("got %q, want that there are no handles for a while", got)
	}
	s := openTest(t, testOptions(t, dir))
	checkKept(t, s, ids)
}

// A store whose disk has been filled by somebody opens all the same, so that
// what is there can leave.
func TestOpensOnAFullDisk(t *testing.T) {
	onlySQLite(t)
	for _, test := range []struct {
		name    string
		size    int
		reserve bool
	}{{"rows", 10_000, true}, {"files", 150_000, true}, {"without a reserve", 10_000, false}} {
		t.Run(test.name, func(t *testing.T) {
			onFullDisk(t, test.size, func(t *testing.T, f *fullDisk) { testOpensOnAFullDisk(t, f, test.reserve) })
		})
	}
}

func testOpensOnAFullDisk(t *testing.T, f *fullDisk, reserve bool) {
	t.Helper()
	uids := f.fill(0)
	err := f.s.write(t.Context(), func(tx *tx) error { // some of it was under way
		return tx.exec(`UPDATE deliveries SET claimed_by = 'test', claimed_until = 1`)
	})
	if err != nil {
		t.Fatal(err)
	}
	elsewhere := killed(t, f.s)
	_ = f.s.Close()
	dir := f.s.dir
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	copyFiles(t, dir, elsewhere)
	if !reserve {
		_ = os.Remove(filepath.Join(dir, reserveName))
	}
	_ = os.Remove(filepath.Join(dir, dbName+"-shm")) // after a power cut, there is none
	other := filepath.Join(f.disk, "other")
	fillUp(t, other)
	var o Options
	o, f.log = quietOptions(dir)
	if !reserve {
		if _, err := Open(t.Context(), o); !errors.Is(err, ErrFull) {
			t.Errorf("got %v with no room at all, want %v", err, ErrFull)
		}
		giveBack(t, other, 200_000)
	}
	f.s = openTest(t, o)
	if n := len(readAllBodies(t, f.s)); n != len(uids)+1 {
		t.Errorf("got %d bodies, want %d", n, len(uids)+1)
	}
	for _, uid := range uids {
		end(t, f.s, uid, "delivered")
	}
	if err := os.Remove(other); err != nil {
		t.Fatal(err)
	}
	eventually(t, "there is room again", func() bool { return f.s.Ready() == nil })
}

// giveBack shortens a file.
func giveBack(t testing.TB, path string, n int64) {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, info.Size()-n); err != nil {
		t.Fatal(err)
	}
}
