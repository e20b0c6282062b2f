package caddyfile

import (
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"
)

// Every word that errors speak of is one of Caddy's.
func TestReverseProxyWords(t *testing.T) {
	unknown := func(err error) bool { return err != nil && strings.Contains(err.Error(), "unrecognized subdirective") }
	for _, name := range append([]string{"no_such_word"}, passedOptions...) {
		err := new(reverseproxy.Handler).UnmarshalCaddyfile(caddyfile.NewTestDispenser("reverse_proxy a:1 {\n" + name + "\n}"))
		if unknown(err) != (name == "no_such_word") {
			t.Errorf("reverse_proxy, %s: got the error %v", name, err)
		}
	}
	for _, name := range append([]string{"no_such_word"}, httpTransportOptions...) {
		err := new(reverseproxy.HTTPTransport).UnmarshalCaddyfile(caddyfile.NewTestDispenser("http {\n" + name + "\n}"))
		if unknown(err) != (name == "no_such_word") {
			t.Errorf("http transport, %s: got the error %v", name, err)
		}
	}
}
