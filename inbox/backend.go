package inbox

import (
	"context"
	"database/sql"
	"io"
	"os"
	"time"
)

// backend is where a store keeps what it holds: SQLite in a directory, or
// PostgreSQL. What a store promises and does is the same over both; here is where
// they differ.
type backend interface {
	// writers is how many batches may be written at once.
	writers() int
	// transact runs the operations of a batch in one transaction, on disk when it
	// returns. One that has failed leaves nothing behind, unless its error is an
	// uncertainError.
	transact(ops []*op) error
	// retryAlone says whether the operations of a batch that has failed are to be
	// tried one by one.
	retryAlone(err error) bool
	// read runs fn with connections that read.
	read(ctx context.Context, fn func(reads) error) error

	// admit returns why nothing can be stored just now, as far as that is known.
	admit() error
	// probe tries whether something can be.
	probe() error
	// spare is an error if there is no room for bodies that arrive: n times what is
	// kept free.
	spare(n int64) error

	// packs are where bodies of middling size lie together, nil if they do not.
	packs() *packs
	// createDraft makes the file of a draft that is large, and dropDraft removes it,
	// unless keep has moved it.
	createDraft(uid string) (*os.File, error)
	dropDraft(d *Draft)
	// keep makes the file of a draft, which is complete, ready for the transaction
	// that stores it.
	keep(d *Draft) (*moved, error)
	// insertBody is keep's part in that transaction.
	insertBody(t *tx, d *Draft) error
	// openBody opens a body that is not in its row.
	openBody(name string) (io.ReadCloser, error)
	// removeBody removes one with the transaction, and dropBody one that no
	// transaction has stored.
	removeBody(t *tx, name string) error
	dropBody(name string)
	// setAside keeps what is left of a body that is damaged.
	setAside(name string) error

	// maintain does what is to be done each second or so, after n batches. It is idle
	// if nothing is before the next batch.
	maintain(ctx context.Context, n int64) (idle bool)
	// forget removes at last what was erased, and returns where it may still be found.
	forget(ctx context.Context) (copies []string, err error)
	// removeAside removes what setAside and repairs have kept, if it is older.
	removeAside(ctx context.Context, before time.Time) error

	// shared says whether others change what is there, too. They are told of changes
	// with tell, and of the routes that are delivered to here with attached.
	shared() bool
	// others names the other nodes that have it open.
	others(ctx context.Context) ([]string, error)
	tell()
	attached()
	// spool is where reports go that cannot be stored here, nil without one.
	spool() *spool
	// mayDeliver says whether attempts may begin.
	mayDeliver() bool

	// start is called when there is somebody to deliver, and close at the end.
	start()
	close()
}

// reads are connections that read.
type reads struct {
	db   *sql.DB
	bind func(query string) string // nil: as it is
	// ctx stands in for that of the callers, and ends earlier. Nil: it does not.
	ctx context.Context //nolint:containedctx // it ends with the reads
}

// QueryContext is that of sql.DB.
func (r reads) QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	if r.bind != nil {
		query = r.bind(query)
	}
	if r.ctx != nil {
		ctx = r.ctx
	}
	return r.db.QueryContext(ctx, query, args...)
}

// QueryRowContext is that of sql.DB.
func (r reads) QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row {
	if r.bind != nil {
		query = r.bind(query)
	}
	if r.ctx != nil {
		ctx = r.ctx
	}
	return r.db.QueryRowContext(ctx, query, args...)
}
