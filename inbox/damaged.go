package inbox

import (
	"context"
	"database/sql"
)

// setReportAside keeps a report that cannot be read from being delivered. Nothing of
// it is removed.
func (s *Store) setReportAside(ctx context.Context, id int64, reason string) error {
	return s.write(ctx, func(t *tx) error { return s.markDamaged(t, id, reason) })
}

func (s *Store) markDamaged(t *tx, id int64, reason string) error {
	var uid string
	var file sql.NullString
	err := t.get([]any{&uid, &file}, `SELECT r.uid, b.file FROM reports r LEFT JOIN bodies b ON b.report = r.id WHERE r.id = ?`, id)
	if err != nil {
		return err
	}
	if err := t.exec(`UPDATE reports SET state = 'damaged', ended = ? WHERE id = ?`, s.milli(), id); err != nil {
		return err
	}
	// A status would be that of an attempt before, which the reason is not about.
	err = t.exec(`UPDATE deliveries SET state = 'dead', claimed_by = NULL, claimed_until = NULL, status = NULL, reason = ?
		WHERE report = ? AND state = 'waiting'`, reason, id)
	if err != nil {
		return err
	}
	t.then(func() {
		s.log.Error("a stored report is damaged and was set aside", "uid", uid, "reason", reason)
		if !file.Valid {
			return
		}
		if err := s.base.setAside(file.String); err != nil {
			s.log.Error("the file of a damaged report could not be moved", "uid", uid, "error", err)
		}
	})
	return nil
}
