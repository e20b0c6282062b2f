package frontend

import (
	"net"
	"net/http"
	"strings"

	"github.com/caddy-klavi/caddy-klavi/handler/problem"
)

const (
	headerIdempotencyKey = "Idempotency-Key"
	maxIdempotencyKey    = 255
)

// creationKey returns what makes two requests of the same caller one, empty if
// the request has no Idempotency-Key. The host is a part of it rather than of the
// caller: there, a client that makes up hosts would have limits for each.
func creationKey(r *http.Request) (string, error) {
	key, err := idempotencyKey(r.Header)
	if err != nil || key == "" {
		return "", err
	}
	return host(r) + "\x00" + key, nil
}

// host returns the site that a request is for, without what Caddy's host
// matcher does not look at either.
func host(r *http.Request) string {
	name, _, err := net.SplitHostPort(r.Host)
	if err != nil {
		name = r.Host
	}
	return strings.TrimSuffix(strings.ToLower(name), ".")
}

// idempotencyKey returns the request's key, empty if it has none.
func idempotencyKey(h http.Header) (string, error) {
	values, ok := h[headerIdempotencyKey]
	if !ok || len(values) == 0 {
		return "", nil
	}
	key := values[0]
	if len(values) > 1 || key == "" || len(key) > maxIdempotencyKey ||
		strings.ContainsFunc(key, func(r rune) bool { return r < ' ' || r > '~' }) {
		return "", problem.New(problem.InvalidRequest, "An Idempotency-Key is one header of 1 to 255 printable ASCII characters.")
	}
	return key, nil
}
