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
