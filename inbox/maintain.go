package inbox

import (
	"context"
	"time"
)

const (
	// How often it is looked at what there is to do.
	maintainInterval = time.Second
	retainInterval   = 10 * time.Minute
	// Pages that are given back to the disk at once.
	vacuumPages = 500
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
	ticker := time.NewTicker(maintainInterval)
	defer ticker.Stop()
	var writes, tidied int64
	ret := retainer{last: s.now()}
	var reserve reserveKeeper
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.trouble.begun:
		case <-ticker.C:
		}
		if s.trouble.get() != nil {
			_ = s.write(ctx, func(*tx) error { return nil }) // repairs
			continue
		}
		reserve.tick(s)
		// After a second in which nothing was written, or when it is needed.
		if n := s.writes.Load(); s.untidy.Load() || n != tidied && (n == writes || s.lowDisk(1) != nil) {
			tidied = n
			_ = s.tidy(ctx)
		} else {
			writes = n
		}
		if retain && ret.due(s.now()) {
			if err := s.Retain(ctx); err != nil && ctx.Err() == nil {
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

// tidy gives back to the disk what is not needed any more, and empties the log.
func (s *Store) tidy(ctx context.Context) error {
	for more := true; more; {
		err := s.submit(ctx, &op{raw: func(w *writer) (err error) {
			more, err = w.vacuum(vacuumPages)
			return err
		}})
		if err != nil {
			return err
		}
	}
	return s.submit(ctx, &op{raw: func(w *writer) error {
		err := w.checkpoint()
		if err == nil {
			s.untidy.Store(false)
		}
		return err
	}})
}
