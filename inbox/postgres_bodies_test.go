//go:build !klavi_nopostgres

package inbox

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/caddy-klavi/caddy-klavi/inbox/postgrestest"
)

// A large body goes into the database and out of it in parts.
func TestLargeBodyInPostgres(t *testing.T) {
	url := onPostgres(t)
	dir := t.TempDir()
	t.Setenv("TMPDIR", dir)
	s := openNode(t, url, "a")
	const size = 64 << 20
	random := func() io.Reader { return io.LimitReader(rand.NewChaCha8([32]byte{1}), size) }
	want := sha256.New()
	_, _ = io.Copy(want, random())

	before := heap()
	var most atomic.Uint64
	ended, watched := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(watched)
		for {
			select {
			case <-ended:
				return
			default:
				most.Store(max(most.Load(), heap()))
			}
		}
	}()
	d, err := s.NewDraft()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(d, random()); err != nil {
		t.Fatal(err)
	}
	if files := filesIn(t, dir); len(files) != 0 {
		t.Errorf("got the files %q while it arrives, want none with a name", files)
	}
	head := headOf(s, "a", "large")
	if _, err := d.Commit(t.Context(), head, [32]byte(want.Sum(nil))); err != nil {
		t.Fatal(err)
	}
	got := sha256.New()
	routes := routesTo(func(_ context.Context, _ string, d *Delivery) Outcome {
		body, err := d.Body()
		if err == nil {
			_, err = io.Copy(got, body)
		}
		return Outcome{Accepted: err == nil, Status: 200}
	}, "a")
	defer s.Attach(routes)()
	eventually(t, "it is delivered", func() bool { return waitingIn(t, s) == 0 })
	close(ended)
	<-watched
	if string(got.Sum(nil)) != string(want.Sum(nil)) {
		t.Error("got another body, want the one that was stored")
	}
	if grown := int64(most.Load()) - int64(before); grown > 32<<20 {
		t.Errorf("got %d MiB more in use, want much less than the body", grown>>20)
	}
	if n := count(t, url, `SELECT count(*) FROM inbox.chunks`); n != 0 {
		t.Errorf("got %d parts when it is delivered, want none", n)
	}
	if files := filesIn(t, dir); len(files) != 0 {
		t.Errorf("got the files %q left over, want none", files)
	}
}

// heap is how much is in use after what is not has been given up.
func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// What is wrong with a part costs its report only: that is set aside, and said.
func TestDamagedParts(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ name, spoil string }{
		{"the first is missing", `DELETE FROM inbox.chunks WHERE n = 0`},
		{"one is missing", `DELETE FROM inbox.chunks WHERE n = 1`},
		{"the last is missing", `DELETE FROM inbox.chunks WHERE n = 2`},
		{"all are", `DELETE FROM inbox.chunks`},
		{"one is altered", `UPDATE inbox.chunks SET data = set_byte(data, 1000, 255 - get_byte(data, 1000)) WHERE n = 1`},
		{"one is shorter", `UPDATE inbox.chunks SET data = substr(data, 1, 1000) WHERE n = 1`},
		{"two are exchanged", `UPDATE inbox.chunks SET n = CASE n WHEN 0 THEN 11 ELSE 10 END WHERE n < 2; UPDATE inbox.chunks SET n = n - 10 WHERE n > 9`},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			url := onPostgres(t)
			s := openNode(t, url, "a")
			uid := mustPut(t, s, headOf(s, "a", "large"), randomBody(2<<20+5000)).UID
			for statement := range strings.SplitSeq(test.spoil, ";") {
				postgrestest.Exec(t, url, statement)
			}
			other := mustPut(t, s, headOf(s, "a", "other"), randomBody(100_000)).UID
			left := count(t, url, `SELECT count(*) FROM inbox.chunks WHERE uid = $1`, uid)
			routes := routesTo(func(_ context.Context, _ string, d *Delivery) Outcome {
				body, err := d.Body()
				if err == nil {
					_, err = io.Copy(io.Discard, body)
				}
				return Outcome{Accepted: err == nil, Reason: "the body ended too early"}
			}, "a")
			defer s.Attach(routes)()
			eventually(t, "it is set aside", func() bool { return stateOf(t, s, uid) == Damaged })
			eventually(t, "the other one is delivered", func() bool { return stateOf(t, s, other) == Delivered })
			if n := count(t, url, `SELECT count(*) FROM inbox.chunks`); n != left {
				t.Errorf("got %d parts, want the %d that are left of it kept", n, left)
			}
			if _, err := s.Drop(t.Context(), Filter{UID: uid}, "an operator", "", nil); err != nil {
				t.Fatal(err)
			}
			if n := count(t, url, `SELECT count(*) FROM inbox.chunks`); n != 0 {
				t.Errorf("got %d parts when it is dropped, want none", n)
			}
		})
	}
}

// hotQueries are what runs for each delivery, and examples of their arguments.
func hotQueries(s *Store) map[string][]any {
	const list = "(?, ?, ?, ?, ?, ?, ?, ?)"
	ids := []any{1, 2, 3, 4, 5, 6, 7, 8}
	return map[string][]any{
		selectOldest + s.lockRows: {"report", "type1", 0, 10_000, 1, 10},
		selectNewest + s.lockRows: {"report", "type1", 0, 10_000, 1, 10},
		selectNext:                {1, "report", "type1", 10_000},
		selectSkipped:             {"report", "type1", 0, 10_000, 1},
		selectSiblings:            {100, 1},
		selectSubject:             {"report", "type1"},
		selectFar:                 {"report", "type1", 19_000},
		insertAttempt:             {1, 100, "a", "a", 1, 1, 200, ""},
		pruneAttempts:             {100, 100, 10},
		updateEnded:               {"delivered", 1, "a", 200, "", 1},
		updateGone:                {"dead", "", 100},
		deleteAudit:               {10, 10},
		`SELECT id, uid, digest, received, state FROM reports WHERE report_id = ? AND kind = ? ORDER BY id DESC LIMIT 100`: {"r7", "report"},
		selectErased + "(?, ?)":                           {"7", "8"},
		`SELECT data FROM chunks WHERE uid = ? AND n = ?`: {"u7", 0},
		lockReports + list + lockInOrder:                  ids,
		selectEnds + list:                                 ids,
		updateReports + list:                              append([]any{"delivered", 1}, ids...),
		deleteBodies + list + returningBodies:             ids,
		updateClaims + list:                               append([]any{"a", 1}, ids...),
	}
}

// A plan that is made while the tables are empty is one for what they will hold.
func TestPlansOfEmptyTables(t *testing.T) {
	t.Parallel()
	s := openNode(t, onPostgres(t), "a")
	for query, args := range hotQueries(s) {
		var plan []string
		err := s.write(t.Context(), func(tx *tx) error {
			for _, step := range []string{`SET LOCAL plan_cache_mode = force_generic_plan`, `PREPARE hot AS ` + bind(query)} {
				if _, err := tx.count(step); err != nil {
					return err
				}
			}
			var err error
			plan, err = tx.texts(`EXPLAIN EXECUTE hot (NULL` + strings.Repeat(`, NULL`, len(args)-1) + `)`)
			return errors.Join(err, tx.exec(`DEALLOCATE hot`))
		})
		if err != nil {
			t.Fatalf("%s: %v", query, err)
		}
		if text := strings.Join(plan, "\n"); strings.Contains(text, "Seq Scan") {
			t.Errorf("%s\ngot the plan\n%s\nwant a search of an index", query, text)
		}
	}
}

// However much waits, PostgreSQL finds by an index what runs for each delivery, too.
func TestHotQueriesUseIndexesOfPostgres(t *testing.T) {
	t.Parallel()
	url := onPostgres(t)
	s := openNode(t, url, "a")
	for _, query := range []string{
		`INSERT INTO inbox.reports (uid, kind, type, report_id, digest, size, received, code, refs, repeat, conflict, state)
			SELECT 'u' || i, 'report', '["a"]', 'r' || i, '', 1, i, 0, '{}', 0, 0, 'waiting' FROM generate_series(1, 20000) AS i`,
		`INSERT INTO inbox.deliveries (report, kind, subject, state, attempts, retried, due, since)
			SELECT i, 'report', 'type' || i % 20, CASE WHEN i % 50 = 0 THEN 'dead' WHEN i % 3 = 0 THEN 'delivered' ELSE 'waiting' END, 0, i % 2, i, i FROM generate_series(1, 20000) AS i`,
		`INSERT INTO inbox.attempts (delivery, report, node, route, at, took, status, reason)
			SELECT i / 4, i / 4, 'a', 'a', i, 1, 200, '' FROM generate_series(1, 20000) AS i`,
		`INSERT INTO inbox.bodies (report, key, head, stored) SELECT i, '', '', 100 FROM generate_series(1, 20000) AS i`,
		`INSERT INTO inbox.refs (kind, value, report) SELECT 'consent', i / 5, i FROM generate_series(1, 20000) AS i`,
		`INSERT INTO inbox.audit (at, who, what, uid, why) SELECT i, '', '', i, '' FROM generate_series(1, 20000) AS i`,
		`INSERT INTO inbox.erased (kind, value, at) SELECT 'consent', i, i FROM generate_series(1, 20000) AS i`,
		`INSERT INTO inbox.chunks (uid, n, data) SELECT 'u' || i / 10, i % 10, '' FROM generate_series(1, 20000) AS i`,
		`ANALYZE inbox.reports, inbox.deliveries, inbox.attempts, inbox.bodies, inbox.refs, inbox.audit, inbox.erased, inbox.chunks`,
	} {
		postgrestest.Exec(t, url, query)
	}
	for query, args := range hotQueries(s) {
		var plan []string
		err := s.write(t.Context(), func(tx *tx) error {
			if err := tx.exec(`SET LOCAL enable_seqscan = on`); err != nil { // where it would be better
				return err
			}
			var err error
			plan, err = tx.texts("EXPLAIN "+query, args...)
			return err
		})
		if err != nil {
			t.Fatalf("%s: %v", query, err)
		}
		text := strings.Join(plan, "\n")
		if strings.Contains(text, "Seq Scan") || !strings.Contains(text, "Index") || strings.Contains(query, "ORDER BY due") && strings.Contains(text, "Sort") {
			t.Errorf("%s\ngot the plan\n%s\nwant a search of an index in its order", query, text)
		}
	}
}

// A process that is killed while a large body is on its way to the database leaves
// neither parts nor files.
func TestKilledInATransaction(t *testing.T) {
	t.Parallel()
	url := onPostgres(t)
	dir, tmp := t.TempDir(), t.TempDir()
	for point, times := range map[string]int{atWrite: 20, atPart: 5, atCommitted: 20} {
		p := startHelper(t, dir, "INBOX_TEST_POSTGRES="+url, "TMPDIR="+tmp, "HELPER_POINT="+point, fmt.Sprint("HELPER_COUNT=", times), "HELPER_PREFIX="+strings.ReplaceAll(point, " ", "_"))
		ids := p.kill(1_000_000)
		if status := p.cmd.ProcessState.String(); status != "signal: killed" {
			t.Fatalf("got %s, want it killed: %s", status, p.stderr.String())
		}
		schema := postgrestest.Query[string](t, url, `SELECT schemaname::text FROM pg_tables WHERE tablename = 'chunks'`)[0]
		for _, id := range ids {
			if n := count(t, url, fmt.Sprintf(`SELECT count(*) FROM %s.reports WHERE report_id = $1`, schema), id); n != 1 {
				t.Errorf("%s: got %d on record, want one", id, n)
			}
		}
		if n := count(t, url, fmt.Sprintf(`SELECT count(*) FROM %s.chunks c WHERE NOT EXISTS (SELECT FROM %[1]s.bodies b WHERE b.file = c.uid)`, schema)); n != 0 {
			t.Errorf("%s: got %d parts of no body, want none", point, n)
		}
		if files, err := filepath.Glob(filepath.Join(tmp, "*")); err != nil || len(files) > 0 {
			t.Errorf("%s: got the files %q and %v, want none left over", point, files, err)
		}
	}
}
