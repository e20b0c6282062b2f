package inbox

import (
	"context"
	"database/sql"
	"time"
)

// Action is what a person did.
type Action struct {
	At   time.Time `json:"at"`
	Who  string    `json:"who"`
	What string    `json:"what"` // retry, drop, export, erase, pause, resume
	Why  string    `json:"why,omitempty"`
}

// noteAction records what a person does, in the transaction that does it. About
// is the UID of a report or the name of a route.
func (s *Store) noteAction(t *tx, who, what, about, why string) error {
	return t.exec(`INSERT INTO audit (at, who, what, uid, why) VALUES (?, ?, ?, ?, ?)`, s.milli(), who, what, about, why)
}

// Audit returns the records that the filter chooses, with where they went and
// when, and who has done something with them.
func (s *Store) Audit(ctx context.Context, f Filter, p Page) ([]Record, error) {
	records, err := s.List(ctx, f, p)
	if err != nil {
		return nil, err
	}
	for i := range records {
		if err := s.addHistory(ctx, &records[i]); err != nil {
			return nil, err
		}
	}
	return records, nil
}

func (s *Store) addHistory(ctx context.Context, r *Record) error {
	err := s.scan(ctx, `SELECT node, route, at, took, status, reason FROM attempts WHERE report = ? ORDER BY id`, []any{r.id}, func(rows *sql.Rows) error {
		var a AttemptRecord
		var at, took int64
		if err := rows.Scan(&a.Node, &a.Route, &at, &took, &a.Status, &a.Reason); err != nil {
			return err
		}
		a.At, a.Took, a.Accepted = time.UnixMilli(at), time.Duration(took)*time.Millisecond, a.Reason == ""
		r.Attempts = append(r.Attempts, a)
		return nil
	})
	if err != nil {
		return err
	}
	return s.scan(ctx, `SELECT at, who, what, why FROM audit WHERE uid = ? ORDER BY id`, []any{r.UID}, func(rows *sql.Rows) error {
		var a Action
		var at int64
		if err := rows.Scan(&at, &a.Who, &a.What, &a.Why); err != nil {
			return err
		}
		a.At = time.UnixMilli(at)
		r.Actions = append(r.Actions, a)
		return nil
	})
}
