package inbox

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// bubble runs a test with a store in which time passes by itself. Such tests wait
// for the disk most of the time, so they run beside each other.
func bubble(t *testing.T, change func(*Options), test func(t *testing.T, s *Store)) {
	t.Helper()
	t.Parallel()
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		test(t, reopen(t, dir, change))
	})
}

func reopen(t *testing.T, dir string, change func(*Options)) *Store {
	t.Helper()
	o := testOptions(t, dir)
	if change != nil {
		change(&o)
	}
	s, err := Open(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// refuseWrites has the database refuse what a trigger describes, until the
// returned func is called.
func refuseWrites(t testing.TB, s *Store, on string) (end func()) {
	t.Helper()
	run := func(query string) {
		err := s.write(context.Background(), func(tx *tx) error {
			return tx.exec(query)
		})
		if err != nil {
			t.Error(err)
		}
	}
	if s.base.shared() {
		run("CREATE OR REPLACE FUNCTION refuse() RETURNS trigger AS $$ BEGIN RAISE EXCEPTION 'refused'; END $$ LANGUAGE plpgsql")
		run("CREATE TRIGGER refuse BEFORE " + on + " FOR EACH ROW EXECUTE FUNCTION refuse()")
		return func() { run("DROP TRIGGER refuse ON " + strings.Fields(on)[2]) }
	}
	run("CREATE TRIGGER refuse BEFORE " + on + " BEGIN SELECT RAISE(ABORT, 'refused'); END")
	return func() { run("DROP TRIGGER refuse") }
}

// attempted is an attempt that fakeRoutes has seen.
type attempted struct {
	route, report string
	attempt       int
	at            time.Time
}

// fakeRoutes are routes that remember what they get.
type fakeRoutes struct {
	list  []Route
	table func(kind Kind, name string) string

	mu       sync.Mutex
	deliver  deliverFunc
	got      []attempted
	active   map[string]int
	most     map[string]int // at once
	accepted []string       // in this order

	forgetful bool // for benchmarks
}

type deliverFunc func(ctx context.Context, route string, d *Delivery) Outcome

// answer changes how they answer.
func (f *fakeRoutes) answer(deliver deliverFunc) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.deliver = deliver
}

// routesTo are routes of four workers, of which each takes the type of its name.
func routesTo(deliver deliverFunc, names ...string) *fakeRoutes {
	f := &fakeRoutes{deliver: deliver, table: func(_ Kind, name string) string { return name }}
	for _, name := range names {
		f.list = append(f.list, Route{Name: name, Concurrency: 4, Timeout: 30 * time.Second})
	}
	return f
}

func (f *fakeRoutes) Route(kind Kind, name string) string {
	to := f.table(kind, name)
	if !slices.ContainsFunc(f.list, func(r Route) bool { return r.Name == to }) {
		return ""
	}
	return to
}

func (f *fakeRoutes) List() []Route { return f.list }

func (f *fakeRoutes) Deliver(ctx context.Context, route string, d *Delivery) Outcome {
	if f.forgetful {
		return f.deliver(ctx, route, d)
	}
	f.mu.Lock()
	if f.active == nil {
		f.active, f.most = make(map[string]int), make(map[string]int)
	}
	f.got = append(f.got, attempted{route, d.Head.ReportID, d.Attempt, time.Now()})
	f.active[route]++
	f.most[route] = max(f.most[route], f.active[route])
	deliver := f.deliver
	f.mu.Unlock()
	defer func() {
		f.mu.Lock()
		f.active[route]--
		f.mu.Unlock()
	}()
	o := deliver(ctx, route, d)
	if o.Accepted {
		f.mu.Lock()
		f.accepted = append(f.accepted, d.Head.ReportID)
		f.mu.Unlock()
	}
	return o
}

// of returns the attempts with a report.
func (f *fakeRoutes) of(report string) (found []attempted) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, a := range f.got {
		if a.report == report {
			found = append(found, a)
		}
	}
	return found
}

func (f *fakeRoutes) attempts() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.got)
}

func (f *fakeRoutes) takenReports() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.accepted)
}

func accept(context.Context, string, *Delivery) Outcome { return Outcome{Accepted: true, Status: 200} }

func refuse(status int) deliverFunc {
	return func(context.Context, string, *Delivery) Outcome {
		return Outcome{Status: status, Reason: fmt.Sprintf("status %d", status)}
	}
}

// hang does not answer before its time is over.
func hang(ctx context.Context, _ string, _ *Delivery) Outcome {
	<-ctx.Done()
	return Outcome{}
}

// arrive stores a report of a type now.
func arrive(t testing.TB, s *Store, name, id string) Receipt {
	t.Helper()
	return mustPut(t, s, Head{Kind: KindReport, Subjects: []string{name}, ReportID: id, Received: s.now(), LinkIDs: []string{"link-" + id}}, []byte("body of "+id))
}

// arriveMany stores reports with the ids prefix-0000 and so on, in this order.
func arriveMany(t testing.TB, s *Store, name, prefix string, n int) (ids []string) {
	t.Helper()
	drafts := make([]*Draft, n)
	var wg sync.WaitGroup
	for i := range n {
		ids = append(ids, fmt.Sprintf("%s-%04d", prefix, i))
		drafts[i] = draftOf(t, s, ids[i])
	}
	// Together: one commit has many of them. Their order is that in which the
	// writer gets them.
	const together = 64
	for from := 0; from < n; from += together {
		for i := from; i < min(from+together, n); i++ {
			wg.Go(func() {
				head := Head{Kind: KindReport, Subjects: []string{name}, ReportID: ids[i], Received: s.now()}
				if _, err := drafts[i].Commit(context.Background(), head, [32]byte{}); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		time.Sleep(time.Millisecond) // of the bubble: the next are younger
	}
	return ids
}

func draftOf(t testing.TB, s *Store, id string) *Draft {
	t.Helper()
	d, err := s.NewDraft()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(d, "body of "+id); err != nil {
		t.Fatal(err)
	}
	return d
}

// stateOf returns what became of a report.
func stateOf(t testing.TB, s *Store, uid string) State {
	t.Helper()
	r, err := s.Show(context.Background(), uid)
	if err != nil {
		t.Fatal(err)
	}
	return r.State
}

// stateCount returns how many reports there are in each state.
func stateCount(t testing.TB, s *Store) map[State]int {
	t.Helper()
	count := make(map[State]int)
	records, err := s.List(context.Background(), Filter{}, Page{Limit: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range records {
		count[r.State]++
	}
	return count
}

// rest waits until nothing happens any more without time passing.
func rest() { synctest.Wait() }

// pass lets time pass, and then waits until nothing happens any more.
func pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func routeStatus(t testing.TB, s *Store, name string) RouteStatus {
	t.Helper()
	list, err := s.ListRoutes(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range list {
		if r.Name == name {
			return r
		}
	}
	t.Fatalf("got %+v, want the route %q among them", list, name)
	return RouteStatus{}
}
