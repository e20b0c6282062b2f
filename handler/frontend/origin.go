package frontend

import (
	"fmt"
	"net/http"

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
	f.cors.ServeHTTP(w, &http.Request{Method: t.method, Header: r.Header}, func(http.ResponseWriter, *http.Request) {})
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

func (f *Frontend) checkSource(r *http.Request) error {
	origins, sites := r.Header["Origin"], r.Header["Sec-Fetch-Site"]
	if len(origins) == 0 && len(sites) == 0 {
		return nil // an app, or a tool
	}
	// The check lets all GET requests pass; what a link token reads is not
	// for other sites either.
	asPost := http.Request{Method: http.MethodPost, Header: r.Header, Host: r.Host}
	if len(origins) > 1 || len(sites) > 1 || len(origins) == 1 && origins[0] == "null" || f.sources.Check(&asPost) != nil {
		return problem.New(problem.Origin, "Pages of this origin may not call; allow_origins would list it.")
	}
	return nil
}
