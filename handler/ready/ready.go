// Package ready tells load balancers whether this machine can keep reports.
package ready

import (
	"net/http"
	"strconv"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/go-json-experiment/json"

	"github.com/caddy-klavi/caddy-klavi/gateway"
	"github.com/caddy-klavi/caddy-klavi/handler/problem"
)

func init() {
	caddy.RegisterModule(Ready{})
}

// Ready answers GET and HEAD for a load balancer: 200 if reports can be kept, and
// 503 if the inbox of an account cannot take any just now, because it is not open,
// is full, or cannot be written. Where no account keeps reports it is 200.
//
// The body names the accounts and why: `{"ready":false,"accounts":{"default":"full"}}`.
// The reason is one of `opening`, `locked`, `wrong_key`, `full` and `unavailable`;
// the log has more.
//
// It answers every request that reaches it, and never calls the next handler.
type Ready struct {
	app *gateway.App
}

// CaddyModule returns the Caddy module information.
func (Ready) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "http.handlers.klavi_ready",
		New: func() caddy.Module { return new(Ready) },
	}
}

// Provision finds the accounts.
func (h *Ready) Provision(ctx caddy.Context) (err error) {
	h.app, err = gateway.Configured(ctx)
	return err
}

// ServeHTTP says whether reports can be kept.
func (h *Ready) ServeHTTP(w http.ResponseWriter, r *http.Request, _ caddyhttp.Handler) error {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		problem.New(problem.MethodNotAllowed, "Readiness is asked for with GET or HEAD.").Write(w)
		return nil
	}
	reasons := h.app.NotReady(r.Context())
	body, err := json.Marshal(struct {
		Ready    bool              `json:"ready"`
		Accounts map[string]string `json:"accounts,omitempty"`
	}{len(reasons) == 0, reasons}, json.Deterministic(true))
	if err != nil {
		return caddyhttp.Error(http.StatusInternalServerError, err)
	}
	body = append(body, '\n')
	status := http.StatusOK
	if len(reasons) > 0 {
		status = http.StatusServiceUnavailable
	}
	header := w.Header()
	header.Set("Content-Type", "application/json")
	header.Set("Content-Length", strconv.Itoa(len(body)))
	header.Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write(body)
	return nil
}

// Interface guards
var (
	_ caddy.Provisioner           = (*Ready)(nil)
	_ caddyhttp.MiddlewareHandler = (*Ready)(nil)
)
