// Package gateway is the klavi app: the accounts at Klavi, and what all
// handlers of an account share.
package gateway

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
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

	tables  *tables
	started []started
	logs    *slog.Logger
}

// started is an inbox that this config is in force on.
type started struct {
	keeper *keeper
	config *startedConfig
}

// tables is the report routes of each account. Handlers are provisioned one
// after the other, but not by a promise of Caddy's.
type tables struct {
	mu        sync.Mutex
	byAccount map[string]table
}

// table is the report routes of an account, and who brought them first.
type table struct {
	owner   string
	routes  []byte
	reports Reports // nil: direct
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
	a.logs = ctx.Slogger()
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

// Start has the inboxes opened, and reports delivered from them. It waits for
// nothing: neither an inbox that cannot be opened nor a Klavi that is down keeps
// Caddy from starting.
func (a *App) Start() error {
	for _, name := range a.names() {
		table, account := a.tables.byAccount[name], a.Accounts[name]
		if table.reports == nil {
			if account.inboxWritten {
				account.logger.Warn("the account has an inbox in the config, and no klavi_reports that keeps reports in it")
			}
			continue
		}
		c := &startedConfig{
			account:  account,
			settings: account.Inbox.settings(len(table.reports.List())),
			reports:  table.reports,
			log:      a.logs.With("account", name).Handler(),
		}
		if err := account.keeper.start(c); err != nil {
			_ = a.Stop() // Caddy stops only what has been started
			return fmt.Errorf("account %q: %w", name, err)
		}
		a.started = append(a.started, started{account.keeper, c})
	}
	return nil
}

// Stop has this config's routes get no more reports. Requests in flight still need
// the accounts, and what they bring is still stored.
func (a *App) Stop() error {
	a.detach()
	if caddy.Exiting() {
		var wg sync.WaitGroup
		for _, s := range a.started {
			wg.Go(s.keeper.stopDelivering)
		}
		wg.Wait()
	}
	return nil
}

// detach ends what Start has begun.
func (a *App) detach() {
	for _, s := range a.started {
		s.keeper.stop(s.config)
	}
}

// Cleanup gives back what Provision took. Caddy also comes here without Stop, if a
// config fails after its apps were started.
func (a *App) Cleanup() error {
	a.detach()
	var wg sync.WaitGroup
	errs := make([]error, len(a.Accounts))
	for i, name := range a.names() {
		if account := a.Accounts[name]; account != nil {
			wg.Go(func() { errs[i] = account.cleanup() }) // to close an inbox may take a while
		}
	}
	wg.Wait()
	return errors.Join(errs...)
}

// Configured returns the app for a module that is being provisioned, or an error
// that says that it is missing in the config.
func Configured(ctx caddy.Context) (*App, error) {
	mod, err := ctx.AppIfConfigured("klavi")
	if errors.Is(err, caddy.ErrNotConfigured) {
		return nil, errors.New("no account at Klavi is configured: add a klavi block with environment, access_key and secret_key to the global options")
	}
	if err != nil {
		return nil, fmt.Errorf("getting klavi app: %w", err)
	}
	app, ok := mod.(*App)
	if !ok {
		return nil, fmt.Errorf("getting klavi app: it is a %T", mod)
	}
	return app, nil
}

// ForAccount returns the account of that name for a module that is being
// provisioned, or an error that says what is missing in the config.
func ForAccount(ctx caddy.Context, name string) (*App, *Account, error) {
	app, err := Configured(ctx)
	if err != nil {
		return nil, nil, err
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

// AddReportRoutes notes which routes owner has for reports of an account, as JSON.
// Klavi calls one address for all of an account's reports, and may reach any
// listener: so every handler must know the same routes. With reports, they go
// through the account's inbox; without, they are delivered at once.
func (a *App) AddReportRoutes(account *Account, owner string, routes []byte, reports Reports) error {
	a.tables.mu.Lock()
	defer a.tables.mu.Unlock()
	first, ok := a.tables.byAccount[account.name]
	if !ok {
		if reports != nil {
			if err := account.Inbox.checkRoom(reports.LargestBody(), len(reports.List())); err != nil {
				return fmt.Errorf("account %q: %w", account.name, err)
			}
			if err := a.useInbox(account); err != nil {
				return fmt.Errorf("account %q: %w", account.name, err)
			}
		}
		a.tables.byAccount[account.name] = table{owner, routes, reports}
		return nil
	}
	if (first.reports == nil) != (reports == nil) {
		return fmt.Errorf("account %q has klavi_reports with and without direct, %s and %s: "+
			"write it in both or in none, or give each its own account", account.name, first.owner, owner)
	}
	if !bytes.Equal(first.routes, routes) {
		return fmt.Errorf("account %q has two different tables of report routes, %s and %s: "+
			"write the same routes in both, or give each its own account", account.name, first.owner, owner)
	}
	return nil
}

// useInbox has the account take its inbox, which is of no other account.
func (a *App) useInbox(account *Account) error {
	if err := account.useInbox(); err != nil {
		return err
	}
	for _, name := range a.names() {
		other := a.Accounts[name]
		if other == account || other.keeper == nil {
			continue
		}
		switch account.place.conflict(other.place) {
		case "dir":
			return fmt.Errorf("its inbox is in %s, as that of the account %q is: give one of them another dir", account.place.dir, name)
		case "schema":
			return fmt.Errorf("its inbox is in %s, as that of the account %q is: give one of them another schema", account.place, name)
		}
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
