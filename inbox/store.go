// Package inbox keeps reports on disk from the moment in which they are
// acknowledged until they have been delivered.
//
// A Store is a directory with one SQLite database, and the larger bodies beside
// it. What a commit has returned for survives the end of the process and of the
// machine; it is delivered at least once.
package inbox

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

// Store is an open inbox. Its methods can be called at the same time.
type Store struct {
	base  backend
	place string // where it is, for people
	dir   string // empty without one
	node  string // in the records
	owner string // in the claims
	now   func() time.Time
	log   *slog.Logger
	keys  *keyring
	files files
	// lockRows ends the queries for what is to be claimed.
	lockRows string

	current  atomic.Pointer[Settings]
	observer Observer
	room     room

	ops     chan *op
	alone   chan *op      // those that are written alone
	turn    chan struct{} // taken by the one who gathers the next batch
	writes  batches
	writing atomic.Int64 // batches that are being written
	// gathered is when the last batch was of several reports.
	gathered atomic.Pointer[time.Time]
	// gatherTime is for how long a small batch waits for more, 0: it does not.
	gatherTime time.Duration
	closing    chan struct{} // Close was called
	written    chan struct{} // nobody writes any more
	closed     sync.Once
	attend     chan struct{} // has maintain begin at once
	tasks      sync.WaitGroup

	drafts sync.Map // the uids of those that are under way

	draining    atomic.Int64 // by so many, or drained
	erased      atomic.Int64 // 0: nothing was ever erased
	untidy      atomic.Bool  // something was erased, and may still be found
	quarantined atomic.Int64 // bytes
	// quarantining are the bytes that are on their way there.
	quarantining atomic.Int64

	// stored is called for each report that has been stored and is to be
	// delivered, after the commit. It says whether attempts can begin here at once.
	// It must not block. It is set before the first report.
	stored func(Kind, []string) bool
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
	s := &Store{
		node: o.Node, owner: o.Node, now: o.Now, log: o.Logger, observer: o.Observer, keys: keys,
		ops:     make(chan *op, maxBatch),
		alone:   make(chan *op, maxBatch),
		turn:    make(chan struct{}, 1),
		closing: make(chan struct{}),
		written: make(chan struct{}),
		attend:  make(chan struct{}, 1),
	}
	s.current.Store(&o.Settings)
	open := openSQLiteStore
	if o.Postgres != nil {
		open = openPostgresStore
	}
	if err := open(ctx, s, &o); err != nil {
		return nil, err
	}
	if err := s.startEngine(ctx); err != nil {
		s.base.close()
		return nil, failure(err)
	}
	s.startWriters(s.base.writers())
	s.base.start()
	s.tasks.Go(func() { s.maintain(!o.Visit) })
	return s, nil
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
		s.tasks.Wait()
		s.base.close()
	})
	return nil
}

// Configure puts other settings in force. Reports that are under way are judged
// by either.
func (s *Store) Configure(st Settings) {
	st.fillDefaults()
	s.current.Store(&st)
	s.room.change()
	if sp := s.base.spool(); sp != nil {
		sp.store.Configure(st)
	}
}

func (s *Store) settings() Settings { return *s.current.Load() }

func (s *Store) milli() int64 { return s.now().UnixMilli() }
