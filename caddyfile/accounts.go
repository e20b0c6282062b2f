package caddyfile

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"

	"github.com/caddy-klavi/caddy-klavi/gateway"
)

// account reads the name of an account.
func account(into *string, d *caddyfile.Dispenser) error {
	if err := one(into, d); err != nil {
		return err
	}
	return checkAccount(d)
}

// checkAccount checks that the current token can name an account. It becomes
// part of log lines, metrics and headers, and is known when a config is loaded:
// so no placeholder.
func checkAccount(d *caddyfile.Dispenser) error {
	const letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-"
	if d.Val() == "" || strings.Trim(d.Val(), letters) != "" {
		return d.Errf("%q cannot be the name of an account: it is made of letters, digits, '.', '_' and '-'", d.Val())
	}
	return nil
}

// configuredAccount checks, once the directive has been read, that the global
// options have its account.
func configuredAccount(h httpcaddyfile.Helper, name string) error {
	accounts, err := accountsOf(h)
	if err != nil {
		return err
	}
	account := name
	if account == "" {
		account = gateway.DefaultAccount
	}
	if _, ok := accounts[account]; ok {
		return nil
	}
	h.Reset()
	h.Next() // the directive
	for name != "" && h.Next() {
		if h.Val() == "account" && h.NextArg() && h.Val() == name {
			break
		}
	}
	if len(accounts) == 0 {
		return h.Err(noAccount)
	}
	names := strings.Join(slices.Sorted(maps.Keys(accounts)), ", ")
	return h.Errf("account %q is not configured in the global options; there is %s", account, names)
}

const noAccount = "no account at Klavi is configured: add klavi { ... } with environment, access_key and secret_key to the global options"

// accountsOf returns the accounts of the global options.
func accountsOf(h httpcaddyfile.Helper) (map[string]*gateway.Account, error) {
	var app gateway.App
	if option, ok := h.Option("klavi").(httpcaddyfile.App); ok {
		if err := json.Unmarshal(option.Value, &app); err != nil {
			return nil, h.Errf("reading the accounts: %w", err)
		}
	}
	return app.Accounts, nil
}
