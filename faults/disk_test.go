package faults

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
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

// The disk is filled up by others while reports wait, and by the reports themselves.
// Then reports are refused, and Caddy runs on; with space again, it takes them.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	u, s := newUpstream(t), newSender(t)
	config := newSetup(t, u.URL)
	disk := newTmpfs(t, "size=32m")
	config.dir = filepath.Join(disk, "inbox")
	p := start(t, config)
	refused := func(when string) {
		t.Helper()
		for _, size := range []int{300, 200_000} {
			id := fmt.Sprint(when, "-", size)
			s.wantRefused(p.url, id, size)
		}
	}
	for round := range min(soakRounds(1), 5) {
		u.answers(status(http.StatusServiceUnavailable))
		for n := range 10 {
			id := fmt.Sprintf("before-%d-%d", round, n)
			s.mustPost(p.url, id, reportOf("pf_loans", id, 300+40_000*n))
		}
		// What waits for ten seconds has some room kept for its end.
		eventually(t, "the reserve", func() bool { _, err := os.Stat(filepath.Join(config.dir, "reserve")); return err == nil })
		// While the disk is filled up, nothing is written that would use the reserve: what
		// that gives back would be filled up as well.
		held, released := make(chan struct{}, 1), make(chan struct{})
		release := sync.OnceFunc(func() { close(released) })
		t.Cleanup(release)
		u.answers(func(w http.ResponseWriter, _ *http.Request, _ string) {
			select {
			case held <- struct{}{}:
			default:
			}
			<-released
			w.WriteHeader(http.StatusServiceUnavailable)
		})
		<-held // the one attempt at a time of a route that fails
		other := filepath.Join(disk, "other")
		fillUp(t, other)
		refused(fmt.Sprint("others-", round))
		p.wantAlive()
		// What waits is delivered while there is not a byte left.
		u.answers(nil)
		release()
		eventually(t, "what waits to be delivered on a full disk", func() bool { return s.delivered(u) })
		if err := os.Remove(other); err != nil {
			t.Fatal(err)
		}
		s.eventually(p.url, fmt.Sprint("space-", round))

		u.answers(status(http.StatusServiceUnavailable))
		n := 0
		for ; n < 1000; n++ {
			id := fmt.Sprintf("until-%d-%d", round, n)
			if !s.takenSoon(p.url, id, reportOf("pf_loans", id, 300_000)) {
				break
			}
		}
		if n < 50 || n == 1000 {
			t.Errorf("got %d reports of 300 kB on a disk of 32 MB, want about 90", n)
		}
		refused(fmt.Sprint("itself-", round))
		u.answers(nil)
		s.drain(p, u)
		s.eventually(p.url, fmt.Sprint("drained-", round))
	}
	s.drain(p, u)
}

// wantRefused sends a report for which there must be no room. The answer comes before
// a large body has been sent: then it may be lost with the connection.
func (s *sender) wantRefused(url, id string, size int) {
	s.t.Helper()
	got := s.once(url, id, reportOf("pf_loans", id, size))
	if got != http.StatusServiceUnavailable && (got != 0 || size < 100_000) {
		s.t.Errorf("got status %d for %s with %d bytes, want 503", got, id, size)
	}
}

// takenSoon sends a report for a few seconds. A disk is full when it stays so: the
// log of the database gives some of it back when it is low.
func (s *sender) takenSoon(url, id string, body []byte) bool {
	for range 30 {
		if s.once(url, id, body) == http.StatusOK {
			return true
		}
		<-time.After(100 * time.Millisecond)
	}
	return false
}

// eventually sends a report until it is taken.
func (s *sender) eventually(url, id string) {
	s.t.Helper()
	body := reportOf("pf_loans", id, 70_000)
	eventually(s.t, "a report to be taken again", func() bool { return s.once(url, id, body) == http.StatusOK })
}

// delivered tells whether the upstream has all that was answered 200.
func (s *sender) delivered(u *upstream) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id := range s.acked {
		if u.accepted(id) == 0 {
			return false
		}
	}
	return true
}

// The directory is moved away while Caddy has it open, and comes back.
func TestDirectoryGoesAndComesBack(t *testing.T) {
	t.Parallel()
	u, s := newUpstream(t), newSender(t)
	u.answers(status(http.StatusServiceUnavailable))
	config := newSetup(t, u.URL)
	p := start(t, config)
	s.mustPost(p.url, "before", reportOf("pf_loans", "before", 300))
	s.mustPost(p.url, "before-large", reportOf("pf_loans", "before-large", 200_000))
	for round := range soakRounds(2) {
		away := config.dir + "-away"
		if err := os.Rename(config.dir, away); err != nil {
			t.Fatal(err)
		}
		for _, size := range []int{300, 200_000} {
			s.wantRefused(p.url, fmt.Sprintf("refused-%d-%d", round, size), size)
		}
		p.wantAlive()
		if err := os.Rename(away, config.dir); err != nil {
			t.Fatal(err)
		}
		s.eventually(p.url, fmt.Sprint("back-", round))
	}
	u.answers(nil)
	s.drain(p, u)
}

// A disk that can only be read keeps Caddy from nothing but taking reports.
func TestReadOnlyDisk(t *testing.T) {
	t.Parallel()
	u, s := newUpstream(t), newSender(t)
	u.answers(status(http.StatusServiceUnavailable))
	config := newSetup(t, u.URL)
	disk := newTmpfs(t, "size=32m")
	config.dir = filepath.Join(disk, "inbox")
	p := start(t, config)
	s.mustPost(p.url, "before", reportOf("pf_loans", "before", 300))
	p.stop()
	remount := func(mode string) {
		t.Helper()
		if out, err := exec.Command("mount", "-o", "remount,"+mode, disk).CombinedOutput(); err != nil {
			t.Skipf("%v: %s", err, out)
		}
	}
	remount("ro")
	p = start(t, config)
	s.wantRefused(p.url, "refused", 300)
	if !strings.Contains(p.log(), "read-only file system") {
		t.Error("got no word of the reason in the log")
	}
	remount("rw")
	s.eventually(p.url, "after")
	u.answers(nil)
	s.drain(p, u)
}
