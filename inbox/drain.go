package inbox

import (
	"context"
	"fmt"
	"time"
)

// ErrDraining: the store takes no reports any more, since its node is to go.
var ErrDraining = fmt.Errorf("%w: it is being drained, and takes no reports any more", ErrUnavailable)

// drainLook is how often it is looked what still waits.
const drainLook = 500 * time.Millisecond

// Drain has the store take no reports any more, and waits until nothing is left in it
// that can be delivered: what has no route, whose route is paused, and what is dead
// stays. When ctx ends before that, the store takes reports again; else it is drained
// until its process ends.
//
// Of a fleet, what waits is for all nodes: there is nothing to wait for but reports
// that are on their way into the store.
func (s *Store) Drain(ctx context.Context, progress Progress) error {
	s.draining.Add(1)
	total := 0
	ticker := time.NewTicker(drainLook)
	defer ticker.Stop()
	for {
		left, err := s.deliverable(ctx)
		if err == nil {
			total = max(total, left)
			progress.report(total-left, total)
			if left == 0 {
				return nil
			}
			select {
			case <-ticker.C:
				continue
			case <-ctx.Done():
				err = ctx.Err()
			case <-s.closing:
				err = errClosed
			}
		}
		s.draining.Add(-1)
		return err
	}
}

// deliverable counts what is on its way into the store, and what waits in it for a
// route that gets reports.
func (s *Store) deliverable(ctx context.Context) (n int, err error) {
	s.drafts.Range(func(any, any) bool { // before what they become
		n++
		return true
	})
	if s.base.shared() {
		return n, nil
	}
	waiting, err := s.countWaiting(ctx)
	if err != nil {
		return 0, failure(err)
	}
	e := s.engine
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.set == nil {
		return 0, fmt.Errorf("%w: %s has no routes just now, so nothing is delivered", ErrUnavailable, s.place)
	}
	for _, w := range waiting {
		route := e.set.route(w.subject)
		if _, paused := e.paused[route]; route != "" && !paused {
			n += w.n
		}
	}
	return n, nil
}
