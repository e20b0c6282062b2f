package inbox

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// moveQuarantined moves what is quarantined, one by one. It never was a report, and
// may be too much for the other store's bound: it goes after a day.
func (m *mover) moveQuarantined(ctx context.Context) error {
	for last := int64(0); ; {
		var q quarantinedBody
		err := m.from.read(ctx, func(db reads) error {
			return db.QueryRowContext(ctx, `SELECT id, uid, received, signature, key, head, file, size, stored, body FROM quarantine
				WHERE id > ? ORDER BY id LIMIT 1`, last).
				Scan(&q.id, &q.uid, &q.received, &q.signature, &q.key, &q.head, &q.file, &q.size, &q.stored, &q.body)
		})
		if errors.Is(err, sql.ErrNoRows) {
			return nil
		}
		if err != nil {
			return err
		}
		last = q.id
		known, err := m.moveBody(ctx, &q)
		switch {
		case errors.Is(err, ErrDamaged), errors.Is(err, ErrKey):
			m.leave(q.uid, err)
			continue
		case err != nil:
			return err
		case known:
			m.moved.Known++
		default:
			m.moved.Quarantined++
		}
		m.done++
		m.progress.report(m.done, m.total)
	}
}

func (m *mover) moveBody(ctx context.Context, q *quarantinedBody) (known bool, err error) {
	for _, table := range []string{"quarantine", "reports"} { // it may have become one
		there, err := m.to.holds(ctx, table, q.uid)
		if err != nil {
			return false, err
		}
		known = known || there
	}
	if !known {
		if known, err = m.keepBody(ctx, q); err != nil {
			return false, err
		}
	}
	if err := m.from.files.at(atMoved); err != nil {
		return false, failure(err)
	}
	return known, m.from.write(ctx, func(t *tx) error {
		n, err := t.count(`DELETE FROM quarantine WHERE id = ?`, q.id)
		if err != nil || n == 0 { // released or too old since just now
			return err
		}
		t.then(func() { m.from.quarantined.Add(-quarantineRoom(q.stored, len(q.head))) })
		if !q.file.Valid {
			return nil
		}
		return m.from.base.removeBody(t, q.file.String)
	})
}

func (m *mover) keepBody(ctx context.Context, q *quarantinedBody) (known bool, err error) {
	key, err := m.from.checkQuarantined(q)
	if err != nil {
		return false, err
	}
	row := *q
	row.key = m.to.keys.wrap(key, q.uid)
	var d *Draft
	var kept *moved
	if q.file.Valid {
		if d, err = m.draft(q.uid, q.file.String, key, q.size); err != nil {
			return false, err
		}
		defer d.Abort()
		if kept, err = d.keep(&row.file.String, &row.body); err != nil {
			return false, err
		}
	}
	return m.to.insertQuarantined(ctx, &row, kept, d)
}

// checkQuarantined returns the key of what is quarantined, or an error if it cannot
// be read.
func (s *Store) checkQuarantined(q *quarantinedBody) ([]byte, error) {
	key, err := s.keys.unwrap(q.key, q.uid)
	if err != nil {
		return nil, err
	}
	sl, text, err := s.keys.open(q.uid, q.key, q.head)
	if err != nil {
		return nil, err
	}
	var head quarantineHead
	if json.Unmarshal(text, &head) != nil || head.Size != q.size || q.stored != sealedSize(q.size) {
		return nil, fmt.Errorf("%w: its head does not fit", ErrDamaged)
	}
	if q.file.Valid {
		return key, nil
	}
	body, err := s.bodyOpener(sl, q.file, q.stored, q.body)()
	if err == nil {
		_, err = io.Copy(io.Discard, body)
	}
	return key, err
}
