package inbox

import (
	"context"
	"database/sql"
	"errors"
	"math"
	"time"
)

const (
	// A clock that goes further than this at once was set.
	forwardJump  = time.Hour
	backwardJump = time.Second
	// So many subjects are remembered beside those of which something waits.
	maxQueues = 4096
	// So many deliveries die in one transaction, and so often it is looked which
	// do: that may read all that waits for a route.
	expireBatch    = 100
	expireInterval = time.Minute
)

// look has watch look at once.
func (e *engine) look() {
	select {
	case e.looks <- struct{}{}:
	default:
	}
}

// watch finds what nobody says: what waited before the store was opened, what
// was missed, what waits for too long. Where nothing waits, it looks at the clock
// from time to time, until something is written.
func (e *engine) watch() {
	timer := time.NewTimer(lookAgain)
	defer timer.Stop()
	var more <-chan struct{} // something was written
	for {
		select {
		case <-e.stop:
			return
		case <-e.looks:
		case <-more:
			more = nil
			timer.Reset(lookAgain)
			e.mu.Lock()
			e.checkClock(e.s.now())
			e.mu.Unlock()
			continue
		case <-timer.C:
		}
		timer.Reset(lookAgain)
		e.mu.Lock()
		idle := e.set == nil
		e.mu.Unlock()
		if idle {
			continue
		}
		if err := e.watchOnce(); err != nil && !errors.Is(err, errClosed) && !errors.Is(err, ErrAway) {
			e.s.log.Error("looking for what waits in the inbox failed", "error", err)
		}
		if more = nil; e.emptyAt >= 0 {
			more = e.s.writes.after(e.emptyAt)
			timer.Reset(idleInterval)
		}
	}
}

// clockSeen is what the clock was when it was last looked at.
type clockSeen struct {
	wall, steady time.Time
	wentBack     bool // somebody has set it back
}

// checkClock finds out whether somebody has set the clock. e.mu is held.
func (e *engine) checkClock(now time.Time) {
	c, steady := &e.clock, time.Now()
	ahead := now.Round(0).Sub(c.wall.Round(0)) - steady.Sub(c.steady)
	c.wall, c.steady = now, steady
	if ahead < forwardJump && ahead > -backwardJump {
		return
	}
	e.s.log.Warn("the clock of this machine was set: nothing dies of age for a while", "by", ahead)
	c.wentBack = c.wentBack || ahead < 0
	e.spare(now, clockTime)
}

func (e *engine) watchOnce() error {
	now := e.s.now()
	longest := e.s.settings().RetryMaxInterval
	// No back-off is longer, unless the clock was further once.
	bound := now.Add(max(maxRetryAfter, longest) + time.Minute)
	e.mu.Lock()
	e.checkClock(now)
	if e.clock.wentBack {
		e.clock.wentBack = false
		bound = now.Add(longest)
	}
	e.mu.Unlock()
	shared := e.s.base.shared()
	if shared {
		if err := e.readPauses(); err != nil {
			return err
		}
	}
	// Where nothing waited and nobody else writes, nothing does before the next batch.
	writes := e.s.writes.Load()
	if writes == e.emptyAt {
		return nil
	}
	e.emptyAt = -1
	subjects, err := e.s.waiting(e.attempts)
	if err != nil {
		return err
	}
	if len(subjects) == 0 && !shared {
		e.emptyAt = writes
	}
	for _, sub := range subjects {
		if err := e.s.comeBack(e.attempts, sub, bound.UnixMilli()); err != nil {
			return err
		}
	}
	e.wakeAll(subjects)
	if since := now.Sub(e.expiredAt); since >= 0 && since < expireInterval {
		return nil
	}
	if err := e.expire(subjects, now); err != nil {
		return err
	}
	e.expiredAt = now
	return nil
}

// wakeAll has all lanes look at these subjects, and forgets most others.
func (e *engine) wakeAll(subjects []subject) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.queues) > maxQueues {
		for sub, q := range e.queues {
			if q.due == never {
				delete(e.queues, sub)
			}
		}
	}
	for _, sub := range subjects {
		e.wake(sub)
	}
}

// expire has die what waits for too long and is not tried: it has no route, or
// its route is failing.
func (e *engine) expire(subjects []subject, now time.Time) error {
	if !e.trusts(now) {
		return nil
	}
	before := now.Add(-e.s.settings().RetryFor).UnixMilli()
	for _, sub := range subjects {
		route, reason := e.hopeless(sub, now)
		if reason == "" {
			continue
		}
		for {
			n, err := e.s.expire(e.attempts, sub, before, route, reason)
			if err != nil {
				return err
			}
			if n == 0 {
				break
			}
			e.s.observer.dead(route, n)
			e.s.log.Error("reports are dead: they are kept, but not delivered any more", "route", route, "type", sub.name, "count", n, "reason", reason)
		}
	}
	return nil
}

// hopeless returns why nobody tries to deliver a subject, nothing if somebody
// does.
func (e *engine) hopeless(sub subject, now time.Time) (route, reason string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	q := e.queues[sub]
	switch {
	case e.set == nil || q == nil:
		return "", ""
	case q.lane == nil:
		return "", "there was no route for it"
	}
	l := q.lane
	if _, paused := e.paused[l.name]; paused {
		return "", ""
	}
	since := now
	switch {
	case l.health.failing:
		since, reason = l.health.since, "its route did not answer for too long"
	case l.health.refuses():
		since, reason = l.health.refusing, "its route has accepted nothing for too long"
	}
	if reason == "" || now.Sub(since) < min(trustTime, e.s.settings().RetryFor) {
		return "", ""
	}
	return l.name, reason
}

const (
	selectSubject = `SELECT kind, subject FROM deliveries WHERE state = 'waiting' AND (kind, subject) > (?, ?) ORDER BY kind, subject LIMIT 1`
	selectFar     = `SELECT EXISTS (SELECT 1 FROM deliveries WHERE state = 'waiting' AND kind = ? AND subject = ? AND retried = 1 AND due > ?)`
	updateExpired = `UPDATE deliveries SET state = 'dead', route = ?, reason = ? WHERE id IN (
		SELECT id FROM deliveries WHERE state = 'waiting' AND kind = ? AND subject = ? AND retried = ? AND due <= ? AND since <= ?
		AND claimed_by IS NULL ORDER BY due LIMIT ?) AND state = 'waiting' AND claimed_by IS NULL RETURNING report`
)

// waiting returns the subjects of which something waits. It reads one row of
// each, however many there are.
func (s *Store) waiting(ctx context.Context) ([]subject, error) {
	var found []subject
	err := s.read(ctx, func(db reads) error {
		var last subject
		for {
			err := db.QueryRowContext(ctx, selectSubject, string(last.kind), last.name).Scan(&last.kind, &last.name)
			if errors.Is(err, sql.ErrNoRows) {
				return nil
			}
			if err != nil {
				return err
			}
			found = append(found, last)
		}
	})
	return found, err
}

// comeBack makes due what is due further ahead than can be: the clock was ahead
// when it failed.
func (s *Store) comeBack(ctx context.Context, sub subject, bound int64) error {
	var far bool
	err := s.read(ctx, func(db reads) error {
		return db.QueryRowContext(ctx, selectFar, string(sub.kind), sub.name, bound).Scan(&far)
	})
	if err != nil || !far {
		return err
	}
	return s.write(ctx, func(t *tx) error {
		return t.exec(`UPDATE deliveries SET due = ? WHERE state = 'waiting' AND kind = ? AND subject = ? AND retried = 1 AND due > ?`,
			s.milli(), string(sub.kind), sub.name, bound)
	})
}

// expire has deliveries of a subject die that wait since before, and returns how
// many. What is claimed is spared.
func (s *Store) expire(ctx context.Context, sub subject, before int64, route, reason string) (int, error) {
	var n int
	err := s.write(ctx, func(t *tx) error {
		n = 0
		var reports []int64
		for _, retried := range []int{0, 1} {
			due := before
			if retried == 1 {
				due = math.MaxInt64
			}
			expired, err := t.ids(updateExpired, route, reason, string(sub.kind), sub.name, retried, due, before, expireBatch)
			if err != nil {
				return err
			}
			reports = append(reports, expired...)
		}
		n = len(reports)
		return s.endReports(t, reports)
	})
	return n, err
}
