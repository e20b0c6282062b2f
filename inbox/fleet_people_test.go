//go:build !klavi_nopostgres

package inbox

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"
)

// The same report, sent to all nodes at once and many times, is stored and delivered
// once.
func TestCopiesAtTwoNodes(t *testing.T) {
	t.Parallel()
	url := onPostgres(t) + "&default_transaction_isolation=repeatable%20read" // whatever is the default there
	nodes := []*Store{openNode(t, url, "a"), openNode(t, url, "b")}
	routes := routesTo(accept, "a")
	for _, s := range nodes {
		defer s.Attach(routes)()
	}
	for i := range soakRounds(20) {
		id := fmt.Sprint(i)
		got := atOnce(t, nodes, 3, func(int) Head { return headOf(nodes[0], "a", id) }, func(int) []byte { return bodyOf(id) })
		if len(got) != 6 || stored(got) != 1 {
			t.Errorf("%s: got %+v, want one stored and the others duplicates", id, got)
		}
		eventually(t, "it is delivered", func() bool { return waitingIn(t, nodes[0]) == 0 })
		if n := len(routes.of(id)); n != 1 {
			t.Errorf("%s: got %d deliveries, want one", id, n)
		}
	}
}

// Two bodies with one id are both kept, and one of them says so.
func TestConflictAtTwoNodes(t *testing.T) {
	t.Parallel()
	url := onPostgres(t)
	nodes := []*Store{openNode(t, url, "a"), openNode(t, url, "b")}
	for i := range soakRounds(20) {
		id := fmt.Sprint(i)
		got := atOnce(t, nodes, 2, func(int) Head { return headOf(nodes[0], "a", id) }, func(j int) []byte { return fmt.Append(nil, j%2) })
		conflicts := 0
		for _, r := range got {
			if r.Conflict && !r.Duplicate {
				conflicts++
			}
		}
		if stored(got) != 2 || conflicts != 1 {
			t.Errorf("%s: got %+v, want two stored, the second as a conflict", id, got)
		}
	}
}

// A dead report that is sent again takes the place of the dead one, once.
func TestDeadCopyAtTwoNodes(t *testing.T) {
	t.Parallel()
	url := onPostgres(t)
	nodes := []*Store{openNode(t, url, "a"), openNode(t, url, "b")}
	for i := range soakRounds(10) {
		id := fmt.Sprint(i)
		old := headOf(nodes[0], "a", id)
		old.Received = old.Received.Add(-time.Hour)
		uid := mustPut(t, nodes[0], old, bodyOf(id)).UID
		end(t, nodes[0], uid, "dead")
		got := atOnce(t, nodes, 2, func(int) Head { return headOf(nodes[0], "a", id) }, func(int) []byte { return bodyOf(id) })
		if stored(got) != 1 {
			t.Errorf("%s: got %+v, want one stored and the others duplicates", id, got)
		}
		if state := stateOf(t, nodes[1], uid); state != Dropped {
			t.Errorf("%s: got the dead copy %s, want it dropped", id, state)
		}
		if n := count(t, url, `SELECT count(*) FROM inbox.reports WHERE report_id = $1 AND repeat = 1 AND state = 'waiting'`, id); n != 1 {
			t.Errorf("%s: got %d copies that wait, want one", id, n)
		}
	}
}

// atOnce sends reports to all nodes at once, n to each.
func atOnce(t *testing.T, nodes []*Store, n int, head func(int) Head, body func(int) []byte) (got []Receipt) {
	t.Helper()
	var mu sync.Mutex
	var wg sync.WaitGroup
	begin := make(chan struct{})
	for _, s := range nodes {
		for j := range n {
			wg.Go(func() {
				<-begin
				r, err := put(s, head(j), body(j))
				if err != nil {
					t.Error(err)
				}
				mu.Lock()
				defer mu.Unlock()
				got = append(got, r)
			})
		}
	}
	close(begin)
	wg.Wait()
	return got
}

func stored(got []Receipt) (n int) {
	for _, r := range got {
		if !r.Duplicate {
			n++
		}
	}
	return n
}

func headOf(s *Store, name, id string) Head {
	return Head{Kind: KindReport, Subjects: []string{name}, ReportID: id, Received: s.now()}
}

// What a person does at one node holds at all of them.
func TestPeopleAtAnotherNode(t *testing.T) {
	t.Parallel()
	url := onPostgres(t)
	a, b := openNode(t, url, "a"), openNode(t, url, "b")
	routes := routesTo(accept, "a", "b")
	defer b.Attach(routes)()
	ctx := t.Context()

	if err := a.Pause(ctx, "a", "an operator"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it is paused there", func() bool { return routeStatus(t, b, "a").PausedBy == "an operator" })
	waits, drop := arrive(t, a, "a", "waits"), arrive(t, a, "a", "drop")
	arrive(t, a, "b", "passes")
	eventually(t, "the other route goes on", func() bool { return len(routes.of("passes")) == 1 })
	if n := routes.attempts(); n != 1 {
		t.Errorf("got %d attempts, want none with what is paused", n)
	}
	if n, err := a.Drop(ctx, Filter{UID: drop.UID}, "an operator", "", nil); n != 1 || err != nil {
		t.Fatalf("got %d and %v, want one dropped", n, err)
	}
	routes.answer(func(context.Context, string, *Delivery) Outcome { return Outcome{Dead: true, Status: 410} })
	if err := a.Resume(ctx, "a", "an operator"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it is tried", func() bool { return stateOf(t, a, waits.UID) == Dead })
	routes.answer(accept)
	if n, err := a.Retry(ctx, Filter{UID: waits.UID}, "an operator", nil); n != 1 || err != nil {
		t.Fatalf("got %d and %v, want one tried again", n, err)
	}
	eventually(t, "it is delivered", func() bool { return stateOf(t, a, waits.UID) == Delivered })
	if n := len(routes.of("drop")); n != 0 {
		t.Errorf("got %d attempts with what was dropped, want none", n)
	}
}

// Whichever comes first, a report at one node or its erasure at the other: nothing of
// it is kept.
func TestErasedAtAnotherNode(t *testing.T) {
	t.Parallel()
	url := onPostgres(t)
	a, b := openNode(t, url, "a"), openNode(t, url, "b")
	large := randomBody(3 * chunkSize)
	var before int
	n := soakRounds(60)
	for i := range n {
		consent := fmt.Sprint("consent-", i)
		var wg sync.WaitGroup
		begin := make(chan struct{})
		wg.Go(func() {
			<-begin
			if _, err := a.Erase(context.Background(), EraseConsent, consent, "an operator", ""); err != nil {
				t.Error(err)
			}
		})
		wg.Go(func() {
			head := headOf(b, "a", consent)
			head.ConsentIDs = []string{consent}
			d := draftOf(t, b, consent)
			if i%3 == 0 {
				_, _ = d.Write(large)
			}
			<-begin
			if i%2 == 0 { // it takes longer to erase
				time.Sleep(time.Duration(i%7) * 300 * time.Microsecond)
			}
			r, err := d.Commit(context.Background(), head, sha256.Sum256(fmt.Append(nil, i)))
			if err != nil {
				t.Error(err)
			}
			if !r.Erased {
				before++
			}
		})
		close(begin)
		wg.Wait()
	}
	t.Logf("%d of %d came before", before, n)
	for query, what := range map[string]string{
		`SELECT count(*) FROM inbox.bodies`:                             "bodies",
		`SELECT count(*) FROM inbox.chunks`:                             "parts of bodies",
		`SELECT count(*) FROM inbox.reports WHERE state <> 'erased'`:    "reports that are not erased",
		`SELECT count(*) FROM inbox.deliveries WHERE state = 'waiting'`: "deliveries that wait",
	} {
		if n := count(t, url, query); n != 0 {
			t.Errorf("got %d %s, want none", n, what)
		}
	}
}

// What the others store counts.
func TestLimitsOfAFleet(t *testing.T) {
	t.Parallel()
	url := onPostgres(t)
	open := func(name string) *Store {
		o := nodeOptions(t, url, name)
		o.MaxSize = 1 << 20
		o.Postgres.hurry = 40
		return openTest(t, o)
	}
	a, b := open("a"), open("b")
	for i := 0; ; i++ {
		_, err := put(a, headOf(a, "a", fmt.Sprint(i)), randomBody(100_000))
		if errors.Is(err, ErrFull) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "it is full at the other node", func() bool {
		_, err := put(b, headOf(b, "a", "too much"), randomBody(100_000))
		return errors.Is(err, ErrFull) && errors.Is(b.Ready(), ErrFull)
	})
	if n, err := a.Drop(t.Context(), Filter{State: Waiting}, "an operator", "", nil); n == 0 || err != nil {
		t.Fatalf("got %d dropped and %v, want all", n, err)
	}
	eventually(t, "there is room at the other node", func() bool {
		_, err := put(b, headOf(b, "a", "enough"), randomBody(100_000))
		return err == nil && b.Ready() == nil
	})

	if err := quarantine(t, a, "unknown", randomBody(10_000)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it counts there", func() bool { return b.quarantined.Load() == a.quarantined.Load() && b.quarantined.Load() > 10_000 })
}

// Counting again does not forget meanwhile what there is.
func TestRecount(t *testing.T) {
	t.Parallel()
	s := openNode(t, onPostgres(t), "a")
	for i := range 5 {
		mustPut(t, s, headOf(s, fmt.Sprint("type", i), fmt.Sprint(i)), randomBody(100))
	}
	want := s.room.size()
	done := make(chan error, 1)
	go func() {
		var err error
		for i := 0; i < 200 && err == nil; i++ {
			err = s.base.(*postgres).recount(context.Background())
		}
		done <- err
	}()
	for {
		select {
		case err := <-done:
			if err != nil {
				t.Error(err)
			}
			return
		default:
		}
		if got := s.room.size(); got != want {
			t.Fatalf("got %d bytes while they are counted, want %d", got, want)
		}
	}
}
