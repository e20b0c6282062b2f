package reports

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-klavi/caddy-klavi/klavi"
)

// Route is where some of the reports and events go. It needs at least one of
// specific, other, all and events.
type Route struct {
	// Name is what the route is called in metrics and logs. It is unique.
	// Default: `route-1` for the first, and so on.
	Name string `json:"name,omitempty"`

	// Specific are types of reports such as `pf_checking_account`. One that
	// ends in `*` stands for all that begin so; the longest that fits wins.
	Specific []string `json:"specific,omitempty"`

	// Other takes the reports that no route takes by their type. One route
	// at most can have it.
	Other bool `json:"other,omitempty"`

	// All takes every report. Then no route can have specific or other.
	All bool `json:"all,omitempty"`

	// Events are names of events such as `consent_revoked`. `*` stands for
	// all, and one that ends in `*` for all that begin so; the longest that
	// fits wins.
	Events []string `json:"events,omitempty"`

	// Concurrency is how many reports of the inbox the route takes at a time.
	// Default: 8.
	Concurrency int `json:"concurrency,omitempty"`

	// Timeout bounds one attempt to deliver a report of the inbox. Default: 1m.
	Timeout caddy.Duration `json:"timeout,omitempty"`

	// HandlersRaw are the handlers that take the report. It is accepted when
	// they have written a status of the 2xx class and returned without an
	// error. At least one is required.
	HandlersRaw []json.RawMessage `json:"handle,omitempty" caddy:"namespace=http.handlers inline_key=handler"`

	handler caddyhttp.Handler
}

// provision loads the handlers.
func (rt *Route) provision(ctx caddy.Context) error {
	list := caddyhttp.RouteList{{HandlersRaw: rt.HandlersRaw}}
	if err := list.Provision(ctx); err != nil {
		return err
	}
	rt.HandlersRaw = nil
	rt.handler = list.Compile(caddyhttp.HandlerFunc(func(http.ResponseWriter, *http.Request) error {
		return nil // nobody has answered, and silence accepts nothing
	}))
	return nil
}

// table finds the route of a report and of an event.
type table struct {
	reports patterns
	rest    *Route // other or all
	events  patterns
}

// newTable checks the routes, names those without a name, and makes a table of
// them.
func newTable(routes []*Route) (*table, error) {
	if len(routes) == 0 {
		return nil, errors.New("there are no routes: each report needs one, such as all with the handlers that take it")
	}
	if err := nameRoutes(routes); err != nil {
		return nil, err
	}
	if err := checkAll(routes); err != nil {
		return nil, err
	}
	t := new(table)
	for _, route := range routes {
		if err := t.add(route); err != nil {
			return nil, err
		}
	}
	t.reports.sort()
	t.events.sort()
	return t, nil
}

func nameRoutes(routes []*Route) error {
	names := make(map[string]int)
	for i, route := range routes {
		if route == nil {
			return fmt.Errorf("route %d is empty", i+1)
		}
		if route.Name == "" {
			route.Name = fmt.Sprintf("route-%d", i+1)
		}
		if first, ok := names[route.Name]; ok {
			return fmt.Errorf("routes %d and %d are both called %q: give one of them another name", first, i+1, route.Name)
		}
		names[route.Name] = i + 1
	}
	return nil
}

// checkAll keeps Klavi's own rule: all stands alone.
func checkAll(routes []*Route) error {
	i := slices.IndexFunc(routes, func(route *Route) bool { return route.All })
	if i < 0 {
		return nil
	}
	for j, route := range routes {
		if len(route.Specific) > 0 || route.Other || route.All && i != j {
			return fmt.Errorf("all stands alone: route %q takes every report, so that %q can take none; write other in place of all for the rest",
				routes[i].Name, route.Name)
		}
	}
	return nil
}

func (t *table) add(route *Route) error {
	if len(route.HandlersRaw) == 0 {
		return fmt.Errorf("route %q has no handlers: reports need somebody to take them", route.Name)
	}
	if len(route.Specific) == 0 && len(route.Events) == 0 && !route.Other && !route.All {
		return fmt.Errorf("route %q takes nothing: it needs specific, other, all or events", route.Name)
	}
	for _, pattern := range route.Specific {
		if err := checkReportPattern(pattern); err != nil {
			return fmt.Errorf("route %q: %w", route.Name, err)
		}
		if err := t.reports.add("specific", pattern, route); err != nil {
			return err
		}
	}
	for _, pattern := range route.Events {
		if err := checkEventPattern(pattern); err != nil {
			return fmt.Errorf("route %q: %w", route.Name, err)
		}
		if err := t.events.add("events", pattern, route); err != nil {
			return err
		}
	}
	if route.Concurrency < 0 || route.Timeout < 0 {
		return fmt.Errorf("route %q: concurrency and timeout cannot be negative", route.Name)
	}
	if !route.Other && !route.All {
		return nil
	}
	if t.rest != nil {
		return fmt.Errorf("routes %q and %q both have other: only one can take the rest", t.rest.Name, route.Name)
	}
	t.rest = route
	return nil
}

func checkReportPattern(pattern string) error {
	if pattern == "*" {
		return errors.New("specific * is not possible: write other for the types that no route names, or all for every report")
	}
	prefix, wild := strings.CutSuffix(pattern, "*")
	if klavi.ValidReportType(prefix) || wild && (prefix == "pf_" || prefix == "pj_") {
		return nil
	}
	return fmt.Errorf("specific %q is no type of report: it is pf_ or pj_ with lower-case letters, digits and underscores behind it, "+
		"such as pf_checking_account, and may end in *", pattern)
}

func checkEventPattern(pattern string) error {
	name, wild := strings.CutSuffix(pattern, "*")
	if name == "" && wild {
		return nil
	}
	if name != "" && strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789_") == "" {
		return nil
	}
	return fmt.Errorf("events %q is no name of an event: it is made of lower-case letters, digits and underscores, "+
		"such as consent_revoked, and may end in *", pattern)
}

// route returns the route of a type of report, or nil.
func (t *table) route(reportType string) *Route {
	if route := t.reports.find(reportType); route != nil {
		return route
	}
	return t.rest
}

// routes returns the routes of names of events, each once, and the names without one.
func (t *table) routes(events []string) (routes []*Route, lost []string) {
	for _, name := range events {
		route := t.events.find(name)
		switch {
		case route == nil:
			lost = append(lost, name)
		case route != nil && !slices.Contains(routes, route):
			routes = append(routes, route)
		}
	}
	return routes, lost
}

// patterns are names, some of which end in *.
type patterns struct {
	exact    map[string]*Route
	prefixes []prefixRoute // the longest first
}

type prefixRoute struct {
	prefix string
	route  *Route
}

func (p *patterns) add(what, pattern string, route *Route) error {
	prefix, wild := strings.CutSuffix(pattern, "*")
	first := p.exact[pattern]
	if i := slices.IndexFunc(p.prefixes, func(pr prefixRoute) bool { return wild && pr.prefix == prefix }); i >= 0 {
		first = p.prefixes[i].route
	}
	if first == route {
		return fmt.Errorf("route %q has %s %s twice", route.Name, what, pattern)
	}
	if first != nil {
		return fmt.Errorf("routes %q and %q both have %s %s: only one can take it", first.Name, route.Name, what, pattern)
	}
	if wild {
		p.prefixes = append(p.prefixes, prefixRoute{prefix, route})
		return nil
	}
	if p.exact == nil {
		p.exact = make(map[string]*Route)
	}
	p.exact[pattern] = route
	return nil
}

func (p *patterns) sort() {
	slices.SortFunc(p.prefixes, func(a, b prefixRoute) int { return cmp.Compare(len(b.prefix), len(a.prefix)) })
}

func (p *patterns) find(name string) *Route {
	if route := p.exact[name]; route != nil {
		return route
	}
	for _, pr := range p.prefixes {
		if strings.HasPrefix(name, pr.prefix) {
			return pr.route
		}
	}
	return nil
}

// typingErrors returns a warning for each pattern that fits nothing known, but
// nearly does. Klavi adds types, so that an unknown one is no error.
func typingErrors(routes []*Route) (warnings []string) {
	warn := func(route *Route, what string, written, known []string) {
		for _, pattern := range written {
			if meant, ok := nearest(pattern, known); ok {
				warnings = append(warnings, fmt.Sprintf("route %q: %s %s is not known; did you mean %s?", route.Name, what, pattern, meant))
			}
		}
	}
	for _, route := range routes {
		warn(route, "specific", route.Specific, klavi.KnownReportTypes())
		warn(route, "events", route.Events, klavi.KnownEventNames())
	}
	return warnings
}

// nearest returns the known name that an unknown one is close to.
func nearest(pattern string, known []string) (string, bool) {
	prefix, wild := strings.CutSuffix(pattern, "*")
	if !wild {
		if slices.Contains(known, pattern) {
			return "", false
		}
		return klavi.Nearest(pattern, known)
	}
	beginnings := make([]string, 0, len(known))
	for _, name := range known {
		if strings.HasPrefix(name, prefix) {
			return "", false
		}
		beginnings = append(beginnings, name[:min(len(name), len(prefix))])
	}
	meant, ok := klavi.Nearest(prefix, beginnings)
	return meant + "*", ok
}
