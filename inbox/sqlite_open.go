package inbox

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// sqlite is a directory with one SQLite database, and the larger bodies beside it.
// One process has it open.
type sqlite struct {
	*Store
	lock    *dirLock
	w       *writer // used by its one writer
	swap    sync.RWMutex
	readers *sql.DB

	trouble   trouble
	stopCheck context.CancelFunc
	// salvaged: rows may have been lost, so files without one are kept.
	salvaged bool
	upkeep   upkeep // used by maintain
	packed   *packs
}

func openSQLiteStore(ctx context.Context, store *Store, o *Options) (err error) {
	if o.Visit {
		f := files{dir: o.Dir}
		if err := f.present(); err != nil {
			return err
		}
	}
	if err := checkOwner(o); err != nil {
		return err
	}
	dir, err := ownDir(o.Dir, o.Logger)
	if err != nil {
		return err
	}
	s := &sqlite{Store: store, upkeep: upkeep{reserve: reserveKeeper{since: time.Now()}}, stopCheck: func() {}, trouble: trouble{begun: store.attend}}
	s.base, s.dir, s.place, s.files.dir = s, dir, dir, dir
	s.packed = newPacks(&s.files, s.log)
	if s.lock, err = takeLock(dir, s.now()); err != nil {
		return err
	}
	if err := s.openDB(ctx); err != nil {
		s.close()
		return err
	}
	return nil
}

// checkOwner refuses a visit to the inbox of another user, who could not use the
// files that it makes. Root may open it to serve it, and is told.
func checkOwner(o *Options) error {
	f := files{dir: o.Dir}
	owner, err := f.stranger()
	switch {
	case owner == "" && !o.Visit: // opening it says more
		return nil
	case owner == "":
		return err
	case o.Visit:
		return fmt.Errorf("%w: the inbox in %s belongs to another user: do this as %s", ErrUnavailable, o.Dir, owner)
	}
	o.Logger.Warn("the inbox belongs to another user, who cannot use what this process makes in it", "dir", o.Dir, "owner", owner)
	return nil
}

// ownDir returns the directory with its absolute path, and makes it if it is
// not there.
func ownDir(dir string, log *slog.Logger) (string, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	if real, err := filepath.EvalSymlinks(dir); err == nil {
		dir = real
	}
	return dir, checkFileSystem(dir, log)
}

// openDB opens the database, and brings the directory in order. closeDB must be
// called if it fails.
func (s *sqlite) openDB(ctx context.Context) error {
	err := s.openOnce(ctx)
	if errors.Is(failure(err), ErrFull) && s.useReserve() {
		s.closeDB()
		err = s.openOnce(ctx)
	}
	if !isDamage(err) {
		return failure(err)
	}
	s.closeDB()
	if err := s.salvage(ctx, err); err != nil {
		return err
	}
	return failure(s.openOnce(ctx))
}

func (s *sqlite) openOnce(ctx context.Context) error {
	path := s.files.path(dbName)
	if err := s.finishSalvage(); err != nil {
		return err
	}
	isNew, err := s.isNew(path)
	if err != nil {
		return err
	}
	log := new(walLog)
	if !isNew {
		if log, err = readLog(path + "-wal"); err != nil {
			return err
		}
		if isNew, err = s.inspect(ctx, path, log); err != nil {
			return err
		}
	}
	if err := s.files.makeFolders(); err != nil {
		return err
	}
	s.packed.probe()
	if log.broken {
		if err := s.keepLog(path + "-wal"); err != nil {
			return err
		}
	}
	if s.w, err = newWriter(path); err != nil {
		return err
	}
	if isNew {
		if err := s.w.transact([]*op{{fn: createTables}, {fn: s.begin}}); err != nil {
			return err
		}
		s.log.Info("a new inbox was begun: there was none in its directory", "dir", s.dir)
	}
	readers, err := openReaders(path)
	if err != nil {
		return err
	}
	s.swap.Lock()
	s.readers = readers
	s.swap.Unlock()
	if log.broken {
		if err := s.adoptTail(ctx, log); err != nil {
			return err
		}
	}
	if err := s.w.transact([]*op{{fn: migrate}}); err != nil {
		return err
	}
	// Before the check, which would keep the log from being written out.
	if err := s.writeOut(path); err != nil {
		return err
	}
	checked, err := s.check(ctx)
	if err != nil {
		return err
	}
	return s.sweep(ctx, checked)
}

func (s *sqlite) isNew(path string) (bool, error) {
	info, err := os.Stat(path)
	switch {
	case err == nil && info.Size() > 0:
		return false, nil
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return false, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	// An empty database is begun over what may be all that is left of another:
	// SQLite would remove its log.
	entries, err := os.ReadDir(s.files.path(bodiesName))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	if len(entries) > 0 {
		return false, fmt.Errorf("%w: %s holds %d files of bodies, but no %s: put it back, or move them away to begin with an empty inbox",
			ErrUnavailable, s.dir, len(entries), dbName)
	}
	info, err = os.Stat(path + "-wal")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	if err == nil && info.Size() > 0 {
		return false, fmt.Errorf("%w: %s holds %[3]s-wal, but no %[3]s: put it back, or move that away to begin with an empty inbox",
			ErrUnavailable, s.dir, dbName)
	}
	return true, nil
}

func (s *sqlite) closeDB() {
	s.stopCheck()
	s.packed.close() // or the disk could not be unmounted
	s.swap.Lock()
	if s.readers != nil {
		_ = s.readers.Close()
		s.readers = nil
	}
	s.swap.Unlock()
	if s.w != nil {
		if err := s.w.close(); err != nil {
			s.log.Error("the inbox could not be closed properly", "dir", s.dir, "error", err)
		}
		s.w = nil
	}
}

func (s *sqlite) close() {
	s.packed.end()
	s.closeDB()
	s.lock.release()
}

// One process has it: nobody else changes anything, or is to be told.

func (s *sqlite) shared() bool { return false }

func (s *sqlite) others(context.Context) ([]string, error) { return nil, nil }

func (s *sqlite) tell()            {}
func (s *sqlite) attached()        {}
func (s *sqlite) spool() *spool    { return nil }
func (s *sqlite) mayDeliver() bool { return true }
func (s *sqlite) start()           {}
func (s *sqlite) writers() int     { return 1 }
