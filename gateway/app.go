// Package gateway is the klavi app: the accounts at Klavi, and what all
// handlers of an account share.
package gateway

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/caddyserver/caddy/v2"
)

// DefaultAccount is the account of handlers that name none.
const DefaultAccount = "default"

func init() {
	caddy.RegisterModule(App{})
}

// App holds the accounts at Klavi. Handlers and transports refer to one of
// them by its name.
type App struct {
	// Accounts by name. The account that is used where none is named is
	// called `default`. Required.
	Accounts map[string]*Account `json:"accounts,omitempty"`

	tables *tables
}

// tables is the report routes of each account. Handlers are provisioned one
// after the other, but not by a promise of Caddy's.
type tables struct {
	mu        sync.Mutex
	byAccount map[string]table
}

// table is the report routes of an account, and who brought them first.
type table struct {
	owner  string
	routes []byte
}

// CaddyModule returns the Caddy module information.
func (App) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "klavi",
		New: func() caddy.Module { return new(App) },
	}
}

// Provision sets the accounts up. It asks nothing of the network.
func (a *App) Provision(ctx caddy.Context) error {
	if len(a.Accounts) == 0 {
		return errors.New("no account is configured: add one under accounts, or a klavi block to the Caddyfile")
	}
	if err := registerMetrics(ctx.GetMetricsRegistry()); err != nil {
		return err
	}
	a.tables = &tables{byAccount: make(map[string]table)}
	for _, name := range a.names() {
		if a.Accounts[name] == nil {
			return fmt.Errorf("account %q is empty: it needs access_key and secret_key", name)
		}
		if err := a.Accounts[name].provision(ctx, name); err != nil {
			return fmt.Errorf("account %q: %w", name, err)
		}
	}
	return nil
}

// Start does nothing: a token is fetched when a request needs one, so that a
// Klavi that is down keeps no Caddy from starting.
func (a *App) Start() error { return nil }

// Stop does nothing: requests in flight may still need an account.
func (a *App) Stop() error { return nil }

// Cleanup gives back what Provision took.
func (a *App) Cleanup() error {
	var errs []error
	for _, account := range a.Accounts {
		if account != nil {
			errs = append(errs, account.cleanup())
		}
	}
	return errors.Join(errs...)
}

// ForAccount returns the account of that name for a module that is being
// provisioned, or an error that says what is missing in the config.
func ForAccount(ctx caddy.Context, name string) (*App, *Account, error) {
	mod, err := ctx.AppIfConfigured("klavi")
	if errors.Is(err, caddy.ErrNotConfigured) {
		return nil, nil, errors.New("no account at Klavi is configured: add a klavi block with environment, access_key and secret_key to the global options")
	}
	if err != nil {
		return nil, nil, fmt.Errorf("getting klavi app: %w", err)
	}
	app, ok := mod.(*App)
	if !ok {
		return nil, nil, fmt.Errorf("getting klavi app: it is a %T", mod)
	}
	if name == "" {
		name = DefaultAccount
	}
	account, ok := app.Accounts[name]
	if !ok {
		return nil, nil, fmt.Errorf("account %q is not configured; there is %s", name, strings.Join(app.names(), ", "))
	}
	return app, account, nil
}

// AddReportRoutes notes which routes owner has for reports of an account. Klavi
// calls one address for all of an account's reports, and may reach any listener:
// so every handler must know the same routes.
func (a *App) AddReportRoutes(account, owner string, routes []byte) error {
	a.tables.mu.Lock()
	defer a.tables.mu.Unlock()
	first, ok := a.tables.byAccount[account]
	if !ok {
		a.tables.byAccount[account] = table{owner, routes}
		return nil
	}
	if !bytes.Equal(first.routes, routes) {
		return fmt.Errorf("account %q has two different tables of report routes, %s and %s: "+
			"write the same routes in both, or give each its own account", account, first.owner, owner)
	}
	return nil
}

// names returns the names of the accounts in order.
func (a *App) names() []string {
	names := make([]string, 0, len(a.Accounts))
	for name := range a.Accounts {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// Interface guards
var (
	_ caddy.App          = (*App)(nil)
	_ caddy.Provisioner  = (*App)(nil)
	_ caddy.CleanerUpper = (*App)(nil)
)
