package inbox

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	sqlite3 "modernc.org/sqlite/lib"
)

// repairAgain is how long until a store that could not be repaired is tried
// again.
const repairAgain = time.Second

var errGone = fmt.Errorf("%w: its directory was removed or replaced", ErrUnavailable)

// trouble is why the database cannot be used just now.
type trouble struct {
	mu      sync.Mutex
	err     error
	damaged bool // its pages are
	tried   time.Time
	begun   chan struct{} // of capacity 1: there is trouble since now
}

func (t *trouble) get() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.err
}

func (t *trouble) set(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.err == nil {
		select {
		case t.begun <- struct{}{}:
		default:
		}
	}
	t.err = failure(err)
	t.damaged = t.damaged || isDamage(err)
}

// take says whether it is time to do something about it.
func (t *trouble) take() (err error, damaged, now bool) { //nolint:revive,staticcheck // the error is what it is about
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.err == nil || time.Since(t.tried) < repairAgain {
		return t.err, t.damaged, false
	}
	t.tried = time.Now()
	return t.err, t.damaged, true
}

func (t *trouble) clear() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.err, t.damaged = nil, false
}

// note takes an error of the writer for what it says of the database. After an
// error of the disk nobody knows what is on it: it is opened anew.
func (s *sqlite) note(err error) {
	if err == nil {
		return
	}
	code := sqliteCode(err)
	switch {
	case isDamage(err):
	case errors.Is(err, errGone), code == sqlite3.SQLITE_IOERR, code == sqlite3.SQLITE_READONLY, code == sqlite3.SQLITE_CANTOPEN:
	case errors.As(err, new(uncertainError)):
	default:
		return
	}
	if s.trouble.get() == nil {
		s.log.Error("the inbox cannot be written: reports are refused until it can", "dir", s.dir, "error", err)
	}
	s.trouble.set(err)
}

// suspect takes an error of a reader that says that the database is damaged.
func (s *sqlite) suspect(err error) {
	s.log.Error("the database of the inbox is damaged", "dir", s.dir, "error", err)
	s.trouble.set(err)
}

// repair makes the database usable again, if it is not. It runs between two
// transactions of the writer.
func (s *sqlite) repair() error {
	err, damaged, now := s.trouble.take()
	if err == nil || !now {
		return err
	}
	s.closeDB()
	if damaged && s.lock.held(s.dir) {
		err = s.salvage(context.Background(), err)
	} else {
		err = s.relock()
	}
	if err == nil {
		err = s.openDB(context.Background())
	}
	if err != nil {
		s.closeDB()
		s.dropSocket()
		s.lock.release()
		s.trouble.set(err)
		return failure(err)
	}
	s.restoreSocket()
	s.writes.Add(1) // what is in it may be something else
	s.trouble.clear()
	s.log.Info("the inbox can be written again", "dir", s.dir)
	return nil
}

// relock takes the lock of the directory anew, which may be another one than
// before, if it has an inbox. An empty one is not filled: it may be where a disk
// is to be mounted. Until then no file is held open, which would keep a disk
// that has failed from being unmounted.
func (s *sqlite) relock() error {
	s.lock.release()
	if _, err := os.Stat(s.files.path(dbName)); err != nil {
		return fmt.Errorf("%w: put it back, or start again to begin an empty inbox: %w", errGone, err)
	}
	lock, err := takeLock(s.dir, s.now())
	if err != nil {
		return err
	}
	s.lock = lock
	return nil
}

// owns reports an error if the files that are open are no longer those in the
// directory: what is written to them would go with the process.
func (s *sqlite) owns() error {
	if !s.lock.held(s.dir) || !s.w.sameFile(s.files.path(dbName)) {
		return errGone
	}
	return nil
}

// admit returns the trouble, or that the disk is nearly full.
func (s *sqlite) admit() error {
	if err := s.trouble.get(); err != nil {
		return err
	}
	return s.spare(1)
}

func (s *sqlite) probe() error { return s.files.probe() }

// probe makes a file and removes it.
func (f *files) probe() error {
	path := f.tmp("probe")
	file, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return failure(err)
	}
	_, err = file.Write([]byte{0})
	return failure(errors.Join(err, file.Close(), f.remove(path)))
}
