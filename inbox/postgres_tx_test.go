//go:build !klavi_nopostgres

package inbox

import (
	"errors"
	"fmt"
	"testing"
)

// A transaction of which anything has failed is not committed, whoever minds, and
// its connection is as good as new.
func TestTransactionsThatFail(t *testing.T) {
	t.Parallel()
	url := onPostgres(t)
	s := openNode(t, url, "a")
	p := s.base.(*postgres)
	note := func(t *tx) error { return s.audit(t, "somebody", "something", "", "") }
	for name, fn := range map[string]func(*tx) error{
		"an error that nobody minds": func(t *tx) error {
			var n int
			_ = t.get([]any{&n}, `SELECT 1 / 0`)
			return note(t)
		},
		"an error before anything was sent": func(t *tx) error {
			_ = t.get(nil, `SELECT FROM nowhere`)
			return note(t)
		},
		"an error of a statement that waited": func(t *tx) error {
			return errors.Join(note(t), t.exec(`SELECT 1 / 0`))
		},
		"a parameter of another type": func(t *tx) error {
			return errors.Join(note(t), t.exec(`DELETE FROM audit WHERE at = ?`, "yesterday"))
		},
		"a value that does not fit": func(t *tx) error {
			var n int
			_ = note(t)
			return t.get([]any{&n}, `SELECT 'one'`)
		},
		"a panic while rows are read": func(t *tx) error {
			_ = note(t)
			return t.each(func(row) error { panic("no") }, `SELECT generate_series(1, 1000)`)
		},
		"a panic while the first rows are read": func(t *tx) error {
			return t.each(func(row) error { panic("no") }, `SELECT generate_series(1, 1000)`)
		},
		"a transaction that was ended": func(t *tx) error {
			_, err := t.count(`SELECT pg_terminate_backend(pg_backend_pid())`)
			return errors.Join(note(t), err)
		},
	} {
		err := p.inTx(t.Context(), func(t *tx) error { return t.call(fn) })
		if err == nil || errors.As(err, new(uncertainError)) {
			t.Errorf("%s: got %v, want it said that it is not committed", name, err)
		}
		for range p.pool {
			var n int
			if err := p.inTx(t.Context(), func(t *tx) error { return t.get([]any{&n}, `SELECT count(*) FROM audit`) }); err != nil || n != 0 {
				t.Errorf("%s: got %d rows of it and %v, want none", name, n, err)
			}
		}
		eventually(t, "no transaction is left open after "+name, func() bool { // but for a heartbeat
			return count(t, url, `SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state LIKE 'idle in transaction%'`) == 0
		})
	}
	if err := p.inTx(t.Context(), note); err != nil {
		t.Error(err)
	}
	if n := count(t, url, `SELECT count(*) FROM inbox.audit`); n != 1 {
		t.Errorf("got %d rows, want the one that was committed", n)
	}
}

// What is small does not wait for large bodies that are on their way, and they do
// not wait for each other.
func TestLargeBodiesDoNotHoldUpOthers(t *testing.T) {
	t.Parallel()
	s := openNode(t, onPostgres(t), "a")
	begun, release := make(chan struct{}), make(chan struct{})
	s.files.fault = func(point string) error {
		if point == atPart {
			begun <- struct{}{}
			<-release
		}
		return nil
	}
	results := make(chan error)
	store := func(id string, size int) {
		_, err := put(s, headOf(s, "a", id), randomBody(size))
		results <- err
	}
	go store("large-1", 200_000)
	<-begun // from now on, others are gathered
	go store("large-2", 200_000)
	const small = 5
	for i := range small {
		go store(fmt.Sprint("small-", i), 10)
	}
	<-begun
	for range small {
		if err := <-results; err != nil {
			t.Error(err)
		}
	}
	close(release)
	for range 2 {
		if err := <-results; err != nil {
			t.Error(err)
		}
	}
}
