// Package proxy is the transport `klavi` for Caddy's reverse_proxy: it puts
// Klavi's access token on requests of the partner's own services, and decides
// last which requests those are.
package proxy

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"go.uber.org/zap"

	"github.com/caddy-klavi/caddy-klavi/gateway"
	"github.com/caddy-klavi/caddy-klavi/handler/problem"
	"github.com/caddy-klavi/caddy-klavi/klavi"
)

func init() {
	caddy.RegisterModule(Transport{})
}

// Values of LinkToken.
const (
	linkTokenRaw    = "raw"
	linkTokenSealed = "sealed"
)

// Transport carries requests of the partner's services to Klavi with the access
// token of an account. It is the last to see a request, after every rewrite and
// header operation, and the only one to see the token: no other handler, error
// route or log does.
//
// Only Klavi's documented accessToken endpoints are open, compared byte for
// byte, and never those that answer with a credential or take a linkToken. Scheme,
// host and base path are the account's, the upstream's address is not used. Of the
// request's headers only Accept, Accept-Encoding and Content-Type travel. A
// request that a browser marked as its own (Origin, Sec-Fetch-Site) is refused;
// this relies on these headers reaching the transport, so header_up must not
// delete them.
//
// Klavi's answers come back as they are. When it answers 401, the request is sent
// once more with a new token if its body has at most 1 MiB. Refusals of the
// transport's own are answers with a problem (`application/problem+json`), not
// errors: handle_errors does not see them, handle_response does.
type Transport struct {
	// Account is the name of the account. Default: `default`.
	Account string `json:"account,omitempty"`

	// Prefix is what stands before Klavi's paths, such as `/klavi-api`. A
	// path that does not begin with it is refused. With or without it, one
	// `/data/v1` before Klavi's path is dropped. Default: none.
	Prefix string `json:"prefix,omitempty"`

	// Allow adds endpoints to the list of those that are open. `/auth`,
	// `/refresh` and the endpoints that take a linkToken cannot be added.
	Allow []Endpoint `json:"allow,omitempty"`

	// ReportsURL is Klavi's productsCallbackURL object: report types, `other`
	// or `all` to URLs (docs.klavi.ai/connect/create-a-link). It is filled in where
	// a link or a report request has none; one that a service sends must be
	// made of these URLs. The query of these requests is dropped. Default: none,
	// and services may send any.
	ReportsURL map[string]string `json:"reports_url,omitempty"`

	// ExternalInfo is filled in as externalInfo where a link or a report
	// request has none. Values may hold placeholders; a request for which one
	// is unknown or empty is refused. Default: none.
	ExternalInfo map[string]string `json:"external_info,omitempty"`

	// AnyCallbackURL lets services send any productsCallbackURL although
	// ReportsURL is set. Default: false.
	AnyCallbackURL bool `json:"any_callback_url,omitempty"`

	// LinkToken is the linkToken that POST /links answers with: `raw` is
	// Klavi's own; `sealed` is one that is good through klavi_frontend only,
	// for the user whom the service names in the header `Klavi-User` and for
	// what the link was created for. Default: `raw`.
	LinkToken string `json:"link_token,omitempty"`

	account     *gateway.Account
	open        allowList
	literals    map[Endpoint]struct{} // those of open without an id
	reports     klavi.CallbackURL
	reportsJSON jsontext.Value
	external    []string // names of ExternalInfo in order
	logger      *zap.Logger
}

// CaddyModule returns the Caddy module information.
func (Transport) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "http.reverse_proxy.transport.klavi",
		New: func() caddy.Module { return new(Transport) },
	}
}

// Provision sets the transport up.
func (t *Transport) Provision(ctx caddy.Context) error {
	t.logger = ctx.Logger()
	var err error
	if _, t.account, err = gateway.ForAccount(ctx, t.Account); err != nil {
		return err
	}
	t.logger = t.logger.With(zap.String("account", t.account.Name()))
	if err := checkPrefix(t.Prefix); err != nil {
		return fmt.Errorf("prefix: %w", err)
	}
	if t.open, err = newAllowList(t.Allow); err != nil {
		return fmt.Errorf("allow: %w", err)
	}
	t.literals = t.open.literals()
	if err := t.parseReports(); err != nil {
		return fmt.Errorf("reports_url: %w", err)
	}
	gateway.WarnUnknownReportTypes(t.logger, t.ReportsURL)
	t.external = slices.Sorted(maps.Keys(t.ExternalInfo))
	for _, name := range t.external {
		if name == "" || t.ExternalInfo[name] == "" {
			return fmt.Errorf("external_info: %q: name and value are needed", name)
		}
	}
	if t.LinkToken != "" && t.LinkToken != linkTokenRaw && t.LinkToken != linkTokenSealed {
		return fmt.Errorf("link_token is %q: it is %s or %s", t.LinkToken, linkTokenRaw, linkTokenSealed)
	}
	if !gateway.DefaultLogMasks() {
		t.logger.Warn("the default log does not mask tax ids, which Klavi's URIs hold: " +
			"give it the encoder klavi (Caddyfile: log { format klavi { wrap json } })")
	}
	return nil
}

func (t *Transport) parseReports() (err error) {
	if t.reports, err = gateway.ParseReportsURL(t.ReportsURL); err != nil {
		return err
	}
	t.reportsJSON, err = json.Marshal(t.reports)
	return err
}

// RoundTrip answers req with what Klavi answers, or with a problem. The only
// error it returns is that of a caller who has gone.
func (t *Transport) RoundTrip(req *http.Request) (*http.Response, error) {
	res, err := t.send(req)
	if err == nil {
		// What looks at the answer's request is not to find the token.
		res.Request = req
		return res, nil
	}
	if req.Body != nil {
		_ = req.Body.Close()
	}
	var p *problem.Problem
	gone := req.Context().Err()
	switch {
	case errors.Is(gone, context.Canceled):
		return nil, gone
	case errors.As(err, &p):
	case gone != nil:
		p = problem.FromCall(&gateway.CallError{Timeout: true})
	default:
		p = problem.FromCall(err)
	}
	t.account.CountRefusal("proxy", p.Type.Name)
	if call := (*gateway.CallError)(nil); errors.As(err, &call) {
		t.logger.Warn("calling klavi failed", zap.Error(call))
	}
	if c := t.logger.Check(zap.DebugLevel, "request refused"); c != nil {
		c.Write(zap.String("type", p.Type.Name), zap.String("detail", p.Detail), zap.Int("status", p.HTTPStatus()))
	}
	return p.Response(req), nil
}

// send makes the call to Klavi. Its error may be a *problem.Problem.
func (t *Transport) send(req *http.Request) (*http.Response, error) {
	path, err := t.admit(req)
	if err != nil {
		return nil, err
	}
	if t.LinkToken == linkTokenSealed && createsLink(req.Method, path) {
		return t.sendSealed(req, path)
	}
	if t.fillsIn() && takesCallback(req.Method, path) {
		body, err := t.readObject(req)
		if err != nil {
			return nil, err
		}
		if err := t.fillIn(req, body); err != nil {
			return nil, err
		}
		return t.call(req.Context(), t.jsonRequest(req, path, body))
	}
	body, err := readBody(req)
	if err != nil {
		return nil, err
	}
	res, err := t.call(req.Context(), t.request(req, path, body))
	if err != nil && body != nil {
		if failed := body.failure(); failed != nil {
			return nil, failed
		}
	}
	return res, err
}

// call sends out with the access token.
func (t *Transport) call(ctx context.Context, out *http.Request) (*http.Response, error) {
	res, err := t.account.SendAuthorized(ctx, out)
	if err != nil {
		return nil, err
	}
	if res.StatusCode < http.StatusOK {
		// At 101 reverse_proxy would tie the client to a connection that is
		// logged in; at what is no status, such as 000, it panics.
		_ = res.Body.Close()
		return nil, problem.New(problem.KlaviNonsense, "Klavi answered with a status that ends no request.")
	}
	return res, nil
}

// checkPrefix reports what is wrong with a prefix.
func checkPrefix(prefix string) error {
	switch {
	case prefix == "":
		return nil
	case !strings.HasPrefix(prefix, "/"), strings.HasSuffix(prefix, "/"):
		return fmt.Errorf("%q must begin with a slash and not end in one, such as /klavi-api", prefix)
	}
	for segment := range strings.SplitSeq(prefix[1:], "/") {
		if segment == "" || segment == "." || segment == ".." || strings.Trim(segment, pathChars) != "" {
			return fmt.Errorf("%q may hold letters, digits, '-', '_', '.' and single slashes only", prefix)
		}
	}
	return nil
}

// Interface guards
var (
	_ caddy.Module      = (*Transport)(nil)
	_ caddy.Provisioner = (*Transport)(nil)
	_ http.RoundTripper = (*Transport)(nil)
)
