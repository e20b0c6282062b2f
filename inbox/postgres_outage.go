//go:build !klavi_nopostgres

package inbox

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// outage is why the database cannot be used just now.
type outage struct {
	mu    sync.Mutex
	err   error
	since time.Time
}

func (o *outage) get() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.err
}

// begin notes that there is one, and says whether there was none before.
func (o *outage) begin(err error) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	first := o.err == nil
	if first {
		o.since = time.Now()
	}
	o.err = err
	return first
}

// end notes that something has come about that was begun at a time. If there was an
// outage since before, it is over: end returns for how long there was one.
func (o *outage) end(begun time.Time) (took time.Duration, was bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.err == nil || !o.since.Before(begun) {
		return 0, false
	}
	o.err = nil
	return time.Since(o.since), true
}

// pgFailure returns err as one that callers know.
func pgFailure(err error) error {
	var uncertain uncertainError
	switch {
	case err == nil, errors.Is(err, ErrAway):
		return err
	case errors.As(err, &uncertain):
		return uncertainError{pgFailure(uncertain.error)}
	case pgCode(err) == "53100": // disk_full
		return fmt.Errorf("%w: %s", ErrFull, reason(err))
	case isAway(err):
		return fmt.Errorf("%w: %s", ErrAway, reason(err))
	}
	return failure(err)
}

// failure is pgFailure, and notes what the error says of the database.
func (p *postgres) failure(err error) error {
	failed := pgFailure(err)
	if !errors.Is(failed, ErrAway) || errors.Is(err, ErrAway) {
		return failed
	}
	if p.outage.begin(failed) {
		what := "are refused"
		if p.sp != nil {
			what = "are kept in the spool"
		}
		p.log.Error("the database of the inbox cannot be used: reports wait for it, and "+what+" when that takes too long",
			"inbox", p.place, "error", reason(err))
		// Most others are of no use either, and another server may be the one to write to.
		p.db.SetMaxIdleConns(0)
		p.db.SetMaxIdleConns(p.pool)
	}
	return failed
}

// recovered notes that something was written that was begun at a time.
func (p *postgres) recovered(begun time.Time) {
	if took, was := p.outage.end(begun); was {
		p.log.Info("the database of the inbox can be used again", "inbox", p.place, "after", took.Round(time.Millisecond))
	}
}

// readOnly is the code with which a server says that it takes no writes.
const readOnly = "25006"

func pgCode(err error) string {
	var e *pgconn.PgError
	if !errors.As(err, &e) {
		return ""
	}
	return e.Code
}

// isAway says whether an error may be over soon without anybody's doing here: the
// network, a server that ends, begins or is not the one to write to.
func isAway(err error) bool {
	if err == nil {
		return false
	}
	if errors.As(err, new(*pgconn.ConnectError)) {
		return true
	}
	switch code := pgCode(err); {
	case code == "":
		return errors.As(err, new(net.Error)) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) ||
			errors.Is(err, driver.ErrBadConn) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, net.ErrClosed) ||
			pgconn.Timeout(err) || strings.Contains(err.Error(), "conn closed")
	case code == readOnly, code == "53300", code == "58030", code == "57014": // too many connections, I/O error, cancelled
		return true
	default:
		return strings.HasPrefix(code, "08") || strings.HasPrefix(code, "57P")
	}
}

// isConflict says whether a transaction would do if it were begun again: it stood in
// the way of another, or still for so long that the server has ended it.
func isConflict(err error) bool {
	code := pgCode(err)
	return code == "40001" || code == "40P01" || code == "55P03" || code == "25P03"
}

// reason is what an error says without the addresses of a connection, which differ
// each time, and without anything that was to be written.
func reason(err error) string {
	if pe, ok := errors.AsType[*pgconn.PgError](err); ok {
		return fmt.Sprintf("%s (SQLSTATE %s)", pe.Message, pe.Code)
	}
	var op *net.OpError
	switch {
	case errors.As(err, &op):
		return op.Op + ": " + op.Err.Error()
	case errors.Is(err, context.DeadlineExceeded), pgconn.Timeout(err):
		return "it does not answer in time"
	}
	return err.Error()
}

// admit lets reports wait for a database that is away.
func (p *postgres) admit() error { return nil }

// spare is about a disk, which here is the server's.
func (p *postgres) spare(int64) error { return nil }

func (p *postgres) probe() error {
	if p.sp == nil {
		if err := p.outage.get(); err != nil {
			return err
		}
		return p.ask(connectTime)
	}
	if p.outage.get() == nil && p.usable.Load() && p.ask(spoolPatience) == nil {
		return nil
	}
	return p.sp.store.Ready()
}

// ask returns an error if the database does not say in time that it takes writes.
func (p *postgres) ask(limit time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	var mode string
	err := p.db.QueryRowContext(ctx, `SHOW transaction_read_only`).Scan(&mode)
	if mode == "on" {
		return p.failure(fmt.Errorf("%w is read-only", ErrAway))
	}
	return p.failure(err)
}
