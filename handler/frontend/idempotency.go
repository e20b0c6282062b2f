package frontend

import (
	"context"
	"errors"
	"net/http"
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
	answer, err := f.account.AnswerOnce(r.Context(), f.scope(r, endpoint, user), key, request, call)
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

// scope is who may use a key: one user of one site, at one endpoint. On a public
// site the client's address stands for the user.
func (f *Frontend) scope(r *http.Request, endpoint, user string) string {
	who := "user " + user
	if f.Public {
		address, _ := caddyhttp.GetVar(r.Context(), caddyhttp.ClientIPVarKey).(string)
		who = "address " + address
	}
	return strings.Join([]string{strings.ToLower(r.Host), f.Prefix, endpoint, who}, "\x00")
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
