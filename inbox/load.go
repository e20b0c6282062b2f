package inbox

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
)

// load reads what a delivery of a report needs, all but subject and attempt. Its
// error is ErrDamaged where the report cannot be read and never will be: then it
// is to be set aside. It is sql.ErrNoRows if the report has no body any more.
func (s *Store) load(ctx context.Context, id int64) (*Delivery, error) {
	var (
		d               Delivery
		key, head, body []byte
		file            sql.NullString
		stored          int64
	)
	err := s.read(ctx, func(db reads) error {
		return db.QueryRowContext(ctx, `SELECT r.uid, r.repeat, r.conflict, b.key, b.head, b.file, b.stored, b.body
			FROM reports r JOIN bodies b ON b.report = r.id WHERE r.id = ?`, id).
			Scan(&d.UID, &d.Repeat, &d.Conflict, &key, &head, &file, &stored, &body)
	})
	if err != nil {
		return nil, err
	}
	sl, text, err := s.keys.open(d.UID, key, head)
	if err != nil {
		return nil, err
	}
	var sh sealedHead
	if err := json.Unmarshal(text, &sh); err != nil {
		return nil, fmt.Errorf("%w: its head cannot be read", ErrDamaged)
	}
	d.Head, d.Size, d.Digest = sh.Head, sh.Size, sh.Digest
	if stored != sealedSize(d.Size) || !file.Valid && int64(len(body)) != stored {
		return nil, fmt.Errorf("%w: the body is not as long as it was", ErrDamaged)
	}
	d.Body = s.bodyOpener(sl, file, stored, body)
	return &d, nil
}

// open opens the key and the head of a body.
func (k *keyring) open(uid string, wrapped, head []byte) (*sealer, []byte, error) {
	key, err := k.unwrap(wrapped, uid)
	if err != nil {
		return nil, nil, err
	}
	sl, err := newSealer(key, uid)
	if err != nil {
		return nil, nil, err
	}
	text, err := sl.openHead(head)
	return sl, text, err
}

const (
	updateReports                 = `UPDATE reports SET state = ?, ended = ? WHERE id IN `
	deleteBodies, returningBodies = `DELETE FROM bodies WHERE report IN `, ` RETURNING stored, file,
		(SELECT r.kind FROM reports r WHERE r.id = bodies.report), (SELECT r.type FROM reports r WHERE r.id = bodies.report)`
)

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
