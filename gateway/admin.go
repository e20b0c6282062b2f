package gateway

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-klavi/caddy-klavi/inbox"
)

const (
	reportsPath = "/klavi/reports"
	routesPath  = "/klavi/routes"

	// How many reports an answer has, and the most that it can have.
	adminLimit    = 100
	adminMaxLimit = 1000
)

func init() {
	caddy.RegisterModule(adminAPI{})
}

// adminAPI shows on Caddy's admin API what the inboxes hold: which reports, where
// they went and when, and how the routes are doing. Nothing can be changed there,
// and no body is shown: whoever reaches the admin API of a Caddy need not be
// somebody who may read bank statements. That is what `caddy klavi` is for.
type adminAPI struct{}

// CaddyModule returns the Caddy module information.
func (adminAPI) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "admin.api.klavi",
		New: func() caddy.Module { return new(adminAPI) },
	}
}

// Routes returns the endpoints.
func (a *adminAPI) Routes() []caddy.AdminRoute {
	return []caddy.AdminRoute{
		{Pattern: reportsPath, Handler: readOnly(a.list)},
		{Pattern: reportsPath + "/", Handler: readOnly(a.show)},
		{Pattern: routesPath, Handler: readOnly(a.routes)},
		{Pattern: "/klavi/", Handler: readOnly(nothingThere)},
	}
}

// readOnly answers with what fn returns.
func readOnly(fn func(*http.Request) (any, error)) caddy.AdminHandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) error {
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			w.Header().Set("Allow", "GET, HEAD")
			return refuse(http.StatusMethodNotAllowed, "this can only be read: caddy klavi makes changes")
		}
		answer, err := fn(r)
		if err != nil {
			return asAPIError(err)
		}
		w.Header().Set("Content-Type", "application/json")
		return json.NewEncoder(w).Encode(answer)
	}
}

func refuse(status int, format string, args ...any) error {
	return caddy.APIError{HTTPStatus: status, Err: fmt.Errorf(format, args...)}
}

// asAPIError gives an error of an inbox its status.
func asAPIError(err error) error {
	status := http.StatusInternalServerError
	switch {
	case errors.As(err, new(caddy.APIError)):
		return err
	case errors.Is(err, inbox.ErrNotFound):
		status = http.StatusNotFound
	case errors.Is(err, inbox.ErrUnavailable), errors.Is(err, inbox.ErrLocked), errors.Is(err, inbox.ErrKey), errors.Is(err, inbox.ErrFull):
		status = http.StatusServiceUnavailable
	}
	return caddy.APIError{HTTPStatus: status, Err: err}
}

func nothingThere(*http.Request) (any, error) {
	return nil, refuse(http.StatusNotFound, "there are %s, %s/<uid> and %s", reportsPath, reportsPath, routesPath)
}

// reportList is a page of reports.
type reportList struct {
	Reports []inbox.Record `json:"reports"`
	// After is the parameter that gets the next page, empty on the last one.
	After string `json:"after,omitempty"`
}

func (*adminAPI) list(r *http.Request) (any, error) {
	var f inbox.Filter
	var page inbox.Page
	query, err := parameters(r, map[string]*string{
		"state": (*string)(&f.State), "type": &f.Type, "route": &f.Route, "report": &f.ReportID, "request": &f.RequestID,
		"link": &f.LinkID, "consent": &f.ConsentID, "event": &f.EventID, "after": &page.After,
	}, "limit")
	if err != nil {
		return nil, err
	}
	if err := f.Check(); err != nil {
		return nil, refuse(http.StatusBadRequest, "%s", Mask([]byte(err.Error())))
	}
	limit := adminLimit
	if query.Has("limit") {
		if limit, err = strconv.Atoi(query.Get("limit")); err != nil || limit < 1 || limit > adminMaxLimit {
			return nil, refuse(http.StatusBadRequest, "limit is not a number from 1 to %d", adminMaxLimit)
		}
	}
	store, err := openStore(query.Get("account"))
	if err != nil {
		return nil, err
	}
	if page.After != "" {
		// An end that is none would be worse than an error.
		if _, err := store.Show(r.Context(), page.After); errors.Is(err, inbox.ErrNotFound) {
			return nil, refuse(http.StatusBadRequest, "after is not the uid of a report here")
		}
	}
	page.Limit = limit + 1
	records, err := store.List(r.Context(), f, page)
	if err != nil {
		return nil, err
	}
	list := reportList{Reports: orEmpty(records)}
	if len(records) > limit {
		list.Reports, list.After = records[:limit], records[limit-1].UID
	}
	return list, nil
}

func (*adminAPI) show(r *http.Request) (any, error) {
	query, err := parameters(r, nil)
	if err != nil {
		return nil, err
	}
	store, err := openStore(query.Get("account"))
	if err != nil {
		return nil, err
	}
	record, err := store.Show(r.Context(), strings.TrimPrefix(r.URL.Path, reportsPath+"/"))
	if errors.Is(err, inbox.ErrNotFound) {
		return nil, refuse(http.StatusNotFound, "no report has this uid; Klavi's ids are for %s?report=", reportsPath)
	}
	if err != nil {
		return nil, err
	}
	return record, nil
}

// routeList is how an account's routes are doing, and what its inbox holds.
type routeList struct {
	Routes []inbox.RouteStatus `json:"routes"`
	Inbox  inbox.Stats         `json:"inbox"`
}

func (*adminAPI) routes(r *http.Request) (any, error) {
	query, err := parameters(r, nil)
	if err != nil {
		return nil, err
	}
	store, err := openStore(query.Get("account"))
	if err != nil {
		return nil, err
	}
	routes, err := store.ListRoutes(r.Context())
	if err != nil {
		return nil, err
	}
	stats, err := store.Stats(r.Context())
	return routeList{orEmpty(routes), stats}, err
}

// orEmpty has JSON say [] where there is nothing, not null.
func orEmpty[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}

// parameters reads a query into fields by name. Beside them there are account and
// others. One that is not known, is empty or stands there twice is refused: a list
// that is not filtered as it was meant to be would mislead.
func parameters(r *http.Request, fields map[string]*string, others ...string) (url.Values, error) {
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, refuse(http.StatusBadRequest, "the query cannot be read: it is name=value, with & between them and %%xx for odd characters")
	}
	known := append(others, "account")
	for name := range fields {
		known = append(known, name)
	}
	slices.Sort(known)
	for name, values := range query {
		switch {
		case !slices.Contains(known, name):
			return nil, refuse(http.StatusBadRequest, "there is a parameter in the query that is not known here: there is %s", strings.Join(known, ", "))
		case len(values) > 1:
			return nil, refuse(http.StatusBadRequest, "%s stands in the query twice", name)
		case values[0] == "":
			return nil, refuse(http.StatusBadRequest, "%s is empty", name)
		case fields[name] != nil:
			*fields[name] = values[0]
		}
	}
	return query, nil
}

// openStore returns the inbox of an account, as this process has it open; account
// may be empty where there is only one. It opens none.
func openStore(account string) (*inbox.Store, error) {
	inForce := keepersInForce()
	names := slices.Sorted(maps.Keys(inForce))
	k, ok := inForce[account]
	switch {
	case len(names) == 0:
		return nil, refuse(http.StatusNotFound, "no inbox is in use: klavi_reports without direct has one")
	case account == "" && len(names) == 1:
		k = inForce[names[0]]
	case account == "":
		return nil, refuse(http.StatusBadRequest, "which account? Add ?account=<name>: there is %s", strings.Join(names, ", "))
	case !ok:
		return nil, refuse(http.StatusNotFound, "this account has no inbox: there is that of %s", strings.Join(names, ", "))
	}
	return k.get()
}

// Interface guards
var (
	_ caddy.Module      = (*adminAPI)(nil)
	_ caddy.AdminRouter = (*adminAPI)(nil)
)
