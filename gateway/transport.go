package gateway

import (
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"
)

// provisionTransport sets up the way to Klavi.
func (a *Account) provisionTransport(ctx caddy.Context, base *url.URL) error {
	t := new(reverseproxy.HTTPTransport)
	if a.Transport != nil {
		*t = *a.Transport
	}
	if t.ProxyProtocol != "" {
		return errors.New("transport: proxy_protocol is not possible: calls to Klavi are not made for one client")
	}
	if base.Scheme == "https" {
		if t.TLS == nil {
			t.TLS = new(reverseproxy.TLSConfig)
		}
		if strings.Contains(t.TLS.ServerName, "{") {
			return errors.New("transport: tls_server_name cannot hold a placeholder: it belongs to the account, not to a request")
		}
	} else if t.TLS != nil {
		return errors.New("transport: TLS is configured, but base_url is http")
	}
	if err := t.Provision(ctx); err != nil {
		return fmt.Errorf("transport: %w", err)
	}
	a.transport = t
	return nil
}
