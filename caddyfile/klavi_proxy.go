package caddyfile

import (
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"

	"github.com/caddy-klavi/caddy-klavi/gateway"
	"github.com/caddy-klavi/caddy-klavi/handler/proxy"
	"github.com/caddy-klavi/caddy-klavi/klavi"
)

func init() {
	httpcaddyfile.RegisterDirective("klavi_proxy", parseProxy)
	httpcaddyfile.RegisterDirectiveOrder("klavi_proxy", httpcaddyfile.Before, "reverse_proxy")
}

// transportOptions are the subdirectives of klavi_proxy that belong to its
// transport. All others belong to reverse_proxy.
var transportOptions = []option[proxy.Transport]{
	{usage: "account <name>", parse: func(t *proxy.Transport, d *caddyfile.Dispenser) error {
		return account(&t.Account, d)
	}},
	{usage: "allow <method> <path>", repeatable: true, parse: parseTransportOption},
	{usage: "reports_url <url> | { ... }", parse: parseTransportOption},
	{usage: "external_info <name> <value>", repeatable: true, parse: parseTransportOption},
	{usage: "any_callback_url", parse: parseTransportOption},
	{usage: "link_token raw | sealed", parse: parseTransportOption},
}

func parseTransportOption(t *proxy.Transport, d *caddyfile.Dispenser) error {
	_, err := t.UnmarshalOption(d)
	return err
}

// parseProxy reads klavi_proxy. Syntax:
//
//	klavi_proxy [@matcher] [<prefix>] {
//	    account          <name>
//	    allow            <method> <path>
//	    reports_url      <url>
//	    reports_url {
//	        specific <type...> <url>
//	        other    <url>
//	        all      <url>
//	    }
//	    external_info    <name> <value>
//	    any_callback_url
//	    link_token       raw | sealed
//
//	    <subdirectives of reverse_proxy>
//	}
//
// It is a reverse_proxy with the transport klavi, so that
//
//	klavi_proxy /bank {
//	    account partner
//	    allow   GET /new-endpoint
//	    header_down -Server
//	}
//
// is equivalent to
//
//	@bank path /bank /bank/*
//	reverse_proxy @bank klavi-partner:443 {
//	    transport klavi {
//	        account partner
//	        prefix  /bank
//	        allow   GET /new-endpoint
//	    }
//	    header_down -Server
//	}
//
// The upstream is a label and is never dialed: the transport knows where the
// account's API is. The subdirectives to, dynamic, rewrite, method, transport
// and health_* are refused.
func parseProxy(h httpcaddyfile.Helper) ([]httpcaddyfile.ConfigValue, error) {
	h.Next() // consume the directive's name
	directive := h.Token()
	matcher, err := namedMatcher(h)
	if err != nil {
		return nil, err
	}
	t := new(proxy.Transport)
	if h.NextArg() {
		if !strings.HasPrefix(h.Val(), "/") {
			return nil, refuseUpstream(h)
		}
		if t.Prefix, err = prefix(h.Dispenser); err != nil {
			return nil, err
		}
	}
	if h.NextArg() {
		return nil, refuseUpstream(h)
	}

	passed, err := parseTransportOptions(h.Dispenser, t)
	if err != nil {
		return nil, err
	}
	if err := configuredAccount(h, t.Account); err != nil {
		return nil, err
	}
	handler, err := reverseProxy(h, directive, upstreamLabel(t.Account), passed)
	if err != nil {
		return nil, err
	}
	handler.TransportRaw = caddyconfig.JSONModuleObject(t, "protocol", "klavi", nil)
	return proxyRoute(matcher, t.Prefix, caddyconfig.JSONModuleObject(handler, "handler", "reverse_proxy", nil)), nil
}

func refuseUpstream(h httpcaddyfile.Helper) error {
	return h.Errf("unexpected %q: the directive is written: klavi_proxy [@matcher] [<prefix>] { ... }; "+
		"its upstream is Klavi, under the environment or base_url of the account", h.Val())
}

// parseTransportOptions reads the options of the transport, and returns the
// tokens of all other subdirectives, the closing brace included.
func parseTransportOptions(d *caddyfile.Dispenser, t *proxy.Transport) ([]caddyfile.Token, error) {
	var passed []caddyfile.Token
	var seen []string
	err := eachOption(d, func(option *caddyfile.Dispenser) error {
		if err := refuseOption(option); err != nil {
			return err
		}
		known, err := parseOption(option, t, transportOptions, &seen)
		if !known {
			passed = append(passed, option.NextSegment()...)
		}
		return err
	})
	if err != nil || len(passed) == 0 {
		return nil, err
	}
	return append(passed, d.Token()), nil
}

// refuseOption refuses what would take the decision about the way to Klavi from
// the transport.
func refuseOption(d *caddyfile.Dispenser) error {
	const account = "the account decides how Klavi is reached, in the global option klavi"
	switch name := d.Val(); {
	case name == "prefix":
		return d.Err("klavi_proxy takes its prefix as an argument: klavi_proxy [@matcher] [<prefix>] { ... }")
	case name == "to", name == "dynamic":
		return d.Errf("klavi_proxy cannot have %s: its upstream is Klavi, under the environment or base_url of the account", name)
	case name == "rewrite", name == "method":
		return d.Errf("klavi_proxy cannot have %s: callers write Klavi's own methods and paths, and allow <method> <path> opens more of them", name)
	case name == "transport":
		return d.Errf("klavi_proxy cannot have transport: %s; write transport { ... } there", account)
	case slices.Contains(httpTransportOptions, name):
		return d.Errf("klavi_proxy cannot have %s: %s; write transport { %s ... } there", name, account, name)
	case strings.HasPrefix(name, "health_"):
		return d.Errf("klavi_proxy cannot have %s: %s, and there is one upstream only", name, account)
	}
	return nil
}

// upstreamLabel returns what stands for Klavi among the upstreams. It is not
// dialed, but reverse_proxy counts requests and failures under it: so each
// account has its own.
func upstreamLabel(account string) string {
	if account == "" || account == gateway.DefaultAccount {
		return "klavi:443"
	}
	return net.JoinHostPort("klavi-"+account, "443")
}

// reverseProxy has reverse_proxy read the subdirectives that belong to it.
func reverseProxy(h httpcaddyfile.Helper, directive caddyfile.Token, upstream string, passed []caddyfile.Token) (*reverseproxy.Handler, error) {
	label, brace := directive, directive
	label.Text, brace.Text = upstream, "{"
	tokens := []caddyfile.Token{directive, label}
	if len(passed) > 0 {
		tokens = append(append(tokens, brace), passed...)
	}
	handler := new(reverseproxy.Handler)
	if err := handler.UnmarshalCaddyfile(caddyfile.NewDispenser(tokens)); err != nil {
		return nil, nearestOption(err)
	}
	if err := handler.FinalizeUnmarshalCaddyfile(h); err != nil {
		return nil, err
	}
	return handler, nil
}

// nearestOption makes of reverse_proxy's error about a subdirective that it does
// not know one that says what is known, with the position at its end.
func nearestOption(err error) error {
	rest, ok := strings.CutPrefix(err.Error(), "unrecognized subdirective ")
	if !ok {
		return err
	}
	name, position, _ := strings.Cut(rest, ", at ")
	own := names(transportOptions)
	if near, ok := klavi.Nearest(name, slices.Concat(own, passedOptions)); ok {
		return fmt.Errorf("klavi_proxy has no option %q: did you mean %s?, at %s", name, near, position)
	}
	return fmt.Errorf("klavi_proxy has no option %q: it has %s, and most subdirectives of reverse_proxy, at %s",
		name, strings.Join(own, ", "), position)
}

// proxyRoute is the route of a klavi_proxy. A prefix and a matcher must both fit:
// where both are paths, one stands in the other, since a set has one path matcher.
func proxyRoute(matcher caddy.ModuleMap, prefix string, handler json.RawMessage) []httpcaddyfile.ConfigValue {
	if prefix == "" {
		return route(matcher, handler)
	}
	paths := caddyconfig.JSON(caddyhttp.MatchPath{prefix, prefix + "/*"}, nil)
	if _, ok := matcher["path"]; ok {
		inner := caddyhttp.Subroute{Routes: caddyhttp.RouteList{{
			MatcherSetsRaw: caddyhttp.RawMatcherSets{matcher},
			HandlersRaw:    []json.RawMessage{handler},
		}}}
		return route(caddy.ModuleMap{"path": paths}, caddyconfig.JSONModuleObject(inner, "handler", "subroute", nil))
	}
	both := caddy.ModuleMap{"path": paths}
	maps.Copy(both, matcher)
	return route(both, handler)
}
