package inbox

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestPoison(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		count  int
		poison Outcome
		takes  time.Duration // an attempt
		within time.Duration
	}{
		{"refused", 2000, Outcome{Status: 422}, 0, 0},
		{"breaks the service", 200, Outcome{Status: 500}, 0, 0},
		{"refused slowly", 200, Outcome{Status: 500}, time.Second, 100 * time.Second},
		{"breaks the connection", 500, Outcome{Status: 502}, 0, 20 * time.Second},
		{"breaks the gateway", 200, Outcome{}, 0, 20 * time.Second},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, nil, func(t *testing.T, s *Store) {
				routes := routesTo(func(ctx context.Context, route string, d *Delivery) Outcome {
					time.Sleep(tt.takes)
					if strings.HasPrefix(d.Head.ReportID, "poison") {
						return tt.poison
					}
					return accept(ctx, route, d)
				}, "a")
				arriveMany(t, s, "a", "poison", tt.count)
				arriveMany(t, s, "a", "good", 100)
				defer s.Attach(routes)()
				pass(tt.within)
				if got := routes.takenReports(); len(got) != 100 {
					t.Errorf("got %d of 100 good reports delivered after %v", len(got), tt.within)
				}
				if got := routeStatus(t, s, "a"); got.Waiting != tt.count {
					t.Errorf("got %d waiting, want the %d others", got.Waiting, tt.count)
				}
			})
		})
	}
}

func TestFreshReportsDoNotWaitForPoison(t *testing.T) {
	bubble(t, nil, func(t *testing.T, s *Store) {
		routes := routesTo(func(ctx context.Context, route string, d *Delivery) Outcome {
			time.Sleep(time.Second)
			if strings.HasPrefix(d.Head.ReportID, "poison") {
				return Outcome{Status: 500}
			}
			return accept(ctx, route, d)
		}, "a")
		arriveMany(t, s, "a", "poison", 600)
		defer s.Attach(routes)()
		pass(5 * time.Minute) // more of them are due than there are workers for
		for i := range 20 {
			arrive(t, s, "a", fmt.Sprint("good", i))
			began := time.Now()
			n := len(routes.takenReports())
			for len(routes.takenReports()) == n && time.Since(began) < time.Minute {
				pass(100 * time.Millisecond)
			}
			if took := time.Since(began); took > 6*time.Second {
				t.Fatalf("got a good report delivered after %v, want it within six seconds", took)
			}
		}
	})
}

func TestRouteDown(t *testing.T) {
	bubble(t, nil, func(t *testing.T, s *Store) {
		down := func(ctx context.Context, route string, d *Delivery) Outcome {
			if route == "down" {
				return Outcome{Reason: "connection refused"}
			}
			return accept(ctx, route, d)
		}
		routes := routesTo(down, "down", "a")
		defer s.Attach(routes)()
		ids := arriveMany(t, s, "down", "r", 1000)
		pass(time.Minute)
		// Five make it failing, besides those that were under way; then probes
		// after 1 s, 2 s, 4 s ...
		if n := routes.attempts(); n > 5+4+7 {
			t.Errorf("got %d attempts with a route that is down in a minute, want 16 at most", n)
		}
		if got := routeStatus(t, s, "down"); got.Failing.IsZero() || got.NextProbe.Before(s.now()) || got.Waiting != 1000 || got.LastReason == "" {
			t.Errorf("got %+v, want it failing, and when it is probed next", got)
		}
		n := routes.attempts()
		pass(10 * time.Minute)
		if got := routes.attempts() - n; got < 8 || got > 16 {
			t.Errorf("got %d probes in ten minutes, want about one a minute", got)
		}
		arriveMany(t, s, "a", "other", 100)
		rest()
		if got := routes.takenReports(); len(got) != 100 {
			t.Errorf("got %d of 100 reports of the other route delivered", len(got))
		}

		routes.answer(func(ctx context.Context, route string, d *Delivery) Outcome {
			time.Sleep(10 * time.Millisecond)
			return accept(ctx, route, d)
		})
		pass(80 * time.Second)
		got := routes.takenReports()[100:]
		if len(got) != len(ids) {
			t.Fatalf("got %d of %d delivered when it was back", len(got), len(ids))
		}
		// One of them was the probe, and four are under way at once.
		for i, id := range got[1:] {
			if at := slices.Index(ids, id); at > i+64+5 || at < i-64-5 {
				t.Fatalf("got report %s as number %d, want the oldest first", id, i)
			}
		}
		if got := routeStatus(t, s, "down"); !got.Failing.IsZero() || got.Waiting != 0 {
			t.Errorf("got %+v, want it well again", got)
		}
	})
}

func TestRouteGoesDown(t *testing.T) {
	bubble(t, nil, func(t *testing.T, s *Store) {
		down := 0
		routes := routesTo(nil, "a")
		routes.list[0].Concurrency = 2
		routes.answer(func(ctx context.Context, route string, d *Delivery) Outcome {
			if routes.attempts() <= 200 {
				return accept(ctx, route, d)
			}
			routes.mu.Lock()
			down++
			routes.mu.Unlock()
			return Outcome{Status: 503}
		})
		arriveMany(t, s, "a", "r", 300)
		defer s.Attach(routes)()
		rest()
		if down > minPatience+2 {
			t.Errorf("got %d attempts with a route that is down, want %d at most", down, minPatience+2)
		}
		if got := routeStatus(t, s, "a"); got.Waiting != 100 || got.Failing.IsZero() {
			t.Errorf("got %+v, want it failing and 100 waiting", got)
		}
	})
}

func TestOldestFirstAfterAnOutage(t *testing.T) {
	bubble(t, nil, func(t *testing.T, s *Store) {
		routes := routesTo(refuse(503), "a")
		routes.list[0].Concurrency = 1
		defer s.Attach(routes)()
		var ids []string
		for i := range 50 {
			id := string(rune('A' + i))
			arrive(t, s, "a", id)
			ids = append(ids, id)
			pass(time.Millisecond)
		}
		pass(10 * time.Second)
		routes.answer(accept)
		pass(time.Minute)
		got := routes.takenReports()
		if len(got) != len(ids) {
			t.Fatalf("got %v, want all %d", got, len(ids))
		}
		got = got[1:] // the probe
		if !slices.IsSorted(got) {
			t.Errorf("got %v, want the oldest first", got)
		}
	})
}

func TestFailingRouteIsProbedByANewSet(t *testing.T) {
	bubble(t, nil, func(t *testing.T, s *Store) {
		broken := routesTo(refuse(502), "a")
		s.Attach(broken)
		arriveMany(t, s, "a", "r", 100)
		pass(10 * time.Minute)
		same := routesTo(refuse(502), "a")
		s.Attach(same)
		rest()
		if n := same.attempts(); n != 1 {
			t.Errorf("got %d attempts by a new set, want one probe", n)
		}
		mended := routesTo(accept, "a")
		s.Attach(mended)
		rest()
		if n := len(mended.takenReports()); n < 90 {
			t.Errorf("got %d of 100 delivered at once, want almost all", n)
		}
	})
}

func TestOldAttemptsSayNothingOfANewSet(t *testing.T) {
	bubble(t, nil, func(t *testing.T, s *Store) {
		broken := routesTo(hang, "a")
		broken.list[0].Concurrency = minPatience + 1
		s.Attach(broken)
		arriveMany(t, s, "a", "r", 20)
		rest()
		mended := routesTo(accept, "a")
		s.Attach(mended)
		pass(30 * time.Second)
		if got := routeStatus(t, s, "a"); !got.Failing.IsZero() {
			t.Errorf("got %+v, want a new route that is not failing", got)
		}
		if got := len(mended.takenReports()); got != 20-minPatience-1 {
			t.Errorf("got %d delivered when the old attempts had ended, want all the others", got)
		}
	})
}

func TestIdle(t *testing.T) {
	bubble(t, nil, func(t *testing.T, s *Store) {
		defer s.Attach(routesTo(func(ctx context.Context, route string, d *Delivery) Outcome {
			if route == "down" {
				return Outcome{Status: 502}
			}
			return accept(ctx, route, d)
		}, "down", "a"))()
		arriveMany(t, s, "a", "a", 20)
		pass(time.Minute)
		before := s.writes.Load()
		pass(10 * time.Minute)
		// Retention has a look, too.
		if n := s.writes.Load() - before; n > 10 {
			t.Errorf("got %d writes in ten minutes with nothing to do, want hardly any", n)
		}
		arriveMany(t, s, "down", "d", 100)
		pass(5 * time.Minute)
		before = s.writes.Load()
		pass(10 * time.Minute)
		// A probe is a claim and a record, and tidying up after them.
		if n := s.writes.Load() - before; n > 14*7 {
			t.Errorf("got %d writes in ten minutes for a route that is down, want a few for each probe", n)
		}
	})
}

// A service that answers 500 to everything is not run over with what it has
// refused, and gets it when it is well. What is fresh is tried at once: only the
// reports may be to blame.
func TestRouteRefusesEverything(t *testing.T) {
	bubble(t, nil, func(t *testing.T, s *Store) {
		routes := routesTo(refuse(500), "a")
		defer s.Attach(routes)()
		const n = 1000
		arriveMany(t, s, "a", "r", n)
		rest()
		if got := routes.attempts(); got < n || got > n+maxRefusals {
			t.Errorf("got %d attempts, want one with each of %d", got, n)
		}
		before, writes := routes.attempts(), s.writes.Load()
		pass(20 * time.Minute)
		if got := routes.attempts() - before; got < 18 || got > 36 {
			t.Errorf("got %d attempts in twenty minutes, want about one a minute", got)
		}
		if got := s.writes.Load() - writes; got > 400 {
			t.Errorf("got %d writes in twenty minutes, want a few for each attempt, and a look every five seconds", got)
		}
		if got := routeStatus(t, s, "a"); got.Failing.IsZero() || got.NextProbe.Before(s.now()) || got.Waiting != n {
			t.Errorf("got %+v, want it failing, and when it is tried next", got)
		}
		arrive(t, s, "a", "fresh")
		rest()
		if got := routes.of("fresh"); len(got) != 1 {
			t.Errorf("got %d attempts with a fresh report, want one at once", len(got))
		}
		routes.answer(accept)
		pass(2 * time.Minute)
		if got := stateCount(t, s); got[Delivered] != n+1 {
			t.Errorf("got %v two minutes after it was well, want all delivered", got)
		}
		if got := routeStatus(t, s, "a"); !got.Failing.IsZero() {
			t.Errorf("got %+v, want it well", got)
		}
	})
}

// allDelivered makes sure that reports that were refused are delivered at once, but
// for the one that was tried last, which may have to wait for its own back-off.
func allDelivered(t *testing.T, s *Store, n int) {
	t.Helper()
	rest()
	if got := stateCount(t, s); got[Delivered] < n-1 {
		t.Errorf("got %v, want %d delivered at once, or all but one", got, n)
	}
	pass(2 * firstBackoff)
	if got := stateCount(t, s); got[Delivered] != n {
		t.Errorf("got %v, want %d delivered after a back-off", got, n)
	}
}

// One that accepts a fresh report gets the others at once.
func TestAcceptedReportEndsRefusals(t *testing.T) {
	bubble(t, nil, func(t *testing.T, s *Store) {
		routes := routesTo(refuse(422), "a")
		defer s.Attach(routes)()
		arriveMany(t, s, "a", "r", 500)
		pass(10*time.Minute + 10*time.Second)
		routes.answer(accept)
		arrive(t, s, "a", "fresh")
		allDelivered(t, s, 501)
	})
}

func TestRefusedReportsDie(t *testing.T) {
	bubble(t, func(o *Options) { o.RetryFor = 20 * time.Minute }, func(t *testing.T, s *Store) {
		defer s.Attach(routesTo(refuse(500), "a"))()
		arriveMany(t, s, "a", "r", 500)
		pass(19 * time.Minute)
		if got := stateCount(t, s); got[Dead] != 0 {
			t.Errorf("got %v before their time, want none dead", got)
		}
		pass(2 * time.Minute)
		if got := stateCount(t, s); got[Dead] != 500 {
			t.Errorf("got %v, want all dead", got)
		}
	})
}

// A new config may have mended it.
func TestRefusingRouteIsTriedByANewSet(t *testing.T) {
	bubble(t, nil, func(t *testing.T, s *Store) {
		s.Attach(routesTo(refuse(500), "a"))
		arriveMany(t, s, "a", "r", 500)
		pass(10*time.Minute + 10*time.Second)
		s.Attach(routesTo(accept, "a"))
		allDelivered(t, s, 500)
	})
}
