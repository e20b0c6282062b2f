package inbox

import (
	"context"
	"time"
)

// answered notes how an attempt ended. It is not on record yet.
func (l *lane) answered(j *job, r *result) {
	e := l.e
	e.mu.Lock()
	cleared := l.learn(j, r)
	e.mu.Unlock()
	var back []subject
	if len(cleared) > 0 {
		// Before anything else is claimed. If it cannot be done, they are due
		// all the same, if later.
		back, _ = e.s.clear(context.WithoutCancel(e.attempts), cleared)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	l.active--
	l.unsure++
	for _, sub := range back {
		e.wake(sub)
	}
	if l.open() && !l.stale() {
		l.begin() // also while more is being claimed
	}
	l.kick()
}

// learn takes an attempt for what it says of the route. If that was failing until
// now, it returns the deliveries that failed with it. e.mu is held.
func (l *lane) learn(j *job, r *result) (cleared []int64) {
	e := l.e
	now := e.s.now()
	if r.outcome != (Outcome{}) {
		l.last = lastAttempt{at: r.at, outcome: r.outcome}
	}
	switch {
	case l.set != j.set: // it says nothing of the route of today
	case r.silent:
		if j.probe != noProbe {
			l.health.silent(now)
		}
	case faulty(r.outcome) && !r.broken:
		if l.health.faulted(j.deliveries[0], r.outcome, j.probe, now, e.s.settings().RetryMaxInterval) {
			e.s.log.Warn("a route keeps failing: it is tried with one report at a time", "route", l.name,
				"status", r.outcome.Status, "reason", r.outcome.Reason)
		}
	default:
		cleared = l.alive(j, r, now)
	}
	return cleared
}

// alive notes that the route has answered. e.mu is held.
func (l *lane) alive(j *job, r *result, now time.Time) (cleared []int64) {
	e := l.e
	if l.health.failing {
		e.s.log.Info("a route answers again", "route", l.name)
	}
	refused := l.health.refuses()
	cleared = l.health.alive(r.outcome.Accepted, j.probe, now)
	switch refuses := l.health.refuses(); {
	case refuses && !refused:
		e.s.log.Warn("a route refuses everything: what it has refused before is tried one at a time", "route", l.name,
			"status", r.outcome.Status, "reason", r.outcome.Reason)
	case refused && !refuses:
		e.s.log.Info("a route accepts again", "route", l.name)
		for _, q := range e.queues {
			if q.lane == l {
				q.wake()
			}
		}
	}
	return cleared
}

// recorded notes that an attempt is on record: if it failed, the next may begin
// when it is due.
func (l *lane) recorded(j *job) {
	e := l.e
	e.mu.Lock()
	defer e.mu.Unlock()
	l.unsure--
	for i, id := range j.deliveries {
		delete(e.busy, id)
		e.retry(j.subjects[i], j.due)
	}
	l.kick()
}

// retry says when a delivery of a subject is due again. e.mu is held.
func (e *engine) retry(sub subject, due int64) {
	if q := e.queues[sub]; q != nil {
		q.due = min(q.due, due)
	} else if due != never {
		e.wake(sub)
	}
}
