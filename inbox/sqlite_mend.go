package inbox

import (
	"database/sql"
	"encoding/json"
	"errors"
)

// mend makes a whole of the rows that were found, and names what is missing.
func (s *sqlite) mend(t *tx, sv *salvager) error {
	for _, step := range []func(*tx, *salvager) error{s.mendReports, s.mendBodies, s.mendDeliveries, s.mendRefs, s.nameLost} {
		if err := step(t, sv); err != nil {
			return err
		}
	}
	return nil
}

// mendReports makes the rows of reports again that are lost, from what is sealed
// with their bodies.
func (s *sqlite) mendReports(t *tx, sv *salvager) error {
	ids, err := t.ids(`SELECT report FROM bodies WHERE report NOT IN (SELECT id FROM reports)`)
	if err != nil {
		return err
	}
	for _, id := range ids {
		if err := s.mendReport(t, sv, id); err != nil {
			return err
		}
	}
	return nil
}

func (s *sqlite) mendReport(t *tx, sv *salvager, id int64) error {
	var key, head []byte
	if err := t.get([]any{&key, &head}, `SELECT key, head FROM bodies WHERE report = ?`, id); err != nil {
		return err
	}
	for uid, of := range sv.uids {
		if of != id {
			continue
		}
		_, text, err := s.keys.open(uid, key, head)
		if err != nil {
			continue // an index of something else
		}
		var sh sealedHead
		if err := json.Unmarshal(text, &sh); err != nil {
			continue
		}
		h := &sh.Head
		refText, err := json.Marshal(refs{h.RequestID, h.LinkIDs, h.ConsentIDs, h.EventIDs})
		if err != nil {
			return err
		}
		state := "waiting"
		var ended any
		if h.Kind == KindUnreadable || len(h.Subjects) == 0 {
			state, ended = "dead", s.milli()
		}
		return t.exec(`INSERT INTO reports (id, uid, kind, type, report_id, digest, size, received, code, refs, repeat, conflict, state, ended)
			VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 0, 0, ?, ?)`, id, uid, string(h.Kind), typesText(h.Subjects), h.ReportID,
			sh.Digest[:], sh.Size, h.Received.UnixMilli(), h.Code, string(refText), state, ended)
	}
	// Without its uid, it cannot be opened.
	return t.exec(`DELETE FROM bodies WHERE report = ?`, id)
}

// mendBodies names the reports whose bodies are lost, and removes the bodies of
// those that have ended.
func (s *sqlite) mendBodies(t *tx, _ *salvager) error {
	lost, err := t.ids(`SELECT id FROM reports WHERE state IN ('waiting', 'dead') AND id NOT IN (SELECT report FROM bodies)`)
	if err != nil {
		return err
	}
	for _, id := range lost {
		if err := s.markDamaged(t, id, "its row in the database cannot be read"); err != nil {
			return err
		}
	}
	return t.exec(`DELETE FROM bodies WHERE report IN (SELECT id FROM reports WHERE state IN ('delivered', 'dropped', 'erased'))`)
}

// mendDeliveries has each report delivered that waits, and ends those that do
// not.
func (s *sqlite) mendDeliveries(t *tx, _ *salvager) error {
	waiting, err := t.ids(`SELECT id FROM reports WHERE state = 'waiting'`)
	if err != nil {
		return err
	}
	for _, id := range waiting {
		h, err := s.headOf(t, id)
		if errors.Is(err, ErrDamaged) {
			if err := s.markDamaged(t, id, "its key or its head cannot be read"); err != nil {
				return err
			}
			continue
		}
		if err != nil {
			return err
		}
		for _, name := range h.Subjects {
			var n int
			if err := t.get([]any{&n}, `SELECT count(*) FROM deliveries WHERE report = ? AND subject = ?`, id, name); err != nil {
				return err
			}
			if n > 0 {
				continue
			}
			if err := insertDelivery(t, refTo(id), h, name); err != nil {
				return err
			}
		}
		var left, dead int
		err = t.get([]any{&left, &dead}, `SELECT count(*) FILTER (WHERE state = 'waiting'), count(*) FILTER (WHERE state = 'dead')
			FROM deliveries WHERE report = ?`, id)
		if err != nil {
			return err
		}
		switch {
		case left > 0:
		case dead > 0:
			err = s.end(t, Dead, id)
		default:
			err = s.end(t, Delivered, id)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (s *sqlite) headOf(t *tx, id int64) (*Head, error) {
	var uid string
	var key, head []byte
	err := t.get([]any{&uid, &key, &head}, `SELECT r.uid, b.key, b.head FROM reports r JOIN bodies b ON b.report = r.id WHERE r.id = ?`, id)
	if err != nil {
		return nil, err
	}
	_, text, err := s.keys.open(uid, key, head)
	if err != nil {
		return nil, err
	}
	var sh sealedHead
	if err := json.Unmarshal(text, &sh); err != nil {
		return nil, ErrDamaged
	}
	return &sh.Head, nil
}

// mendRefs makes by what reports are found.
func (s *sqlite) mendRefs(t *tx, _ *salvager) error {
	ids, err := t.ids(`SELECT id FROM reports`)
	if err != nil {
		return err
	}
	for _, id := range ids {
		var text string
		if err := t.get([]any{&text}, `SELECT refs FROM reports WHERE id = ?`, id); err != nil {
			return err
		}
		var r refs
		if err := json.Unmarshal([]byte(text), &r); err != nil {
			continue
		}
		if err := r.insert(t, id); err != nil {
			return err
		}
	}
	return nil
}

// nameLost names the reports of which nothing is left but their uids, and
// removes what belonged to them.
func (s *sqlite) nameLost(t *tx, sv *salvager) error {
	for uid := range sv.uids {
		var n int
		err := t.get([]any{&n}, `SELECT (SELECT count(*) FROM reports WHERE uid = ?1) + (SELECT count(*) FROM audit WHERE uid = ?1)
			+ (SELECT count(*) FROM quarantine WHERE uid = ?1)`, uid)
		if err != nil && !errors.Is(err, sql.ErrNoRows) {
			return err
		}
		if n == 0 {
			s.log.Error("a report is lost: its row in the database cannot be read", "uid", uid)
		}
	}
	for _, statement := range []string{
		`DELETE FROM deliveries WHERE report NOT IN (SELECT id FROM reports)`,
		`DELETE FROM attempts WHERE report NOT IN (SELECT id FROM reports)`,
		`DELETE FROM refs WHERE report NOT IN (SELECT id FROM reports)`,
	} {
		if err := t.exec(statement); err != nil {
			return err
		}
	}
	return nil
}
