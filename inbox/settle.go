package inbox

import (
	"context"
	"database/sql"
	"errors"
	"strings"
	"time"
)

const (
	// So many attempts of a delivery stay in the record, the newest: a report
	// that is tried for days has thousands.
	keepAttempts = 100
	// Nothing dies of age before there was so much time to deliver it since the
	// process began, and so much time to set the clock right since it jumped.
	trustTime = 10 * time.Minute
	clockTime = 24 * time.Hour
)

// State is what became of a report or a delivery.
type State string

// The states.
const (
	Waiting   State = "waiting"
	Delivered State = "delivered"
	Dead      State = "dead"
	Dropped   State = "dropped" // by a person, or kept for long enough
	Erased    State = "erased"
	Damaged   State = "damaged" // it cannot be read, and is set aside
)

// What an attempt changes is written as it shall be, so that writing it twice is
// writing it once. A claim that another has taken over is left alone.
const (
	updateEnded = `UPDATE deliveries SET state = ?, attempts = ?, route = ?, status = ?, reason = ?, claimed_by = NULL, claimed_until = NULL
		WHERE id = ? AND state IN ('waiting', 'dead')`
	updateFailed = `UPDATE deliveries SET attempts = ?1, failures = ?2, retried = 1, due = ?3, route = ?4, status = ?5, reason = ?6,
		claimed_by = NULL, claimed_until = NULL WHERE id = ?7 AND state = 'waiting' AND coalesce(claimed_by, ?8) = ?8`
	updateCut = `UPDATE deliveries SET attempts = ?1, route = ?2, status = ?3, reason = ?4,
		claimed_by = NULL, claimed_until = NULL WHERE id = ?5 AND state = 'waiting' AND coalesce(claimed_by, ?6) = ?6`
	updateGone = `UPDATE deliveries SET state = ?, reason = ?, claimed_by = NULL, claimed_until = NULL WHERE report = ? AND state = 'waiting'`

	insertAttempt = `INSERT INTO attempts (delivery, report, node, route, at, took, status, reason) SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8
		WHERE NOT EXISTS (SELECT 1 FROM attempts WHERE report = ?2 AND delivery = ?1 AND at = ?5 AND route = ?4)`
	pruneAttempts = `DELETE FROM attempts WHERE report = ?1 AND delivery = ?2 AND id < (SELECT id FROM attempts
		WHERE report = ?1 AND delivery = ?2 ORDER BY id DESC LIMIT 1 OFFSET ?3)`
)

// settle writes what became of an attempt.
func (e *engine) settle(j *job, r *result) error {
	s := e.s
	ctx := context.WithoutCancel(e.attempts)
	if r.gone || r.damage != nil {
		return e.settleGone(ctx, j, r)
	}
	o, state, now := r.outcome, Waiting, s.now()
	switch {
	case o.Accepted:
		state = Delivered
	case o.Dead || !r.cut && e.expired(j.since, now):
		state = Dead
	}
	due := now
	if !r.cut {
		due = now.Add(retryIn(o, j.failures+1, s.settings().RetryMaxInterval))
	}
	if state == Waiting {
		j.due = due.UnixMilli()
	}
	err := s.submit(ctx, &op{calm: true, fn: func(t *tx) error {
		for _, id := range j.deliveries {
			if err := e.settleDelivery(t, j, r, id, state); err != nil {
				return err
			}
		}
		if state != Waiting {
			t.settle(j.report, s.endReports)
		}
		return e.insertAttempt(t, j, r)
	}})
	if err != nil {
		return err
	}
	s.observer.attempt(j.route.Name, o, r.took)
	if state == Dead {
		s.observer.dead(j.route.Name, len(j.deliveries))
		s.log.Error("a report is dead: it is kept, but not delivered any more", "uid", j.uid, "route", j.route.Name,
			"attempts", j.attempts+1, "status", o.Status, "reason", o.Reason)
	}
	return nil
}

func (e *engine) settleDelivery(t *tx, j *job, r *result, id int64, state State) error {
	o, owner := r.outcome, e.s.owner
	var err error
	switch {
	case state != Waiting:
		err = t.exec(updateEnded, string(state), j.attempts+1, j.route.Name, o.Status, o.Reason, id)
	case r.cut:
		err = t.exec(updateCut, j.attempts+1, j.route.Name, o.Status, o.Reason, id, owner)
	default:
		err = t.exec(updateFailed, j.attempts+1, j.failures+1, j.due, j.route.Name, o.Status, o.Reason, id, owner)
	}
	return err
}

func (e *engine) insertAttempt(t *tx, j *job, r *result) error {
	delivery := j.deliveries[0]
	err := t.exec(insertAttempt, delivery, j.report, e.s.node, j.route.Name, r.at.UnixMilli(), r.took.Milliseconds(), r.outcome.Status, r.outcome.Reason)
	if err == nil && j.attempts >= keepAttempts {
		err = t.exec(pruneAttempts, j.report, delivery, keepAttempts-1)
	}
	return err
}

// settleGone ends the deliveries of a report that has no body that could be
// read. If nobody has taken it away, it is damaged.
func (e *engine) settleGone(ctx context.Context, j *job, r *result) error {
	s := e.s
	var state State
	err := s.read(ctx, func(db reads) error {
		return db.QueryRowContext(ctx, `SELECT state FROM reports WHERE id = ?`, j.report).Scan(&state)
	})
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return err
	}
	if state == Waiting {
		reason := "its body is missing"
		if r.damage != nil {
			reason = strings.TrimPrefix(r.damage.Error(), ErrDamaged.Error()+": ") // the state says that
		}
		if err := s.setReportAside(ctx, j.report, reason); err != nil {
			return err
		}
	}
	return s.write(ctx, func(t *tx) error {
		if r.took > 0 { // some of it may have left
			if err := e.insertAttempt(t, j, r); err != nil {
				return err
			}
		}
		return t.exec(updateGone, string(Dropped), "the report was taken away", j.report)
	})
}

// expired tells whether something waits for so long that it is given up.
func (e *engine) expired(since int64, now time.Time) bool {
	retryFor := e.s.settings().RetryFor
	return now.Sub(time.UnixMilli(since)) >= retryFor && e.trusts(now)
}

// trusts tells whether there was time to deliver what waits. A machine that was
// off for days, or whose clock was set, has not tried for days.
func (e *engine) trusts(now time.Time) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.checkClock(now)
	return e.set != nil && now.Sub(e.began) >= min(e.hold, e.s.settings().RetryFor)
}

// spare has nothing die of age for a while, or for longer if it is said already.
// e.mu is held.
func (e *engine) spare(now time.Time, hold time.Duration) {
	if now.Before(e.began) || now.Add(hold).After(e.began.Add(e.hold)) {
		e.began, e.hold = now, hold
	}
}

// clear puts deliveries that failed because their route did back in their place
// among the fresh ones. Those that failed before stay behind: it may be them.
func (s *Store) clear(ctx context.Context, deliveries []int64) ([]subject, error) {
	var subjects []subject
	err := s.write(ctx, func(t *tx) error {
		subjects = nil
		for _, id := range deliveries {
			var sub subject
			err := t.get([]any{&sub.kind, &sub.name}, `UPDATE deliveries SET failures = 0, retried = 0, due = since
				WHERE id = ? AND state = 'waiting' AND retried = 1 AND attempts = 1 RETURNING kind, subject`, id)
			if errors.Is(err, sql.ErrNoRows) {
				continue
			}
			if err != nil {
				return err
			}
			subjects = append(subjects, sub)
		}
		return nil
	})
	return subjects, err
}
