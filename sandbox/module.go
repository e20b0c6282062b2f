package sandbox

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"sync"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

func init() {
	caddy.RegisterModule(Handler{})
}

// Handler answers as Klavi does: its API under /data/v1, the pages on which a user consents, and signed reports and events
// sent to the URLs given here. Nothing in it is real. It is for development and CI: its controls under /_sandbox/ need no login,
// and GET /_sandbox/requests shows the credentials that were sent to it.
//
// What it remembers (links, consents, tokens) survives a reload of the config, and belongs to its access key: two handlers
// with one access key are one sandbox, with the options of the one that was loaded last.
type Handler struct {
	// The access key of POST /data/v1/auth. May hold placeholders. Default: sandbox-access-key.
	AccessKey string `json:"access_key,omitempty"`

	// The secret key of POST /data/v1/auth, and the key that signs deliveries. May hold placeholders.
	// Default: sandbox-secret-key.
	SecretKey string `json:"secret_key,omitempty"`

	// Where events go, as set in Klavi's Console. Default: events are not sent.
	EventsURL string `json:"events_url,omitempty"`

	// Where reports go for which neither the report request nor the link names a URL, as set in Klavi's Console.
	ReportsURL string `json:"reports_url,omitempty"`

	// `automatic` sends the reports of all products as soon as a consent is authorised, `manual` only those that are
	// requested. Default: automatic.
	Delivery string `json:"delivery,omitempty"`

	// The report types that were bought at onboarding, such as pf_checking_account. Default: a set of pf_ and pj_ types.
	Products []string `json:"products,omitempty"`

	// How large a generated report becomes, in bytes, up to 64 MiB. Default: 8192.
	ReportSize int64 `json:"report_size,omitempty"`

	// Varies the generated data; the same seed gives the same data. Default: 0.
	Seed uint64 `json:"seed,omitempty"`

	// A directory of reports to send in place of generated ones, one <product>.json each. The header of a report and its
	// externalInfo are filled in.
	Fixtures string `json:"fixtures,omitempty"`

	sandbox *shared
	key     string
	options *Options
}

// CaddyModule returns the Caddy module information.
func (Handler) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "http.handlers.klavi_sandbox",
		New: func() caddy.Module { return new(Handler) },
	}
}

// pool holds the sandboxes across reloads, by a hash of the access key.
var pool = caddy.NewUsagePool()

// shared is a sandbox with the options of every loaded config that uses it; the newest count. A config that fails to load
// takes its own away again.
type shared struct {
	*Sandbox

	configMu sync.Mutex
	configs  []*Options
}

func (s *shared) attach(o *Options) error {
	s.configMu.Lock()
	defer s.configMu.Unlock()
	if err := s.configure(*o); err != nil {
		return err
	}
	s.configs = append(s.configs, o)
	return nil
}

func (s *shared) detach(o *Options) error {
	s.configMu.Lock()
	defer s.configMu.Unlock()
	for i, c := range s.configs {
		if c != o {
			continue
		}
		s.configs = append(s.configs[:i:i], s.configs[i+1:]...)
		if i == len(s.configs) && i > 0 {
			return s.configure(*s.configs[i-1])
		}
		return nil
	}
	return nil
}

// Provision sets up the handler.
func (h *Handler) Provision(ctx caddy.Context) error {
	o, err := h.toOptions(ctx)
	if err != nil {
		return err
	}
	if _, err := o.withDefaults(); err != nil {
		return err
	}
	hash := sha256.Sum256([]byte("klavi_sandbox\x00" + o.AccessKey))
	key := hex.EncodeToString(hash[:])
	value, _, err := pool.LoadOrNew(key, func() (caddy.Destructor, error) {
		s, err := New(*o)
		return &shared{Sandbox: s}, err
	})
	if err != nil {
		return err
	}
	h.key, h.sandbox, h.options = key, value.(*shared), o
	return h.sandbox.attach(o)
}

func (h *Handler) toOptions(ctx caddy.Context) (*Options, error) {
	o := &Options{
		AccessKey: DefaultAccessKey, SecretKey: DefaultSecretKey, EventsURL: h.EventsURL, ReportsURL: h.ReportsURL,
		Products: h.Products, ReportSize: h.ReportSize, Seed: h.Seed, Fixtures: h.Fixtures, Logger: ctx.Logger(),
	}
	repl := caddy.NewReplacer()
	for _, f := range []struct {
		name, from string
		to         *string
	}{{"access_key", h.AccessKey, &o.AccessKey}, {"secret_key", h.SecretKey, &o.SecretKey}} {
		if f.from == "" {
			continue
		}
		value, err := repl.ReplaceOrErr(f.from, true, true)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", f.name, err)
		}
		*f.to = value
	}
	switch h.Delivery {
	case "", "automatic":
	case "manual":
		o.Manual = true
	default:
		return nil, fmt.Errorf("delivery: %q: want automatic or manual", h.Delivery)
	}
	return o, nil
}

// Cleanup releases what Provision acquired. Requests that outlive it are still answered; deliveries end with the last
// config that uses the sandbox.
func (h *Handler) Cleanup() error {
	if h.sandbox == nil {
		return nil
	}
	if err := h.sandbox.detach(h.options); err != nil {
		return err
	}
	_, err := pool.Delete(h.key)
	return err
}

// ServeHTTP answers every request; no handler comes after it.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request, _ caddyhttp.Handler) error {
	h.sandbox.ServeHTTP(w, r)
	return nil
}

// Interface guards
var (
	_ caddy.Provisioner           = (*Handler)(nil)
	_ caddy.CleanerUpper          = (*Handler)(nil)
	_ caddy.Destructor            = (*shared)(nil)
	_ caddyhttp.MiddlewareHandler = (*Handler)(nil)
)
