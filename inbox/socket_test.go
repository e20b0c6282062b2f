package inbox

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func TestSocketIsForItsOwner(t *testing.T) {
	onlySQLite(t)
	old := syscall.Umask(0)
	defer syscall.Umask(old)
	o, _ := quietOptions(t.TempDir()) // others can look into it
	s, _ := serveTest(t, o)
	mustPut(t, s, testHead("a"), randomBody(200_000))
	for path, want := range map[string]os.FileMode{
		s.files.path(tmpName):         os.ModeDir | 0o700, // where it is until it has its permissions
		s.files.path(bodiesName):      os.ModeDir | 0o700,
		s.files.path(socketName):      os.ModeSocket | 0o600,
		s.files.path(lockName):        0o600,
		s.files.path(dbName):          0o600,
		s.files.path(dbName + "-wal"): 0o600,
		s.files.path(dbName + "-shm"): 0o600,
	} {
		if info, err := os.Stat(path); err != nil || info.Mode() != want {
			t.Errorf("%s: got %v and %v, want %v", filepath.Base(path), info.Mode(), err, want)
		}
	}
	_ = s.Close()
	if _, err := os.Lstat(s.files.path(socketName)); !os.IsNotExist(err) {
		t.Errorf("got %v when the store has closed, want no socket", err)
	}
	if err := s.ServeSocket(); !errors.Is(err, ErrUnavailable) {
		t.Errorf("got %v when the store has closed, want %v", err, ErrUnavailable)
	}
}

// A process that was killed leaves its socket behind, perhaps a half-made one.
func TestSocketOfTheDead(t *testing.T) {
	onlySQLite(t)
	o, _ := quietOptions(t.TempDir())
	_ = openTest(t, o).Close()
	for _, name := range []string{socketName, filepath.Join(tmpName, socketName)} {
		fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
		if err != nil {
			t.Fatal(err)
		}
		if err := syscall.Bind(fd, &syscall.SockaddrUnix{Name: filepath.Join(o.Dir, name)}); err != nil {
			t.Fatal(err)
		}
		_ = syscall.Close(fd)
	}
	if _, err := Dial(t.Context(), o.Dir); !errors.Is(err, ErrNotServed) {
		t.Errorf("got %v, want %v", err, ErrNotServed)
	}
	_, c := serveTest(t, o)
	if _, err := c.Stats(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestSocketWithALongPath(t *testing.T) {
	onlySQLite(t)
	dir := filepath.Join(t.TempDir(), strings.Repeat("long", 20), strings.Repeat("path", 20))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	o, _ := quietOptions(dir)
	s := openTest(t, o)
	err := s.ServeSocket()
	if _, statErr := os.Stat("/proc/self/fd"); statErr != nil {
		if err == nil || !strings.Contains(err.Error(), "give the inbox a shorter one") {
			t.Errorf("got %v, want what to do", err)
		}
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, err := dialTest(t, dir).Stats(t.Context()); err != nil {
		t.Error(err)
	}
}

// A socket keeps a disk from being unmounted, so it goes when the directory
// does, and comes back with it.
func TestSocketGoesWithTheDirectory(t *testing.T) {
	onlySQLite(t)
	dir := filepath.Join(t.TempDir(), "inbox")
	o, _ := quietOptions(dir)
	s, _ := serveTest(t, o)
	mustPut(t, s, testHead("before"), randomBody(10))
	away := dir + ".away"
	if err := os.Rename(dir, away); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the store notices that its directory is gone", func() bool {
		put(s, testHead("while"), randomBody(10))
		_, err := Dial(t.Context(), away)
		return errors.Is(err, ErrNotServed)
	})
	if err := os.Rename(away, dir); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the socket is back", func() bool {
		c, err := Dial(t.Context(), dir)
		if err == nil {
			_, err = c.Stats(t.Context())
			_ = c.Close()
		}
		return err == nil
	})
}
