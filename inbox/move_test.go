package inbox

import (
	"bytes"
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddy-klavi/caddy-klavi/inbox/postgrestest"
)

// side is one of the stores between which something is moved. Each has a key of its
// own.
type side struct {
	Dir, URL, Schema string
	Key              byte
}

func (sd side) options(log *slog.Logger) Options {
	o := Options{Dir: sd.Dir, EncryptionKey: bytes.Repeat([]byte{sd.Key}, keySize), Node: "test", Logger: log}
	if sd.URL != "" {
		o.Postgres = &Postgres{URL: sd.URL, Schema: sd.Schema, PoolSize: 4, deaf: true, hurry: 10}
	}
	return o
}

func (sd side) open(t testing.TB) *Store {
	return openTest(t, sd.options(slog.New(slog.NewTextHandler(testLog{t}, nil))))
}

// directions are the ways in which something can be moved.
func directions(t *testing.T, test func(t *testing.T, from, to side)) {
	onlySQLite(t)
	t.Parallel()
	server := postgrestest.Shared(t)
	for _, name := range []string{"files to rows", "rows to files", "files to files", "rows to rows"} {
		t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) {
			t.Parallel()
			url := server.Database(t)
			sides := [2]side{{Key: 1, Schema: "source"}, {Key: 2, Schema: "target"}}
			for i, kind := range strings.Split(name, " to ") {
				sides[i].Dir = t.TempDir()
				if kind == "rows" {
					sides[i].URL = url
				}
			}
			test(t, sides[0], sides[1])
		})
	}
}

// fillAll fills a store with all that there can be.
func fillAll(t *testing.T, s *Store) {
	t.Helper()
	ctx := t.Context()
	now := time.Now()
	head := func(id, subject string) Head {
		return Head{
			Kind: KindReport, Subjects: []string{subject}, ReportID: id, Code: 200, Received: now, RequestID: "request-" + id,
			LinkIDs: []string{"link-" + id}, ConsentIDs: []string{"consent-" + id}, Meta: []byte("meta"),
		}
	}
	large := randomBody(3<<20 + 17)
	detach := s.Attach(routesTo(func(_ context.Context, _ string, d *Delivery) Outcome {
		switch d.Head.ReportID {
		case "failed":
			return Outcome{Status: 500, Reason: "status 500", RetryAfter: time.Hour}
		case "dead", "dead-large":
			return Outcome{Dead: true, Status: 410}
		}
		return Outcome{Accepted: true, Status: 200}
	}, "a", "b", "c"))
	mustPut(t, s, head("failed", "a"), randomBody(1000))
	mustPut(t, s, head("dead", "a"), randomBody(10))
	mustPut(t, s, head("dead-large", "a"), large[:200_000])
	mustPut(t, s, head("delivered", "a"), randomBody(70_000))
	mustPut(t, s, head("dropped", "nowhere"), randomBody(7))
	events := head("events", "c")
	events.Kind, events.Subjects = KindEvent, []string{"c", "nobody's"}
	mustPut(t, s, events, randomBody(70))
	mustPut(t, s, Head{Kind: KindUnreadable, ReportID: "odd", Received: now}, []byte("{"))
	eventually(t, "all of it was tried", func() bool {
		n := 0
		_ = s.scan(ctx, `SELECT count(*) FROM attempts`, nil, func(rows *sql.Rows) error { return rows.Scan(&n) })
		return n == 5
	})
	detach()
	for i := range moveBatch + 10 {
		mustPut(t, s, head(fmt.Sprint("small-", i), "b"), fmt.Append(nil, "body ", i))
		if i == 5 {
			mustPut(t, s, head("large", "b"), large)
		}
	}
	for _, id := range []string{"erased", "exported"} {
		mustPut(t, s, head(id, "b"), large[:chunkSize+1])
	}
	if _, err := s.Erase(ctx, EraseConsent, "consent-erased", "ana", "asked"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Drop(ctx, Filter{ReportID: "dropped"}, "ana", "no use", nil); err != nil {
		t.Fatal(err)
	}
	records, err := s.List(ctx, Filter{ReportID: "exported"}, Page{})
	if err != nil || len(records) != 1 {
		t.Fatalf("got %d and %v, want one report to export", len(records), err)
	}
	body, err := s.Export(ctx, records[0].UID, "ana", "to see it")
	if err != nil {
		t.Fatal(err)
	}
	_ = body.Close()
	for _, size := range []int{100, 150_000} {
		d, err := s.NewDraft()
		if err != nil {
			t.Fatal(err)
		}
		_, _ = d.Write(large[:size])
		if err := d.Quarantine(ctx, fmt.Sprint("signature-", size), now, []byte("meta"), [32]byte{1}); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(s.Pause(ctx, "a", "ana"), s.Pause(ctx, "b", "ana"), s.Resume(ctx, "b", "bia")); err != nil {
		t.Fatal(err)
	}
}

// contents is all that is in a store, but for numbers of rows and sealed keys.
func contents(t testing.TB, s *Store) []string {
	t.Helper()
	ctx := context.Background()
	var all []string
	dump := func(what, query string, columns int) {
		err := s.scan(ctx, query, nil, func(rows *sql.Rows) error {
			values, dest := make([]any, columns), make([]any, columns)
			for i := range values {
				dest[i] = &values[i]
			}
			if err := rows.Scan(dest...); err != nil {
				return err
			}
			line := what
			for _, v := range values {
				if b, ok := v.([]byte); ok {
					v = fmt.Sprintf("%x", b)
				}
				if name, ok := v.(string); ok && strings.Count(name, "+") == 2 { // in a pack, or not
					v = values[0]
				}
				line += fmt.Sprintf(" %v", v)
			}
			all = append(all, line)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	dump("report", `SELECT uid, kind, type, report_id, digest, size, received, code, refs, repeat, conflict, state, ended FROM reports ORDER BY id`, 13)
	dump("delivery", `SELECT r.uid, d.kind, d.subject, d.state, d.attempts, d.failures, d.retried, d.due, d.since, d.claimed_by, d.route, d.status, d.reason
		FROM deliveries d JOIN reports r ON r.id = d.report ORDER BY d.id`, 13)
	dump("attempt", `SELECT r.uid, d.subject, a.node, a.route, a.at, a.took, a.status, a.reason
		FROM attempts a JOIN deliveries d ON d.id = a.delivery JOIN reports r ON r.id = a.report ORDER BY r.uid, a.at`, 8)
	dump("refs", `SELECT f.kind, f.value, r.uid FROM refs f JOIN reports r ON r.id = f.report ORDER BY 1, 2, 3`, 3)
	dump("body", `SELECT r.uid, b.stored, b.head, b.file, b.body FROM bodies b JOIN reports r ON r.id = b.report ORDER BY b.report`, 5)
	dump("quarantine", `SELECT uid, received, signature, head, file, size, stored, body FROM quarantine ORDER BY id`, 8)
	dump("erased", `SELECT kind, value, at FROM erased ORDER BY id`, 3)
	dump("pause", `SELECT route, at, by FROM pauses ORDER BY route`, 3)
	dump("audit", `SELECT at, who, what, uid, why FROM audit ORDER BY at, what, uid`, 5)
	for _, id := range reportIDs(t, s) {
		d, err := s.load(ctx, id)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, "opened "+d.UID+" "+digestOf(t, d.Body))
	}
	_, err := s.Release(ctx, func(q *Quarantined) (*Head, error) {
		all = append(all, "quarantined "+q.Signature+" "+string(q.Meta)+" "+digestOf(t, q.Body))
		return nil, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	st, err := s.Stats(ctx)
	text, _ := json.Marshal(st)
	if err != nil {
		t.Fatal(err)
	}
	return append(all, string(text))
}

func digestOf(t testing.TB, open func() (Body, error)) string {
	t.Helper()
	b, err := open()
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	data, err := io.ReadAll(b)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%x", sha256.Sum256(data))
}

func checkContents(t testing.TB, s *Store, want []string) {
	t.Helper()
	got := contents(t, s)
	if slices.Equal(got, want) {
		return
	}
	for _, line := range want {
		if !slices.Contains(got, line) {
			t.Errorf("missing: %.300s", line)
		}
	}
	for _, line := range got {
		if !slices.Contains(want, line) {
			t.Errorf("too much: %.300s", line)
		}
	}
	if !t.Failed() {
		t.Errorf("got another order:\n%.2000s\nwant\n%.2000s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// checkNothing makes sure that nothing is left in a store.
func checkNothing(t testing.TB, s *Store) {
	t.Helper()
	empty, err := json.Marshal(Stats{})
	if err != nil {
		t.Fatal(err)
	}
	checkContents(t, s, []string{string(empty)})
	if !s.base.shared() {
		if n := countFiles(t, s); n != 0 {
			t.Errorf("got %d bodies left in files, want none", n)
		}
		return
	}
	var n int
	if err := s.scan(t.Context(), `SELECT count(*) FROM chunks`, nil, func(rows *sql.Rows) error { return rows.Scan(&n) }); err != nil || n != 0 {
		t.Errorf("got %d parts of bodies left (%v), want none", n, err)
	}
}

func TestMoveLeavesNothingBehind(t *testing.T) {
	directions(t, func(t *testing.T, fromSide, toSide side) {
		from, to := fromSide.open(t), toSide.open(t)
		fillAll(t, from)
		want := contents(t, from)
		var seen [][2]int
		moved, err := Move(t.Context(), from, to, func(done, total int) { seen = append(seen, [2]int{done, total}) })
		if err != nil || moved.Reports != moveBatch+20 || moved.Known != 0 || moved.Quarantined != 2 || moved.Left != nil {
			t.Errorf("got %+v and %v, want %d reports and 2 in quarantine moved", moved, err, moveBatch+20)
		}
		total := moveBatch + 22
		if first, last := seen[0], seen[len(seen)-1]; first != [2]int{0, total} || last != [2]int{total, total} ||
			!slices.IsSortedFunc(seen, func(a, b [2]int) int { return a[0] - b[0] }) {
			t.Errorf("got the progress %v, want it from 0 to %d", seen, total)
		}
		checkContents(t, to, want)
		checkNothing(t, from)
		_, _ = from.Close(), to.Close()
		checkContents(t, toSide.open(t), want)
		checkNothing(t, fromSide.open(t))
	})
}

func TestMoveEndsWithItsContext(t *testing.T) {
	directions(t, func(t *testing.T, fromSide, toSide side) {
		from, to := fromSide.open(t), toSide.open(t)
		fillAll(t, from)
		want := contents(t, from)
		ctx, cancel := context.WithCancel(t.Context())
		moved, err := Move(ctx, from, to, func(done, _ int) {
			if done > 10 {
				cancel()
			}
		})
		if !errors.Is(err, context.Canceled) || moved.Reports == 0 {
			t.Fatalf("got %+v and %v, want it cancelled on the way", moved, err)
		}
		if _, err := Move(t.Context(), from, to, nil); err != nil {
			t.Fatal(err)
		}
		checkContents(t, to, want)
		checkNothing(t, from)
	})
}

func TestMoveLeavesWhatIsDamaged(t *testing.T) {
	onlySQLite(t)
	fromSide, toSide := side{Dir: t.TempDir(), Key: 1}, side{Dir: t.TempDir(), Key: 2}
	from, to := fromSide.open(t), toSide.open(t)
	small := mustPut(t, from, testHead("small"), randomBody(100))
	large := mustPut(t, from, testHead("large"), randomBody(ownFile))
	gone := mustPut(t, from, testHead("gone"), randomBody(ownFile))
	good := mustPut(t, from, testHead("good"), randomBody(ownFile))
	packed := mustPut(t, from, testHead("packed"), randomBody(200_000))
	beside := mustPut(t, from, testHead("beside"), randomBody(200_000))
	err := from.write(t.Context(), func(tx *tx) error {
		return tx.exec(`UPDATE bodies SET body = zeroblob(length(body)) WHERE file IS NULL`)
	})
	if err != nil {
		t.Fatal(err)
	}
	flip(t, from.files.body(large.UID), 150_000, 1)
	if err := os.Remove(from.files.body(gone.UID)); err != nil {
		t.Fatal(err)
	}
	flip(t, from.files.body(inPack(t, from, packed.UID).pack), 150_000, 1)
	moved, err := Move(t.Context(), from, to, nil)
	if want := []string{small.UID, large.UID, gone.UID, packed.UID}; err != nil || moved.Reports != 2 || !slices.Equal(moved.Left, want) {
		t.Errorf("got %+v and %v, want two moved and %v left", moved, err, want)
	}
	if got := reportIDs(t, to); len(got) != 2 || stateOf(t, to, good.UID) != Waiting || stateOf(t, to, beside.UID) != Waiting {
		t.Errorf("got %d bodies, want the good ones only", len(got))
	}
	if n := countFiles(t, to); n != 2 {
		t.Errorf("got %d files, want two", n)
	}
	if _, err := os.Stat(filepath.Join(from.dir, bodiesName, large.UID)); err != nil {
		t.Errorf("got %v, want the damaged body where it was", err)
	}
}

// What came to both is delivered once. What was erased in one is erased in both.
func TestMoveMeetsWhatIsThere(t *testing.T) {
	directions(t, func(t *testing.T, fromSide, toSide side) {
		from, to := fromSide.open(t), toSide.open(t)
		now := time.Now()
		put := func(s *Store, id, consent string, ago time.Duration, body string) Receipt {
			return mustPut(t, s, Head{Kind: KindReport, Subjects: []string{"a"}, ReportID: id, ConsentIDs: []string{consent}, Received: now.Add(-ago)}, []byte(body))
		}
		long := strings.Repeat("x", chunkSize+1)
		sooner, later := put(from, "soon", "1", time.Minute, long), put(to, "soon", "1", 0, long)
		old, again := put(to, "again", "1", time.Hour, "b"), put(from, "again", "1", 0, "b")
		other := put(from, "other", "1", 0, "c")
		put(to, "other", "1", 0, "d")
		erasedThere := put(from, "x", "gone there", 0, long)
		if _, err := to.Erase(t.Context(), EraseConsent, "gone there", "ana", "asked"); err != nil {
			t.Fatal(err)
		}
		erasedHere := put(to, "y", "gone here", 0, long)
		if _, err := from.Erase(t.Context(), EraseConsent, "gone here", "ana", "asked"); err != nil {
			t.Fatal(err)
		}
		if _, err := Move(t.Context(), from, to, nil); err != nil {
			t.Fatal(err)
		}
		checkNothing(t, from)
		if _, err := to.Show(t.Context(), sooner.UID); !errors.Is(err, ErrNotFound) || stateOf(t, to, later.UID) != Waiting {
			t.Errorf("got %v, want one of two copies only", err)
		}
		if r, err := to.Show(t.Context(), again.UID); err != nil || !r.Repeat || r.State != Waiting || stateOf(t, to, old.UID) != Waiting {
			t.Errorf("got %+v and %v, want a repeat", r, err)
		}
		if r, err := to.Show(t.Context(), other.UID); err != nil || !r.Conflict || r.State != Waiting {
			t.Errorf("got %+v and %v, want a conflict", r, err)
		}
		for _, uid := range []string{erasedThere.UID, erasedHere.UID} {
			if r, err := to.Show(t.Context(), uid); err != nil || r.State != Erased || r.Deliveries[0].State != Dropped {
				t.Errorf("got %+v and %v, want it erased", r, err)
			}
		}
		if st, err := to.Stats(t.Context()); err != nil || st.Waiting != 5 || len(reportIDs(t, to)) != 5 {
			t.Errorf("got %+v and %v, want 5 waiting", st, err)
		}
		checkKeptFiles(t, to)
	})
}

// checkKeptFiles makes sure that there are as many large bodies as rows say.
func checkKeptFiles(t testing.TB, s *Store) {
	t.Helper()
	var rows, large int
	err := s.scan(t.Context(), `SELECT count(*) FROM bodies WHERE file IS NOT NULL`, nil, func(r *sql.Rows) error { return r.Scan(&rows) })
	if err == nil && s.base.shared() {
		err = s.scan(t.Context(), `SELECT count(DISTINCT uid) FROM chunks`, nil, func(r *sql.Rows) error { return r.Scan(&large) })
	} else if err == nil {
		large = countFiles(t, s)
	}
	if err != nil || large != rows {
		t.Errorf("got %d large bodies for %d rows (%v)", large, rows, err)
	}
}

func TestMoveOnlyWhereNobodyDelivers(t *testing.T) {
	directions(t, func(t *testing.T, fromSide, toSide side) {
		from, to := fromSide.open(t), toSide.open(t)
		mustPut(t, from, testHead("a"), []byte("body"))
		for _, s := range []*Store{from, to} {
			detach := s.Attach(routesTo(hang, "nothing"))
			if _, err := Move(t.Context(), from, to, nil); err == nil || !strings.Contains(err.Error(), "delivered from "+s.place) {
				t.Errorf("got %v, want it refused because of %s", err, s.place)
			}
			detach()
		}
		if fromSide.URL != "" {
			o := fromSide.options(slog.New(slog.DiscardHandler))
			o.Node = "the other one"
			other := openTest(t, o)
			eventually(t, "the other node is known", func() bool {
				names, err := from.base.others(t.Context())
				return err == nil && len(names) > 0
			})
			if _, err := Move(t.Context(), from, to, nil); !errors.Is(err, ErrLocked) || !strings.Contains(err.Error(), "the other one") {
				t.Errorf("got %v, want %v and its name", err, ErrLocked)
			}
			_ = other.Close()
		}
		if moved, err := Move(t.Context(), from, to, nil); err != nil || moved.Reports != 1 {
			t.Errorf("got %+v and %v, want it moved", moved, err)
		}
	})
}

// A database has more than one name: what is moved to where it is would be removed.
func TestMoveToItself(t *testing.T) {
	onlySQLite(t)
	t.Parallel()
	here := side{Key: 1, Schema: "klavi", URL: postgrestest.Shared(t).Database(t), Dir: t.TempDir()}
	filled := here.open(t)
	fillAll(t, filled)
	_ = filled.Close()
	from, to := visit(t, here), visit(t, here)
	want := contents(t, from)
	if moved, err := Move(t.Context(), from, to, nil); err == nil || !strings.Contains(err.Error(), "is the same inbox as") {
		t.Errorf("got %+v and %v, want that it is the same", moved, err)
	}
	checkContents(t, from, want)
}

// visit opens what is there as people do.
func visit(t *testing.T, sd side) *Store {
	o := sd.options(slog.New(slog.NewTextHandler(testLog{t}, nil)))
	o.Visit = true
	return openTest(t, o)
}
