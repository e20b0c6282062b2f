package inbox

import (
	"context"
	"errors"
	"time"
)

const (
	// How often it is looked at what there is to do.
	maintainInterval = time.Second
	retainInterval   = 10 * time.Minute
	// How often where nothing waits, until something is written.
	idleInterval = time.Minute
)

// maintain does what is to be done from time to time, and retains only what it
// should if retain says so.
func (s *Store) maintain(retain bool) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		select {
		case <-s.closing:
			cancel()
		case <-ctx.Done():
		}
	}()
	timer := time.NewTimer(maintainInterval)
	defer timer.Stop()
	ret := retainer{last: s.now()}
	var more <-chan struct{} // something was written
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.attend:
		case <-more:
		case <-timer.C:
		}
		more = nil
		timer.Reset(maintainInterval)
		if n := s.writes.Load(); s.base.maintain(ctx, n) {
			more = s.writes.after(n)
			timer.Reset(idleInterval)
		}
		if retain && ret.due(s.now()) {
			if err := s.Retain(ctx); err != nil && ctx.Err() == nil && !errors.Is(err, ErrAway) {
				s.log.Error("what is too old could not be removed from the inbox", "error", err)
			}
		}
	}
}

// retainer says when to look for what is too old.
type retainer struct {
	last, hold time.Time
}

// due is false for a day after the clock has jumped: nothing is removed because
// of a clock that may jump back.
func (r *retainer) due(now time.Time) bool {
	since := now.Sub(r.last)
	if since < retainInterval && since >= 0 {
		return false
	}
	r.last = now
	if since < 0 || since >= 6*retainInterval {
		r.hold = now.Add(clockTime)
	}
	return !now.Before(r.hold)
}
