package inbox

import (
	"database/sql"
	"slices"
)

// selectEnds says what came of the deliveries of reports: the most important that came
// of any. Without statistics, PostgreSQL would rather read all deliveries than join those
// of a few reports.
const (
	selectEnds = `SELECT r.id, r.state, (SELECT max(CASE d.state WHEN 'waiting' THEN 3 WHEN 'dead' THEN 2 WHEN 'dropped' THEN 1 END)
		FROM deliveries d WHERE d.report = r.id) FROM reports r WHERE r.id IN `
	endIsWaiting, endIsDead, endIsDropped = 3, 2, 1
)

// Each has a list of ids, and what follows it.
const (
	lockReports     = `SELECT 1 FROM reports WHERE id IN `
	lockInOrder     = ` ORDER BY id FOR UPDATE`
	updateReports   = `UPDATE reports SET state = ?, ended = ? WHERE id IN `
	deleteBodies    = `DELETE FROM bodies WHERE report IN `
	returningBodies = ` RETURNING stored, file,
		(SELECT r.kind FROM reports r WHERE r.id = bodies.report), (SELECT r.type FROM reports r WHERE r.id = bodies.report)`
)

// endReports ends those of some reports of which no delivery waits any more.
func (s *Store) endReports(t *tx, reports []int64) error {
	slices.Sort(reports)
	for some := range slices.Chunk(slices.Compact(reports), maxBatch) {
		if err := s.endSome(t, some); err != nil {
			return err
		}
	}
	return nil
}

func (s *Store) endSome(t *tx, reports []int64) error {
	list, ids := among(reports)
	if s.base.shared() {
		// Two deliveries of one may end at once, and neither see that the other has.
		if err := t.exec(lockReports+list+lockInOrder, ids...); err != nil {
			return err
		}
	}
	ended := make(map[State][]int64)
	err := t.each(func(r row) error {
		var id int64
		var state State
		var end sql.NullInt64
		err := r.Scan(&id, &state, &end)
		switch {
		case err != nil || state != Waiting && state != Dead:
		case end.Int64 == endIsWaiting || end.Int64 == endIsDead && state == Dead:
		case end.Int64 == endIsDead:
			ended[Dead] = append(ended[Dead], id)
		case end.Int64 == endIsDropped:
			ended[Dropped] = append(ended[Dropped], id)
		default:
			ended[Delivered] = append(ended[Delivered], id)
		}
		return err
	}, selectEnds+list, ids...)
	if err != nil {
		return err
	}
	for state, reports := range ended {
		if err := s.end(t, state, reports...); err != nil {
			return err
		}
	}
	return nil
}

// end writes down that reports have ended: delivered, dropped, erased or dead. Unless
// they are dead, their bodies and keys go.
func (s *Store) end(t *tx, state State, reports ...int64) error {
	list, ids := among(reports)
	err := t.exec(updateReports+list, append([]any{string(state), s.milli()}, ids...)...)
	if err != nil || state == Dead {
		return err
	}
	return s.discard(t, reports...)
}

// discard removes the bodies and the keys of reports, if they are still there.
func (s *Store) discard(t *tx, reports ...int64) error {
	list, ids := among(reports)
	var files []string
	err := t.each(func(r row) error {
		var (
			kind   Kind
			types  string
			stored int64
			file   sql.NullString
		)
		if err := r.Scan(&stored, &file, &kind, &types); err != nil {
			return err
		}
		t.then(func() { s.room.hold(kind, typesOf(types), -stored) })
		if file.Valid {
			files = append(files, file.String)
		}
		return nil
	}, deleteBodies+list+returningBodies, ids...)
	if err != nil {
		return err
	}
	for _, name := range files {
		if err := s.base.removeBody(t, name); err != nil {
			return err
		}
	}
	return nil
}
