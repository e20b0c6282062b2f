//go:build !klavi_nopostgres

package inbox

import (
	"context"
	"database/sql"
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
)

// rollbackTime is how long a server may take to give up a transaction, before it is
// left to find out that the connection has gone.
const rollbackTime = time.Second

// errRolledBack: the server had given up the transaction before it was to commit.
var errRolledBack = errors.New("inbox: the transaction was rolled back")

// pgTx runs the statements of one transaction. Those of which nothing is to be known
// are sent with the next of which something is: a way to the server and back takes
// longer than most of them.
type pgTx struct {
	ctx    context.Context //nolint:containedctx // it ends with the transaction
	conn   *pgx.Conn
	queued *pgx.Batch
	failed error // the first
}

// inTx runs fn in a transaction. Its error is an uncertainError if nobody knows
// whether that was committed. What fn has given to then is its caller's to run.
func (p *postgres) inTx(ctx context.Context, fn func(*tx) error) error {
	conn, err := p.db.Conn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	return conn.Raw(func(driver any) error {
		t := &pgTx{ctx: ctx, conn: driver.(*stdlib.Conn).Conn(), queued: new(pgx.Batch)}
		// Each statement sees what was committed before it, whatever the server is set
		// to: also by those who held a lock that it has waited for.
		t.queued.Queue("BEGIN ISOLATION LEVEL READ COMMITTED")
		err := fn(&tx{statements: t})
		if err == nil {
			err = t.commit()
		}
		if err != nil {
			t.rollback()
		}
		return err
	})
}

// send sends what is queued, and returns the results of the last of it. After an
// error it sends nothing any more: there may be no transaction.
func (t *pgTx) send() (pgx.BatchResults, error) {
	if t.failed != nil {
		return nil, t.failed
	}
	batch := t.queued
	t.queued = new(pgx.Batch)
	results := t.conn.SendBatch(t.ctx, batch)
	for range batch.Len() - 1 {
		if _, err := results.Exec(); err != nil {
			_ = results.Close() // it says the same
			return nil, t.note(err)
		}
	}
	return results, nil
}

func (t *pgTx) note(err error) error {
	if t.failed == nil {
		t.failed = err
	}
	return err
}

func (t *pgTx) exec(query string, args ...any) error {
	t.queued.Queue(bind(query), args...)
	return nil
}

func (t *pgTx) count(query string, args ...any) (int64, error) {
	t.queued.Queue(bind(query), args...)
	results, err := t.send()
	if err != nil {
		return 0, err
	}
	tag, err := results.Exec()
	if closed := results.Close(); err == nil {
		err = closed
	}
	return tag.RowsAffected(), t.note(err)
}

func (t *pgTx) each(scan func(row) error, query string, args ...any) error {
	t.queued.Queue(bind(query), args...)
	results, err := t.send()
	if err != nil {
		return err
	}
	defer results.Close() // before the connection is used again, whatever scan does
	rows, err := results.Query()
	for err == nil && rows.Next() {
		err = scan(rows)
	}
	rows.Close()
	if err == nil {
		err = rows.Err()
	}
	if closed := results.Close(); err == nil {
		err = closed
	}
	return t.note(err)
}

func (t *pgTx) get(dest []any, query string, args ...any) error {
	found := false
	err := t.each(func(r row) error {
		if found {
			return nil
		}
		found = true
		return r.Scan(dest...)
	}, query, args...)
	if err == nil && !found {
		return sql.ErrNoRows
	}
	return err
}

func (t *pgTx) commit() error {
	if t.failed != nil {
		return t.failed
	}
	t.queued.Queue("COMMIT")
	results, err := t.send()
	if pgCode(err) != "" { // of a statement before it: the server has skipped it
		return err
	}
	if err == nil {
		var tag pgconn.CommandTag
		tag, err = results.Exec()
		closed := results.Close()
		switch {
		case err == nil && tag.String() == "COMMIT":
			return nil
		case err == nil && closed == nil:
			return errRolledBack
		case err == nil:
			err = closed
		}
	}
	// The server says that it has not. Of what else comes about nobody knows when.
	if pgCode(err) != "" && !isAway(err) {
		return err
	}
	return uncertainError{err}
}

// rollback leaves the connection without a transaction, or closes it.
func (t *pgTx) rollback() {
	if t.conn.IsClosed() || t.conn.PgConn().TxStatus() == 'I' {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.ctx), rollbackTime)
	defer cancel()
	if _, err := t.conn.PgConn().Exec(ctx, "ROLLBACK").ReadAll(); err != nil {
		_ = t.conn.Close(ctx)
	}
}

// bind writes the placeholders of a statement, ? or ?1, as PostgreSQL has them. No
// statement has a question mark for anything else.
func bind(query string) string {
	if !strings.Contains(query, "?") {
		return query
	}
	var b strings.Builder
	b.Grow(len(query) + 16)
	n := 0
	for i := 0; i < len(query); i++ {
		if query[i] != '?' {
			b.WriteByte(query[i])
			continue
		}
		b.WriteByte('$')
		n++
		if i+1 == len(query) || query[i+1] < '0' || query[i+1] > '9' {
			b.WriteString(strconv.Itoa(n))
		}
	}
	return b.String()
}
