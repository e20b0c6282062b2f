// Package inbox keeps reports on disk from the moment in which they are
// acknowledged until they have been delivered.
//
// A Store is a directory with one SQLite database, and the larger bodies beside
// it. What a commit has returned for survives the end of the process and of the
// machine; it is delivered at least once.
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
	"sync/atomic"
	"time"
)

// Store is an open inbox. Its methods can be called at the same time.
type Store struct {
	dir   string
	node  string
	now   func() time.Time
	log   *slog.Logger
	keys  *keyring
	lock  *dirLock
	files files

	current  atomic.Pointer[Settings]
	observer Observer
	room     room

	ops     chan *op
	writes  atomic.Int64  // batches
	closing chan struct{} // Close was called
	written chan struct{} // the writer has ended
	closed  sync.Once
	tasks   sync.WaitGroup

	w       *writer // used by writeLoop
	swap    sync.RWMutex
	readers *sql.DB

	trouble   trouble
	drafts    sync.Map // the uids of those that are under way
	stopCheck context.CancelFunc
	// salvaged: rows may have been lost, so files without one are kept.
	salvaged bool

	erased      atomic.Int64 // 0: nothing was ever erased
	untidy      atomic.Bool  // something was erased since the log was emptied
	quarantined atomic.Int64 // bytes
	// quarantining are the bytes that are on their way there.
	quarantining atomic.Int64

	// stored is called for each report that has been stored and is to be
	// delivered, after the commit. It must not block. It is set before the
	// first report.
	stored func(Kind, []string)
	// stop ends the deliveries when the store closes, before anything else does.
	stop   func()
	engine *engine
	socket socket
}

// Open opens the store in a directory, or makes one. Its errors say what is
// wrong; it has not changed anything then.
func Open(ctx context.Context, o Options) (*Store, error) {
	if err := o.fill(); err != nil {
		return nil, err
	}
	keys, err := newKeyring(o.EncryptionKey)
	if err != nil {
		return nil, err
	}
	if o.Visit {
		f := files{dir: o.Dir}
		if err := f.present(); err != nil {
			return nil, err
		}
	}
	if err := checkOwner(&o); err != nil {
		return nil, err
	}
	dir, err := ownDir(o.Dir, o.Logger)
	if err != nil {
		return nil, err
	}
	s := &Store{
		dir: dir, node: o.Node, now: o.Now, log: o.Logger, observer: o.Observer, keys: keys,
		files:   files{dir: dir},
		ops:     make(chan *op, maxBatch),
		closing: make(chan struct{}),
		written: make(chan struct{}),

		stopCheck: func() {},
		trouble:   trouble{begun: make(chan struct{}, 1)},
	}
	s.current.Store(&o.Settings)
	if s.lock, err = takeLock(dir, s.now()); err != nil {
		return nil, err
	}
	if err := s.openDB(ctx); err != nil {
		s.closeDB()
		s.lock.release()
		return nil, err
	}
	if err := s.startEngine(ctx); err != nil {
		s.closeDB()
		s.lock.release()
		return nil, failure(err)
	}
	go s.writeLoop()
	s.tasks.Go(func() { s.maintain(!o.Visit) })
	return s, nil
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
func (s *Store) openDB(ctx context.Context) error {
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

func (s *Store) openOnce(ctx context.Context) error {
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
	if log.broken {
		if err := s.keepLog(path + "-wal"); err != nil {
			return err
		}
	}
	if s.w, err = newWriter(path); err != nil {
		return err
	}
	if isNew {
		if err := s.w.transact([]*op{{fn: createTables}, {fn: s.writeMeta}}); err != nil {
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

func (s *Store) isNew(path string) (bool, error) {
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
		return false, fmt.Errorf("%w: %s holds %d bodies, but no %s: put it back, or move the bodies away to begin with an empty inbox",
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

func (s *Store) closeDB() {
	s.stopCheck()
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

// Close waits until everything that was begun is written, and gives the
// directory free. Reports that come later are refused.
func (s *Store) Close() error {
	s.closed.Do(func() {
		s.closeSocket()
		if s.stop != nil {
			s.stop()
		}
		close(s.closing)
		<-s.written
		s.stopCheck()
		s.tasks.Wait()
		s.closeDB()
		s.lock.release()
	})
	return nil
}

// Configure puts other settings in force. Reports that are under way are judged
// by either.
func (s *Store) Configure(st Settings) {
	st.fillDefaults()
	s.current.Store(&st)
	s.room.change()
}

func (s *Store) settings() Settings { return *s.current.Load() }

func (s *Store) milli() int64 { return s.now().UnixMilli() }
