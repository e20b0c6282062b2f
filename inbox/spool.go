package inbox

import (
	"context"
	"database/sql"
	"errors"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// spool is where a node keeps what it receives while the database is away: a store
// in a directory, from which nothing is delivered. What is in it is handed over as
// soon as the database can be used. It has the settings of the inbox; so there may
// be MaxSize in it, and as much in the database.
type spool struct {
	store *Store
	log   *slog.Logger
	// away: the database was away when it was last tried, and is not tried for
	// reports.
	away atomic.Bool
	// left: there may be something to be handed over.
	left atomic.Bool

	mu    sync.Mutex
	since time.Time // when it began to take what is in it, zero if nobody knows
	moved Moved     // of that
}

func openSpool(ctx context.Context, o *Options) (*spool, error) {
	in := *o
	in.Postgres, in.Spool, in.Observer = nil, false, Observer{}
	store, err := Open(ctx, in)
	if err != nil {
		return nil, err
	}
	sp := &spool{store: store, log: o.Logger}
	sp.left.Store(true)
	return sp, nil
}

// patience is how long a report waits for the database.
func (sp *spool) patience() time.Duration {
	if sp == nil {
		return outagePatience
	}
	return spoolPatience
}

// instead says whether nothing is to be tried but the spool.
func (sp *spool) instead() bool { return sp != nil && sp.away.Load() }

// takes says whether it takes what the database did not. Whatever that said: a
// report that is refused may not come again. Whether it has the report all the same,
// the uid tells when it is handed over.
func (sp *spool) takes(ctx context.Context, err error) bool {
	if sp != nil && errors.Is(err, ErrAway) && !errors.Is(err, errNotTried) {
		sp.away.Store(true)
	}
	return sp != nil && err != nil && ctx.Err() == nil && !errors.Is(err, errClosed)
}

// commit stores a draft here.
func (sp *spool) commit(ctx context.Context, d *Draft, r *record, why error) (Receipt, error) {
	s := sp.store
	release, err := s.takeRoom(r.stored)
	if err != nil {
		return Receipt{}, err
	}
	defer release()
	m, err := sp.keep(d)
	if err != nil {
		return Receipt{}, err
	}
	defer s.drafts.Delete(d.uid)
	receipt, err := s.insertDraft(ctx, r, m)
	if err == nil {
		sp.took(why)
	}
	return receipt, err
}

// quarantine stores a body there whose signature fits no key: a coming one may.
func (sp *spool) quarantine(ctx context.Context, d *Draft, q *quarantinedBody, why error) error {
	m, err := sp.keep(d)
	if err != nil {
		return err
	}
	defer sp.store.drafts.Delete(d.uid)
	if _, err = sp.store.insertQuarantined(ctx, q, m, d); err == nil {
		sp.took(why)
	}
	return err
}

func (sp *spool) keep(d *Draft) (*moved, error) {
	if err := sp.store.Admit(); err != nil || d.file == nil {
		return nil, err
	}
	m, err := sp.store.base.keep(d)
	if err != nil {
		sp.store.base.dropBody(d.uid)
	}
	return m, failure(err)
}

// create makes the file of a draft in the directory, so that it need not be copied.
func (sp *spool) create(uid string) (*os.File, error) {
	sp.store.drafts.Store(uid, nil)
	f, err := sp.store.base.createDraft(uid)
	if err != nil {
		sp.store.drafts.Delete(uid)
	}
	return f, err
}

// drop ends a draft that was not kept.
func (sp *spool) drop(d *Draft) {
	sp.store.drafts.Delete(d.uid)
	sp.store.base.dropDraft(d)
}

// took notes that there is something in it, and says so once.
func (sp *spool) took(why error) {
	sp.left.Store(true)
	sp.mu.Lock()
	first := sp.since.IsZero()
	if first {
		sp.since = time.Now()
	}
	sp.mu.Unlock()
	if first {
		sp.log.Warn("reports are kept in the spool, and so on this machine only, until the database of the inbox can be used",
			"dir", sp.store.dir, "error", why)
	}
}

// handOver moves what is in it to the store of the database.
func (sp *spool) handOver(ctx context.Context, to *Store) error {
	if !sp.left.Swap(false) {
		return nil
	}
	m := &mover{from: sp.store, to: to, progress: func(int, int) { sp.away.Store(false) }}
	err := m.all(ctx)
	sp.mu.Lock()
	defer sp.mu.Unlock()
	sp.moved.Reports += m.moved.Reports
	sp.moved.Known += m.moved.Known
	sp.moved.Quarantined += m.moved.Quarantined
	if err != nil {
		sp.left.Store(true)
		return err
	}
	if sp.left.Load() { // more has come
		return nil
	}
	if sp.moved.Reports+sp.moved.Known+sp.moved.Quarantined > 0 {
		sp.log.Info("all that was in the spool is in the database of the inbox now", "dir", sp.store.dir,
			"reports", sp.moved.Reports, "known", sp.moved.Known, "quarantined", sp.moved.Quarantined)
	}
	sp.since, sp.moved = time.Time{}, Moved{}
	return nil
}

// erase erases what has not been handed over. What is in the spools of other nodes
// is erased when they hand it over: the database knows.
func (sp *spool) erase(ctx context.Context, receipt *EraseReceipt, who, why string) error {
	s := sp.store
	err := s.submit(ctx, &op{erases: true, fn: func(t *tx) error {
		var n int
		if err := t.get([]any{&n}, `SELECT count(*) FROM bodies`); err != nil || n == 0 {
			return err
		}
		found, err := s.erase(t, receipt.Kind, receipt.Value, who, why)
		t.then(func() {
			receipt.Reports = append(receipt.Reports, found...)
			sp.left.Store(true)
		})
		return err
	}})
	if err != nil {
		return err
	}
	copies, err := s.base.forget(ctx)
	receipt.Copies = append(receipt.Copies, copies...)
	return err
}

// count returns how many reports are there.
func (sp *spool) count(ctx context.Context) (n int64, err error) {
	err = sp.store.scan(ctx, `SELECT count(*) FROM reports WHERE state IN ('waiting', 'dead')`, nil, func(rows *sql.Rows) error { return rows.Scan(&n) })
	return n, err
}
