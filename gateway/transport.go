package gateway

import (
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"
)

// readBuffer lets most of Klavi's answers, the list of institutions above all,
// come from the connection in one read.
const readBuffer = 32 << 10

// provisionTransport sets up the way to Klavi.
func (a *Account) provisionTransport(ctx caddy.Context, base *url.URL) error {
	t := new(reverseproxy.HTTPTransport)
	if a.Transport != nil {
		*t = *a.Transport
	}
	if t.ProxyProtocol != "" {
		return errors.New("transport: proxy_protocol is not possible: calls to Klavi are not made for one client")
	}
	if t.ReadBufferSize == 0 {
		t.ReadBufferSize = readBuffer
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
