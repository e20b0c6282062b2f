package proxy

import (
	"slices"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/caddy-klavi/caddy-klavi/gateway"
	"github.com/caddy-klavi/caddy-klavi/klavi"
)

var optionNames = []string{
	"account", "prefix", "allow", "reports_url", "external_info", "any_callback_url", "link_token",
}

// UnmarshalCaddyfile sets the transport up from Caddyfile tokens. Syntax:
//
//	transport klavi {
//		account          <name>
//		prefix           <path>
//		allow            <method> <path>
//		reports_url      <url>
//		external_info    <name> <value>
//		any_callback_url
//		link_token       raw|sealed
//	}
//
// allow and external_info may be repeated. reports_url also takes a block, with
// the words in which Klavi's documents explain productsCallbackURL:
//
//	reports_url {
//		specific <type...> <url>
//		other    <url>
//	}
func (t *Transport) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // transport name
	if d.NextArg() {
		return d.Errf("the transport takes no argument, but a block: found '%s'", d.Val())
	}
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		known, err := t.UnmarshalOption(d)
		if err != nil {
			return err
		}
		if known {
			continue
		}
		if near, ok := klavi.Nearest(d.Val(), optionNames); ok {
			return d.Errf("unrecognized subdirective '%s': did you mean '%s'?", d.Val(), near)
		}
		return d.Errf("unrecognized subdirective '%s'", d.Val())
	}
	return nil
}

// UnmarshalOption reads the option that d stands on, with its arguments and
// block. known is false, and nothing is read, where the transport has no option
// of that name.
func (t *Transport) UnmarshalOption(d *caddyfile.Dispenser) (known bool, err error) {
	switch d.Val() {
	case "account":
		return true, oneArg(d, "a name", &t.Account)
	case "prefix":
		if err := oneArg(d, "a path, such as /klavi-api", &t.Prefix); err != nil {
			return true, err
		}
		if err := checkPrefix(t.Prefix); err != nil {
			return true, d.Errf("prefix: %w", err)
		}
		return true, nil
	case "allow":
		return true, t.unmarshalAllow(d)
	case "reports_url":
		if t.ReportsURL != nil {
			return true, d.Errf("reports_url is there already")
		}
		t.ReportsURL, err = gateway.UnmarshalReportsURL(d)
		return true, err
	case "external_info":
		return true, t.unmarshalExternalInfo(d)
	case "any_callback_url":
		if t.AnyCallbackURL {
			return true, d.Errf("any_callback_url is there already")
		}
		if d.NextArg() {
			return true, d.Errf("any_callback_url takes no argument: found '%s'", d.Val())
		}
		t.AnyCallbackURL = true
		return true, nil
	case "link_token":
		if err := oneArg(d, "raw or sealed", &t.LinkToken); err != nil {
			return true, err
		}
		if t.LinkToken != linkTokenRaw && t.LinkToken != linkTokenSealed {
			return true, d.Errf("link_token is '%s': it is raw or sealed", t.LinkToken)
		}
		return true, nil
	default:
		return false, nil
	}
}

func (t *Transport) unmarshalAllow(d *caddyfile.Dispenser) error {
	var e Endpoint
	if !d.AllArgs(&e.Method, &e.Path) {
		return d.Errf("allow takes a method and a path, such as: allow GET /links/{id}")
	}
	if _, err := newAllowList([]Endpoint{e}); err != nil {
		return d.Errf("allow: %w", err)
	}
	if slices.Contains(t.Allow, e) {
		return d.Errf("allow %s %s is there already", e.Method, e.Path)
	}
	t.Allow = append(t.Allow, e)
	return nil
}

func (t *Transport) unmarshalExternalInfo(d *caddyfile.Dispenser) error {
	var name, value string
	if !d.AllArgs(&name, &value) || name == "" || value == "" {
		return d.Errf("external_info takes a name and a value, such as: external_info service {http.request.header.X-Service}")
	}
	if _, ok := t.ExternalInfo[name]; ok {
		return d.Errf("external_info has a value for '%s' already", name)
	}
	if t.ExternalInfo == nil {
		t.ExternalInfo = make(map[string]string)
	}
	t.ExternalInfo[name] = value
	return nil
}

// oneArg reads the only argument of an option that may stand once.
func oneArg(d *caddyfile.Dispenser, what string, to *string) error {
	option := d.Val()
	if *to != "" {
		return d.Errf("%s is there already", option)
	}
	if !d.AllArgs(to) || *to == "" {
		return d.Errf("%s takes %s", option, what)
	}
	return nil
}

// Interface guards
var _ caddyfile.Unmarshaler = (*Transport)(nil)
