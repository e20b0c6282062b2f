package inbox

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"
)

func TestWaitsForRoutes(t *testing.T) {
	bubble(t, nil, func(t *testing.T, s *Store) {
		receipt := arrive(t, s, "a", "1")
		pass(10 * time.Minute)
		if got := stateOf(t, s, receipt.UID); got != Waiting {
			t.Fatalf("got it %s without routes, want it waiting", got)
		}
		dir := s.dir
		_ = s.Close()
		s = reopen(t, dir, nil)
		routes := routesTo(accept, "a")
		s.Attach(routes)
		rest()
		if got := stateOf(t, s, receipt.UID); got != Delivered {
			t.Errorf("got it %s after the restart, want it delivered", got)
		}
	})
}

func TestUndeliverable(t *testing.T) {
	bubble(t, nil, func(t *testing.T, s *Store) {
		defer s.Attach(routesTo(accept, "a"))()
		receipt := arrive(t, s, "b", "1")
		other := arrive(t, s, "a", "2")
		pass(10 * time.Minute)
		if got := stateOf(t, s, other.UID); got != Delivered {
			t.Errorf("got the report with a route %s, want it delivered", got)
		}
		r, err := s.List(t.Context(), Filter{State: Undeliverable}, Page{})
		if err != nil || len(r) != 1 || r[0].UID != receipt.UID || !r[0].Deliveries[0].Undeliverable {
			t.Fatalf("got %+v (%v), want the report without a route, undeliverable", r, err)
		}
		if got := routeStatus(t, s, ""); got.Waiting != 1 || !slices.Equal(got.Types, []string{"b"}) {
			t.Errorf("got %+v, want one of type b without a route", got)
		}
		defer s.Attach(routesTo(accept, "a", "b"))()
		rest()
		if got := stateOf(t, s, receipt.UID); got != Delivered {
			t.Errorf("got it %s with a route, want it delivered", got)
		}
	})
}

func TestNewestSetDelivers(t *testing.T) {
	bubble(t, nil, func(t *testing.T, s *Store) {
		release := make(chan struct{})
		first := routesTo(func(ctx context.Context, route string, d *Delivery) Outcome {
			<-release
			return accept(ctx, route, d)
		}, "a")
		second := routesTo(accept, "a")
		third := routesTo(accept, "a")
		detachFirst := s.Attach(first)
		arrive(t, s, "a", "1")
		rest()
		detachSecond := s.Attach(second)
		detachFirst() // does not wait
		arrive(t, s, "a", "2")
		rest()
		close(release)
		rest()
		detachThird := s.Attach(third)
		arrive(t, s, "a", "3")
		rest()
		detachThird()
		arrive(t, s, "a", "4")
		rest()
		detachSecond()
		waits := arrive(t, s, "a", "5")
		pass(time.Minute)
		for _, tt := range []struct {
			name   string
			routes *fakeRoutes
			want   []string
		}{
			{"first", first, []string{"1"}},
			{"second", second, []string{"2", "4"}},
			{"third", third, []string{"3"}},
		} {
			if got := tt.routes.takenReports(); !slices.Equal(got, tt.want) {
				t.Errorf("%s set: got %v, want %v", tt.name, got, tt.want)
			}
		}
		if got := stateOf(t, s, waits.UID); got != Waiting {
			t.Errorf("got the last %s, want it waiting: no set is left", got)
		}
		detachSecond() // again: nothing
	})
}

func TestClaimedReportsFollowTheRoutes(t *testing.T) {
	bubble(t, nil, func(t *testing.T, s *Store) {
		slow := func(ctx context.Context, route string, d *Delivery) Outcome {
			time.Sleep(time.Second)
			return accept(ctx, route, d)
		}
		before := routesTo(slow, "old", "new")
		before.list[0].Concurrency = 1
		before.table = func(Kind, string) string { return "old" }
		s.Attach(before)
		arriveMany(t, s, "a", "r", 5)
		rest()
		after := routesTo(accept, "old", "new")
		after.table = func(Kind, string) string { return "new" }
		s.Attach(after)
		pass(time.Minute)
		if got := before.attempts(); got != 1 {
			t.Errorf("got %d attempts with the old routes, want that which was under way", got)
		}
		for _, a := range after.got {
			if a.route != "new" {
				t.Errorf("got %+v, want it on the new route", a)
			}
		}
		if got := stateCount(t, s); got[Delivered] != 5 {
			t.Errorf("got %v, want all delivered", got)
		}
	})
}

func TestRoutesChangeDuringAClaim(t *testing.T) {
	bubble(t, nil, func(t *testing.T, s *Store) {
		after := routesTo(accept, "x", "y")
		after.table = func(_ Kind, name string) string { return map[string]string{"a": "x", "b": "y"}[name] }
		before := routesTo(accept, "x")
		asked := 0
		before.table = func(_ Kind, name string) string {
			// Once for each of the two when it arrives, then in the claim.
			if asked++; asked == 3 {
				s.Attach(after)
			}
			return "x"
		}
		s.Attach(before)
		rest()
		mustPut(t, s, Head{Kind: KindEvent, Subjects: []string{"a", "b"}, ReportID: "1", Received: s.now()}, []byte("[]"))
		rest()
		if asked < 3 || before.attempts() != 0 {
			t.Fatalf("got the routes asked %d times and %d attempts with them, want them changed during the claim", asked, before.attempts())
		}
		var got []string
		for _, a := range after.got {
			got = append(got, a.route)
		}
		slices.Sort(got)
		if !slices.Equal(got, []string{"x", "y"}) {
			t.Errorf("got deliveries to %v, want one to each", got)
		}
	})
}

func TestConcurrencyHoldsAcrossSets(t *testing.T) {
	bubble(t, nil, func(t *testing.T, s *Store) {
		routes := routesTo(hang, "a")
		arriveMany(t, s, "a", "a", 50)
		for range 20 {
			s.Attach(routes)
			rest()
		}
		if most := routes.most["a"]; most != 4 {
			t.Errorf("got %d attempts at once across reloads, want 4", most)
		}
	})
}

// A hundred reloads while reports arrive: with equal routes, with others, and with
// none in between. Each report is delivered once.
func TestReloadsUnderLoad(t *testing.T) {
	bubble(t, nil, func(t *testing.T, s *Store) {
		var mu sync.Mutex
		accepted := make(map[string]int)
		deliver := func(_ context.Context, _ string, d *Delivery) Outcome {
			time.Sleep(3 * time.Millisecond)
			mu.Lock()
			defer mu.Unlock()
			accepted[d.Head.ReportID]++
			return Outcome{Accepted: true}
		}
		names := [][]string{{"a", "b"}, {"a", "b"}, {"b", "c"}, {"c"}, {"a", "b", "c"}}
		var wg sync.WaitGroup
		const n = 300
		for i := range n {
			wg.Go(func() {
				time.Sleep(time.Duration(i) * 700 * time.Microsecond)
				arrive(t, s, string(rune('a'+i%3)), fmt.Sprint(i))
			})
		}
		var detach func()
		for i := range 100 {
			before := detach
			if i%7 == 6 { // it is taken away before the next is there
				before()
				before = func() {}
			}
			routes := routesTo(deliver, names[i%len(names)]...)
			detach = s.Attach(routes)
			if i%5 == 4 { // a config that fails to start
				s.Attach(routesTo(deliver))()
			}
			if before != nil {
				before()
			}
			time.Sleep(2 * time.Millisecond)
		}
		wg.Wait()
		pass(time.Minute)
		if got := stateCount(t, s); got[Delivered] != n {
			t.Errorf("got %v, want all %d delivered", got, n)
		}
		for id, times := range accepted {
			if times != 1 {
				t.Errorf("got %s delivered %d times, want once", id, times)
			}
		}
	})
}
