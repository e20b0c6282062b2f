package inbox

import (
	"cmp"
	"context"
	"encoding/json"
	"slices"
)

// nodeView is what a node publishes of itself, for who looks at the fleet without
// being a part of it.
type nodeView struct {
	Routes []RouteStatus `json:"routes"`
	// Types are those that wait, and the routes that they have.
	Types []typeRoute `json:"types,omitempty"`
}

type typeRoute struct {
	Kind  Kind   `json:"kind"`
	Type  string `json:"type"`
	Route string `json:"route"`
}

// view returns what the engine publishes. e.mu is held.
func (e *engine) view() nodeView {
	var v nodeView
	if e.set == nil || e.stopped {
		return v
	}
	for _, r := range e.set.routes.List() {
		st := RouteStatus{Name: r.Name}
		e.describe(&st)
		v.Routes = append(v.Routes, st)
	}
	for sub, q := range e.queues {
		if q.due == never {
			continue
		}
		t := typeRoute{Kind: sub.kind, Type: sub.name}
		if q.lane != nil {
			t.Route = q.lane.name
		}
		v.Types = append(v.Types, t)
	}
	slices.SortFunc(v.Types, func(a, b typeRoute) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Type, b.Type))
	})
	return v
}

// fleetView is what all nodes publish, as one.
type fleetView struct {
	set    *set
	status map[string]*RouteStatus
	types  map[subject]string
}

// newFleetView joins the views of nodes, the one that was seen last at the end.
func newFleetView(views []nodeView) *fleetView {
	f := &fleetView{set: &set{byName: make(map[string]Route)}, status: make(map[string]*RouteStatus), types: make(map[subject]string)}
	f.set.routes, f.set.view = f, f
	for _, v := range views {
		for _, r := range v.Routes {
			f.set.byName[r.Name] = Route{Name: r.Name, Concurrency: r.Concurrency, Timeout: r.Timeout}
			f.add(r)
		}
		for _, t := range v.Types {
			f.types[subject{t.Kind, t.Type}] = t.Route
		}
	}
	return f
}

// add joins how a route is doing on one node with how it is on the others: it is
// failing if it is on one of them.
func (f *fleetView) add(r RouteStatus) {
	before := f.status[r.Name]
	if before == nil {
		f.status[r.Name] = &r
		return
	}
	before.UnderWay += r.UnderWay
	if !r.Failing.IsZero() && (before.Failing.IsZero() || r.Failing.Before(before.Failing)) {
		before.Failing, before.NextProbe = r.Failing, r.NextProbe
	}
	if r.LastAttempt.After(before.LastAttempt) {
		before.LastAttempt, before.LastStatus, before.LastReason = r.LastAttempt, r.LastStatus, r.LastReason
	}
}

// describe tells what the nodes say of a route.
func (f *fleetView) describe(r *RouteStatus) {
	if st := f.status[r.Name]; st != nil {
		*r = *st
	}
}

// Route is the one that a node has told of. What has come since the node told of what
// waits has none.
func (f *fleetView) Route(kind Kind, name string) string { return f.types[subject{kind, name}] }

// List returns the routes by their names.
func (f *fleetView) List() []Route {
	list := make([]Route, 0, len(f.set.byName))
	for _, r := range f.set.byName {
		list = append(list, r)
	}
	slices.SortFunc(list, func(a, b Route) int { return cmp.Compare(a.Name, b.Name) })
	return list
}

// Deliver is never called: nothing is delivered by who only looks.
func (f *fleetView) Deliver(context.Context, string, *Delivery) Outcome { return Outcome{} }

func (v nodeView) text() string {
	text, _ := json.Marshal(v) // no view fails
	return string(text)
}

func parseView(text string) (v nodeView) {
	_ = json.Unmarshal([]byte(text), &v) // that of a newer node may be another: it tells nothing then
	return v
}
