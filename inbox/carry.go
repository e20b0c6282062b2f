package inbox

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"
)

// carried is a report on its way from one store to another, with its whole record.
type carried struct {
	record
	id               int64
	types            string
	repeat, conflict int
	state            string
	ended            sql.NullInt64
	plain            []byte // the key
	brought          string // the file there of what is in a file here

	deliveries []carriedDelivery
	attempts   []carriedAttempt
	actions    []carriedAction
	damage     error // it cannot be read
	there      bool  // it is in the other store
	needless   bool  // its body is
}

type carriedDelivery struct {
	id                   int64
	kind, subject, state string
	attempts, failures   int64
	retried, due, since  int64
	route, reason        sql.NullString
	status               sql.NullInt64
}

type carriedAttempt struct {
	delivery, at, took, status int64
	node, route, reason        string
}

type carriedAction struct {
	id, at              int64
	who, what, uid, why string
}

// readCarried reads the next reports behind one.
func (s *Store) readCarried(ctx context.Context, after int64) ([]*carried, error) {
	var page []*carried
	err := s.scan(ctx, `SELECT r.id, r.uid, r.kind, r.type, r.report_id, r.digest, r.size, r.received, r.code, r.refs, r.repeat, r.conflict,
		r.state, r.ended, b.key, b.head, b.file, coalesce(b.stored, 0), b.body
		FROM reports r LEFT JOIN bodies b ON b.report = r.id WHERE r.id > ? ORDER BY r.id LIMIT ?`, []any{after, moveBatch}, func(rows *sql.Rows) error {
		r := new(carried)
		page = append(page, r)
		var digest []byte
		var received int64
		var file sql.NullString
		err := rows.Scan(&r.id, &r.uid, &r.head.Kind, &r.types, &r.head.ReportID, &digest, &r.size, &received, &r.head.Code, &r.refText,
			&r.repeat, &r.conflict, &r.state, &r.ended, &r.key, &r.sealed, &file, &r.stored, &r.body)
		if err != nil {
			return err
		}
		copy(r.digest[:], digest)
		r.file, r.head.Received, r.head.Subjects = file.String, time.UnixMilli(received), typesOf(r.types)
		return nil
	})
	if err != nil {
		return nil, err
	}
	for _, r := range page {
		r.damage = s.checkCarried(r)
		if err := s.addCarried(ctx, r); err != nil {
			return nil, err
		}
	}
	return page, nil
}

// checkCarried returns an error if a report cannot be read. A body in a file is
// read when it is moved.
func (s *Store) checkCarried(r *carried) error {
	if err := json.Unmarshal([]byte(r.refText), &r.refs); err != nil {
		return fmt.Errorf("%w: its record cannot be read", ErrDamaged)
	}
	r.head.RequestID, r.head.LinkIDs, r.head.ConsentIDs, r.head.EventIDs = r.refs.Request, r.refs.Links, r.refs.Consents, r.refs.Events
	switch {
	case r.state == string(Damaged):
		return fmt.Errorf("%w: it was set aside before", ErrDamaged)
	case r.key == nil && (r.state == string(Waiting) || r.state == string(Dead)):
		return fmt.Errorf("%w: its body is missing", ErrDamaged)
	case r.key == nil:
		return nil
	}
	var sl *sealer
	var err error
	if r.plain, err = s.keys.unwrap(r.key, r.uid); err == nil {
		sl, _, err = s.keys.open(r.uid, r.key, r.sealed)
	}
	switch {
	case err != nil:
		return err
	case r.stored != sealedSize(r.size):
		return fmt.Errorf("%w: the body is not as long as it was", ErrDamaged)
	case r.file != "":
		return nil
	}
	body, err := s.bodyOpener(sl, sql.NullString{}, r.stored, r.body)()
	if err == nil {
		_, err = io.Copy(io.Discard, body)
	}
	return err
}

// addCarried reads what else is known of a report.
func (s *Store) addCarried(ctx context.Context, r *carried) error {
	err := s.scan(ctx, `SELECT id, kind, subject, state, attempts, failures, retried, due, since, route, status, reason FROM deliveries
		WHERE report = ? ORDER BY id`, []any{r.id}, func(rows *sql.Rows) error {
		var d carriedDelivery
		err := rows.Scan(&d.id, &d.kind, &d.subject, &d.state, &d.attempts, &d.failures, &d.retried, &d.due, &d.since, &d.route, &d.status, &d.reason)
		r.deliveries = append(r.deliveries, d)
		return err
	})
	if err != nil {
		return err
	}
	err = s.scan(ctx, `SELECT delivery, node, route, at, took, status, reason FROM attempts WHERE report = ? ORDER BY id`, []any{r.id}, func(rows *sql.Rows) error {
		var a carriedAttempt
		err := rows.Scan(&a.delivery, &a.node, &a.route, &a.at, &a.took, &a.status, &a.reason)
		r.attempts = append(r.attempts, a)
		return err
	})
	if err != nil {
		return err
	}
	r.actions, err = s.readActions(ctx, `uid = ? ORDER BY id`, r.uid)
	return err
}

func (s *Store) readActions(ctx context.Context, where string, args ...any) (actions []carriedAction, err error) {
	err = s.scan(ctx, `SELECT id, at, who, what, uid, why FROM audit WHERE `+where, args, func(rows *sql.Rows) error {
		var a carriedAction
		err := rows.Scan(&a.id, &a.at, &a.who, &a.what, &a.uid, &a.why)
		actions = append(actions, a)
		return err
	})
	return actions, err
}

// draft makes a draft of a body that is in a file of the other store, which is read
// to its end before.
func (m *mover) draft(uid, file string, key []byte, size int64) (*Draft, error) {
	if err := m.to.base.spare(2); err != nil {
		return nil, err
	}
	sl, err := newSealer(key, uid)
	if err != nil {
		return nil, err
	}
	d := &Draft{s: m.to, uid: uid, sealer: sl, size: size, complete: true, grant: grant{s: m.to}}
	m.to.drafts.Store(d.uid, nil)
	if d.file, err = m.to.base.createDraft(d.uid); err != nil {
		d.Abort()
		return nil, failure(err)
	}
	if err := m.copyBody(d, file); err != nil {
		d.Abort()
		return nil, err
	}
	return d, nil
}

func (m *mover) copyBody(d *Draft, file string) error {
	src, err := m.from.base.openBody(file)
	if err != nil {
		return err
	}
	defer src.Close()
	_, err = io.Copy(io.Discard, &unsealer{sealer: d.sealer, src: io.TeeReader(src, d.file), left: sealedSize(d.size)})
	return err
}

// insertCarried writes the rows of a report as they were elsewhere. It was known if
// it is here already; its body is needless if it is a duplicate, or erased. What
// erases something, here or there, is kept in any case.
func (s *Store) insertCarried(t *tx, r *carried, erases bool) (was, needless bool, err error) {
	k, err := s.find(t, &r.record, func() time.Time { return r.head.Received }, duplicateTime)
	if err != nil {
		return false, false, err
	}
	if k.stored {
		return true, false, nil
	}
	state, ended := r.state, any(r.ended)
	repeat, conflict := r.repeat, r.conflict
	if state == string(Waiting) {
		if k.receipt.Duplicate {
			return true, true, nil
		}
		repeat, conflict = max(repeat, number(k.receipt.Repeat)), max(conflict, number(k.receipt.Conflict))
	}
	kept := r.key != nil
	if kept && !erases {
		gone, err := s.isErased(t, &r.head)
		if err != nil {
			return false, false, err
		}
		if gone {
			state, ended, kept = string(Erased), s.milli(), false
		}
	}
	if state == string(Waiting) {
		if err := s.replace(t, k.dead); err != nil {
			return false, false, err
		}
	}
	var id int64
	err = t.get([]any{&id}, `INSERT INTO reports (uid, kind, type, report_id, digest, size, received, code, refs, repeat, conflict, state, ended)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (uid) DO NOTHING RETURNING id`,
		r.uid, string(r.head.Kind), r.types, r.head.ReportID, r.digest[:], r.size, r.head.Received.UnixMilli(), r.head.Code, r.refText,
		repeat, conflict, state, ended)
	if errors.Is(err, sql.ErrNoRows) { // among very many of the same id
		return true, false, nil
	}
	if err != nil {
		return false, false, err
	}
	if err := r.insert(t, s, id, kept); err != nil {
		return false, false, err
	}
	if state == string(Erased) {
		return false, true, eraseDeliveries(t, refTo(id))
	}
	return false, false, nil
}

// insert writes all that belongs to the report with this id.
func (r *carried) insert(t *tx, s *Store, id int64, body bool) error {
	if err := r.refs.insert(t, id); err != nil {
		return err
	}
	if body {
		if err := s.insertBodyOf(t, r, id); err != nil {
			return err
		}
	}
	ids := make(map[int64]int64, len(r.deliveries))
	for _, d := range r.deliveries {
		var to int64
		err := t.get([]any{&to}, `INSERT INTO deliveries (report, kind, subject, state, attempts, failures, retried, due, since, route, status, reason)
			VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) RETURNING id`,
			id, d.kind, d.subject, d.state, d.attempts, d.failures, d.retried, d.due, d.since, d.route, d.status, d.reason)
		if err != nil {
			return err
		}
		ids[d.id] = to
	}
	for _, a := range r.attempts {
		err := t.exec(`INSERT INTO attempts (delivery, report, node, route, at, took, status, reason) VALUES (?, ?, ?, ?, ?, ?, ?, ?)`,
			ids[a.delivery], id, a.node, a.route, a.at, a.took, a.status, a.reason)
		if err != nil {
			return err
		}
	}
	for _, a := range r.actions {
		err := t.exec(`INSERT INTO audit (at, who, what, uid, why) VALUES (?, ?, ?, ?, ?)`, a.at, a.who, a.what, a.uid, a.why)
		if err != nil {
			return err
		}
	}
	return nil
}

// insertBodyOf writes the body of a report under the key of this store.
func (s *Store) insertBodyOf(t *tx, r *carried, id int64) error {
	err := t.exec(`INSERT INTO bodies (report, key, head, file, stored, body) VALUES (?, ?, ?, ?, ?, ?)`,
		id, s.keys.wrap(r.plain, r.uid), r.sealed, nullable(r.brought), r.stored, r.body)
	if err != nil {
		return err
	}
	if r.brought != "" {
		if err := s.base.insertBody(t, r.draft); err != nil {
			return err
		}
	}
	t.then(func() {
		s.room.hold(r.head.Kind, r.head.Subjects, r.stored)
		if r.state == string(Waiting) {
			s.stored(r.head.Kind, r.head.Subjects)
			s.base.tell()
		}
	})
	return nil
}

// removeCarried removes all that is known of a report that is elsewhere now.
func (s *Store) removeCarried(t *tx, r *carried) error {
	if err := s.discard(t, r.id); err != nil {
		return err
	}
	if err := forgetRecord(t, r.id); err != nil {
		return err
	}
	for _, a := range r.actions {
		if err := t.exec(`DELETE FROM audit WHERE id = ?`, a.id); err != nil {
			return err
		}
	}
	return nil
}
