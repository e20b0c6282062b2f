package inbox

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

const (
	// How many bytes may be quarantined. They are none of MaxSize: whoever can
	// send from an address of Klavi's could keep out reports with them.
	maxQuarantined = 256 << 20
	// What a row takes up beside what it holds, or less.
	quarantineRow = 1 << 10
)

// quarantineRoom is what a quarantined body takes up with its sealed head: small
// ones take up more than they are.
func quarantineRoom(stored int64, head int) int64 { return stored + int64(head) + quarantineRow }

// Quarantined is a body whose signature fitted no key when it came.
type Quarantined struct {
	Signature string
	Received  time.Time
	// Meta is what was given to Quarantine.
	Meta   []byte
	Size   int64
	Digest [32]byte

	// Body opens the body at its first byte.
	Body func() (Body, error)
}

// quarantineHead is what is sealed beside a body that is quarantined.
type quarantineHead struct {
	Meta   []byte
	Size   int64
	Digest [32]byte
}

// Quarantine stores the draft as a body that a coming key may verify: Release
// turns it into a report. What is there already is not stored again. It is
// ErrFull if 256 MiB are there; after a day, they go. The draft has ended in any
// case.
func (d *Draft) Quarantine(ctx context.Context, signature string, received time.Time, meta []byte, digest [32]byte) error {
	defer d.Abort()
	s := d.s
	if err := d.finish(); err != nil {
		return err
	}
	text, err := json.Marshal(quarantineHead{meta, d.size, digest})
	if err != nil {
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	q := &quarantinedBody{
		uid: d.uid, received: received.UnixMilli(), size: d.size, stored: sealedSize(d.size),
		signature: []byte(signature), key: s.keys.wrap(d.key, d.uid), head: d.sealer.sealHead(text),
	}
	takes := quarantineRoom(q.stored, len(q.head))
	defer s.quarantining.Add(-takes)
	if arriving := s.quarantining.Add(takes); s.quarantined.Load()+arriving > maxQuarantined {
		return fmt.Errorf("%w: %d bytes are quarantined", ErrFull, maxQuarantined)
	}
	m, err := d.keep(&q.file.String, &q.body)
	if err != nil {
		return err
	}
	q.file.Valid = q.file.String != ""
	sp := s.base.spool()
	err = errNotTried
	if !sp.instead() {
		_, err = s.insertQuarantined(ctx, q, m, d)
	}
	if sp.takes(ctx, err) {
		err = sp.quarantine(ctx, d, q, err)
	}
	return err
}

// quarantinedBody is a row of what is quarantined.
type quarantinedBody struct {
	id, received, size, stored int64
	uid                        string
	signature, key, head, body []byte
	file                       sql.NullString
}

// insertQuarantined stores what is quarantined, unless it is there already: the same
// signature is the same body, for it is over all of it. The body is in its place, or
// that of the draft.
func (s *Store) insertQuarantined(ctx context.Context, q *quarantinedBody, m *moved, d *Draft) (known bool, err error) {
	err = s.submit(ctx, &op{
		intake: true, moved: m, large: q.file.Valid && d.isLarge(m), hasty: q.id == 0 && s.base.spool() != nil,
		fn: func(t *tx) error {
			n, err := t.count(`INSERT INTO quarantine (uid, received, signature, key, head, file, size, stored, body)
				SELECT ?, ?, ?3, ?, ?, ?, ?, ?, ? WHERE NOT EXISTS (SELECT 1 FROM quarantine WHERE signature = ?3)`,
				q.uid, q.received, q.signature, q.key, q.head, q.file, q.size, q.stored, q.body)
			if known = n == 0; known || err != nil {
				return err
			}
			t.then(func() { s.quarantined.Add(quarantineRoom(q.stored, len(q.head))) })
			if !q.file.Valid {
				return nil
			}
			return s.base.insertBody(t, d)
		},
	})
	if q.file.Valid && !errors.As(err, new(uncertainError)) && (err != nil || known) {
		s.base.dropBody(q.file.String)
	}
	return known, failure(err)
}

// Release goes through what is quarantined, the oldest first. For each, check
// returns the head of the report that it is now, or nil if it still is none. It
// returns how many became reports. One that cannot be read keeps no other.
func (s *Store) Release(ctx context.Context, check func(*Quarantined) (*Head, error)) (int, error) {
	var ids []int64
	err := s.read(ctx, func(db reads) error {
		rows, err := db.QueryContext(ctx, `SELECT id FROM quarantine ORDER BY id`)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var id int64
			if err := rows.Scan(&id); err != nil {
				return err
			}
			ids = append(ids, id)
		}
		return rows.Err()
	})
	if err != nil {
		return 0, err
	}
	released := 0
	var failed error // the last
	for _, id := range ids {
		if ctx.Err() != nil {
			return released, ctx.Err()
		}
		done, err := s.releaseOne(ctx, id, check)
		switch {
		case errors.Is(err, ErrDamaged):
			s.log.Error("a quarantined body is damaged", "error", err)
		case err != nil:
			failed = err
		case done:
			released++
		}
	}
	return released, failed
}

func (s *Store) releaseOne(ctx context.Context, id int64, check func(*Quarantined) (*Head, error)) (bool, error) {
	var (
		uid                              string
		received, stored                 int64
		signature, wrapped, sealed, body []byte
		file                             sql.NullString
	)
	err := s.read(ctx, func(db reads) error {
		return db.QueryRowContext(ctx, `SELECT uid, received, signature, key, head, file, stored, body FROM quarantine WHERE id = ?`, id).
			Scan(&uid, &received, &signature, &wrapped, &sealed, &file, &stored, &body)
	})
	if errors.Is(err, sql.ErrNoRows) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	sl, text, err := s.keys.open(uid, wrapped, sealed)
	if err != nil {
		return false, fmt.Errorf("%s: %w", uid, err)
	}
	var qh quarantineHead
	if err := json.Unmarshal(text, &qh); err != nil || stored != sealedSize(qh.Size) {
		return false, fmt.Errorf("%s: %w", uid, ErrDamaged)
	}
	head, err := check(&Quarantined{
		Signature: string(signature), Received: time.UnixMilli(received), Meta: qh.Meta, Size: qh.Size, Digest: qh.Digest,
		Body: s.bodyOpener(sl, file, stored, body),
	})
	if head == nil || err != nil {
		return false, err
	}
	r, err := s.newRecord(uid, sl, wrapped, *head, qh.Digest, qh.Size)
	if err != nil {
		return false, err
	}
	r.file, r.body = file.String, body
	var gone bool
	err = s.submit(ctx, &op{intake: true, heads: []*Head{&r.head}, erases: s.erasesOn(&r.head), fn: func(t *tx) error {
		gone = false
		if n, err := t.count(`DELETE FROM quarantine WHERE id = ?`, id); err != nil || n == 0 {
			gone = true // released by somebody else, or too old since just now
			return err
		}
		t.then(func() { s.quarantined.Add(-quarantineRoom(stored, len(sealed))) })
		receipt, err := s.store(t, r)
		if err == nil && file.Valid && (receipt.Duplicate || receipt.Erased) {
			err = s.base.removeBody(t, file.String)
		}
		return err
	}})
	if err != nil || gone {
		return false, err
	}
	return true, nil
}

// dropQuarantined removes what was quarantined before a time.
func (s *Store) dropQuarantined(t *tx, before int64) (int, error) {
	ids, err := t.ids(`SELECT id FROM quarantine WHERE received < ? LIMIT ?`, before, retainBatch)
	for _, id := range ids {
		var file sql.NullString
		var stored int64
		var head int
		if err := t.get([]any{&file, &stored, &head}, `SELECT file, stored, length(head) FROM quarantine WHERE id = ?`, id); err != nil {
			return 0, err
		}
		if err := t.exec(`DELETE FROM quarantine WHERE id = ?`, id); err != nil {
			return 0, err
		}
		t.then(func() { s.quarantined.Add(-quarantineRoom(stored, head)) })
		if !file.Valid {
			continue
		}
		if err := s.base.removeBody(t, file.String); err != nil {
			return 0, err
		}
	}
	if len(ids) > 0 {
		t.then(func() {
			s.log.Warn("bodies whose signature fitted no key within a day were removed", "inbox", s.place, "bodies", len(ids))
		})
	}
	return len(ids), err
}

// bodyOpener opens a sealed body, in a row or in a file.
func (s *Store) bodyOpener(sl *sealer, file sql.NullString, stored int64, body []byte) func() (Body, error) {
	return func() (Body, error) {
		u := &unsealer{sealer: sl, left: stored}
		if !file.Valid {
			u.src = bytes.NewReader(body)
			return nopCloser{u}, nil
		}
		f, err := s.base.openBody(file.String)
		if err != nil {
			return nil, err
		}
		u.src = f
		return &fileBody{u, f}, nil
	}
}
