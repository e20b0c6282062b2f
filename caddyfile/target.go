package caddyfile

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"regexp"
	"strconv"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/headers"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/rewrite"
)

// target is where a route of klavi_reports delivers in its short form.
type target struct {
	url *url.URL
}

// isTarget tells the URL of a short form from the names before it.
func isTarget(argument string) bool { return strings.Contains(argument, "://") }

var hostPort = regexp.MustCompile(`^[A-Za-z0-9_.-]+(:[0-9]+)?$`)

// refuseTarget refuses the last argument of a line that was meant to be a URL and
// is none. Nil says that it can be a name.
func refuseTarget(argument string) error {
	switch {
	case strings.ContainsAny(argument, "{}"):
		return errors.New("the target holds a brace: placeholders are not replaced in it; write {$NAME} for a variable " +
			"of the environment that is put in when the Caddyfile is read")
	case !strings.ContainsAny(argument, ":/.") && argument != "localhost":
		return nil
	case hostPort.MatchString(argument):
		return fmt.Errorf("the target has no scheme: write http://%s, or https://%s", argument, argument)
	default:
		return errors.New("the target is not a whole URL: write it with scheme and host, such as http://ledger:8080/reports")
	}
}

// parseTarget reads the URL of a short form. It is taken literally, so what does
// not belong into a URL is refused rather than encoded by guess. Errors do not
// repeat the URL, which may hold a secret of the receiver's.
func parseTarget(text string) (target, error) {
	for _, c := range text {
		switch {
		case c == '{' || c == '}':
			return target{}, errors.New("the URL holds a brace: placeholders are not replaced in it; write {$NAME} for a variable " +
				"of the environment that is put in when the Caddyfile is read, %7B and %7D for the braces themselves, or a block of handlers")
		case c <= ' ' || c >= 0x7f || strings.ContainsRune("\"<>\\^`|", c):
			return target{}, fmt.Errorf("the URL holds %q: write it percent-encoded, and a host in its xn-- form", c)
		}
	}
	u, err := url.Parse(text)
	if err != nil {
		if parsing, ok := errors.AsType[*url.Error](err); ok {
			err = parsing.Err // without the URL
		}
		return target{}, fmt.Errorf("the URL is not one: %w", err)
	}
	switch {
	case u.Scheme != "http" && u.Scheme != "https":
		return target{}, fmt.Errorf("the URL begins with %s://: it must be http:// or https://, or a block of handlers for other ways to deliver", u.Scheme)
	case u.User != nil:
		return target{}, errors.New("the URL holds a user: credentials belong into a block with reverse_proxy and header_up")
	case strings.Contains(text, "#"):
		return target{}, errors.New("the URL holds a fragment (#...), which HTTP never sends: leave it out")
	}
	if err := checkHost(u); err != nil {
		return target{}, err
	}
	return target{u}, nil
}

var hostname = regexp.MustCompile(`^[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_])?\.?$`)

func checkHost(u *url.URL) error {
	host := u.Hostname()
	if host == "" {
		return errors.New("the URL has no host")
	}
	if addr, err := netip.ParseAddr(host); !hostname.MatchString(host) && (err != nil || addr.Zone() != "") {
		return fmt.Errorf("the URL has the host %q, which is neither a name nor an address", host)
	}
	if strings.HasSuffix(u.Host, ":") {
		return errors.New("the URL has a colon after its host, but no port")
	}
	if port := u.Port(); port != "" {
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			return fmt.Errorf("the URL has the port %s: it must be 1 to 65535", port)
		}
	}
	return nil
}

// handlers returns the stock handlers that deliver to the target: the first
// replaces path and query, the second sends the request to its host, under its
// name.
func (t target) handlers() ([]json.RawMessage, error) {
	rewriting, err := t.rewrite()
	if err != nil {
		return nil, err
	}
	proxy := &reverseproxy.Handler{
		Upstreams: reverseproxy.UpstreamPool{{Dial: t.dial()}},
		Headers: &headers.Handler{
			Request: &headers.HeaderOps{Set: http.Header{"Host": {t.url.Host}}},
		},
	}
	if t.url.Scheme == "https" {
		transport := &reverseproxy.HTTPTransport{TLS: &reverseproxy.TLSConfig{ServerName: t.url.Hostname()}}
		proxy.TransportRaw = caddyconfig.JSONModuleObject(transport, "protocol", "http", nil)
	}
	return []json.RawMessage{
		rewriting,
		caddyconfig.JSONModuleObject(proxy, "handler", "reverse_proxy", nil),
	}, nil
}

// dial is the target's address.
func (t target) dial() string {
	port := t.url.Port()
	switch {
	case port != "":
	case t.url.Scheme == "https":
		port = "443"
	default:
		port = "80"
	}
	return net.JoinHostPort(t.url.Hostname(), port)
}

// rewrite returns the handler that makes path and query of a request those of the
// target. Its uri takes a path apart and encodes it anew, so that %2F would
// become a slash; a path_regexp leaves what it puts in as it is.
func (t target) rewrite() (json.RawMessage, error) {
	path, want := t.url.EscapedPath(), t.url.RequestURI()
	if path == "" {
		path = "/"
	}
	config := map[string]any{"uri": path + "?" + t.url.RawQuery}
	got, err := rewritten(config)
	if err != nil {
		return nil, err
	}
	if gotPath, _, _ := strings.Cut(got, "?"); gotPath != path {
		config["path_regexp"] = []map[string]string{{
			"find":    "^.*$",
			"replace": strings.ReplaceAll(path, "$", "$$"),
		}}
		if got, err = rewritten(config); err != nil {
			return nil, err
		}
	}
	if strings.TrimSuffix(want, "?") != got {
		return nil, errors.New("the URL has a path or query that Caddy's rewrite cannot send as it is: " +
			"leave out empty parts of the query (a key without value has no =, and & stands between two keys), or write a block of handlers")
	}
	return caddyconfig.JSONModuleObject(config, "handler", "rewrite", nil), nil
}

// rewritten runs a rewrite and returns what becomes of a request.
func rewritten(config map[string]any) (string, error) {
	raw, err := json.Marshal(config)
	if err != nil {
		return "", err
	}
	var handler rewrite.Rewrite
	if err := json.Unmarshal(raw, &handler); err != nil {
		return "", err
	}
	ctx, cancel := caddy.NewContext(caddy.Context{Context: context.Background()})
	defer cancel()
	if err := handler.Provision(ctx); err != nil {
		return "", err
	}
	r := &http.Request{Method: http.MethodPost, URL: &url.URL{Path: "/before", RawQuery: "before=1"}}
	handler.Rewrite(r, caddy.NewEmptyReplacer())
	return r.RequestURI, nil
}
