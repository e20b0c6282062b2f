package frontend

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/rs/cors"

	"github.com/caddy-klavi/caddy-klavi/handler/problem"
)

// preflightKept is how many seconds a browser may remember that it may call.
const preflightKept = 600

// checkOrigins sets up who may call from other origins.
func (f *Frontend) checkOrigins() error {
	f.sources = http.NewCrossOriginProtection()
	origins := make(map[string]bool, len(f.AllowOrigins))
	for _, text := range f.AllowOrigins {
		origin, err := resolveSetting("allow_origins", text)
		if err != nil {
			return err
		}
		if err := CheckOrigin(origin); err != nil {
			return fmt.Errorf("allow_origins: %w", err)
		}
		if err := f.sources.AddTrustedOrigin(origin); err != nil {
			return fmt.Errorf("allow_origins: %q: %w", origin, err)
		}
		origins[origin] = true
	}
	if len(origins) == 0 {
		return nil
	}
	f.cors = cors.New(cors.Options{
		AllowOriginFunc:    func(origin string) bool { return origins[origin] },
		AllowedMethods:     []string{http.MethodGet, http.MethodPost},
		AllowedHeaders:     []string{"Authorization", "Content-Type", headerIdempotencyKey, headerLinkToken},
		ExposedHeaders:     []string{"Retry-After"},
		AllowCredentials:   true,
		MaxAge:             preflightKept,
		OptionsPassthrough: true,
	})
	return nil
}

// admitOrigin refuses requests that a browser makes for another site's page,
// unless that origin is listed. It answers preflights.
func (f *Frontend) admitOrigin(w http.ResponseWriter, r *http.Request, t target) (answered bool, err error) {
	if f.cors == nil {
		return false, f.checkSource(r)
	}
	if err := f.checkSource(r); err != nil {
		w.Header().Add("Vary", "Origin")
		return false, err
	}
	f.cors.ServeHTTP(w, &http.Request{Method: t.method, Header: asBrowsersAsk(r.Header)}, func(http.ResponseWriter, *http.Request) {})
	if t.method != http.MethodOptions || t.endpoint == nil || r.Header.Get("Origin") == "" ||
		r.Header.Get("Access-Control-Request-Method") == "" {
		return false, nil
	}
	if w.Header().Get("Access-Control-Allow-Origin") == "" {
		return false, problem.New(problem.Origin, "A page of another origin may use GET and POST, and the headers "+
			"Authorization, Content-Type, Idempotency-Key and Klavi-Link-Token.")
	}
	w.WriteHeader(http.StatusNoContent)
	return true, nil
}

const headerAskedHeaders = "Access-Control-Request-Headers"

// asBrowsersAsk returns a preflight's header as browsers write it: the names that
// it asks for in lower case and in order. Others that make preflights, such as
// jsdom, do not, and the library compares with what browsers write.
func asBrowsersAsk(header http.Header) http.Header {
	asked := header[headerAskedHeaders]
	if len(asked) == 0 {
		return header
	}
	names := strings.Split(strings.ToLower(strings.Join(asked, ",")), ",")
	for i := range names {
		names[i] = strings.Trim(names[i], " \t")
	}
	slices.Sort(names)
	names = slices.Compact(names)
	header = maps.Clone(header)
	header[headerAskedHeaders] = []string{strings.Join(names, ",")}
	return header
}

func (f *Frontend) checkSource(r *http.Request) error {
	origins, sites := r.Header["Origin"], r.Header["Sec-Fetch-Site"]
	if len(origins) == 0 && len(sites) == 0 {
		return nil // an app, or a tool
	}
	// The check lets all GET requests pass; what a link token reads is not
	// for other sites either.
	asPost := http.Request{Method: http.MethodPost, Header: r.Header, Host: r.Host}
	if len(origins) > 1 || len(sites) > 1 || r.Header.Get("Origin") == "null" || f.sources.Check(&asPost) != nil ||
		r.Header.Get("Sec-Fetch-Site") == "" && !f.isListedOrOwn(r) {
		return problem.New(problem.Origin, "Pages of this origin may not call; allow_origins would list it.")
	}
	return nil
}

// isListedOrOwn looks closer where the browser does not say whose page it is: the
// check above compares hosts, and takes http://gw.example and app://gw.example for
// pages of https://gw.example. Without TLS a proxy before this one may have had it.
func (f *Frontend) isListedOrOwn(r *http.Request) bool {
	switch origin := r.Header.Get("Origin"); origin {
	case "", "https://" + r.Host:
		return true
	case "http://" + r.Host:
		if r.TLS == nil {
			return true
		}
	}
	return f.cors != nil && f.cors.OriginAllowed(r)
}
