//go:build !klavi_nopostgres

package inbox

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"hash/fnv"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
)

const (
	// How long connecting, and a transaction, may take. Klavi waits ten seconds.
	connectTime  = 5 * time.Second
	transactTime = 8 * time.Second
	largeTime    = time.Minute
	// Within a transaction, no node that is there is idle for so long. One whose
	// machine or network is gone leaves its locks with the server, in the way of all
	// others, until the server ends it.
	idleTime = 5 * time.Second
	// What waits for another transaction for too long, or stands in its way, is
	// begun again so often.
	maxConflicts = 5
	// How often it is counted what the nodes of a fleet have stored together.
	recountInterval = 10 * time.Second
)

// errWithoutPostgres is why a Caddy has no PostgreSQL, if it was built so.
var errWithoutPostgres error

// postgres is a schema of a PostgreSQL database, which the nodes of a fleet share.
type postgres struct {
	*Store
	config *pgx.ConnConfig
	schema string
	db     *sql.DB
	pool   int

	outage  outage
	fleet   fleet
	sp      *spool             // nil without one
	usable  atomic.Bool        // it was opened: with a spool, it need not have been reached
	end     context.CancelFunc // of what start has begun
	running sync.WaitGroup
	// counted is when it was last read how much there is. It is maintain's.
	counted time.Time
}

func openPostgresStore(ctx context.Context, store *Store, o *Options) error {
	if err := o.Postgres.Check(); err != nil {
		return fmt.Errorf("inbox: %w", err)
	}
	config, err := pgx.ParseConfig(o.Postgres.URL)
	if err != nil {
		return fmt.Errorf("inbox: the URL of the database is not understood: %s", o.Postgres.Place())
	}
	if config.ConnectTimeout == 0 || config.ConnectTimeout > connectTime {
		config.ConnectTimeout = connectTime
	}
	config.RuntimeParams["search_path"] = o.Postgres.Schema
	for name, value := range map[string]string{
		"application_name":                    "caddy-klavi",
		"idle_in_transaction_session_timeout": strconv.FormatInt(idleTime.Milliseconds(), 10),
	} {
		if config.RuntimeParams[name] == "" { // the URL may say otherwise
			config.RuntimeParams[name] = value
		}
	}
	p := &postgres{Store: store, config: config, schema: o.Postgres.Schema, pool: o.Postgres.PoolSize, end: func() {}}
	if p.pool == 0 {
		p.pool = DefaultPoolSize
	}
	p.base, p.place, p.fleet.deaf, p.fleet.hurry = p, o.Postgres.Place(), o.Postgres.deaf, time.Duration(max(o.Postgres.hurry, 1))
	p.owner = p.node + " " + uuid.NewString()[:8]
	p.lockRows = " FOR UPDATE SKIP LOCKED"
	if !o.Postgres.deaf && p.writers() > 1 {
		p.gatherTime = gatherTime
	}
	p.dir, p.files.dir = o.Dir, os.TempDir()
	p.fleet.init(o.Visit)
	if o.Spool && !o.Visit {
		if p.sp, err = openSpool(ctx, o); err != nil {
			return fmt.Errorf("the spool of the inbox: %w", err)
		}
	}
	p.db = stdlib.OpenDB(*config, stdlib.OptionAfterConnect(p.connected))
	p.db.SetMaxOpenConns(p.pool)
	p.db.SetMaxIdleConns(p.pool)
	p.db.SetConnMaxIdleTime(5 * time.Minute)
	err = p.open(ctx, o.Visit)
	switch {
	case err == nil:
		p.usable.Store(true)
	case p.sp != nil && errors.Is(pgFailure(err), ErrAway):
		_ = p.failure(err)
		p.sp.away.Store(true)
	default:
		p.close()
		if err = pgFailure(err); !strings.Contains(err.Error(), p.place) {
			err = fmt.Errorf("%w (%s)", err, p.place)
		}
		return err
	}
	return nil
}

func (p *postgres) open(ctx context.Context, visit bool) error {
	if err := p.migrate(ctx, visit); err != nil {
		return err
	}
	if err := p.recount(ctx); err != nil {
		return err
	}
	if !visit {
		p.sayWeakness(ctx)
	}
	return nil
}

// start has this node be one of the fleet, as soon as it can.
func (p *postgres) start() {
	ctx, cancel := context.WithCancel(context.Background())
	p.end = cancel
	if p.sp != nil {
		p.running.Go(func() { p.handOver(ctx) })
	}
	if p.usable.Load() {
		p.join(ctx)
	}
}

func (p *postgres) join(ctx context.Context) {
	p.running.Go(func() { p.keepTelling(ctx) })
	if p.fleet.visit {
		limited, cancel := context.WithTimeout(ctx, connectTime)
		defer cancel()
		_ = p.readViews(limited) // without them, the routes are not known
		return
	}
	nudge(p.fleet.beats)
	p.running.Go(func() { p.keepBeating(ctx) })
	if !p.fleet.deaf {
		p.running.Go(func() { p.listen(ctx) })
	}
}

func (p *postgres) close() {
	p.end()
	p.running.Wait()
	select {
	case <-p.fleet.said: // by who ends at once, like a command
		p.notify(context.Background())
	default:
	}
	if p.fleet.begun && p.outage.get() == nil { // else they find out
		ctx, cancel := context.WithTimeout(context.Background(), connectTime)
		defer cancel()
		if err := p.leave(ctx); err != nil {
			p.log.Warn("the other nodes take over what this one had claimed when its time has run out", "inbox", p.place, "error", reason(err))
		}
	}
	_ = p.db.Close()
	if p.sp != nil {
		_ = p.sp.store.Close()
	}
}

// read ends after a while: a server that is cut off says nothing for a quarter of an
// hour.
func (p *postgres) read(ctx context.Context, fn func(reads) error) error {
	if !p.usable.Load() {
		return ErrAway
	}
	limited, cancel := context.WithTimeout(ctx, largeTime)
	defer cancel()
	err := fn(reads{db: p.db, bind: bind, ctx: limited})
	if ctx.Err() != nil { // the one who asks has gone
		return err
	}
	if isAway(err) {
		return p.failure(err)
	}
	return err
}

// transact writes one batch. Whatever stands in the way of another transaction is
// begun again.
func (p *postgres) transact(ops []*op) error {
	if !p.usable.Load() {
		return ErrAway
	}
	hasty := slices.ContainsFunc(ops, func(o *op) bool { return o.hasty })
	limit := transactTime
	switch {
	case hasty && ops[0].large:
		limit = hastyLargeTime
	case hasty:
		limit = hastyTime
	case ops[0].large:
		limit = largeTime
	}
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	var err error
	var begun time.Time
	for range maxConflicts {
		begun = time.Now()
		if err = p.transactOnce(ctx, ops); !isConflict(err) {
			break
		}
	}
	if err == nil {
		p.recovered(begun)
	}
	return p.failure(err)
}

func (p *postgres) transactOnce(ctx context.Context, ops []*op) error {
	if err := p.files.at(atCommit); err != nil {
		return err
	}
	var after []func()
	err := p.inTx(ctx, func(t *tx) error {
		if err := p.prepare(t, ops); err != nil {
			return err
		}
		err := t.run(ops)
		after = t.after
		return err
	})
	if err != nil {
		return err
	}
	if err := p.files.at(atCommitted); err != nil {
		return uncertainError{err}
	}
	for _, fn := range after {
		fn()
	}
	return nil
}

// prepare takes the locks of a batch, in one order for all, and says whether it
// waits for the disk.
func (p *postgres) prepare(t *tx, ops []*op) error {
	lazy, erases := true, false
	var ids []int64
	for _, o := range ops {
		lazy = lazy && o.lazy
		erases = erases || o.erases
		for _, h := range o.heads {
			ids = append(ids, p.lockKey("report", h.ReportID))
		}
	}
	switch {
	case erases: // nothing is stored meanwhile that it would have to erase
		if err := t.exec(`SELECT pg_advisory_xact_lock(?)`, p.lockKey("erase", "")); err != nil {
			return err
		}
	case len(ids) > 0:
		if err := t.exec(`SELECT pg_advisory_xact_lock_shared(?)`, p.lockKey("erase", "")); err != nil {
			return err
		}
	}
	if len(ids) > 0 { // no two nodes look whether they know the same report at once
		slices.Sort(ids)
		if err := t.exec(`SELECT pg_advisory_xact_lock(id) FROM unnest(?::bigint[]) AS id`, slices.Compact(ids)); err != nil {
			return err
		}
	}
	if lazy {
		if err := t.exec(`SET LOCAL synchronous_commit = off`); err != nil {
			return err
		}
	}
	return nil
}

// lockKey is the number under which the nodes lock something.
func (p *postgres) lockKey(what, id string) int64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte("caddy-klavi\x00" + p.schema + "\x00" + what + "\x00" + id))
	return int64(h.Sum64()) //nolint:gosec // any number will do
}

// retryAlone is true where one of them is wrong: all others could be, too, while
// the database is away.
func (p *postgres) retryAlone(err error) bool { return !errors.Is(err, ErrAway) }

// writers leaves connections to those who read.
func (p *postgres) writers() int { return max(p.pool/2, 1) }

func (p *postgres) shared() bool     { return true }
func (p *postgres) attached()        { nudge(p.fleet.beats) }
func (p *postgres) mayDeliver() bool { return p.fleet.sure() }

// maintain counts again what others may have changed.
func (p *postgres) maintain(ctx context.Context, _ int64) (idle bool) {
	if !p.usable.Load() || time.Since(p.counted) < recountInterval/p.fleet.hurry {
		return false
	}
	p.counted = time.Now()
	if err := p.recount(ctx); err != nil && ctx.Err() == nil {
		_ = p.failure(err)
	}
	return false
}
