//go:build !klavi_nopostgres

package inbox

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/caddy-klavi/caddy-klavi/inbox/postgrestest"
)

// Of all nodes, one delivers each report, and once.
func TestFleetDeliversOnce(t *testing.T) {
	t.Parallel()
	url := onPostgres(t)
	nodes := []*Store{openNode(t, url, "a"), openNode(t, url, "b"), openNode(t, url, "c")}
	routes := routesTo(accept, "a", "b")
	for _, s := range nodes {
		defer s.Attach(routes)()
	}
	const n = 300
	var wg sync.WaitGroup
	for i, s := range nodes {
		wg.Go(func() {
			for j := i; j < n; j += len(nodes) {
				arrive(t, s, []string{"a", "b"}[j%2], fmt.Sprint(j))
			}
		})
	}
	wg.Wait()
	eventually(t, "all is delivered", func() bool { return waitingIn(t, nodes[0]) == 0 })
	got := routes.takenReports()
	slices.Sort(got)
	if len(got) != n || len(slices.Compact(got)) != n {
		t.Errorf("got %d deliveries, want one of each of %d reports", len(got), n)
	}
	if left := count(t, url, `SELECT count(*) FROM inbox.deliveries WHERE state <> 'delivered' OR claimed_by IS NOT NULL OR attempts <> 1`); left != 0 {
		t.Errorf("got %d deliveries on record otherwise, want each delivered at the first attempt", left)
	}
}

// promptly makes sure that what is stored at one node is delivered by another sooner
// than that would find it by looking, which is each five seconds.
func promptly(t *testing.T, from *Store, routes *fakeRoutes, prefix string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 4*lookAgain)
	defer cancel()
	const n = 20
	for i := range n {
		id := fmt.Sprint(prefix, i)
		arrive(t, from, "a", id)
		for len(routes.of(id)) == 0 {
			if ctx.Err() != nil {
				t.Fatalf("got %d of %d reports delivered one after the other, want all: the other node is not told of them", i, n)
			}
			time.Sleep(time.Millisecond)
		}
	}
}

// A report that is stored where it has no route is delivered by a node that has one:
// at once, also when its connection was cut meanwhile, and by looking when it hears
// nothing.
func TestReportOfAnotherNode(t *testing.T) {
	t.Parallel()
	url := onPostgres(t)
	a, b := openNode(t, url, "a"), openNode(t, url, "b")
	routes := routesTo(accept, "a")
	defer b.Attach(routes)()
	const listen = `FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() AND query LIKE 'LISTEN%'`
	listening := func() bool { return count(t, url, `SELECT count(*) `+listen) == 2 }
	eventually(t, "the nodes listen", listening)
	promptly(t, a, routes, "told")
	if n := count(t, url, `SELECT count(*) FROM (SELECT pg_terminate_backend(pid) `+listen+`) AS ended`); n != 2 {
		t.Fatalf("got %d connections that listen, want one of each node", n)
	}
	arrive(t, a, "a", "untold")
	eventually(t, "it is delivered", func() bool { return len(routes.of("untold")) == 1 })
	eventually(t, "the nodes listen again", listening)
	promptly(t, a, routes, "told again")

	_ = b.Close()
	o := nodeOptions(t, url, "deaf")
	o.Postgres.deaf = true
	deaf := openTest(t, o)
	defer deaf.Attach(routes)()
	eventually(t, "it may deliver", func() bool { return deaf.base.mayDeliver() })
	arrive(t, a, "a", "seen")
	eventually(t, "it is delivered", func() bool { return len(routes.of("seen")) == 1 })
}

// A schema may have a name as long as PostgreSQL allows: nodes tell each other all
// the same, and leave in order.
func TestLongSchema(t *testing.T) {
	t.Parallel()
	url := onPostgres(t)
	open := func(name string) *Store {
		o := nodeOptions(t, url, name)
		o.Postgres.Schema = "a_name_of_sixty_three_characters_which_is_all_that_there_can_be"
		return openTest(t, o)
	}
	a, b := open("a"), open("b")
	routes := routesTo(accept, "a")
	defer b.Attach(routes)()
	promptly(t, a, routes, "told")
	_ = b.Close()
	if n := count(t, url, `SELECT count(*) FROM `+a.base.(*postgres).schema+`.nodes WHERE name = 'b'`); n != 0 {
		t.Errorf("got a node there that has closed, want it gone")
	}
}

// die has a node say nothing to the others any more, as if it were killed.
func die(s *Store) {
	p := s.base.(*postgres)
	p.end()
	p.running.Wait()
	p.fleet.begun = false // nor when it closes
}

// What a node that is gone had claimed is delivered by the others: not while it is
// there, however long an attempt takes, and soon after.
func TestNodeIsGone(t *testing.T) {
	t.Parallel()
	url := onPostgres(t)
	a, b := openNode(t, url, "a"), openNode(t, url, "b")
	begun, dead := make(chan struct{}, 10), make(chan struct{})
	hanging := routesTo(func(context.Context, string, *Delivery) Outcome {
		begun <- struct{}{}
		<-dead
		return Outcome{}
	}, "a")
	a.Attach(hanging)
	defer close(dead)
	arrive(t, a, "a", "1")
	<-begun
	routes := routesTo(accept, "a")
	defer b.Attach(routes)()
	seen := func() int64 { return count(t, url, `SELECT seen FROM inbox.nodes WHERE name = 'a'`) }
	first := seen()
	eventually(t, "it would be gone if it said nothing", func() bool { return seen() > first+2*(nodeGone/4).Milliseconds() })
	if n := routes.attempts(); n != 0 {
		t.Fatalf("got %d attempts by another node with what one has claimed that is there, want none", n)
	}
	die(a)
	eventually(t, "another node delivers it", func() bool { return len(routes.of("1")) == 1 })
	if n := count(t, url, `SELECT count(*) FROM inbox.nodes WHERE name = 'a'`); n != 0 {
		t.Error("got it delivered by another while the node is there, want it buried first")
	}
	if n := count(t, url, `SELECT count(*) FROM inbox.slots s WHERE NOT EXISTS (SELECT FROM inbox.nodes n WHERE n.id = s.node)`); n != 0 {
		t.Errorf("got %d slots of nodes that are gone, want none", n)
	}
}

// A node that closes gives back what it has not delivered at once: its claims would
// last for minutes.
func TestNodeLeaves(t *testing.T) {
	t.Parallel()
	url := onPostgres(t)
	o := nodeOptions(t, url, "a")
	o.Postgres.hurry = 1
	a := openTest(t, o)
	begun := make(chan struct{}, 10)
	a.Attach(routesTo(func(ctx context.Context, _ string, _ *Delivery) Outcome {
		begun <- struct{}{}
		<-ctx.Done()
		return Outcome{}
	}, "a"))
	arriveMany(t, a, "a", "r", 6)
	for range 4 {
		<-begun
	}
	_ = a.Close()
	for query, what := range map[string]string{
		`SELECT count(*) FROM inbox.deliveries WHERE claimed_by IS NOT NULL`: "claims",
		`SELECT count(*) FROM inbox.nodes`:                                   "nodes",
		`SELECT count(*) FROM inbox.slots`:                                   "slots",
	} {
		if n := count(t, url, query); n != 0 {
			t.Errorf("got %d %s when it has closed, want none", n, what)
		}
	}
	b := openNode(t, url, "b")
	routes := routesTo(accept, "a")
	defer b.Attach(routes)()
	eventually(t, "the next delivers them", func() bool { return len(routes.takenReports()) == 6 })
}

// A node whose database hangs does not know whether others deliver what it has
// claimed: it begins no attempt any more, also not when the database is back and the
// others have taken it over.
func TestNodeThatIsUnsure(t *testing.T) {
	t.Parallel()
	url := onPostgres(t)
	proxy := postgrestest.NewProxy(t, url)
	a, b := openNode(t, proxy.URL, "a"), openNode(t, url, "b")
	begun, answer := make(chan struct{}, 10), make(chan struct{})
	block := func(context.Context, string, *Delivery) Outcome {
		begun <- struct{}{}
		<-answer
		return Outcome{Accepted: true, Status: 200}
	}
	mine, others := routesTo(block, "a"), routesTo(block, "a")
	mine.list[0].Concurrency, others.list[0].Concurrency = 2, 2
	arriveMany(t, b, "a", "r", 8)
	defer a.Attach(mine)()
	<-begun
	<-begun
	eventually(t, "more is claimed", func() bool {
		return count(t, url, `SELECT count(*) FROM inbox.deliveries WHERE claimed_by IS NOT NULL`) > 2
	})
	proxy.Stall()
	eventually(t, "it is unsure", func() bool { return !a.base.mayDeliver() })
	answer <- struct{}{}
	answer <- struct{}{}
	defer b.Attach(others)()
	<-begun
	<-begun
	proxy.Resume()
	eventually(t, "it is sure again, and has nothing", func() bool {
		return a.base.mayDeliver() && count(t, url, `SELECT count(*) FROM inbox.deliveries WHERE claimed_by LIKE 'a %'`) == 0
	})
	if mine, others := mine.attempts(), others.attempts(); mine != 2 || others != 2 {
		t.Errorf("got %d attempts by it and %d by another, want no more than the two of each", mine, others)
	}
	close(answer)
	eventually(t, "all is delivered", func() bool { return waitingIn(t, b) == 0 })
}

// A node that hears that it was gone gives up what it had claimed and not begun.
func TestNodeThatWasGone(t *testing.T) {
	t.Parallel()
	url := onPostgres(t)
	s := openNode(t, url, "a")
	begun, answer := make(chan struct{}, 10), make(chan struct{})
	routes := routesTo(func(context.Context, string, *Delivery) Outcome {
		begun <- struct{}{}
		<-answer
		return Outcome{Accepted: true, Status: 200}
	}, "a")
	routes.list[0].Concurrency = 2
	arriveMany(t, s, "a", "r", 4)
	defer s.Attach(routes)()
	<-begun
	<-begun
	eventually(t, "more is claimed", func() bool {
		return count(t, url, `SELECT count(*) FROM inbox.deliveries WHERE claimed_by IS NOT NULL`) == 4
	})
	postgrestest.Exec(t, url, `WITH gone AS (DELETE FROM inbox.nodes), free AS (DELETE FROM inbox.slots)
		UPDATE inbox.deliveries SET claimed_by = 'another'`)
	eventually(t, "it is there again", func() bool {
		return count(t, url, `SELECT count(*) FROM inbox.nodes n JOIN inbox.slots s ON s.node = n.id`) == 1
	})
	close(answer)
	arrive(t, s, "a", "last")
	eventually(t, "what is its own is delivered", func() bool { return stateCount(t, s)[Delivered] == 3 })
	if n := routes.attempts(); n != 3 {
		t.Errorf("got %d attempts, want none with what another has claimed", n)
	}
}

// What another claim has locked when a node looks is looked at again soon: the other
// may leave it alone.
func TestSkippedIsLookedAtAgain(t *testing.T) {
	t.Parallel()
	url := onPostgres(t)
	s := openNode(t, url, "a")
	arrive(t, s, "a", "1")
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	other, err := conn.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := other.Exec(t.Context(), `SELECT id FROM inbox.deliveries FOR UPDATE`); err != nil {
		t.Fatal(err)
	}
	routes := routesTo(accept, "a")
	defer s.Attach(routes)()
	eventually(t, "it is to be looked at again soon", func() bool {
		s.engine.mu.Lock()
		defer s.engine.mu.Unlock()
		q := s.engine.queues[subject{KindReport, "a"}]
		return q != nil && q.due > 0 && q.due <= s.milli()+claimAgain.Milliseconds()
	})
	if n := routes.attempts(); n != 0 {
		t.Errorf("got %d attempts with what another has locked, want none", n)
	}
	if err := other.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it is delivered", func() bool { return len(routes.of("1")) == 1 })
}

// While nodes come and go, a route never gets more at once than its concurrency.
func TestConcurrencyOfAFleet(t *testing.T) {
	t.Parallel()
	for _, c := range []int{1, 2, 5} {
		t.Run(fmt.Sprint(c), func(t *testing.T) {
			t.Parallel()
			url := onPostgres(t)
			routes := routesTo(func(ctx context.Context, route string, d *Delivery) Outcome {
				time.Sleep(time.Millisecond) // so that some are under way at once
				return accept(ctx, route, d)
			}, "a")
			routes.list[0].Concurrency = c
			const n = 300
			last := openNode(t, url, "last")
			arriveMany(t, last, "a", "r", n)
			done := func(part int) {
				t.Helper()
				eventually(t, "more is delivered", func() bool { return len(routes.takenReports()) >= part })
			}
			var nodes []*Store
			for i := range 3 {
				s := openNode(t, url, fmt.Sprint(i))
				s.Attach(routes)
				nodes = append(nodes, s)
				done((i + 1) * n / 8)
			}
			_ = nodes[0].Close()
			done(n / 2)
			_ = nodes[2].Close()
			detach := last.Attach(routes)
			done(3 * n / 4)
			detach()
			eventually(t, "all is delivered", func() bool { return waitingIn(t, last) == 0 })
			routes.mu.Lock()
			defer routes.mu.Unlock()
			if routes.most["a"] > c {
				t.Errorf("got %d attempts at once, want %d at most", routes.most["a"], c)
			}
		})
	}
}

// A node that comes gets its share also if the others are never idle.
func TestBusyNodesShare(t *testing.T) {
	t.Parallel()
	url := onPostgres(t)
	a, b := openNode(t, url, "a"), openNode(t, url, "b")
	next := make(chan struct{})
	wait := func(ctx context.Context, route string, d *Delivery) Outcome {
		select {
		case <-next:
		case <-ctx.Done():
		}
		return accept(ctx, route, d)
	}
	first, second := routesTo(wait, "a"), routesTo(wait, "a")
	arriveMany(t, a, "a", "r", 100)
	defer a.Attach(first)()
	under := func(routes *fakeRoutes) int {
		routes.mu.Lock()
		defer routes.mu.Unlock()
		return routes.active["a"]
	}
	eventually(t, "it is busy", func() bool { return under(first) == 4 })
	defer b.Attach(second)()
	eventually(t, "the other node is there", func() bool { return count(t, url, `SELECT count(*) FROM inbox.slots`) == 2 })
	eventually(t, "they share", func() bool {
		one, two := under(first), under(second)
		if one+two > 4 {
			t.Fatalf("got %d and %d attempts at once, want 4 at most", one, two)
		}
		if one == 2 && two == 2 {
			return true
		}
		if one > 2 && count(t, url, `SELECT n FROM inbox.slots s JOIN inbox.nodes n ON n.id = s.node WHERE n.name = 'a'`) >= int64(one) {
			select {
			case next <- struct{}{}:
			default:
			}
		}
		t.Log(one, two, postgrestest.Query[string](t, url, `SELECT name || n FROM inbox.slots s JOIN inbox.nodes n ON n.id = s.node`))
		return false
	})
	close(next)
}
