package integration

import (
	"fmt"
	"io"
	"net/http"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

func init() {
	caddy.RegisterModule(panicker{})
	httpcaddyfile.RegisterHandlerDirective("test_panic", func(h httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
		p := new(panicker)
		return p, p.UnmarshalCaddyfile(h.Dispenser)
	})
	httpcaddyfile.RegisterDirectiveOrder("test_panic", "before", "respond")
}

// panicker is a handler of somebody else's that fails in the worst way: it panics
// with all that it knows of the request.
type panicker struct {
	After bool `json:"after,omitempty"` // once the next handler is done
	Abort bool `json:"abort,omitempty"` // as a proxy does whose upstream breaks off
}

func (panicker) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.handlers.test_panic", New: func() caddy.Module { return new(panicker) }}
}

func (p *panicker) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	body, _ := io.ReadAll(io.LimitReader(r.Body, 1<<10))
	if p.After {
		_ = next.ServeHTTP(w, r)
	}
	if p.Abort {
		panic(http.ErrAbortHandler)
	}
	panic(fmt.Sprintf("%s %v with %v and %q", r.Method, r.URL, r.Header, body))
}

func (p *panicker) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next()
	for d.NextBlock(0) {
		p.After = p.After || d.Val() == "after"
		p.Abort = p.Abort || d.Val() == "abort"
	}
	return nil
}
