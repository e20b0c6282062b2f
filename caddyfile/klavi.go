package caddyfile

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"

	"github.com/caddy-klavi/caddy-klavi/gateway"
	"github.com/caddy-klavi/caddy-klavi/klavi"
)

func init() {
	httpcaddyfile.RegisterGlobalOption("klavi", parseAccount)
}

// parseAccount reads the global option klavi, which is an account of the app
// klavi. It may stand once for each account. Syntax:
//
//	klavi [<account>] {
//	    environment        sandbox | testing | production
//	    base_url           <url>
//	    access_key         <key>
//	    secret_key         <key>
//	    accept_secret_keys <key...>
//	    seal_key           <key>
//	    refresh_ahead      <duration>
//	    klavi_timeout      <duration>
//	    transport [http] {
//	        <options of Caddy's http transport>
//	    }
//	    inbox {
//	        <options of the inbox>
//	    }
//	}
//
// Required are both keys, and one of environment and base_url. Placeholders stay
// as they are: the app replaces them when it is loaded.
func parseAccount(d *caddyfile.Dispenser, existing any) (any, error) {
	app := gateway.App{Accounts: make(map[string]*gateway.Account)}
	if before, ok := existing.(httpcaddyfile.App); ok {
		if err := json.Unmarshal(before.Value, &app); err != nil {
			return nil, d.Errf("reading the accounts so far: %w", err)
		}
	}

	d.Next() // consume the option's name
	name := gateway.DefaultAccount
	if d.NextArg() {
		name = d.Val()
		if err := checkAccount(d); err != nil {
			return nil, err
		}
	}
	if d.NextArg() {
		return nil, d.Errf("unexpected %q: the option is written: klavi [<account>] { ... }", d.Val())
	}
	if _, ok := app.Accounts[name]; ok {
		return nil, d.Errf("account %q is already specified: give one of the two another name, as in klavi partner { ... }", name)
	}

	a := new(gateway.Account)
	if err := parseOptions(d, "klavi", a, accountOptions); err != nil {
		return nil, err
	}
	switch {
	case a.Environment == "" && a.BaseURL == "":
		return nil, d.Errf("account %q needs environment (%s) or base_url", name, strings.Join(klavi.Environments(), ", "))
	case a.Environment != "" && a.BaseURL != "":
		return nil, d.Errf("account %q has environment and base_url: leave one of them out", name)
	case a.AccessKey == "":
		return nil, d.Errf("account %q needs access_key, as in access_key {env.KLAVI_ACCESS_KEY}", name)
	case a.SecretKey == "":
		return nil, d.Errf("account %q needs secret_key, as in secret_key {env.KLAVI_SECRET_KEY}", name)
	case a.Transport != nil && a.Transport.TLS != nil && strings.HasPrefix(a.BaseURL, "http://"):
		return nil, d.Errf("account %q has TLS in its transport, but base_url is http: leave out the options that begin with tls", name)
	}
	app.Accounts[name] = a
	return httpcaddyfile.App{Name: "klavi", Value: caddyconfig.JSON(app, nil)}, nil
}

var accountOptions = []option[gateway.Account]{
	{usage: "environment sandbox | testing | production", parse: parseEnvironment},
	{usage: "base_url <url>", parse: parseBaseURL},
	{usage: "access_key <key>", parse: func(a *gateway.Account, d *caddyfile.Dispenser) error {
		return secret(&a.AccessKey, d)
	}},
	{usage: "secret_key <key>", parse: func(a *gateway.Account, d *caddyfile.Dispenser) error {
		return secret(&a.SecretKey, d)
	}},
	{usage: "accept_secret_keys <key...>", parse: parseAcceptSecretKeys},
	{usage: "seal_key <key>", parse: func(a *gateway.Account, d *caddyfile.Dispenser) error {
		return key(&a.SealKey, d)
	}},
	{usage: "refresh_ahead <duration>", parse: func(a *gateway.Account, d *caddyfile.Dispenser) error {
		return duration(&a.RefreshAhead, d)
	}},
	{usage: "klavi_timeout <duration>", parse: func(a *gateway.Account, d *caddyfile.Dispenser) error {
		return duration(&a.KlaviTimeout, d)
	}},
	{usage: "transport [http] { ... }", parse: parseAccountTransport},
	{usage: "inbox { ... }", parse: parseInbox},
}

func parseEnvironment(a *gateway.Account, d *caddyfile.Dispenser) error {
	if err := one(&a.Environment, d); err != nil {
		return err
	}
	check := literal(func(name string) error {
		if known := klavi.Environments(); !slices.Contains(known, name) {
			return fmt.Errorf("%q is none: there are %s", name, strings.Join(known, ", "))
		}
		return nil
	})
	if err := check(a.Environment); err != nil {
		return d.Errf("environment: %w", err)
	}
	return nil
}

func parseBaseURL(a *gateway.Account, d *caddyfile.Dispenser) error {
	if err := one(&a.BaseURL, d); err != nil {
		return err
	}
	check := literal(func(address string) error {
		_, err := gateway.ParseBaseURL(address)
		return err
	})
	if err := check(a.BaseURL); err != nil {
		return d.WrapErr(err)
	}
	return nil
}

// secret reads a key. Its errors do not show what is there: a key with a space in
// it, put in by {$NAME}, arrives as two arguments.
func secret(into *string, d *caddyfile.Dispenser) error {
	name := d.Val()
	if !d.AllArgs(into) || *into == "" {
		return errUsage
	}
	if err := gateway.CheckPlaceholders(*into); err != nil {
		return d.Errf("%s: %w", name, err)
	}
	return nil
}

// parseAcceptSecretKeys does as several does, but its errors show no key.
func parseAcceptSecretKeys(a *gateway.Account, d *caddyfile.Dispenser) error {
	for d.NextArg() {
		if d.Val() == "" {
			return d.Err("accept_secret_keys has an empty key")
		}
		if err := gateway.CheckPlaceholders(d.Val()); err != nil {
			return d.Errf("accept_secret_keys: %w", err)
		}
		if slices.Contains(a.AcceptSecretKeys, d.Val()) {
			return d.Errf("accept_secret_keys has a key twice: key %d is one of those before it", len(a.AcceptSecretKeys)+1)
		}
		a.AcceptSecretKeys = append(a.AcceptSecretKeys, d.Val())
	}
	if len(a.AcceptSecretKeys) == 0 {
		return errUsage
	}
	return nil
}

// key reads a key of 32 bytes. The length of one that is written out is checked
// here: the account, which checks all, cannot say where it stands.
func key(into *string, d *caddyfile.Dispenser) error {
	name := d.Val()
	if err := secret(into, d); err != nil {
		return err
	}
	if gateway.HasPlaceholder(*into) {
		return nil
	}
	if _, err := gateway.ParseKey(caddy.NewEmptyReplacer().ReplaceAll(*into, "")); err != nil { // without the \ of \{
		return d.Errf("%s %w", name, err)
	}
	return nil
}

// parseAccountTransport reads the options of Caddy's http transport, whose
// parser wants to begin at the token before the block.
func parseAccountTransport(a *gateway.Account, d *caddyfile.Dispenser) error {
	if d.NextArg() && d.Val() != "http" {
		return d.Errf("transport cannot be %q: Klavi is reached through Caddy's http transport", d.Val())
	}
	if d.NextArg() {
		return errUsage
	}
	segment := d.NextSegment()
	if len(segment) == 1 {
		return errUsage
	}
	a.Transport = new(reverseproxy.HTTPTransport)
	if err := a.Transport.UnmarshalCaddyfile(caddyfile.NewDispenser(segment)); err != nil {
		return err
	}
	if a.Transport.ProxyProtocol != "" {
		return d.Err("transport cannot have proxy_protocol: calls to Klavi are not made for one client")
	}
	return nil
}
