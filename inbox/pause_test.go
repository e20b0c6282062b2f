package inbox

import (
	"errors"
	"strings"
	"testing"
	"time"
)

func TestPause(t *testing.T) {
	bubble(t, nil, func(t *testing.T, s *Store) {
		routes := routesTo(accept, "a", "b")
		s.Attach(routes)
		if err := s.Pause(t.Context(), "c", "ana"); !errors.Is(err, ErrNotFound) || !strings.Contains(err.Error(), "a, b") {
			t.Errorf("an unknown route: got %v, want an error that lists those that there are", err)
		}
		if err := s.Pause(t.Context(), "a", "ana"); err != nil {
			t.Fatal(err)
		}
		paused, other := arrive(t, s, "a", "1"), arrive(t, s, "b", "2")
		pass(time.Minute)
		check := func(when string) {
			t.Helper()
			if got := stateOf(t, s, paused.UID); got != Waiting {
				t.Errorf("%s: got it %s, want it waiting", when, got)
			}
			if got := stateOf(t, s, other.UID); got != Delivered {
				t.Errorf("%s: got the other %s, want it delivered", when, got)
			}
			if got := routeStatus(t, s, "a"); got.PausedBy != "ana" || got.PausedAt.IsZero() || got.Waiting != 1 {
				t.Errorf("%s: got %+v, want the route paused by ana, with one waiting", when, got)
			}
		}
		check("paused")
		dir := s.dir
		_ = s.Close()
		s = reopen(t, dir, nil)
		s.Attach(routes)
		pass(time.Minute)
		check("after a restart")
		if err := s.Resume(t.Context(), "a", "ana"); err != nil {
			t.Fatal(err)
		}
		rest()
		if got := stateOf(t, s, paused.UID); got != Delivered {
			t.Errorf("got it %s, want it delivered at once", got)
		}
		if got := routeStatus(t, s, "a"); got.PausedBy != "" {
			t.Errorf("got %+v, want it not paused", got)
		}
		if err := s.Resume(t.Context(), "c", "ana"); !errors.Is(err, ErrNotFound) {
			t.Errorf("an unknown route: got %v, want ErrNotFound", err)
		}
	})
}

func TestResumeProbesAFailingRoute(t *testing.T) {
	bubble(t, nil, func(t *testing.T, s *Store) {
		routes := routesTo(refuse(502), "a")
		s.Attach(routes)
		arriveMany(t, s, "a", "r", 50)
		pass(10 * time.Minute)
		routes.answer(accept)
		if err := s.Resume(t.Context(), "a", "ana"); err != nil {
			t.Fatal(err)
		}
		rest()
		if got := routes.takenReports(); len(got) < 40 {
			t.Errorf("got %d of 50 delivered at once, want almost all", len(got))
		}
	})
}
