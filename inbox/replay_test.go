package inbox

import (
	"context"
	"sync"
	"testing"
	"time"
)

// Whoever has caught a delivery of Klavi's, and sends it again, has it delivered
// again only when Klavi could have meant it, and never as if it were new while there
// is a record of it.
func TestReplay(t *testing.T) {
	onlySQLite(t) // a year of heartbeats is a long time
	const day = 24 * time.Hour
	keep := func(o *Options) { o.KeepRecord = 2 * day }
	bubble(t, keep, func(t *testing.T, s *Store) {
		var mu sync.Mutex
		var repeats []bool // of what is delivered
		routes := routesTo(func(_ context.Context, _ string, d *Delivery) Outcome {
			mu.Lock()
			defer mu.Unlock()
			repeats = append(repeats, d.Repeat)
			return Outcome{Accepted: true, Status: 200}
		}, "a")
		s.Attach(routes)
		kept := arrive(t, s, "a", "caught")
		for _, step := range []struct {
			pass      time.Duration
			restart   bool
			duplicate bool // or else it is delivered
			repeat    bool
		}{
			{time.Minute, false, true, false},
			{7 * time.Minute, true, true, false},
			{day, false, false, true},
			{time.Minute, false, true, false}, // of the one a day later
			{day, true, false, true},
			{2*day + time.Hour, false, false, false}, // no record is left
			{8 * time.Minute, true, true, false},
		} {
			rest()
			pass(step.pass)
			if step.restart {
				_ = s.Close()
				s = reopen(t, s.dir, keep)
				s.Attach(routes)
			}
			mu.Lock()
			before := len(repeats)
			mu.Unlock()
			got := arrive(t, s, "a", "caught")
			rest()
			pass(time.Minute) // it would be tried again
			mu.Lock()
			delivered := repeats[before:]
			mu.Unlock()
			if got.Duplicate != step.duplicate || got.Repeat != step.repeat || got.Conflict {
				t.Errorf("after %s more: got %+v, want duplicate %v and repeat %v", step.pass, got, step.duplicate, step.repeat)
			}
			if step.duplicate {
				if len(delivered) != 0 || got.UID != kept.UID {
					t.Errorf("after %s more: got %d deliveries and %s, want none and the receipt of %s", step.pass, len(delivered), got.UID, kept.UID)
				}
				continue
			}
			kept = got
			if len(delivered) != 1 || delivered[0] != step.repeat {
				t.Errorf("after %s more: got deliveries with repeat %v, want one with %v", step.pass, delivered, step.repeat)
			}
		}
	})
}
