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
	"unsafe"
)

// disk is a file system of its own, in an image.
type disk struct {
	t     testing.TB
	image string
	dir   string
}

// newDisk makes a file system. ext4 commits its journal by itself only every ten
// minutes: what is not synced is lost in a power cut.
func newDisk(t testing.TB, mib int) *disk {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("only root can mount file systems")
	}
	d := &disk{t: t, image: filepath.Join(t.TempDir(), "image"), dir: filepath.Join(t.TempDir(), "disk")}
	if err := errors.Join(os.WriteFile(d.image, nil, 0o600), os.Truncate(d.image, int64(mib)<<20), os.Mkdir(d.dir, 0o700)); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("mkfs.ext4", "-q", "-F", d.image).CombinedOutput(); err != nil {
		t.Skipf("no file system can be made: %v: %s", err, out)
	}
	if err := d.mount(); err != nil {
		t.Skipf("no file system can be mounted: %v", err)
	}
	t.Cleanup(d.unmount)
	return d
}

func (d *disk) mount() error {
	out, err := exec.Command("mount", "-o", "loop,commit=600", d.image, d.dir).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%w: %s", err, strings.TrimSpace(string(out)))
	}
	return nil
}

// unmount takes it away, whoever uses it.
func (d *disk) unmount() { _ = exec.Command("umount", "-l", d.dir).Run() }

// cut ends the file system as it is on the disk: nothing that is only in memory
// is written any more, and everything fails from now on. A sync that is under way
// may still succeed, though the journal that it waits for is given up: what is
// acknowledged during a cut says nothing, as there would be no power to do it.
func (d *disk) cut() {
	d.t.Helper()
	const shutdown, noFlush = 0x8004587d, 2
	dir, err := os.Open(d.dir)
	if err != nil {
		d.t.Fatal(err)
	}
	defer dir.Close()
	how := uint32(noFlush)
	if _, _, errno := syscall.Syscall(syscall.SYS_IOCTL, dir.Fd(), shutdown, uintptr(unsafe.Pointer(&how))); errno != 0 {
		d.t.Skipf("this kernel cannot cut a file system off: %v", errno)
	}
}

// After a power cut, everything is there that was acknowledged.
func TestPowerCut(t *testing.T) {
	onlySQLite(t)
	d := newDisk(t, 256)
	dir := filepath.Join(d.dir, "inbox")
	var ids []string
	for round := range soakRounds(4) {
		if round%40 == 39 { // the disk is not large
			_ = os.RemoveAll(dir)
			ids = nil
		}
		p := startHelper(t, dir, fmt.Sprint("HELPER_PREFIX=", round))
		for range 40 + 30*(round%4) {
			id, more := <-p.stored
			if !more {
				t.Fatalf("the helper has ended: %s", p.stderr.String())
			}
			ids = append(ids, id)
		}
		ids = append(ids, p.seen()...)
		d.cut()
		p.kill(0)
		d.unmount()
		if err := d.mount(); err != nil {
			t.Fatal(err)
		}
		s := openTest(t, testOptions(t, dir))
		checkKept(t, s, ids)
		_ = s.Close()
	}
}

// The same while reports are delivered: each that was acknowledged is waiting, or
// was delivered as it was.
func TestPowerCutWhileDelivering(t *testing.T) {
	onlySQLite(t)
	d := newDisk(t, 256)
	dir := filepath.Join(d.dir, "inbox")
	var ids []string
	took := make(map[string][]string)
	for round := range soakRounds(3) {
		p := startHelper(t, dir, "HELPER_DELIVER=1", fmt.Sprint("HELPER_PREFIX=", round))
		for range 60 + 50*(round%4) {
			id, more := <-p.stored
			if !more {
				t.Fatalf("the helper has ended: %s", p.stderr.String())
			}
			ids = append(ids, id)
		}
		ids = append(ids, p.seen()...)
		d.cut()
		p.kill(0)
		for id, digests := range p.took {
			took[id] = append(took[id], digests...)
		}
		d.unmount()
		if err := d.mount(); err != nil {
			t.Fatal(err)
		}
		s := openTest(t, testOptions(t, dir))
		checkOnce(t, s, ids, took)
		_ = s.Close()
	}
}

// A disk that fails while the store is open: reports are refused, none is
// acknowledged that is not there, and when the disk is back, so is the store.
func TestDiskFailsAndComesBack(t *testing.T) {
	onlySQLite(t)
	d := newDisk(t, 64)
	dir := filepath.Join(d.dir, "inbox")
	s := openTest(t, testOptions(t, dir))
	var ids []string
	for i := range 20 {
		id := fmt.Sprint("before-", i)
		mustPut(t, s, testHead(id), bodyOf(id))
		ids = append(ids, id)
	}
	d.cut()
	for i := range 10 {
		id := fmt.Sprint("during-", i)
		if _, err := put(s, testHead(id), bodyOf(id)); !errors.Is(err, ErrUnavailable) {
			t.Errorf("got %v, want %v", err, ErrUnavailable)
		}
	}
	if err := s.Ready(); !errors.Is(err, ErrUnavailable) {
		t.Errorf("got %v from Ready, want %v", err, ErrUnavailable)
	}
	eventually(t, "the disk can be unmounted, since nothing on it is open", func() bool { return exec.Command("umount", d.dir).Run() == nil })
	if err := s.Ready(); !errors.Is(err, ErrUnavailable) {
		t.Errorf("got %v from Ready with nothing mounted, want %v", err, ErrUnavailable)
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v, want that no inbox is begun where the disk should be", err)
	}
	if err := d.mount(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the store is ready again", func() bool { return s.Ready() == nil })
	for i := range 10 {
		id := fmt.Sprint("after-", i)
		mustPut(t, s, testHead(id), bodyOf(id))
		ids = append(ids, id)
	}
	_ = s.Close()
	s = openTest(t, testOptions(t, dir))
	checkKept(t, s, ids)
}
