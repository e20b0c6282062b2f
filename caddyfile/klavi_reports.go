package caddyfile

import (
	"bytes"
	"fmt"
	"net/netip"

	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"

	"github.com/caddy-klavi/caddy-klavi/gateway"
	"github.com/caddy-klavi/caddy-klavi/handler/reports"
)

func init() {
	httpcaddyfile.RegisterDirective("klavi_reports", parseReports)
	httpcaddyfile.RegisterDirectiveOrder("klavi_reports", httpcaddyfile.Before, "invoke")
}

// parseReports reads klavi_reports. Syntax:
//
//	klavi_reports <matcher> {
//	    account       <name>
//	    direct
//	    max_body      <size>
//	    klavi_sources <cidr...>
//	    unsigned_from <cidr...>
//	    specific      <type...> <target>
//	    other         <target>
//	    all           <target>
//	    event         <name...> <target>
//	}
//
// The matcher is required: the path that Klavi calls, or a named matcher. So is
// one route at least, which is one of the last four; `all` stands for specific and
// other and cannot be combined with them. A target is
//
//	<url> [as <name>] [{
//	    concurrency <number>
//	    timeout     <duration>
//	}]
//
// or a block of handlers, which may hold the same two options
//
//	[as <name>] {
//	    concurrency <number>
//	    timeout     <duration>
//	    <directives...>
//	}
//
// A name is what metrics and lists call the route. By default it is the URL's
// host, followed by -2, -3 and so on if that is taken; of a block, the first of
// the route's types or events, or other or all.
//
// The target `https://ledger.internal/checking?v=2` is the same as the block
//
//	{
//	    rewrite /checking?v=2
//	    reverse_proxy https://ledger.internal {
//	        header_up Host ledger.internal
//	        transport http {
//	            tls_server_name ledger.internal
//	        }
//	    }
//	}
func parseReports(h httpcaddyfile.Helper) ([]httpcaddyfile.ConfigValue, error) {
	h.Next() // consume the directive's name
	position := fmt.Sprintf("%s:%d", h.File(), h.Line())
	matcher, ok, err := h.MatcherToken()
	switch {
	case err != nil:
		return nil, h.WrapErr(err)
	case !ok || matcher == nil:
		return nil, h.Err("klavi_reports needs the path that Klavi calls, as in klavi_reports /klavi/reports { ... }, or a named matcher")
	case h.NextArg():
		return nil, h.Errf("unexpected %q: the directive is written: klavi_reports <matcher> { ... }", h.Val())
	}
	block := reportsBlock{helper: h}
	if err := parseOptions(h.Dispenser, "klavi_reports", &block, reportsOptions); err != nil {
		return nil, err
	}
	if len(block.Routes) == 0 {
		return nil, h.Err("klavi_reports has no route: add specific, other, all or event with a URL, such as all https://reports.internal/klavi")
	}
	if block.Direct && block.has(func(r *reports.Route) bool { return r.Concurrency != 0 || r.Timeout != 0 }) {
		return nil, h.Err("klavi_reports has direct, and a route with concurrency or timeout, which are for reports of the inbox: leave one of them out")
	}
	block.nameRoutes()
	if err := configuredAccount(h, block.Account); err != nil {
		return nil, err
	}
	if err := block.checkSameTable(position); err != nil {
		return nil, err
	}
	return route(matcher, caddyconfig.JSONModuleObject(block.Reports, "handler", "klavi_reports", nil)), nil
}

// reportsBlock is the block of klavi_reports while it is being read.
type reportsBlock struct {
	reports.Reports
	helper httpcaddyfile.Helper

	// defaultNames has the name that each route gets if it has none.
	defaultNames []string
}

// tables has what the klavi_reports before this one route for each account.
type tables map[string]struct {
	position string
	direct   bool
	routes   []byte
}

// checkSameTable refuses routes that are not those of the first klavi_reports of
// the account: Klavi may reach any of them. The app refuses them too, but cannot
// say where they stand.
func (b *reportsBlock) checkSameTable(position string) error {
	account := b.Account
	if account == "" {
		account = gateway.DefaultAccount
	}
	routes, err := reports.CanonicalRoutes(b.Routes)
	if err != nil {
		return b.helper.Errf("comparing the routes: %w", err)
	}
	all, ok := b.helper.State["klavi_reports"].(tables)
	if !ok {
		all = make(tables)
		b.helper.State["klavi_reports"] = all
	}
	first, ok := all[account]
	if ok && !bytes.Equal(first.routes, routes) {
		return fmt.Errorf("account %q has two different tables of report routes, at %s and at %s: "+
			"write the same routes in both, or give each its own account", account, first.position, position)
	}
	if ok && first.direct != b.Direct {
		return fmt.Errorf("account %q has klavi_reports with and without direct, at %s and at %s: "+
			"write it in both or in none, or give each its own account", account, first.position, position)
	}
	first.position, first.direct, first.routes = position, b.Direct, routes
	all[account] = first
	return nil
}

var reportsOptions = []option[reportsBlock]{
	{usage: "account <name>", parse: func(b *reportsBlock, d *caddyfile.Dispenser) error {
		return account(&b.Account, d)
	}},
	{usage: "direct", parse: func(b *reportsBlock, _ *caddyfile.Dispenser) error {
		b.Direct = true
		return nil
	}},
	{usage: "max_body <size>", parse: parseMaxBody},
	{usage: "klavi_sources <cidr...>", parse: func(b *reportsBlock, d *caddyfile.Dispenser) error {
		return addresses(&b.KlaviSources, d)
	}},
	{usage: "unsigned_from <cidr...>", parse: func(b *reportsBlock, d *caddyfile.Dispenser) error {
		return addresses(&b.UnsignedFrom, d)
	}},
	{usage: "specific <type...> <url> [as <name>] | [as <name>] { ... }", repeatable: true, parse: parseRoute},
	{usage: "other <url> [as <name>] | [as <name>] { ... }", repeatable: true, parse: parseRoute},
	{usage: "all <url> [as <name>] | [as <name>] { ... }", repeatable: true, parse: parseRoute},
	{usage: "event <name...> <url> [as <name>] | [as <name>] { ... }", repeatable: true, parse: parseRoute},
}

func parseMaxBody(b *reportsBlock, d *caddyfile.Dispenser) error {
	return size(&b.MaxBody, d, "1GiB", "64MiB")
}

// addresses reads an option whose arguments are addresses or ranges of them.
func addresses(into *[]string, d *caddyfile.Dispenser) error {
	name := d.Val()
	if err := several(into, d, nil); err != nil {
		return err
	}
	for _, text := range *into {
		if _, err := netip.ParsePrefix(text); err == nil {
			continue
		}
		if _, err := netip.ParseAddr(text); err != nil {
			return d.Errf("%s has %q, which is not an address or range such as 203.0.113.7 or 203.0.113.0/24", name, text)
		}
	}
	return nil
}
