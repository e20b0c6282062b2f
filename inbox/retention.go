package inbox

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"time"
)

const (
	// How long a body whose signature fits no key is kept.
	keepQuarantined = 24 * time.Hour
	// How much is removed in one transaction.
	retainBatch = 200
)

// Retain removes what is too old: the bodies of dead and damaged reports after
// KeepDead, what is quarantined after a day, records after KeepRecord. The store
// does so by itself every ten minutes.
func (s *Store) Retain(ctx context.Context) error {
	st, now := s.settings(), s.now()
	for _, step := range []struct {
		before time.Time
		fn     func(*tx, int64) (int, error)
	}{
		{now.Add(-st.KeepDead), s.dropDead},
		{now.Add(-keepQuarantined), s.dropQuarantined},
		{now.Add(-st.KeepRecord), s.forget},
		{now.Add(-st.KeepRecord), forgetAudit},
	} {
		for n := retainBatch; n == retainBatch; {
			err := s.write(ctx, func(t *tx) (err error) {
				n, err = step.fn(t, step.before.UnixMilli())
				return err
			})
			if err != nil {
				return err
			}
		}
	}
	return s.base.removeAside(ctx, now.Add(-st.KeepDead))
}

// dropDead drops the reports that died, or were found damaged, before a time.
func (s *Store) dropDead(t *tx, before int64) (int, error) {
	ids, err := t.ids(`SELECT id FROM reports WHERE state IN ('dead', 'damaged') AND ended < ? LIMIT ?`, before, retainBatch)
	for _, id := range ids {
		if err := s.dropEnded(t, id); err != nil {
			return 0, err
		}
	}
	return len(ids), err
}

// dropEnded drops a report that is dead or damaged.
func (s *Store) dropEnded(t *tx, id int64) error {
	if err := t.exec(`UPDATE deliveries SET state = 'dropped' WHERE report = ? AND state = 'dead'`, id); err != nil {
		return err
	}
	return s.end(t, Dropped, id)
}

// forget removes the records of reports that ended before a time.
func (s *Store) forget(t *tx, before int64) (int, error) {
	ids, err := t.ids(`SELECT id FROM reports WHERE state IN ('delivered', 'dropped', 'erased') AND ended < ? LIMIT ?`, before, retainBatch)
	if err != nil {
		return 0, err
	}
	for _, id := range ids {
		if err := forgetRecord(t, id); err != nil {
			return 0, err
		}
	}
	return len(ids), nil
}

// forgetRecord removes the record of a report that has no body any more.
func forgetRecord(t *tx, id int64) error {
	var text string
	err := t.get([]any{&text}, `SELECT refs FROM reports WHERE id = ?`, id)
	if errors.Is(err, sql.ErrNoRows) {
		return nil
	}
	if err != nil {
		return err
	}
	var r refs
	_ = json.Unmarshal([]byte(text), &r) // what cannot be read has no rows
	err = r.each(func(kind, value string) error {
		return t.exec(`DELETE FROM refs WHERE kind = ? AND value = ? AND report = ?`, kind, value, id)
	})
	if err != nil {
		return err
	}
	for _, statement := range []string{
		`DELETE FROM attempts WHERE report = ?`,
		`DELETE FROM deliveries WHERE report = ?`,
		`DELETE FROM reports WHERE id = ?`,
	} {
		if err := t.exec(statement, id); err != nil {
			return err
		}
	}
	return nil
}

const deleteAudit = `DELETE FROM audit WHERE id IN (SELECT id FROM audit WHERE at < ? ORDER BY at LIMIT ?)`

func forgetAudit(t *tx, before int64) (int, error) {
	n, err := t.count(deleteAudit, before, retainBatch)
	return int(n), err
}
