package demo

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyevents"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

func init() {
	caddy.RegisterModule(Upstream{})
	httpcaddyfile.RegisterHandlerDirective("klavi_demo_upstream", parseUpstream)
	httpcaddyfile.RegisterDirectiveOrder("klavi_demo_upstream", httpcaddyfile.Before, "respond")
}

// Upstream stands for the partner's services: it takes a report at any path, and
// shows at `GET /received` what arrived, and at `GET /received/stream` what
// arrives, as server-sent events. It keeps no report, only what came with it. All
// upstreams of a process show the same.
type Upstream struct {
	// stopping is closed before Caddy waits for requests to end.
	stopping chan struct{}
}

// Arrival is one report, or body of events, that arrived.
type Arrival struct {
	Time       time.Time `json:"time"`
	Path       string    `json:"path"`
	ReportType string    `json:"report_type,omitempty"`
	ReportID   string    `json:"report_id,omitempty"`
	Events     string    `json:"events,omitempty"`
	Size       int64     `json:"size"`
	SHA256     string    `json:"sha256"`
	// Attempt is which delivery of the gateway's it was, from 1.
	Attempt int `json:"attempt"`
}

// received belongs to the process, so that a reload does not forget it.
var received = newArrivals()

// CaddyModule returns the Caddy module information.
func (Upstream) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "http.handlers.klavi_demo_upstream",
		New: func() caddy.Module { return new(Upstream) },
	}
}

// Provision asks to be told when Caddy stops, or has loaded another config: a
// page that follows the arrivals would hold up both for the grace period.
func (u *Upstream) Provision(ctx caddy.Context) error {
	app, err := ctx.App("events")
	if err != nil {
		return fmt.Errorf("getting events app: %w", err)
	}
	u.stopping = make(chan struct{})
	return app.(*caddyevents.App).On("stopping", onStopping(sync.OnceFunc(func() { close(u.stopping) })))
}

type onStopping func()

func (f onStopping) Handle(context.Context, caddy.Event) error {
	f()
	return nil
}

func (u Upstream) ServeHTTP(w http.ResponseWriter, r *http.Request, _ caddyhttp.Handler) error {
	switch {
	case r.Method == http.MethodGet && r.URL.Path == "/received":
		return show(w)
	case r.Method == http.MethodGet && r.URL.Path == "/received/stream":
		received.stream(w, r, u.stopping)
		return nil
	case r.Method != http.MethodPost:
		return caddyhttp.Error(http.StatusMethodNotAllowed, nil)
	}
	digest := sha256.New()
	size, err := io.Copy(digest, r.Body)
	if err != nil {
		return caddyhttp.Error(http.StatusBadRequest, err)
	}
	attempt, _ := strconv.Atoi(r.Header.Get("Klavi-Delivery-Attempt"))
	received.add(Arrival{
		Time: time.Now().UTC(), Path: r.URL.Path,
		ReportType: r.Header.Get("Klavi-Report-Type"), ReportID: r.Header.Get("Klavi-Report-Id"),
		Events: r.Header.Get("Klavi-Event-Name"),
		Size:   size, SHA256: hex.EncodeToString(digest.Sum(nil)), Attempt: attempt,
	})
	w.WriteHeader(http.StatusOK)
	return nil
}

func show(w http.ResponseWriter) error {
	list, _, _ := received.after(0)
	w.Header().Set("Content-Type", "application/json")
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(list)
}

// parseUpstream reads `klavi_demo_upstream [<matcher>]`.
func parseUpstream(h httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
	h.Next()
	if h.NextArg() || h.NextBlock(0) {
		return nil, h.ArgErr()
	}
	return Upstream{}, nil
}

// Interface guards
var (
	_ caddy.Provisioner           = (*Upstream)(nil)
	_ caddyhttp.MiddlewareHandler = (*Upstream)(nil)
	_ caddyevents.Handler         = onStopping(nil)
)
