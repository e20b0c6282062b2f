package caddyfile

import (
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"

	"github.com/caddy-klavi/caddy-klavi/handler/ready"
)

func init() {
	httpcaddyfile.RegisterDirective("klavi_ready", parseReady)
	httpcaddyfile.RegisterDirectiveOrder("klavi_ready", httpcaddyfile.Before, "invoke")
}

// parseReady reads klavi_ready. Syntax:
//
//	klavi_ready [<matcher>]
//
// It speaks of all accounts, so that it has no option to name one.
func parseReady(h httpcaddyfile.Helper) ([]httpcaddyfile.ConfigValue, error) {
	const usage = "the directive is written: klavi_ready [<matcher>], where the matcher is a path such as /ready or a named one"
	h.Next() // consume the directive's name
	hasArg := h.CountRemainingArgs() > 0
	matcher, ok, err := h.MatcherToken()
	switch {
	case err != nil:
		return nil, h.WrapErr(err)
	case hasArg && !ok, h.NextArg():
		return nil, h.Errf("unexpected %q: %s", h.Val(), usage)
	case h.Next():
		return nil, h.Errf("unexpected block: %s", usage)
	}
	accounts, err := accountsOf(h)
	if err != nil {
		return nil, err
	}
	if len(accounts) == 0 {
		return nil, h.Err(noAccount)
	}
	return route(matcher, caddyconfig.JSONModuleObject(ready.Ready{}, "handler", "klavi_ready", nil)), nil
}
