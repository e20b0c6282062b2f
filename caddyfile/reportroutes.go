package caddyfile

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-klavi/caddy-klavi/handler/reports"
	"github.com/caddy-klavi/caddy-klavi/klavi"
)

// parseRoute reads a route of klavi_reports: specific, other, all or event.
func parseRoute(b *reportsBlock, d *caddyfile.Dispenser) error {
	kind := d.Val()
	words, name, err := splitName(d)
	if err != nil {
		return err
	}
	var url string
	if n := len(words); n > 0 && isTarget(words[n-1]) {
		words, url = words[:n-1], words[n-1]
	} else if n > 0 && !hasBlock(d) {
		if err := refuseTarget(words[n-1]); err != nil {
			return d.Errf("%s: %w", kind, err)
		}
	}
	r := &reports.Route{Name: name}
	if err := b.fill(r, kind, words, d); err != nil {
		return err
	}
	if name != "" && b.hasName(name) {
		return d.Errf("the name %s is already specified: give each route one of its own", name)
	}

	defaultName := kind
	if len(words) > 0 {
		defaultName = words[0]
	}
	segment := d.NextSegment()
	hasOptions := false
	if len(segment) > 1 {
		if segment, hasOptions, err = routeOptions(r, segment); err != nil {
			return err
		}
	}
	switch isBlock := len(segment) > 1; {
	case isBlock && url != "":
		if near, ok := klavi.Nearest(segment[2].Text, names(optionsOfRoutes)); ok {
			return d.Errf("the block of %s has no option %q: did you mean %s?", kind, segment[2].Text, near)
		}
		return d.Errf("%s has a URL, and %q in its block: a route has one target, so leave one of them out; only concurrency and timeout "+
			"can stand in the block behind a URL", kind, segment[2].Text)
	case isBlock:
		if r.HandlersRaw, err = subroute(b.helper, segment); err != nil {
			return err
		}
		if r.HandlersRaw == nil {
			return d.Errf("the block of %s has no handlers: it needs one that delivers, such as reverse_proxy", kind)
		}
	case url != "":
		t, err := parseTarget(url)
		if err != nil {
			return d.Errf("%s: %w", kind, err)
		}
		if r.HandlersRaw, err = t.handlers(); err != nil {
			return d.Errf("%s: %w", kind, err)
		}
		defaultName = t.url.Host
	case hasOptions:
		return d.Errf("the block of %s has no handlers: it needs one that delivers, such as reverse_proxy", kind)
	default:
		return d.Errf("%s has no target: end the line with a URL such as https://reports.internal/klavi, or with a block of handlers", kind)
	}
	b.Routes = append(b.Routes, r)
	b.defaultNames = append(b.defaultNames, defaultName)
	return nil
}

var optionsOfRoutes = []option[reports.Route]{
	{usage: "concurrency <number>", parse: func(r *reports.Route, d *caddyfile.Dispenser) error {
		var text string
		if err := one(&text, d); err != nil {
			return err
		}
		n, err := strconv.ParseUint(text, 10, 16)
		if err != nil || n == 0 {
			return d.Errf("concurrency is %q: it must be a number from 1 to 65535", text)
		}
		r.Concurrency = int(n)
		return nil
	}},
	{usage: "timeout <duration>", parse: func(r *reports.Route, d *caddyfile.Dispenser) error {
		return duration(&r.Timeout, d)
	}},
}

// routeOptions reads the options out of a route's block, and returns the block
// without them: only the token before it, if nothing is left.
func routeOptions(r *reports.Route, segment caddyfile.Segment) (caddyfile.Segment, bool, error) {
	d := caddyfile.NewDispenser(segment)
	d.Next()
	var seen []string
	rest := slices.Clone(segment[:2])
	err := eachOption(d, func(d *caddyfile.Dispenser) error {
		known, err := parseOption(d, r, optionsOfRoutes, &seen)
		if !known {
			rest = append(rest, d.NextSegment()...)
		}
		return err
	})
	if len(rest) == 2 && len(seen) > 0 {
		return rest[:1], true, err
	}
	return append(rest, segment[len(segment)-1]), len(seen) > 0, err
}

// hasBlock reports whether something follows the arguments that were read.
func hasBlock(d *caddyfile.Dispenser) bool {
	ahead := *d
	return ahead.Next()
}

// splitName reads the arguments of a route and takes `as <name>` out of them.
func splitName(d *caddyfile.Dispenser) (words []string, name string, err error) {
	kind := d.Val()
	for d.NextArg() {
		if d.Val() != "as" {
			words = append(words, d.Val())
			continue
		}
		if name != "" {
			return nil, "", d.Errf("%s has two names: write as <name> once", kind)
		}
		if !d.NextArg() || d.Val() == "" || isTarget(d.Val()) {
			return nil, "", d.Errf("%s: the word as needs a name behind it, as in: as ledger", kind)
		}
		name = d.Val()
	}
	return words, name, nil
}

// fill notes what a route takes, and refuses what another route takes already.
func (b *reportsBlock) fill(r *reports.Route, kind string, words []string, d *caddyfile.Dispenser) error {
	if slices.ContainsFunc(words, isTarget) {
		return d.Errf("%s has a URL before its last argument: a route has one target, which stands at the end", kind)
	}
	switch kind {
	case "specific", "event":
		if len(words) == 0 {
			return errUsage
		}
		if err := b.checkPatterns(kind, words, d); err != nil {
			return err
		}
	default:
		if len(words) > 0 {
			return d.Errf("unexpected %q: %s is followed by its target, a URL or a block of handlers", words[0], kind)
		}
	}

	hasAll := b.has(func(r *reports.Route) bool { return r.All })
	hasOther := b.has(func(r *reports.Route) bool { return r.Other })
	hasSpecific := b.has(func(r *reports.Route) bool { return len(r.Specific) > 0 })
	errAllAlone := d.Err("all stands alone: leave out specific and other, or write other in place of all, for the types that no specific names")
	switch kind {
	case "specific":
		if hasAll {
			return errAllAlone
		}
		r.Specific = words
	case "other":
		if hasAll {
			return errAllAlone
		}
		if hasOther {
			return d.Err("other is already specified: one route takes all the types that no specific names")
		}
		r.Other = true
	case "all":
		if hasAll {
			return d.Err("all is already specified: one route takes every report")
		}
		if hasOther || hasSpecific {
			return errAllAlone
		}
		r.All = true
	case "event":
		r.Events = words
	}
	return nil
}

// checkPatterns checks the types of reports, or the names of events, of a route.
func (b *reportsBlock) checkPatterns(kind string, words []string, d *caddyfile.Dispenser) error {
	for i, word := range words {
		taken := b.has(func(r *reports.Route) bool {
			return kind == "specific" && slices.Contains(r.Specific, word) || kind == "event" && slices.Contains(r.Events, word)
		})
		stem, open := strings.CutSuffix(word, "*")
		switch {
		case taken || slices.Contains(words[:i], word):
			return d.Errf("%s %s is already specified: only one route can take it", kind, word)
		case kind == "specific" && word == "*":
			return d.Err("specific cannot be *: write other for the types that no specific names, or all for every report")
		case kind == "specific" && !klavi.ValidReportType(stem) && !(open && (stem == "pf_" || stem == "pj_")):
			example := "such as pf_checking_account"
			if near, ok := klavi.Nearest(word, klavi.KnownReportTypes()); ok {
				example = "perhaps " + near
			}
			return d.Errf("specific has %q, which is not a type of reports: it is pf_ or pj_ with lower-case letters, digits and underscores "+
				"behind it, %s, and may end in *", word, example)
		case kind == "event" && (word == "" || strings.Trim(stem, "abcdefghijklmnopqrstuvwxyz0123456789_") != ""):
			return d.Errf("event has %q, which is not the name of an event: it is made of lower-case letters, digits and underscores, "+
				"such as consent_revoked, and may end in *; * alone stands for all", word)
		case kind == "event" && isReportType(stem):
			return d.Errf("event has %q, which is a type of reports: write specific %[1]s", word)
		}
	}
	return nil
}

// isReportType tells types of reports, and what they begin with, from names of
// events.
func isReportType(name string) bool {
	return strings.HasPrefix(name, "pf_") || strings.HasPrefix(name, "pj_")
}

func (b *reportsBlock) has(is func(*reports.Route) bool) bool {
	return slices.ContainsFunc(b.Routes, is)
}

func (b *reportsBlock) hasName(name string) bool {
	return b.has(func(r *reports.Route) bool { return r.Name == name })
}

// nameRoutes gives a name to each route without one. It runs last, so that no
// name that stands in the Caddyfile is taken before it comes.
func (b *reportsBlock) nameRoutes() {
	for i, r := range b.Routes {
		if r.Name != "" {
			continue
		}
		name := b.defaultNames[i]
		for n := 2; b.hasName(name); n++ {
			name = fmt.Sprintf("%s-%d", b.defaultNames[i], n)
		}
		r.Name = name
	}
}

// subroute reads a block of directives, with the token before it, into one
// handler, or none if there is nothing that handles.
func subroute(h httpcaddyfile.Helper, segment caddyfile.Segment) ([]json.RawMessage, error) {
	handler, err := httpcaddyfile.ParseSegmentAsSubroute(h.WithDispenser(caddyfile.NewDispenser(segment)))
	if err != nil {
		return nil, err
	}
	if s, ok := handler.(*caddyhttp.Subroute); ok && len(s.Routes) == 0 {
		return nil, nil
	}
	return []json.RawMessage{caddyconfig.JSONModuleObject(handler, "handler", "subroute", nil)}, nil
}
