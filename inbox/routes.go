package inbox

import (
	"context"
	"database/sql"
	"slices"
	"time"
)

// RouteStatus is how a route is doing.
type RouteStatus struct {
	// Name is empty for what has no route.
	Name        string        `json:"name"`
	Concurrency int           `json:"concurrency,omitempty"`
	Timeout     time.Duration `json:"timeout,omitempty"` // nanoseconds

	Waiting  int       `json:"waiting"`
	Oldest   time.Time `json:"oldest,omitzero"` // since when the oldest of them waits
	Types    []string  `json:"types,omitempty"` // of what waits
	Dead     int       `json:"dead"`
	UnderWay int       `json:"under_way"` // attempts; of a fleet, those of this node

	// Paused by a person.
	PausedBy string    `json:"paused_by,omitempty"`
	PausedAt time.Time `json:"paused_at,omitzero"`
	// Failing since it did not accept anything any more; it is probed next at
	// NextProbe.
	Failing   time.Time `json:"failing,omitzero"`
	NextProbe time.Time `json:"next_probe,omitzero"`
	// The last attempt since the process began.
	LastAttempt time.Time `json:"last_attempt,omitzero"`
	LastStatus  int       `json:"last_status,omitempty"`
	LastReason  string    `json:"last_reason,omitempty"`
}

// ListRoutes returns the routes that are attached, then those that are not but
// are paused or have dead reports, then what has no route, if there is any.
func (s *Store) ListRoutes(ctx context.Context) ([]RouteStatus, error) {
	waiting, err := s.countWaiting(ctx)
	if err != nil {
		return nil, err
	}
	dead, err := s.countDead(ctx)
	if err != nil {
		return nil, err
	}
	e := s.engine
	e.mu.Lock()
	defer e.mu.Unlock()
	var list []RouteStatus
	index := make(map[string]int)
	at := func(name string) *RouteStatus {
		i, ok := index[name]
		if !ok {
			i = len(list)
			index[name] = i
			list = append(list, RouteStatus{Name: name})
		}
		return &list[i]
	}
	set := e.shown()
	if set != nil {
		for _, r := range set.routes.List() {
			e.describe(at(r.Name))
		}
	}
	for _, w := range waiting {
		at(set.route(w.subject)).add(w)
	}
	for name, n := range dead {
		at(name).Dead = n
	}
	for name, p := range e.paused {
		r := at(name)
		r.PausedBy, r.PausedAt = p.By, p.At
	}
	attached := 0
	if set != nil {
		attached = len(set.byName)
	}
	slices.SortFunc(list[attached:], func(a, b RouteStatus) int {
		switch {
		case a.Name == "":
			return 1
		case b.Name == "" || a.Name < b.Name:
			return -1
		}
		return 1
	})
	return list, nil
}

// describe tells what the engine knows of a route. e.mu is held.
func (e *engine) describe(r *RouteStatus) {
	l := e.lanes[r.Name]
	if l == nil {
		if e.set == nil && e.elsewhere != nil {
			e.elsewhere.describe(r)
		}
		return
	}
	r.Concurrency, r.Timeout, r.UnderWay = l.route.Concurrency, l.route.Timeout, l.active
	r.LastAttempt, r.LastStatus, r.LastReason = l.last.at, l.last.outcome.Status, l.last.outcome.Reason
	switch {
	case l.health.failing:
		r.Failing, r.NextProbe = l.health.since, l.health.next
	case l.health.refuses():
		r.Failing, r.NextProbe = l.health.refusing, l.health.nextRetry
	}
}

// subjectCount is how many deliveries of a subject wait, and since when.
type subjectCount struct {
	subject
	n      int
	oldest int64
}

func (r *RouteStatus) add(w subjectCount) {
	r.Waiting += w.n
	r.Types = append(r.Types, w.name)
	if oldest := time.UnixMilli(w.oldest); r.Oldest.IsZero() || oldest.Before(r.Oldest) {
		r.Oldest = oldest
	}
}

// countWaiting reads an index only, and one row of each subject: it is cheap
// enough for a scrape of metrics while very many wait.
func (s *Store) countWaiting(ctx context.Context) ([]subjectCount, error) {
	var found []subjectCount
	err := s.scan(ctx, `SELECT w.kind, w.subject, w.n, d.since FROM (SELECT kind, subject, count(*) AS n, min(id) AS first
		FROM deliveries WHERE state = 'waiting' GROUP BY kind, subject) w JOIN deliveries d ON d.id = w.first ORDER BY w.kind, w.subject`, nil,
		func(rows *sql.Rows) error {
			var w subjectCount
			err := rows.Scan(&w.kind, &w.name, &w.n, &w.oldest)
			found = append(found, w)
			return err
		})
	return found, err
}

// selectDead begins with the deliveries: that is what CROSS says to SQLite. Few are
// dead where very many reports wait.
const selectDead = `SELECT coalesce(d.route, ''), count(*) FROM deliveries d CROSS JOIN reports r
	WHERE r.id = d.report AND d.state = 'dead' AND r.state IN ('waiting', 'dead') GROUP BY d.route
	UNION ALL SELECT '', count(*) FROM reports r WHERE r.state = 'dead' AND r.kind = 'unreadable'`

// countDead returns how many dead deliveries there are by route. What could not
// be read counts as without a route.
func (s *Store) countDead(ctx context.Context) (map[string]int, error) {
	dead := make(map[string]int)
	err := s.scan(ctx, selectDead, nil, func(rows *sql.Rows) error {
		var route string
		var n int
		err := rows.Scan(&route, &n)
		if n > 0 {
			dead[route] += n
		}
		return err
	})
	return dead, err
}
