package inbox

import (
	"crypto/rand"
	"errors"
	"io/fs"
	"os"
	"time"

	sqlite3 "modernc.org/sqlite/lib"
)

const (
	reserveName = "reserve"
	// reserveSize is enough for a checkpoint, which may make the database larger
	// by all that is in its log, and some more.
	reserveSize = checkpointPages*pageSize + 1<<20
	reservePart = 16 // of a small disk
)

// The reserve is a file that takes up room on the disk, to be removed when the
// disk is full: to write down that a report was delivered, and so to get rid of
// it, needs room.

// reserveKeeper has a reserve while reports wait for long. Most are delivered at
// once, and the disk is not to be worn out for them.
type reserveKeeper struct {
	waiting bool
	since   time.Time // it is so
}

const (
	makeReserveAfter = 10 * time.Second
	dropReserveAfter = time.Minute
)

func (k *reserveKeeper) tick(s *sqlite) {
	now := time.Now()
	if waiting := s.room.size() > 0; waiting != k.waiting {
		k.waiting, k.since = waiting, now
	}
	switch long := now.Sub(k.since); {
	case k.waiting && long >= makeReserveAfter:
		s.makeReserve()
	case !k.waiting && long >= dropReserveAfter:
		k.since = now
		_ = s.files.remove(s.files.path(reserveName))
	}
}

// makeReserve makes the file if it is not there and there is room enough.
func (s *sqlite) makeReserve() {
	path := s.files.path(reserveName)
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) || s.spare(1) != nil {
		return
	}
	size := int64(reserveSize)
	if _, total, ok := diskSpace(s.dir); ok {
		size = min(size, total/reservePart)
	}
	data := make([]byte, size)
	_, _ = rand.Read(data) // nothing that a file system could leave out
	if err := writeFileSync(path, data); err != nil {
		_ = s.files.remove(path)
	}
}

// useLog makes room on a disk that is full, if there is any in the log, and others do
// not take it at once.
func (s *sqlite) useLog() bool { return s.w.checkpoint() == nil }

// useReserve makes room on a disk that is full, if there is a reserve.
func (s *sqlite) useReserve() bool {
	if err := os.Remove(s.files.path(reserveName)); err != nil {
		return false
	}
	s.log.Warn("the disk is full: the inbox uses its reserve to get rid of reports", "dir", s.dir)
	return true
}

// writeOut has everything in the log written once more, to where it belongs, and
// synced. Whoever was killed before a sync, or was told that one has failed, has
// left there what reads as if it were on the disk: a copy of such a report would
// be taken for a duplicate of one that is safe.
func (s *sqlite) writeOut(path string) error {
	err := s.w.checkpoint()
	switch {
	case sqliteCode(err) != sqlite3.SQLITE_FULL:
		return err
	case s.useReserve() && s.useLog():
		return nil
	}
	log, err := os.Open(path + "-wal")
	if err != nil {
		return err
	}
	defer log.Close()
	return log.Sync()
}

func writeFileSync(path string, data []byte) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	if _, err := f.Write(data); err != nil {
		_ = f.Close()
		return err
	}
	if err := f.Sync(); err != nil {
		_ = f.Close()
		return err
	}
	return f.Close()
}
