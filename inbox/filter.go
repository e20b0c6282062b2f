package inbox

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Filter chooses reports. What is empty chooses all.
type Filter struct {
	UID string
	// State is that of the report or of one of its deliveries, or Undeliverable.
	State State
	// Type is the type of a report or the name of an event. It may end in *.
	Type string
	// Route is where a report is to go now, or where it went when it waits no
	// more.
	Route string
	// OlderThan and NewerThan are for how long it has been there.
	OlderThan, NewerThan time.Duration

	ReportID, RequestID, LinkID, ConsentID, EventID string
}

// Undeliverable is for filters: what waits and has no route.
const Undeliverable State = "undeliverable"

var states = []State{Waiting, Undeliverable, Delivered, Dead, Dropped, Erased, Damaged}

// Check reports what is wrong with a filter.
func (f *Filter) Check() error {
	if f.State == "" || slices.Contains(states, f.State) {
		return nil
	}
	names := make([]string, 0, len(states))
	for _, state := range states {
		names = append(names, string(state))
	}
	return fmt.Errorf("inbox: %q is no state: there is %s", f.State, strings.Join(names, ", "))
}

// conditions are parts of a WHERE clause that all must hold.
type conditions struct {
	texts []string
	args  []any
}

func (c *conditions) add(text string, args ...any) {
	c.texts = append(c.texts, text)
	c.args = append(c.args, args...)
}

func (c *conditions) where() string {
	if len(c.texts) == 0 {
		return "TRUE"
	}
	return strings.Join(c.texts, " AND ")
}

// query is a Filter in SQL: of reports r, and of their deliveries d.
type query struct{ reports, deliveries conditions }

// query returns the conditions of a filter. It asks the routes that are attached
// where what waits is to go.
func (s *Store) query(ctx context.Context, f Filter) (*query, error) {
	if err := f.Check(); err != nil {
		return nil, err
	}
	q := new(query)
	r, d := &q.reports, &q.deliveries
	if f.UID != "" {
		r.add("r.uid = ?", f.UID)
	}
	if f.ReportID != "" {
		r.add("r.report_id = ?", f.ReportID)
	}
	now := s.now()
	if f.OlderThan > 0 {
		r.add("r.received < ?", now.Add(-f.OlderThan).UnixMilli())
	}
	if f.NewerThan > 0 {
		r.add("r.received > ?", now.Add(-f.NewerThan).UnixMilli())
	}
	for _, ref := range []struct{ kind, value string }{
		{refRequest, f.RequestID}, {refLink, f.LinkID}, {refConsent, f.ConsentID}, {refEvent, f.EventID},
	} {
		if ref.value != "" {
			r.add("r.id IN (SELECT report FROM refs WHERE kind = ? AND value = ?)", ref.kind, ref.value)
		}
	}
	if f.Type != "" {
		if prefix, ok := strings.CutSuffix(f.Type, "*"); ok {
			d.add("substr(d.subject, 1, ?) = ?", len([]rune(prefix)), prefix)
		} else {
			d.add("d.subject = ?", f.Type)
		}
	}
	if f.Route == "" && f.State != Undeliverable {
		f.addState(q)
		return q, nil
	}
	subjects, err := s.waiting(ctx)
	if err != nil {
		return nil, err
	}
	f.addRoute(q, s.engine, subjects)
	f.addState(q)
	return q, nil
}

// addState tells the state of a report from that of a delivery only where the
// filter is about deliveries too.
func (f *Filter) addState(q *query) {
	// The texts stand in the query, so that the indexes of these states serve.
	switch f.State {
	case "":
	case Waiting, Undeliverable:
		q.reports.add("r.state = 'waiting'")
		q.deliveries.add("d.state = 'waiting'")
	case Dead:
		q.reports.add("r.id IN (SELECT id FROM reports WHERE state = 'dead' UNION SELECT report FROM deliveries WHERE state = 'dead')")
		q.reports.add("r.state IN ('waiting', 'dead')")
		if len(q.deliveries.texts) > 0 {
			q.deliveries.add("d.state = 'dead'")
		}
	default:
		q.reports.add("r.state = ?", string(f.State))
	}
}

// addRoute chooses by the routes of now. Without any, it is where the last
// attempt went.
func (f *Filter) addRoute(q *query, e *engine, subjects []subject) {
	e.mu.Lock()
	set := e.shown()
	e.mu.Unlock()
	if set == nil && f.State != Undeliverable {
		q.deliveries.add("d.route = ?", f.Route)
		return
	}
	here := []string{"FALSE"}
	var args []any
	for _, sub := range subjects {
		if set.route(sub) == f.Route && (f.Route != "" || set == nil || set.knows(sub)) {
			here = append(here, "d.kind = ? AND d.subject = ?")
			args = append(args, string(sub.kind), sub.name)
		}
	}
	text := "(d.state = 'waiting' AND (" + strings.Join(here, " OR ") + ")"
	if f.State != Undeliverable {
		text += " OR d.state <> 'waiting' AND d.route = ?"
		args = append(args, f.Route)
	}
	q.deliveries.add(text+")", args...)
}

// selectReports returns a query of the reports that the filter chooses.
func (q *query) selectReports(columns, more string, args ...any) (string, []any) {
	c := conditions{slices.Clone(q.reports.texts), slices.Clone(q.reports.args)}
	if len(q.deliveries.texts) > 0 {
		c.add("EXISTS (SELECT 1 FROM deliveries d WHERE d.report = r.id AND "+q.deliveries.where()+")", q.deliveries.args...)
	}
	return "SELECT " + columns + " FROM reports r WHERE " + c.where() + more, append(c.args, args...)
}

// selectDeliveries returns a query of their deliveries.
func (q *query) selectDeliveries(columns, more string, args ...any) (string, []any) {
	all := slices.Concat(q.reports.args, q.deliveries.args, args)
	return "SELECT " + columns + " FROM deliveries d JOIN reports r ON r.id = d.report WHERE " +
		q.reports.where() + " AND " + q.deliveries.where() + more, all
}
