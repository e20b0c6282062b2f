package inbox

import (
	"context"
	"os"
	"testing"
	"time"
)

func TestStopDelivering(t *testing.T) {
	bubble(t, nil, func(t *testing.T, s *Store) {
		routes := routesTo(func(context.Context, string, *Delivery) Outcome {
			time.Sleep(8 * time.Second)
			return Outcome{Accepted: true, Status: 200}
		}, "a")
		s.Attach(routes)
		arriveMany(t, s, "a", "a", 10)
		rest()
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		began := time.Now()
		s.StopDelivering(ctx)
		if took := time.Since(began); took > 8*time.Second {
			t.Errorf("got stopped after %v, want when the attempts had ended", took)
		}
		if got := stateCount(t, s); got[Delivered] != 4 || got[Waiting] != 6 {
			t.Errorf("got %v, want the 4 that were under way delivered, and the others waiting", got)
		}
		s.Attach(routes)
		pass(10 * time.Minute)
		if n := routes.attempts(); n != 4 {
			t.Errorf("got %d attempts, want none after the stop", n)
		}
	})
}

func TestStopDeliveringCutsOff(t *testing.T) {
	bubble(t, nil, func(t *testing.T, s *Store) {
		routes := routesTo(hang, "a")
		s.Attach(routes)
		receipt := arrive(t, s, "a", "1")
		rest()
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		began := time.Now()
		s.StopDelivering(ctx)
		if took := time.Since(began); took != 10*time.Second {
			t.Errorf("got stopped after %v, want 10s", took)
		}
		r, err := s.Show(t.Context(), receipt.UID)
		if err != nil || len(r.Attempts) != 1 || r.Attempts[0].Accepted || r.State != Waiting {
			t.Fatalf("got %+v (%v), want an attempt on record that was cut off", r, err)
		}
		dir := s.dir
		_ = s.Close()
		s = reopen(t, dir, nil)
		routes = routesTo(accept, "a")
		s.Attach(routes)
		rest()
		if got := routes.of("1"); len(got) != 1 || got[0].attempt != 2 {
			t.Errorf("got %+v, want the second attempt at once", got)
		}
	})
}

func TestCloseWithAttemptsUnderWay(t *testing.T) {
	onlySQLite(t)
	bubble(t, nil, func(t *testing.T, s *Store) {
		s.Attach(routesTo(hang, "a"))
		arrive(t, s, "a", "1")
		rest()
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if _, err := os.Stat(s.dir); err != nil {
			t.Error(err)
		}
	})
}
