// Package frontend is the face for browsers: it creates links for them, and
// holds each of them to what its link is for.
package frontend

import (
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/rs/cors"
	"go.uber.org/zap"

	"github.com/caddy-klavi/caddy-klavi/gateway"
	"github.com/caddy-klavi/caddy-klavi/handler/problem"
	"github.com/caddy-klavi/caddy-klavi/klavi"
)

func init() {
	caddy.RegisterModule(Frontend{})
}

// Frontend is the face for browsers and apps of the partner's users. It serves
// three endpoints below its prefix and answers 404 to all else there:
//
//   - `POST <prefix>/links` creates a link. The browser sends a few of Klavi's
//     fields, the config owns the rest.
//   - `GET <prefix>/institutions` and `POST <prefix>/consents` take the link token
//     that came with the link, in `Klavi-Link-Token` or as `Authorization: Bearer`,
//     and go to Klavi only for what that link was created for.
//
// Requests outside the prefix go to the next handler. Errors are
// `application/problem+json` (RFC 9457) with a type from a fixed list.
type Frontend struct {
	// Account is the name of the account at Klavi. Default: `default`.
	Account string `json:"account,omitempty"`

	// Prefix is the public path as the browser writes it, whatever rewrites
	// do before this handler: `/klavi`, which `/klavi/` and `/klavi/*` mean
	// too. Required.
	Prefix string `json:"prefix,omitempty"`

	// User is the logged-in user, as one or more placeholders. It must have a
	// value on every request. It goes to Klavi as `externalInfo.user` and is
	// sealed into the link token: nobody can use another user's link. Exactly
	// one of user and public is required.
	User string `json:"user,omitempty"`

	// Public says that the site has no logins.
	Public bool `json:"public,omitempty"`

	// Set fixes fields of the link: `personalTaxId`, `businessTaxId`, `email`,
	// `phone`, `institutionCode` or `connectionKey`, each with a placeholder or
	// a constant. A placeholder without a value refuses the request. What a
	// browser sends for such a field must be equal.
	Set map[string]string `json:"set,omitempty"`

	// SetConsent fixes fields of the consent in the same way: `validityPeriod`
	// (months: 12, or 0 for no end), `phone`, `email`, `personalTaxId`,
	// `businessTaxId` or `institutionCode`
	// (docs.klavi.ai/connect/create-a-consent).
	SetConsent map[string]string `json:"set_consent,omitempty"`

	// ExternalInfo adds entries to the link's externalInfo, which Klavi repeats
	// in reports and events: name to placeholder. The names `user` and `client`
	// are taken.
	ExternalInfo map[string]string `json:"external_info,omitempty"`

	// ReportsURL is where Klavi sends the reports of the links, in one of its
	// own three forms: report types with a URL each; the same with `other` for
	// the rest; or `all` alone (docs.klavi.ai/connect/create-a-link). Default:
	// what Klavi's Console says.
	ReportsURL map[string]string `json:"reports_url,omitempty"`

	// RedirectURLs are where a user may be sent in the end, compared as whole
	// URLs. A browser that names none gets the first. They are https, or http
	// on loopback, or of an app's private scheme. Required.
	RedirectURLs []string `json:"redirect_urls,omitempty"`

	// Accept opens fields of the link to browsers: `connectionKey`,
	// `externalInfo` (which goes to Klavi as `externalInfo.client`).
	Accept []string `json:"accept,omitempty"`

	// AppLink has the hosted flow jump into an app.
	AppLink *AppLink `json:"app_link,omitempty"`

	// Flow narrows how a link is used. With `whitelabel` the browser gets a
	// linkURL and no link token, and institutions and consents are closed; with
	// `api_only` it gets a link token and no linkURL. Default: both.
	Flow string `json:"flow,omitempty"`

	// LinksOff closes `POST <prefix>/links`, for sites whose backend creates
	// the links: they are sealed for a user, so that it takes user, or link_token
	// raw. Settings of links cannot stand beside it.
	LinksOff bool `json:"links_off,omitempty"`

	// LinkToken is `sealed` or `raw`. A raw link token is Klavi's own: it is
	// good without this gateway, and nothing here compares a consent with its
	// link or a link with its user. Default: `sealed`.
	LinkToken string `json:"link_token,omitempty"`

	// UnboundConsents lets a consent bring any tax id where its link has none.
	UnboundConsents bool `json:"unbound_consents,omitempty"`

	// AllowOrigins are the other origins whose pages may call, with
	// credentials: `https://app.example.com`, or `capacitor://localhost` and
	// the like for pages in an app. Default: none.
	AllowOrigins []string `json:"allow_origins,omitempty"`

	account      *gateway.Account
	endpoints    []endpoint
	folded       caddyhttp.MatchPath // what Caddy's path matcher takes for the prefix
	redirects    []string
	reportsURL   klavi.CallbackURL
	appLinkURL   string
	sources      *http.CrossOriginProtection
	cors         *cors.Cors
	institutions *http.Request // to Klavi; copied for each call
	linkFields   fieldSet
	now          func() time.Time
	logger       *zap.Logger
}

// AppLink has the hosted flow jump into an app after the authorisation
// (docs.klavi.ai/connect/create-a-link).
type AppLink struct {
	// URL is the app's universal link. Required.
	URL string `json:"url,omitempty"`

	// Parameter is the query parameter in which the app gets the URL at which
	// to go on. Required.
	Parameter string `json:"parameter,omitempty"`
}

const (
	flowWhitelabel = "whitelabel"
	flowAPIOnly    = "api_only"

	linkTokenSealed = "sealed"
	linkTokenRaw    = "raw"
)

// CaddyModule returns the Caddy module information.
func (Frontend) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "http.handlers.klavi_frontend",
		New: func() caddy.Module { return new(Frontend) },
	}
}

// Provision checks the config and finds the account.
func (f *Frontend) Provision(ctx caddy.Context) error {
	f.now = time.Now
	_, account, err := gateway.ForAccount(ctx, f.Account)
	if err != nil {
		return err
	}
	f.account = account
	f.logger = ctx.Logger().With(zap.String("account", account.Name()))
	if err := f.checkConfig(); err != nil {
		return err
	}
	f.folded = caddyhttp.MatchPath{f.Prefix, f.Prefix + "/*"}
	if err := f.folded.Provision(ctx); err != nil {
		return err
	}
	f.institutions, err = account.NewRequest(http.MethodGet, "/links/institutions", nil)
	if err != nil {
		return err
	}
	f.linkFields = f.openLinkFields()
	f.endpoints = f.openEndpoints()
	return nil
}

// ServeHTTP serves what is below the prefix, and passes on the rest.
func (f *Frontend) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	t, ours, err := f.target(r)
	if err != nil {
		return err
	}
	if !ours {
		return next.ServeHTTP(w, r)
	}
	err = f.serve(w, r, t)
	if err == nil {
		return nil
	}
	if r.Context().Err() != nil && !isTooSlow(err) {
		// Nobody is there to read an answer.
		return caddyhttp.Error(statusClientGone, r.Context().Err())
	}
	f.refuse(w, err)
	return nil
}

// serve answers a request for t, or returns a [problem.Problem].
func (f *Frontend) serve(w http.ResponseWriter, r *http.Request, t target) error {
	answered, err := f.admitOrigin(w, r, t)
	if answered || err != nil {
		return err
	}
	if t.endpoint == nil {
		return problem.New(problem.NotFound, "Possible are "+f.openPaths()+".")
	}
	if t.method != t.endpoint.method {
		w.Header().Set("Allow", t.endpoint.method)
		return problem.New(problem.MethodNotAllowed, "Use "+t.endpoint.method+".")
	}
	if err := checkRequest(w, r, t); err != nil {
		return err
	}
	return t.endpoint.serve(w, r)
}

// refuse answers with the problem that err is.
func (f *Frontend) refuse(w http.ResponseWriter, err error) {
	var p *problem.Problem
	if !errors.As(err, &p) {
		f.logger.Error("serving a browser failed", zap.Error(err))
		p = problem.New(problem.Internal, "The gateway could not serve the request.")
	}
	f.account.CountRefusal("frontend", p.Type.Name)
	p.Write(w)
}

// openPaths lists what is served, for answers to those who missed it.
func (f *Frontend) openPaths() string {
	paths := make([]string, 0, len(f.endpoints))
	for _, e := range f.endpoints {
		paths = append(paths, e.method+" "+e.path)
	}
	return strings.Join(paths, ", ")
}

// Interface guards
var (
	_ caddy.Provisioner           = (*Frontend)(nil)
	_ caddyhttp.MiddlewareHandler = (*Frontend)(nil)
)
