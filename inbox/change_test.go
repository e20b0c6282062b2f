package inbox

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestRetry(t *testing.T) {
	bubble(t, nil, func(t *testing.T, s *Store) {
		byID, routes := aFew(t, s)
		routes.answer(accept)
		var told []string
		progress := func(done, total int) { told = append(told, fmt.Sprint(done, "/", total)) }

		n, err := s.Retry(t.Context(), Filter{State: Dead, Route: "cards"}, "ana", progress)
		rest()
		if err != nil || n != 1 || !slices.Equal(told, []string{"0/1", "1/1"}) {
			t.Errorf("got %d (%v), told of %v, want the dead one of the route", n, err, told)
		}
		if got := stateOf(t, s, byID["dead-1"].UID); got != Delivered {
			t.Errorf("got it %s, want it delivered", got)
		}
		if got := stateOf(t, s, byID["dead-2"].UID); got != Dead {
			t.Errorf("got another one %s, want it dead still", got)
		}
		if got := routes.of("dead-1"); got[len(got)-1].attempt != 2 {
			t.Errorf("got %+v, want the second attempt", got)
		}

		if got := stateOf(t, s, byID["waits-1"].UID); got != Waiting {
			t.Fatalf("got it %s, want it waiting for its next attempt", got)
		}
		if n, err := s.Retry(t.Context(), Filter{State: Waiting}, "ana", nil); err != nil || n != 3 {
			t.Errorf("got %d (%v), want the three that wait", n, err)
		}
		rest()
		for _, id := range []string{"waits-1", "waits-2"} {
			if got := stateOf(t, s, byID[id].UID); got != Delivered {
				t.Errorf("got %s %s, want it delivered at once", id, got)
			}
		}

		r, err := s.Show(t.Context(), byID["dead-1"].UID)
		if err != nil || len(r.Actions) != 1 || r.Actions[0].Who != "ana" || r.Actions[0].What != "retry" {
			t.Errorf("got the actions %+v (%v), want the retry", r.Actions, err)
		}

		for name, tt := range map[string]struct {
			filter Filter
			want   error
			text   string
		}{
			"delivered":        {Filter{UID: byID["done-1"].UID}, ErrGone, "was delivered on 2000-01-01T00:00:00Z"},
			"delivered ones":   {Filter{State: Delivered}, nil, ""},
			"unreadable":       {Filter{UID: byID["unreadable"].UID}, ErrNotFound, "no route"},
			"unknown":          {Filter{UID: "nobody"}, ErrNotFound, ""},
			"nothing to retry": {Filter{State: Dead, Type: "pf_none"}, nil, ""},
		} {
			n, err := s.Retry(t.Context(), tt.filter, "ana", nil)
			if n != 0 || !errors.Is(err, tt.want) || err != nil && !strings.Contains(err.Error(), tt.text) {
				t.Errorf("%s: got %d and %v, want %v and %q", name, n, err, tt.want, tt.text)
			}
		}
	})
}

func TestRetryOfManyIsNoHerd(t *testing.T) {
	bubble(t, nil, func(t *testing.T, s *Store) {
		routes := routesTo(func(context.Context, string, *Delivery) Outcome { return Outcome{Dead: true} }, "a")
		routes.list[0].Concurrency = 3
		s.Attach(routes)
		ids := arriveMany(t, s, "a", "r", 300)
		rest()
		if got := stateCount(t, s); got[Dead] != 300 {
			t.Fatalf("got %v, want all dead", got)
		}
		routes.answer(func(ctx context.Context, route string, d *Delivery) Outcome {
			time.Sleep(10 * time.Millisecond)
			return accept(ctx, route, d)
		})
		n, err := s.Retry(t.Context(), Filter{State: Dead}, "ana", nil)
		if err != nil || n != 300 {
			t.Fatalf("got %d (%v), want 300", n, err)
		}
		pass(time.Minute)
		if got := routes.takenReports(); len(got) != len(ids) || routes.most["a"] != 3 {
			t.Errorf("got %d delivered, %d at once, want 300 and 3", len(got), routes.most["a"])
		}
	})
}

func TestDrop(t *testing.T) {
	bubble(t, nil, func(t *testing.T, s *Store) {
		byID, routes := aFew(t, s)
		if _, err := s.Drop(t.Context(), Filter{}, "ana", "cleaning", nil); err == nil {
			t.Error("without a filter: got no error, want one")
		}
		n, err := s.Drop(t.Context(), Filter{LinkID: "link-2"}, "ana", "the customer left", nil)
		if err != nil || n != 3 {
			t.Errorf("got %d (%v), want the three of the link", n, err)
		}
		if n, err := s.Drop(t.Context(), Filter{UID: byID["unreadable"].UID}, "ana", "nonsense", nil); err != nil || n != 1 {
			t.Errorf("unreadable: got %d (%v), want it dropped", n, err)
		}
		attempts := routes.attempts()
		routes.answer(accept)
		pass(time.Hour)
		if got := routes.attempts(); got != attempts {
			t.Errorf("got %d attempts after the drop, want none", got-attempts)
		}
		for _, id := range []string{"dead-2", "waits-1", "waits-2", "unreadable"} {
			r, err := s.Show(t.Context(), byID[id].UID)
			if err != nil || r.State != Dropped || len(r.Actions) != 1 || r.Actions[0].What != "drop" {
				t.Errorf("%s: got %+v (%v), want it dropped, and on record", id, r, err)
			}
		}
		left := readAll(t, s)
		if len(left) != 2 || left["dead-1"] == nil || left["lost-1"] == nil {
			t.Errorf("got the bodies %v, want those of dead-1 and lost-1", left)
		}
		if _, err := s.Drop(t.Context(), Filter{UID: byID["done-1"].UID}, "ana", "why not", nil); !errors.Is(err, ErrGone) {
			t.Errorf("a delivered one: got %v, want ErrGone", err)
		}
	})
}

func TestDropWhileUnderWay(t *testing.T) {
	bubble(t, nil, func(t *testing.T, s *Store) {
		for name, o := range map[string]Outcome{"accepted": {Accepted: true}, "refused": {Status: 500}} {
			routes := routesTo(func(context.Context, string, *Delivery) Outcome {
				time.Sleep(time.Second)
				return o
			}, name)
			detach := s.Attach(routes)
			receipt := arrive(t, s, name, name)
			rest()
			if n, err := s.Drop(t.Context(), Filter{UID: receipt.UID}, "ana", "x", nil); err != nil || n != 1 {
				t.Fatalf("got %d (%v), want one dropped", n, err)
			}
			pass(time.Hour)
			r, err := s.Show(t.Context(), receipt.UID)
			if err != nil || r.State != Dropped || len(r.Attempts) != 1 || routes.attempts() != 1 {
				t.Errorf("%s: got %+v (%v), want it dropped, with the one attempt on record", name, r, err)
			}
			detach()
		}
	})
}
