package inbox

import (
	"fmt"
	"runtime/debug"
	"strings"
)

// statements are what an operation does in its transaction, in this order. What it
// gives them must not change before its end.
type statements interface {
	// exec runs a statement of which nothing is to be known. That it has failed may be
	// said by one that follows, or by the end of the transaction.
	exec(query string, args ...any) error
	// count runs a statement at once, and returns how many rows it has changed.
	count(query string, args ...any) (int64, error)
	// each runs a query, and has scan read each of its rows. scan runs no statement.
	each(scan func(row) error, query string, args ...any) error
	// get reads the one row of a query into dest. Without a row, it is sql.ErrNoRows.
	get(dest []any, query string, args ...any) error
}

// row is what a query has found.
type row interface{ Scan(dest ...any) error }

// tx is a transaction. It is used by one goroutine, and not after the function
// that got it has returned.
type tx struct {
	statements
	after []func()
	// heads are those of all reports that it stores, and erased what was asked of them:
	// whether it was erased.
	heads  []*Head
	erased map[mark]bool
	// settled are the reports of which a delivery has ended, for end to look at.
	settled []int64
	end     func(t *tx, reports []int64) error
}

// then has fn run when the transaction is committed.
func (t *tx) then(fn func()) { t.after = append(t.after, fn) }

// settle has end look at a report before the transaction is committed, together with
// those of the other operations: it takes as many statements for all as for one.
func (t *tx) settle(report int64, end func(t *tx, reports []int64) error) {
	t.settled, t.end = append(t.settled, report), end
}

// run runs operations, and what they have left for the end.
func (t *tx) run(ops []*op) error {
	for _, o := range ops {
		t.heads = append(t.heads, o.heads...)
	}
	for _, o := range ops {
		if err := t.call(o.fn); err != nil {
			return err
		}
	}
	return t.call((*tx).endSettled)
}

func (t *tx) call(fn func(*tx) error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%w: panic: %v\n%s", ErrUnavailable, p, debug.Stack())
		}
	}()
	return fn(t)
}

// endSettled has end look at what was settled so far.
func (t *tx) endSettled() error {
	reports := t.settled
	if t.settled = nil; len(reports) == 0 {
		return nil
	}
	return t.end(t, reports)
}

// texts runs a statement that returns texts.
func (t *tx) texts(query string, args ...any) (found []string, err error) {
	err = t.each(func(r row) error {
		var text string
		err := r.Scan(&text)
		found = append(found, text)
		return err
	}, query, args...)
	return found, err
}

// ids runs a query for numbers.
func (t *tx) ids(query string, args ...any) (ids []int64, err error) {
	err = t.each(func(r row) error {
		var id int64
		err := r.Scan(&id)
		ids = append(ids, id)
		return err
	}, query, args...)
	return ids, err
}

// among returns the text of a list that is not empty, for IN, and its values. The last
// may stand in it again: so there are few different texts, and few statements to prepare.
func among[T any](list []T) (text string, values []any) {
	n := 1
	for n < len(list) {
		n *= 2
	}
	values = make([]any, n)
	for i := range values {
		values[i] = list[min(i, len(list)-1)]
	}
	return "(?" + strings.Repeat(", ?", n-1) + ")", values
}
