package inbox

import (
	"context"
	"fmt"
	"strings"
	"time"
)

// Pause says who has paused a route, and when.
type Pause struct {
	By string
	At time.Time
}

// Pause has a route get no reports until Resume, also after the store was opened
// anew. Attempts under way end. While routes are attached, it must be one of
// them.
func (s *Store) Pause(ctx context.Context, route, who string) error {
	e := s.engine
	if err := e.known(route); err != nil {
		return err
	}
	p := Pause{By: who, At: time.UnixMilli(s.milli())}
	if who == "" {
		p.By = "unknown"
	}
	return s.write(ctx, func(t *tx) error {
		err := t.exec(`INSERT INTO pauses (route, at, by) VALUES (?, ?, ?) ON CONFLICT (route) DO UPDATE SET at = excluded.at, by = excluded.by`,
			route, p.At.UnixMilli(), p.By)
		if err != nil {
			return err
		}
		t.then(func() {
			e.pause(route, &p)
			s.base.tell()
		})
		return s.noteAction(t, who, "pause", route, "")
	})
}

// Resume ends a Pause. A route that was failing is tried at once.
func (s *Store) Resume(ctx context.Context, route, who string) error {
	e := s.engine
	return s.write(ctx, func(t *tx) error {
		n, err := t.count(`UPDATE pauses SET at = ?, by = '' WHERE route = ? AND by <> ''`, s.milli(), route)
		if err != nil {
			return err
		}
		if n == 0 { // it may be failing all the same
			if err := e.known(route); err != nil {
				return err
			}
		}
		t.then(func() {
			e.pause(route, nil)
			s.base.tell()
		})
		return s.noteAction(t, who, "resume", route, "")
	})
}

// pause notes that a route is paused, or no longer.
func (e *engine) pause(route string, p *Pause) {
	now := e.s.now()
	e.mu.Lock()
	defer e.mu.Unlock()
	e.pauses++
	if p != nil {
		e.paused[route] = *p
	} else {
		delete(e.paused, route)
	}
	if l := e.lanes[route]; l != nil {
		l.health.again(now)
		l.kick()
	}
}

// readPauses learns what was paused and resumed elsewhere.
func (e *engine) readPauses() error {
	e.mu.Lock()
	before := e.pauses
	e.mu.Unlock()
	paused, err := e.s.readPauses(e.attempts)
	if err != nil {
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.pauses != before { // what was read may be older
		e.look()
		return nil
	}
	now := e.s.now()
	for name, l := range e.lanes {
		_, was := e.paused[name]
		if _, is := paused[name]; was != is {
			l.health.again(now)
			l.kick()
		}
	}
	e.paused = paused
	return nil
}

// known returns an error if routes are attached, and this is none of them.
func (e *engine) known(route string) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	set := e.shown()
	if set == nil || set.byName[route].Name != "" {
		return nil
	}
	var names []string
	for _, r := range set.routes.List() {
		names = append(names, r.Name)
	}
	return fmt.Errorf("%w: no route is called %q: there are %s", ErrNotFound, route, strings.Join(names, ", "))
}

func (s *Store) readPauses(ctx context.Context) (map[string]Pause, error) {
	paused := make(map[string]Pause)
	err := s.read(ctx, func(db reads) error {
		rows, err := db.QueryContext(ctx, `SELECT route, at, by FROM pauses WHERE by <> ''`)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var route, by string
			var at int64
			if err := rows.Scan(&route, &at, &by); err != nil {
				return err
			}
			paused[route] = Pause{By: by, At: time.UnixMilli(at)}
		}
		return rows.Err()
	})
	return paused, err
}
