// Package reports is the face for Klavi: it takes signed reports and events, and
// delivers each to the service that waits for it.
package reports

import (
	"fmt"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"

	"github.com/caddy-klavi/caddy-klavi/gateway"
	"github.com/caddy-klavi/caddy-klavi/klavi"
)

const (
	defaultMaxBody = 64 << 20

	// MostMaxBody is the largest max_body: what one body may take up of the room
	// in files, of which others than Klavi's addresses have half.
	MostMaxBody = 1 << 30

	// Klavi gives up after 10 s (docs.klavi.ai/link/lqUr-overview).
	bodyTime     = 10 * time.Second
	roomTime     = 8 * time.Second
	deliveryTime = 9 * time.Second
	commitTime   = 9 * time.Second

	// Of a route of the inbox.
	defaultConcurrency = 8
	defaultTimeout     = time.Minute
)

func init() {
	caddy.RegisterModule(Reports{})
}

// Reports takes the webhooks of Klavi: reports and events. It checks their
// signature and chooses a route by what the signed body says, which stays as it is.
//
// A report is answered 200 once it is safely in the account's inbox, from which it
// is delivered until the route's handlers have accepted it. What is signed and has
// no route, or cannot be read, is kept there too, for a person to see.
//
// It answers every request that reaches it, and never calls the next handler:
// give it a path matcher.
//
// A body larger than 1 MiB is spooled to a file while it arrives: sealed in the
// inbox or, with direct, without a name in the system's folder for temporary files.
// All handlers of the process together hold at most 64 MiB of bodies in memory and
// 2 GiB in such files; half of each is kept for klavi_sources. A body has 10 s to
// arrive.
type Reports struct {
	// Account is the name of the account whose reports these are. Default: `default`.
	Account string `json:"account,omitempty"`

	// Direct delivers a report while Klavi waits, for up to 9 s, and lets the
	// success of the delivery decide Klavi's answer. Nothing is kept. Default:
	// false, which is the inbox.
	Direct bool `json:"direct,omitempty"`

	// MaxBody is the size in bytes above which a body is refused with 413.
	// At most 1073741824, which is 1 GiB. Default: 67108864, which is 64 MiB.
	MaxBody int64 `json:"max_body,omitempty"`

	// KlaviSources are the addresses, or ranges in CIDR notation, from which
	// Klavi sends. They have priority when room for bodies is short, and
	// nothing else: the signature alone says who sent a report. Default: those
	// that Klavi publishes (docs.klavi.ai/connect/security).
	KlaviSources []string `json:"klavi_sources,omitempty"`

	// UnsignedFrom are addresses, or ranges in CIDR notation, from which a
	// report without any signature is accepted. A wrong signature is refused
	// from there too. The address is that of the client as Caddy sees it, so
	// behind a load balancer it needs `trusted_proxies`. Default: none.
	UnsignedFrom []string `json:"unsigned_from,omitempty"`

	// Routes say where which report goes. At least one is required, and all
	// handlers of an account must have the same.
	Routes []*Route `json:"routes,omitempty"`

	account      *gateway.Account
	klaviSources sources
	unsignedFrom sources
	table        *table
	server       *caddyhttp.Server // under which it stands in the config
	limits       limits
	logger       *zap.Logger
}

// limits are what tests set to other values.
type limits struct {
	body, room, delivery, commit time.Duration
	inMemory                     int64
	memory, spool                *room
	spoolDir                     string
}

// CaddyModule returns the Caddy module information.
func (Reports) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "http.handlers.klavi_reports",
		New: func() caddy.Module { return new(Reports) },
	}
}

// Provision sets the handler and its routes up.
func (h *Reports) Provision(ctx caddy.Context) error {
	h.logger = ctx.Logger()
	if h.server, _ = ctx.Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server); h.server == nil {
		h.server = new(caddyhttp.Server) // reverse_proxy reads its settings
	}
	h.limits = limits{
		body: bodyTime, room: roomTime, delivery: deliveryTime, commit: commitTime,
		inMemory: maxInMemory, memory: memoryRoom, spool: spoolRoom,
	}
	if h.MaxBody < 0 {
		return fmt.Errorf("max_body is %d: it must be a size in bytes above 0", h.MaxBody)
	}
	if h.MaxBody > MostMaxBody {
		return fmt.Errorf("max_body is %d: it is larger than 1 GiB, half of the room that all bodies together have", h.MaxBody)
	}
	if h.MaxBody == 0 {
		h.MaxBody = defaultMaxBody
	}
	if err := h.provisionSources(); err != nil {
		return err
	}
	app, account, err := gateway.ForAccount(ctx, h.Account)
	if err != nil {
		return err
	}
	h.account = account
	h.logger = h.logger.With(zap.String("account", account.Name()))

	// Loading the handlers empties the config that is compared here.
	written, err := CanonicalRoutes(h.Routes)
	if err != nil {
		return fmt.Errorf("reading routes: %w", err)
	}
	if h.table, err = newTable(h.Routes); err != nil {
		return err
	}
	for _, route := range h.Routes {
		if h.Direct && (route.Concurrency != 0 || route.Timeout != 0) {
			return fmt.Errorf("route %q: concurrency and timeout are for reports of the inbox: leave them out, or leave out direct", route.Name)
		}
		if err := route.provision(ctx); err != nil {
			return fmt.Errorf("route %q: %w", route.Name, err)
		}
	}
	var stored gateway.Reports
	if !h.Direct {
		stored = h
	}
	if err := app.AddReportRoutes(account, owner(ctx), written, stored); err != nil {
		return err
	}
	for _, warning := range typingErrors(h.Routes) {
		h.logger.Warn(warning)
	}
	return nil
}

func (h *Reports) provisionSources() (err error) {
	h.klaviSources = klavi.EgressAddrs()
	if len(h.KlaviSources) > 0 {
		if h.klaviSources, err = parseSources(h.KlaviSources); err != nil {
			return fmt.Errorf("klavi_sources: %w", err)
		}
	}
	if h.unsignedFrom, err = parseSources(h.UnsignedFrom); err != nil {
		return fmt.Errorf("unsigned_from: %w", err)
	}
	if h.unsignedFrom.everybody() {
		h.logger.Warn("unsigned_from is everybody: whoever reaches this address can make up reports")
	}
	return nil
}

// owner names the handler that is being provisioned to whoever wrote the config.
func owner(ctx caddy.Context) string {
	if server, ok := ctx.Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server); ok && server != nil {
		return fmt.Sprintf("the one of server %q", server.Name())
	}
	return "one outside of any server"
}

// Interface guards
var (
	_ caddy.Provisioner           = (*Reports)(nil)
	_ caddyhttp.MiddlewareHandler = (*Reports)(nil)
	_ gateway.Reports             = (*Reports)(nil)
)
