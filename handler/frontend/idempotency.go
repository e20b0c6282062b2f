package frontend

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-klavi/caddy-klavi/gateway"
	"github.com/caddy-klavi/caddy-klavi/handler/problem"
)

const (
	headerIdempotencyKey = "Idempotency-Key"
	maxIdempotencyKey    = 255
	busyFor              = time.Second
)

// once runs call, or gives the answer that the same user got for the same
// request under the same Idempotency-Key. With a key, call runs on a context
// that outlives the request: others may wait for it.
func (f *Frontend) once(r *http.Request, endpoint, user string, request []byte,
	call func(context.Context) (*gateway.Answer, error),
) (*gateway.Answer, error) {
	key, err := idempotencyKey(r.Header)
	if err != nil {
		return nil, err
	}
	if key == "" {
		return call(r.Context())
	}
	answer, err := f.account.AnswerOnce(r.Context(), f.scope(r, endpoint, user), host(r)+"\x00"+key, request, call)
	switch {
	case errors.Is(err, gateway.ErrConflict):
		return nil, problem.New(problem.IdempotencyConflict, "Send the same request again, or use a new key.")
	case errors.Is(err, gateway.ErrBusy):
		p := problem.New(problem.RateLimited, "Too many requests with an Idempotency-Key are under way.")
		p.RetryAfter = busyFor
		return nil, p
	}
	return answer, err
}

// scope is who may use a key: one user at one endpoint. On a public site the
// client's address stands for the user; of IPv6 it is the network, for a client
// has all of that. The host is part of the key instead: were it here, a client
// that makes up hosts would have a bound for each.
func (f *Frontend) scope(r *http.Request, endpoint, user string) string {
	who := "user " + user
	if f.Public {
		address, _ := caddyhttp.GetVar(r.Context(), caddyhttp.ClientIPVarKey).(string)
		if addr, err := netip.ParseAddr(address); err == nil && addr.Unmap().Is6() {
			network, _ := addr.WithZone("").Prefix(64)
			address = network.String()
		}
		who = "address " + address
	}
	return strings.Join([]string{f.Prefix, endpoint, who}, "\x00")
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
