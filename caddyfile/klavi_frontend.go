package caddyfile

import (
	"encoding/json"
	"regexp"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-klavi/caddy-klavi/gateway"
	"github.com/caddy-klavi/caddy-klavi/handler/frontend"
)

func init() {
	httpcaddyfile.RegisterDirective("klavi_frontend", parseFrontend)
	httpcaddyfile.RegisterDirectiveOrder("klavi_frontend", httpcaddyfile.Before, "invoke")
}

// parseFrontend reads klavi_frontend. Syntax:
//
//	klavi_frontend [@matcher] <prefix> {
//	    account          <name>
//	    user             <placeholder>
//	    public
//	    set              <field> <value>
//	    set_consent      <field> <value>
//	    external_info    <name> <value>
//	    reports_url      <url>
//	    reports_url {
//	        specific <type...> <url>
//	        other    <url>
//	        all      <url>
//	    }
//	    redirect_urls    <url...>
//	    accept           <field...>
//	    app_link         <url> <parameter>
//	    flow             whitelabel | api_only
//	    links            off
//	    link_token       raw | sealed
//	    unbound_consents
//	    allow_origins    <origin...>
//	}
//
// Required are redirect_urls, and one of user and public. The prefix is the public path, as the
// browser writes it: `/klavi` and `/klavi/*` mean the same. It is not a matcher of
// the route, since the handler decides on the request as it came in, before
// handle_path, uri or rewrite changed it.
func parseFrontend(h httpcaddyfile.Helper) ([]httpcaddyfile.ConfigValue, error) {
	h.Next() // consume the directive's name
	matcher, err := namedMatcher(h)
	if err != nil {
		return nil, err
	}
	if !h.NextArg() {
		return nil, h.Err("klavi_frontend needs the path under which browsers reach it, as in klavi_frontend /klavi { ... }")
	}
	f := new(frontend.Frontend)
	if f.Prefix, err = prefix(h.Dispenser); err != nil {
		return nil, err
	}
	if h.NextArg() {
		return nil, h.Errf("unexpected %q: the directive is written: klavi_frontend [@matcher] <prefix> { ... }", h.Val())
	}
	if err := parseOptions(h.Dispenser, "klavi_frontend", f, frontendOptions); err != nil {
		return nil, err
	}
	switch {
	case f.User == "" && !f.Public:
		return nil, h.Err("klavi_frontend needs to know who is logged in: add user <placeholder>, or the word public for a site without logins")
	case f.User != "" && f.Public:
		return nil, h.Err("klavi_frontend has user and public: leave out public if people log in, or user if they do not")
	case len(f.RedirectURLs) == 0:
		return nil, h.Err("klavi_frontend needs redirect_urls: where Klavi may send people in the end, as in redirect_urls https://app.example.com/connected")
	}
	if err := f.CheckTogether("links off"); err != nil {
		return nil, h.WrapErr(err)
	}
	if err := configuredAccount(h, f.Account); err != nil {
		return nil, err
	}
	return route(matcher, caddyconfig.JSONModuleObject(f, "handler", "klavi_frontend", nil)), nil
}

var frontendOptions = []option[frontend.Frontend]{
	{usage: "account <name>", parse: func(f *frontend.Frontend, d *caddyfile.Dispenser) error {
		return account(&f.Account, d)
	}},
	{usage: "user <placeholder>", parse: parseUser},
	{usage: "public", parse: func(f *frontend.Frontend, _ *caddyfile.Dispenser) error {
		f.Public = true
		return nil
	}},
	{usage: "set <field> <value>", repeatable: true, parse: func(f *frontend.Frontend, d *caddyfile.Dispenser) error {
		return pair(&f.Set, d, frontend.CheckSet)
	}},
	{usage: "set_consent <field> <value>", repeatable: true, parse: func(f *frontend.Frontend, d *caddyfile.Dispenser) error {
		return pair(&f.SetConsent, d, frontend.CheckSetConsent)
	}},
	{usage: "external_info <name> <value>", repeatable: true, parse: func(f *frontend.Frontend, d *caddyfile.Dispenser) error {
		return pair(&f.ExternalInfo, d, frontend.CheckExternalInfo)
	}},
	{usage: "reports_url <url> | { ... }", parse: func(f *frontend.Frontend, d *caddyfile.Dispenser) (err error) {
		f.ReportsURL, err = gateway.UnmarshalReportsURL(d)
		return err
	}},
	{usage: "redirect_urls <url...>", parse: func(f *frontend.Frontend, d *caddyfile.Dispenser) error {
		return several(&f.RedirectURLs, d, literal(checkRedirectURL))
	}},
	{usage: "accept <field...>", parse: func(f *frontend.Frontend, d *caddyfile.Dispenser) error {
		return several(&f.Accept, d, frontend.CheckAccept)
	}},
	{usage: "app_link <url> <parameter>", parse: parseAppLink},
	{usage: "flow whitelabel | api_only", parse: func(f *frontend.Frontend, d *caddyfile.Dispenser) error {
		return choice(&f.Flow, d, "whitelabel", "api_only")
	}},
	{usage: "links off", parse: func(f *frontend.Frontend, d *caddyfile.Dispenser) error {
		f.LinksOff = true
		var off string
		return choice(&off, d, "off")
	}},
	{usage: "link_token raw | sealed", parse: func(f *frontend.Frontend, d *caddyfile.Dispenser) error {
		return choice(&f.LinkToken, d, "raw", "sealed")
	}},
	{usage: "unbound_consents", parse: func(f *frontend.Frontend, _ *caddyfile.Dispenser) error {
		f.UnboundConsents = true
		return nil
	}},
	{usage: "allow_origins <origin...>", parse: func(f *frontend.Frontend, d *caddyfile.Dispenser) error {
		return several(&f.AllowOrigins, d, literal(frontend.CheckOrigin))
	}},
}

// parseUser reads the logged-in user. A text without a placeholder would make
// one person of all visitors.
func parseUser(f *frontend.Frontend, d *caddyfile.Dispenser) error {
	if err := one(&f.User, d); err != nil {
		return err
	}
	if err := frontend.CheckUser(f.User); err != nil {
		return d.Errf("user: %w", err)
	}
	return nil
}

func parseAppLink(f *frontend.Frontend, d *caddyfile.Dispenser) error {
	f.AppLink = new(frontend.AppLink)
	if !d.Args(&f.AppLink.URL, &f.AppLink.Parameter) {
		return errUsage
	}
	if err := literal(checkRedirectURL)(f.AppLink.URL); err != nil {
		return d.Errf("app_link: %w", err)
	}
	if err := frontend.CheckAppLinkParameter(f.AppLink.Parameter); err != nil {
		return d.Errf("app_link: %w", err)
	}
	return nil
}

func checkRedirectURL(address string) error {
	_, err := frontend.CheckRedirectURL(address)
	return err
}

// namedMatcher reads a matcher that is called by its name, if that is what the
// next argument is. A path is an argument like any other.
func namedMatcher(h httpcaddyfile.Helper) (caddy.ModuleMap, error) {
	if !h.NextArg() {
		return nil, nil
	}
	named := strings.HasPrefix(h.Val(), "@")
	h.Prev()
	if !named {
		return nil, nil
	}
	set, _, err := h.MatcherToken()
	if err != nil {
		return nil, h.WrapErr(err)
	}
	return set, nil
}

var plainPath = regexp.MustCompile(`^(/\.*[A-Za-z0-9_~-][A-Za-z0-9._~-]*)+$`)

// prefix makes a path prefix of the current token, in the form without a slash
// at the end.
func prefix(d *caddyfile.Dispenser) (string, error) {
	path := strings.TrimSuffix(strings.TrimSuffix(d.Val(), "/*"), "/")
	switch {
	case d.Val() == "*":
		return "", d.Err("the prefix cannot be *: write the path under which it stands, such as /klavi")
	case !strings.HasPrefix(path, "/"):
		return "", d.Errf("the prefix cannot be %q: it is a path with a name in it, such as /klavi", d.Val())
	case !plainPath.MatchString(path):
		return "", d.Errf("the prefix cannot be %q: it is a plain path such as /klavi, of letters, digits and . _ ~ - between single slashes, "+
			"and may end in /*", d.Val())
	}
	return path, nil
}

// route is a route with one handler.
func route(matcher caddy.ModuleMap, handler json.RawMessage) []httpcaddyfile.ConfigValue {
	r := caddyhttp.Route{HandlersRaw: []json.RawMessage{handler}}
	if matcher != nil {
		r.MatcherSetsRaw = []caddy.ModuleMap{matcher}
	}
	return []httpcaddyfile.ConfigValue{{Class: "route", Value: r}}
}
