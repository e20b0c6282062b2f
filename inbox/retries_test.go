package inbox

import (
	"context"
	"net/http"
	"slices"
	"testing"
	"time"
)

func TestRetries(t *testing.T) {
	bubble(t, nil, func(t *testing.T, s *Store) {
		routes := routesTo(refuse(500), "a")
		defer s.Attach(routes)()
		receipt := arrive(t, s, "a", "1")
		pass(10 * time.Minute)
		got := routes.of("1")
		last := got[0].at
		for i, a := range got {
			if a.attempt != i+1 {
				t.Fatalf("got %d as the number of attempt %d", a.attempt, i+1)
			}
			if i == 0 {
				continue
			}
			want := min(time.Second<<(i-1), time.Minute)
			if wait := a.at.Sub(last); wait > want+time.Millisecond || wait < want-want/4 {
				t.Errorf("before attempt %d: got a wait of %v, want about %v", i+1, wait, want)
			}
			last = a.at
		}
		if n := len(got); n < 14 || n > 20 {
			t.Errorf("got %d attempts in ten minutes, want one a minute after the first six", n)
		}
		r, err := s.Show(t.Context(), receipt.UID)
		if err != nil || len(r.Attempts) != len(got) {
			t.Fatalf("got %d attempts on record (%v), want %d", len(r.Attempts), err, len(got))
		}
		if d := r.Deliveries[0]; d.State != Waiting || d.Attempts != len(got) || d.Status != 500 || d.Reason != "status 500" || d.Due.Before(s.now()) {
			t.Errorf("got the delivery %+v, want it waiting for its next attempt", d)
		}
	})
}

func TestRetryAfterIsHonoured(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name        string
		asked, want time.Duration
	}{
		{"ten minutes", 10 * time.Minute, 10 * time.Minute},
		{"a year", 365 * 24 * time.Hour, time.Hour},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, nil, func(t *testing.T, s *Store) {
				routes := routesTo(func(context.Context, string, *Delivery) Outcome {
					return Outcome{Status: 503, RetryAfter: tt.asked}
				}, "a")
				defer s.Attach(routes)()
				arrive(t, s, "a", "1")
				pass(tt.want + 10*time.Second)
				got := routes.of("1")
				if len(got) < 2 {
					t.Fatalf("got %d attempts, want a second one", len(got))
				}
				if wait := got[1].at.Sub(got[0].at); wait < tt.want || wait > tt.want+lookAgain {
					t.Errorf("got a wait of %v, want %v", wait, tt.want)
				}
			})
		})
	}
}

func TestDies(t *testing.T) {
	t.Parallel()
	short := func(o *Options) { o.RetryFor = 20 * time.Minute }
	t.Run("gone", func(t *testing.T) {
		bubble(t, nil, func(t *testing.T, s *Store) {
			routes := routesTo(func(context.Context, string, *Delivery) Outcome { return Outcome{Dead: true, Status: 410} }, "a")
			defer s.Attach(routes)()
			receipt := arrive(t, s, "a", "1")
			pass(10 * time.Minute)
			if got := stateOf(t, s, receipt.UID); got != Dead || routes.attempts() != 1 {
				t.Errorf("got it %s after %d attempts, want it dead after one", got, routes.attempts())
			}
			if len(readAll(t, s)) != 1 {
				t.Error("got its body removed, want it kept")
			}
		})
	})
	t.Run("refused for too long", func(t *testing.T) {
		bubble(t, short, func(t *testing.T, s *Store) {
			var died []string
			s.observer.Dead = func(route string, n int) { died = append(died, route) }
			routes := routesTo(refuse(400), "a")
			defer s.Attach(routes)()
			receipt := arrive(t, s, "a", "1")
			pass(19 * time.Minute)
			if got := stateOf(t, s, receipt.UID); got != Waiting {
				t.Fatalf("got it %s before its time, want it waiting", got)
			}
			pass(3 * time.Minute)
			if got := stateOf(t, s, receipt.UID); got != Dead {
				t.Fatalf("got it %s, want it dead", got)
			}
			n := routes.attempts()
			pass(10 * time.Minute)
			if got := routes.attempts(); got != n {
				t.Errorf("got %d attempts after it died, want none", got-n)
			}
			if !slices.Equal(died, []string{"a"}) {
				t.Errorf("got told of %v, want one death on the route", died)
			}
		})
	})
	t.Run("its route is down", func(t *testing.T) {
		bubble(t, short, func(t *testing.T, s *Store) {
			defer s.Attach(routesTo(refuse(502), "a"))()
			arriveMany(t, s, "a", "a", 300)
			pass(10 * time.Minute)
			fresh := arrive(t, s, "a", "fresh")
			pass(12 * time.Minute)
			got := stateCount(t, s)
			if got[Dead] < 290 || stateOf(t, s, fresh.UID) != Waiting {
				t.Errorf("got %v and the last %s, want all dead but the last, which is younger", got, stateOf(t, s, fresh.UID))
			}
			pass(10 * time.Minute)
			if got := stateCount(t, s); got[Dead] != 301 {
				t.Errorf("got %v, want all dead", got)
			}
			if got := routeStatus(t, s, "a"); got.Dead != 301 || got.Waiting != 0 {
				t.Errorf("got %+v, want 301 dead", got)
			}
		})
	})
	t.Run("it has no route", func(t *testing.T) {
		bubble(t, short, func(t *testing.T, s *Store) {
			defer s.Attach(routesTo(accept, "a"))()
			receipt := arrive(t, s, "b", "1")
			pass(21 * time.Minute)
			r, err := s.Show(t.Context(), receipt.UID)
			if err != nil || r.State != Dead || r.Deliveries[0].Reason == "" {
				t.Errorf("got %+v (%v), want it dead, and why", r, err)
			}
		})
	})
	// Who was off for days has not tried for days.
	t.Run("not at the first attempt after a long stop", func(t *testing.T) {
		bubble(t, nil, func(t *testing.T, s *Store) {
			receipt := arrive(t, s, "a", "1")
			dir := s.dir
			_ = s.Close()
			time.Sleep(5 * 24 * time.Hour)
			s = reopen(t, dir, nil)
			routes := routesTo(refuse(502), "a")
			s.Attach(routes)
			pass(5 * time.Minute)
			if got := stateOf(t, s, receipt.UID); got != Waiting {
				t.Errorf("got it %s, want it waiting: its upstream may need a moment too", got)
			}
			pass(7 * time.Minute)
			if got := stateOf(t, s, receipt.UID); got != Dead {
				t.Errorf("got it %s, want it dead", got)
			}
		})
	})
}

func TestTimeout(t *testing.T) {
	bubble(t, nil, func(t *testing.T, s *Store) {
		routes := routesTo(hang, "a")
		defer s.Attach(routes)()
		receipt := arrive(t, s, "a", "1")
		pass(30 * time.Second)
		r, err := s.Show(t.Context(), receipt.UID)
		if err != nil || len(r.Attempts) != 1 || r.Attempts[0].Took != 30*time.Second || r.Attempts[0].Reason != "the route did not answer in time" {
			t.Errorf("got %+v (%v), want an attempt that ended after 30s", r.Attempts, err)
		}
	})
}

// A handler that does not heed its time-out costs its worker only for a while.
func TestHandlersThatDoNotEnd(t *testing.T) {
	bubble(t, nil, func(t *testing.T, s *Store) {
		release := make(chan struct{})
		defer close(release)
		routes := routesTo(func(ctx context.Context, route string, d *Delivery) Outcome {
			if d.Head.ReportID == "hangs" && d.Attempt == 1 {
				<-release
			}
			return accept(ctx, route, d)
		}, "a")
		routes.list[0].Concurrency = 1
		defer s.Attach(routes)()
		hangs := arrive(t, s, "a", "hangs")
		rest()
		other := arrive(t, s, "a", "other")
		pass(30*time.Second + leaveTime - time.Second)
		if got := stateOf(t, s, other.UID); got != Waiting || len(routes.of("hangs")) != 1 {
			t.Fatalf("got the other %s and %d attempts, want one that has the only worker", got, len(routes.of("hangs")))
		}
		pass(time.Minute)
		for _, uid := range []string{hangs.UID, other.UID} {
			if got := stateOf(t, s, uid); got != Delivered {
				t.Errorf("got %s %s, want it delivered", uid, got)
			}
		}
		r, err := s.Show(t.Context(), hangs.UID)
		if err != nil || len(r.Attempts) != 2 || r.Attempts[0].Reason != "the handlers of the route did not end" {
			t.Errorf("got %+v and %v, want two attempts, of which the first did not end", r.Attempts, err)
		}
	})
}

func TestPanics(t *testing.T) {
	bubble(t, nil, func(t *testing.T, s *Store) {
		routes := routesTo(func(_ context.Context, _ string, d *Delivery) Outcome {
			if d.Head.ReportID == "abort" {
				panic(http.ErrAbortHandler)
			}
			panic("39053344705") // may be anything
		}, "a")
		defer s.Attach(routes)()
		abort, other := arrive(t, s, "a", "abort"), arrive(t, s, "a", "other")
		rest()
		for uid, want := range map[string]string{
			abort.UID: "the connection to the upstream broke",
			other.UID: "a handler of the route panicked",
		} {
			r, err := s.Show(t.Context(), uid)
			if err != nil || r.State != Waiting || len(r.Attempts) != 1 || r.Attempts[0].Reason != want {
				t.Errorf("got %+v (%v), want a failed attempt: %s", r, err, want)
			}
		}
		routes.answer(accept)
		pass(time.Minute)
		if got := stateCount(t, s); got[Delivered] != 2 {
			t.Errorf("got %v, want both delivered in the end", got)
		}
	})
}

func TestOldAttemptsAreForgotten(t *testing.T) {
	bubble(t, func(o *Options) { o.RetryMaxInterval = 5 * time.Second }, func(t *testing.T, s *Store) {
		defer s.Attach(routesTo(refuse(500), "a"))()
		receipt := arrive(t, s, "a", "1")
		pass(15 * time.Minute)
		r, err := s.Show(t.Context(), receipt.UID)
		if err != nil || len(r.Attempts) != keepAttempts || r.Deliveries[0].Attempts < 140 {
			t.Errorf("got %d attempts on record of %d (%v), want the newest %d", len(r.Attempts), r.Deliveries[0].Attempts, err, keepAttempts)
		}
		if last := r.Attempts[len(r.Attempts)-1].At; s.now().Sub(last) > 10*time.Second {
			t.Errorf("got the last attempt of %v ago, want the newest", s.now().Sub(last))
		}
	})
}
