package inbox

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/gofrs/flock"
)

const lockName = "lock"

// dirLock is held for as long as a store is open. It is the kernel's, so it
// ends with the process, however that ends; what the file says is for people.
type dirLock struct {
	flock *flock.Flock
	info  os.FileInfo
}

func takeLock(dir string, now time.Time) (*dirLock, error) {
	path := filepath.Join(dir, lockName)
	l := &dirLock{flock: flock.New(path)}
	got, err := l.flock.TryLock()
	if err != nil {
		return nil, fmt.Errorf("%w: the lock of %s cannot be taken: %w", ErrUnavailable, dir, err)
	}
	if !got {
		return nil, fmt.Errorf("%w: %s is in use by %s", ErrLocked, dir, holder(path))
	}
	text := fmt.Sprintf("process %d since %s\n", os.Getpid(), now.UTC().Format(time.RFC3339))
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		l.release()
		return nil, fmt.Errorf("%w: %s cannot be written: %w", ErrUnavailable, dir, err)
	}
	if l.info, err = l.flock.Stat(); err != nil {
		l.release()
		return nil, fmt.Errorf("%w: the lock of %s: %w", ErrUnavailable, dir, err)
	}
	return l, nil
}

func holder(path string) string {
	text, _ := os.ReadFile(path)
	line, _, _ := strings.Cut(string(text), "\n")
	if !strings.HasPrefix(line, "process ") || len(line) > 100 {
		return "another process"
	}
	return line
}

// held reports whether the file that is locked is still the one in dir.
func (l *dirLock) held(dir string) bool {
	info, err := os.Stat(filepath.Join(dir, lockName))
	return err == nil && l.flock.Locked() && os.SameFile(info, l.info)
}

func (l *dirLock) release() { _ = l.flock.Unlock() }
