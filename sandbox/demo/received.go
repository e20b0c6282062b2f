package demo

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// keptArrivals bounds what an upstream remembers.
const keptArrivals = 1000

func init() {
	caddy.RegisterModule(Upstream{})
	httpcaddyfile.RegisterHandlerDirective("klavi_demo_upstream", parseUpstream)
	httpcaddyfile.RegisterDirectiveOrder("klavi_demo_upstream", httpcaddyfile.Before, "respond")
}

// Upstream stands for the partner's services: it takes a report at any path, and
// shows at `GET /received` what arrived. It keeps no report, only what came with it.
type Upstream struct{}

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

// arrivals belongs to the process, so that a reload does not forget it.
var arrivals struct {
	mu   sync.Mutex
	list []Arrival
}

// CaddyModule returns the Caddy module information.
func (Upstream) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "http.handlers.klavi_demo_upstream",
		New: func() caddy.Module { return new(Upstream) },
	}
}

func (Upstream) ServeHTTP(w http.ResponseWriter, r *http.Request, _ caddyhttp.Handler) error {
	if r.Method == http.MethodGet && r.URL.Path == "/received" {
		return show(w)
	}
	if r.Method != http.MethodPost {
		return caddyhttp.Error(http.StatusMethodNotAllowed, nil)
	}
	digest := sha256.New()
	size, err := io.Copy(digest, r.Body)
	if err != nil {
		return caddyhttp.Error(http.StatusBadRequest, err)
	}
	attempt, _ := strconv.Atoi(r.Header.Get("Klavi-Delivery-Attempt"))
	arrival := Arrival{
		Time: time.Now().UTC(), Path: r.URL.Path,
		ReportType: r.Header.Get("Klavi-Report-Type"), ReportID: r.Header.Get("Klavi-Report-Id"),
		Events: r.Header.Get("Klavi-Event-Name"),
		Size:   size, SHA256: hex.EncodeToString(digest.Sum(nil)), Attempt: attempt,
	}
	arrivals.mu.Lock()
	defer arrivals.mu.Unlock()
	if len(arrivals.list) == keptArrivals {
		arrivals.list = arrivals.list[1:]
	}
	arrivals.list = append(arrivals.list, arrival)
	w.WriteHeader(http.StatusOK)
	return nil
}

func show(w http.ResponseWriter) error {
	arrivals.mu.Lock()
	list := append([]Arrival{}, arrivals.list...)
	arrivals.mu.Unlock()
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
	_ caddyhttp.MiddlewareHandler = Upstream{}
)
