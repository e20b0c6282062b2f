package inbox

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
)

const (
	// So many reports, or lines of other tables, are moved in one transaction, and
	// so many bytes of bodies that are in files.
	moveBatch = 50
	moveBytes = 8 << 20
)

// Moved is what Move has moved.
type Moved struct {
	// Reports are those that are now in the other store, in whatever state.
	Reports int `json:"reports"`
	// Known are those that were there already: because an earlier Move was
	// interrupted, or because Klavi has sent them to both.
	Known int `json:"known"`
	// Quarantined are the bodies whose signature fits no key.
	Quarantined int `json:"quarantined"`
	// Left are the uids of what cannot be read: it stays where it is.
	Left []string `json:"left,omitempty"`
}

// Move moves all that is in one store to another: reports with their records, the
// oldest first, what is quarantined, what was erased, which routes are paused, and
// who did what. Nothing is removed before it is on disk in the other store, and
// nothing comes there twice: a Move that was interrupted is simply made again.
// What waits goes on waiting for as long as it did. What is in either store about
// something that was erased in the other is erased; the EraseOn of both must be
// that of their process. MaxSize refuses nothing: it was accepted before.
//
// Nobody may deliver from the stores meanwhile: it is an error if routes are
// attached to one, or if other nodes have the first one open.
func Move(ctx context.Context, from, to *Store, progress Progress) (Moved, error) {
	for _, s := range []*Store{from, to} {
		if s.engine.delivers() {
			return Moved{}, fmt.Errorf("inbox: nothing can be moved while reports are delivered from %s", s.place)
		}
	}
	nodes, err := from.base.others(ctx)
	if err != nil {
		return Moved{}, err
	}
	if len(nodes) > 0 {
		return Moved{}, fmt.Errorf("%w: %s is in use by %s: stop them, and wait some seconds", ErrLocked, from.place, strings.Join(nodes, ", "))
	}
	if err := differ(ctx, from, to); err != nil {
		return Moved{}, err
	}
	m := &mover{from: from, to: to, progress: progress}
	err = m.all(ctx)
	return m.moved, err
}

// delivers says whether routes are attached.
func (e *engine) delivers() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.set != nil
}

// mover moves what is in a store to another.
type mover struct {
	from, to    *Store
	progress    Progress
	done, total int
	moved       Moved
	// marks is the last of what was erased that is known to the other store, too.
	marks int64
	// failed is why something could not be moved that keeps nothing else.
	failed error
}

func (m *mover) all(ctx context.Context) error {
	err := m.from.read(ctx, func(db reads) error {
		return db.QueryRowContext(ctx, `SELECT (SELECT count(*) FROM reports) + (SELECT count(*) FROM quarantine)`).Scan(&m.total)
	})
	if err != nil {
		return err
	}
	m.progress.report(0, m.total)
	for _, step := range []func(context.Context) error{
		m.copyMarks, m.movePauses, m.moveReports, m.moveQuarantined, m.moveActions, m.dropMarks,
	} {
		if err := step(ctx); err != nil {
			return failure(err)
		}
	}
	return m.failed
}

// moveReports moves them page by page.
func (m *mover) moveReports(ctx context.Context) error {
	for last := int64(0); ; {
		page, err := m.from.readCarried(ctx, last)
		if err != nil || len(page) == 0 {
			return err
		}
		last = page[len(page)-1].id
		for len(page) > 0 {
			n := together(page)
			if err := m.moveSome(ctx, page[:n]); err != nil {
				return err
			}
			page = page[n:]
		}
	}
}

// together is how many of the next reports are moved at once.
func together(page []*carried) int {
	var large int64
	for i, r := range page {
		if r.file != "" {
			large += r.stored
		}
		if i > 0 && (large > moveBytes || r.damage != nil || page[0].damage != nil) {
			return i
		}
	}
	return len(page)
}

// moveSome moves reports in one transaction, or one by one if one of them stands in
// the way of the others.
func (m *mover) moveSome(ctx context.Context, batch []*carried) error {
	err := m.moveOnce(ctx, batch)
	switch {
	case err == nil:
		m.done += len(batch)
		m.progress.report(m.done, m.total)
		return nil
	case len(batch) == 1 && (errors.Is(err, batch[0].damage) || errors.Is(err, ErrDamaged)):
		m.leave(batch[0].uid, err)
		return nil
	case ctx.Err() != nil, errors.Is(err, ErrAway), errors.Is(err, ErrFull), errors.Is(err, errClosed), errors.As(err, new(uncertainError)):
		return err
	case len(batch) == 1:
		if m.to.base.admit() != nil || m.from.base.admit() != nil {
			return err
		}
		m.failed = fmt.Errorf("report %s: %w", batch[0].uid, err)
		return nil
	}
	for i := range batch {
		if err := m.moveSome(ctx, batch[i:i+1]); err != nil {
			return err
		}
	}
	return nil
}

func (m *mover) leave(uid string, err error) {
	m.moved.Left = append(m.moved.Left, uid)
	m.from.log.Error("a report cannot be read, and stays where it is", "inbox", m.from.place, "uid", uid, "error", err)
	m.done++
	m.progress.report(m.done, m.total)
}

// moveOnce moves reports: all of them, or none is removed.
func (m *mover) moveOnce(ctx context.Context, batch []*carried) error {
	known, err := m.store(ctx, batch)
	if err != nil {
		return err
	}
	if err := m.from.files.at(atMoved); err != nil {
		return failure(err)
	}
	err = m.from.write(ctx, func(t *tx) error {
		for _, r := range batch {
			if err := m.from.removeCarried(t, r); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	m.moved.Known += known
	m.moved.Reports += len(batch) - known
	return nil
}

// store has the other store keep reports, and returns how many of them it knew.
func (m *mover) store(ctx context.Context, batch []*carried) (known int, err error) {
	o := &op{intake: true, large: m.to.base.shared()} // it may take as long, and nobody else shall
	for _, r := range batch {
		o.heads = append(o.heads, &r.head)
		if r.damage == nil && r.file == "" {
			continue
		}
		if r.there, err = m.to.holds(ctx, "reports", r.uid); err != nil {
			return 0, err
		}
		switch {
		case r.there:
			continue
		case r.damage != nil:
			return 0, r.damage
		}
		moved, err := m.bring(r)
		if r.draft != nil {
			defer r.draft.Abort()
		}
		if err != nil {
			m.dropBodies(batch, true)
			return 0, err
		}
		if o.moved == nil { // the first: what was said of its folder since then is true of all
			o.moved = moved
		}
	}
	o.fn = func(t *tx) error {
		known = 0
		for _, r := range batch {
			was, err := r.there, error(nil)
			if !was {
				was, r.needless, err = m.to.insertCarried(t, r, m.from.erasesOn(&r.head))
			}
			if err != nil {
				return err
			}
			known += number(was)
		}
		return nil
	}
	if err = m.to.submit(ctx, o); !errors.As(err, new(uncertainError)) {
		m.dropBodies(batch, err != nil)
	}
	return known, err
}

// bring brings the body of a report, which is in a file, to its place in the other
// store.
func (m *mover) bring(r *carried) (moved *moved, err error) {
	if r.draft, err = m.draft(r.uid, r.file, r.plain, r.size); err != nil {
		return nil, err
	}
	return r.draft.keep(&r.brought, &r.body)
}

// dropBodies removes the bodies that were brought in vain.
func (m *mover) dropBodies(batch []*carried, all bool) {
	for _, r := range batch {
		if r.draft != nil && (all || r.needless) {
			m.to.base.dropBody(r.uid)
		}
	}
}

// holds says whether a table has something under a uid.
func (s *Store) holds(ctx context.Context, table, uid string) (bool, error) {
	var n int
	err := s.read(ctx, func(db reads) error {
		return db.QueryRowContext(ctx, `SELECT count(*) FROM `+table+` WHERE uid = ?`, uid).Scan(&n)
	})
	return n > 0, err
}

// copyMarks has the other store know what was erased, and erase it there. It is
// removed here when all reports are moved.
func (m *mover) copyMarks(ctx context.Context) error {
	type kept struct {
		mark
		id, at int64
	}
	for {
		var marks []kept
		err := m.from.scan(ctx, `SELECT id, kind, value, at FROM erased WHERE id > ? ORDER BY id LIMIT ?`, []any{m.marks, moveBatch}, func(rows *sql.Rows) error {
			var k kept
			err := rows.Scan(&k.id, &k.kind, &k.value, &k.at)
			marks = append(marks, k)
			return err
		})
		if err != nil || len(marks) == 0 {
			return err
		}
		to := m.to
		err = to.submit(ctx, &op{erases: true, fn: func(t *tx) error {
			for _, k := range marks {
				n, err := t.count(`INSERT INTO erased (kind, value, at) VALUES (?, ?, ?) ON CONFLICT DO NOTHING`, k.kind, k.value, k.at)
				if err != nil {
					return err
				}
				if n == 0 {
					continue
				}
				to.erased.Add(1)
				t.noteErased(k.mark)
				if _, err := to.destroyAll(t, k.kind, k.value); err != nil {
					return err
				}
				t.then(func() { to.untidy.Store(true) })
			}
			return nil
		}})
		if err != nil {
			return err
		}
		m.marks = marks[len(marks)-1].id
	}
}

func (m *mover) dropMarks(ctx context.Context) error {
	return m.from.write(ctx, func(t *tx) error {
		n, err := t.count(`DELETE FROM erased WHERE id <= ?`, m.marks)
		t.then(func() { m.from.erased.Add(-n) })
		return err
	})
}

// movePauses moves which routes are paused. Where both know a route, the later
// pause holds.
func (m *mover) movePauses(ctx context.Context) error {
	type pause struct {
		route, by string
		at        int64
	}
	var pauses []pause
	err := m.from.scan(ctx, `SELECT route, at, by FROM pauses`, nil, func(rows *sql.Rows) error {
		var p pause
		err := rows.Scan(&p.route, &p.at, &p.by)
		pauses = append(pauses, p)
		return err
	})
	if err != nil || len(pauses) == 0 {
		return err
	}
	err = m.to.write(ctx, func(t *tx) error {
		for _, p := range pauses {
			err := t.exec(`INSERT INTO pauses (route, at, by) VALUES (?, ?, ?) ON CONFLICT (route) DO UPDATE SET at = excluded.at, by = excluded.by
				WHERE excluded.at > pauses.at`, p.route, p.at, p.by)
			if err != nil {
				return err
			}
		}
		t.then(m.to.base.tell)
		return nil
	})
	if err != nil {
		return err
	}
	if err := m.to.engine.readPauses(); err != nil {
		return err
	}
	err = m.from.write(ctx, func(t *tx) error {
		return t.exec(`DELETE FROM pauses`)
	})
	if err != nil {
		return err
	}
	return m.from.engine.readPauses()
}

// moveActions moves who did what about no report that is still here. Lines have no
// uid: those that are alike are one.
func (m *mover) moveActions(ctx context.Context) error {
	for {
		actions, err := m.from.readActions(ctx, `NOT EXISTS (SELECT 1 FROM reports r WHERE r.uid = audit.uid) ORDER BY id LIMIT ?`, moveBatch)
		if err != nil || len(actions) == 0 {
			return err
		}
		err = m.to.write(ctx, func(t *tx) error {
			for _, a := range actions {
				err := t.exec(`INSERT INTO audit (at, who, what, uid, why) SELECT ?1, ?2, ?3, ?4, ?5 WHERE NOT EXISTS (SELECT 1 FROM audit
					WHERE at = ?1 AND who = ?2 AND what = ?3 AND uid = ?4 AND why = ?5)`, a.at, a.who, a.what, a.uid, a.why)
				if err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
		err = m.from.write(ctx, func(t *tx) error {
			for _, a := range actions {
				if err := t.exec(`DELETE FROM audit WHERE id = ?`, a.id); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
}
