package inbox

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"
)

// changeBatch is how many deliveries a person's change takes at once, so that
// reports that arrive need not wait for long.
const changeBatch = 200

// Progress is told how far a long piece of work is. It may be nil.
type Progress func(done, total int)

func (p Progress) report(done, total int) {
	if p != nil {
		p(done, max(done, total))
	}
}

// target is a delivery that a person changes.
type target struct {
	id, report int64
	uid        string
	subject    subject
}

// Retry has what is dead delivered again, and what waits for its next attempt at
// once. They go the way of all others, as many at a time as their routes take.
// It returns how many deliveries it were. For one report that is delivered,
// the error is ErrGone: its body is not there any more.
func (s *Store) Retry(ctx context.Context, f Filter, who string, progress Progress) (int, error) {
	return s.change(ctx, f, progress, func(t *tx, d *target) error {
		now := s.milli()
		err := t.exec(`UPDATE deliveries SET state = 'waiting', failures = 0, retried = 0, due = ?, since = ? WHERE id = ? AND state = 'dead'`,
			now, now, d.id)
		if err != nil {
			return err
		}
		err = t.exec(`UPDATE deliveries SET failures = 0, retried = 0, due = ? WHERE id = ? AND state = 'waiting' AND retried = 1`, now, d.id)
		if err != nil {
			return err
		}
		if err := t.exec(`UPDATE reports SET state = 'waiting', ended = NULL WHERE id = ? AND state = 'dead'`, d.report); err != nil {
			return err
		}
		t.then(func() {
			s.stored(d.subject.kind, []string{d.subject.name})
			s.base.tell()
		})
		return s.noteAction(t, who, "retry", d.uid, "")
	})
}

// Drop gives up what waits or is dead: it is not delivered any more, and its
// body goes. It returns how many deliveries it were.
func (s *Store) Drop(ctx context.Context, f Filter, who, why string, progress Progress) (int, error) {
	if f == (Filter{}) {
		return 0, errors.New("inbox: everything would be dropped: say which reports")
	}
	n, err := s.dropBodies(ctx, f, who, why)
	if err != nil {
		return n, err
	}
	m, err := s.change(ctx, f, progress, func(t *tx, d *target) error {
		err := t.exec(`UPDATE deliveries SET state = 'dropped' WHERE id = ? AND state IN ('waiting', 'dead')`, d.id)
		if err != nil {
			return err
		}
		t.settle(d.report, s.endReports)
		return s.noteAction(t, who, "drop", d.uid, why)
	})
	if n > 0 && errors.Is(err, ErrGone) {
		err = nil
	}
	return n + m, err
}

// dropBodies drops the reports that have nothing to deliver: those that nobody
// could make sense of, and those that are damaged.
func (s *Store) dropBodies(ctx context.Context, f Filter, who, why string) (int, error) {
	q, err := s.query(ctx, f)
	if err != nil {
		return 0, err
	}
	q.reports.add("(r.state = 'damaged' OR r.state = 'dead' AND NOT EXISTS (SELECT 1 FROM deliveries o WHERE o.report = r.id))")
	n := 0
	for {
		text, args := q.selectReports("r.id, r.uid", " ORDER BY r.id LIMIT ?", changeBatch)
		var found []target
		err := s.scan(ctx, text, args, func(rows *sql.Rows) error {
			var d target
			err := rows.Scan(&d.report, &d.uid)
			found = append(found, d)
			return err
		})
		if err != nil || len(found) == 0 {
			return n, err
		}
		err = s.write(ctx, func(t *tx) error {
			for _, d := range found {
				if err := s.dropEnded(t, d.report); err != nil {
					return err
				}
				if err := s.noteAction(t, who, "drop", d.uid, why); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return n, err
		}
		n += len(found)
	}
}

// change runs fn for each delivery that the filter chooses and that waits or is
// dead.
func (s *Store) change(ctx context.Context, f Filter, progress Progress, fn func(*tx, *target) error) (int, error) {
	q, err := s.query(ctx, f)
	if err != nil {
		return 0, err
	}
	q.reports.add("r.state IN ('waiting', 'dead')")
	q.deliveries.add("d.state IN ('waiting', 'dead')")
	total, err := s.countTargets(ctx, q)
	if err != nil {
		return 0, err
	}
	if total == 0 {
		return 0, s.explain(ctx, f)
	}
	done, last := 0, int64(0)
	for {
		progress.report(done, total)
		found, err := s.targets(ctx, q, last)
		if err != nil || len(found) == 0 {
			return done, err
		}
		err = s.write(ctx, func(t *tx) error {
			for i := range found {
				if err := fn(t, &found[i]); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return done, err
		}
		done += len(found)
		last = found[len(found)-1].id
	}
}

func (s *Store) countTargets(ctx context.Context, q *query) (n int, err error) {
	text, args := q.selectDeliveries("count(*)", "")
	err = s.read(ctx, func(db reads) error { return db.QueryRowContext(ctx, text, args...).Scan(&n) })
	return n, err
}

func (s *Store) targets(ctx context.Context, q *query, after int64) (found []target, err error) {
	text, args := q.selectDeliveries("d.id, d.report, r.uid, d.kind, d.subject", " AND d.id > ? ORDER BY d.id LIMIT ?", after, changeBatch)
	err = s.scan(ctx, text, args, func(rows *sql.Rows) error {
		var d target
		err := rows.Scan(&d.id, &d.report, &d.uid, &d.subject.kind, &d.subject.name)
		found = append(found, d)
		return err
	})
	return found, err
}

// explain returns why nothing can be done with what a filter chooses. That is
// an error only if it names one report: who asks for all that are waiting, or of a
// type, knows that there may be none.
func (s *Store) explain(ctx context.Context, f Filter) error {
	if f.UID == "" && f.ReportID == "" {
		return nil
	}
	records, err := s.List(ctx, f, Page{Limit: 1})
	if err != nil {
		return err
	}
	if len(records) == 0 {
		return fmt.Errorf("%w: there is no such report", ErrNotFound)
	}
	r := &records[0]
	switch r.State {
	case Delivered:
		return fmt.Errorf("%w: report %s was delivered on %s, and its body is not kept: Klavi can send it again",
			ErrGone, r.UID, r.Ended.UTC().Format(time.RFC3339))
	case Damaged:
		return fmt.Errorf("%w: report %s cannot be read", ErrDamaged, r.UID)
	case Dead:
		return fmt.Errorf("%w: report %s cannot be read by the gateway, so it has no route: export it", ErrNotFound, r.UID)
	case Waiting:
		return fmt.Errorf("%w: what the filter asks for has ended already in report %s", ErrGone, r.UID)
	}
	return fmt.Errorf("%w: report %s was %s on %s", ErrGone, r.UID, r.State, r.Ended.UTC().Format(time.RFC3339))
}
