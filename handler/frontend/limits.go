package frontend

import (
	"context"
	"errors"
	"net/http"
	"net/netip"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"

	"github.com/caddy-klavi/caddy-klavi/gateway"
	"github.com/caddy-klavi/caddy-klavi/handler/problem"
)

// create has call make a link or a consent, or gives the answer that the same
// caller got for the same request under the same Idempotency-Key. With a key, call
// runs on a context that outlives the request: others may wait for it.
func (f *Frontend) create(r *http.Request, endpoint, user string, request []byte,
	call func(context.Context) (*gateway.Answer, error),
) (*gateway.Answer, error) {
	key, err := creationKey(r)
	if err != nil {
		return nil, err
	}
	answer, err := f.account.Create(r.Context(),
		gateway.Creation{Caller: f.caller(r, user), Endpoint: endpoint, Key: key, Request: request}, call)
	if errors.Is(err, gateway.ErrConflict) {
		return nil, problem.New(problem.IdempotencyConflict, "Send the same request again, or use a new key.")
	}
	return answer, f.overLimit(endpoint, err)
}

// overLimit is the problem of a request beyond a limit. Other errors stay what
// they are.
func (f *Frontend) overLimit(endpoint string, err error) error {
	limit, ok := errors.AsType[*gateway.LimitError](err)
	if !ok {
		return err
	}
	f.logger.Info("request refused: a limit is reached", zap.String("endpoint", endpoint), zap.String("limit", limit.Reason))
	p := problem.New(problem.RateLimited, limit.Reason)
	p.RetryAfter = limit.RetryAfter
	return p
}

// caller is whose limits and keys a request is under: the user's. On a public
// site the client's address stands for the user; of IPv6 it is the network, for a
// client has all of that.
func (f *Frontend) caller(r *http.Request, user string) gateway.Caller {
	if !f.Public {
		return gateway.Caller{ID: f.Prefix + "\x00user " + user}
	}
	address, _ := caddyhttp.GetVar(r.Context(), caddyhttp.ClientIPVarKey).(string)
	if addr, err := netip.ParseAddr(address); err == nil {
		addr = addr.Unmap().WithZone("")
		address = addr.String()
		if addr.Is6() {
			network, _ := addr.Prefix(64)
			address = network.String()
		}
	}
	return gateway.Caller{ID: f.Prefix + "\x00address " + address, Crowd: true}
}
