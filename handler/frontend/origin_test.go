package frontend

import (
	"crypto/tls"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/caddy-klavi/caddy-klavi/gateway"
)

func TestOrigins(t *testing.T) {
	closed := publicSite()
	open := publicSite()
	open.AllowOrigins = []string{"https://app.example", "http://localhost:3000", "capacitor://localhost"}
	sites := map[string]*site{"closed": newSite(t, closed), "open": newSite(t, open)}
	for _, test := range []struct {
		site    string
		headers []string
		status  int
		cors    string
	}{
		{"closed", nil, 200, ""},
		{"closed", []string{"Sec-Fetch-Site", "same-origin"}, 200, ""},
		{"closed", []string{"Sec-Fetch-Site", "none"}, 200, ""},
		{"closed", []string{"Origin", "https://example.com"}, 200, ""},
		{"closed", []string{"Sec-Fetch-Site", "same-site"}, 403, ""},
		{"closed", []string{"Sec-Fetch-Site", "cross-site"}, 403, ""},
		{"closed", []string{"Origin", "https://app.example"}, 403, ""},
		{"closed", []string{"Origin", "null"}, 403, ""},
		{"closed", []string{"Origin", "https://example.com", "Origin", "https://app.example"}, 403, ""},
		{"closed", []string{"Sec-Fetch-Site", "same-origin", "Sec-Fetch-Site", "cross-site"}, 403, ""},

		{"open", nil, 200, ""},
		{"open", []string{"Origin", "https://app.example", "Sec-Fetch-Site", "cross-site"}, 200, "https://app.example"},
		{"open", []string{"Origin", "http://localhost:3000"}, 200, "http://localhost:3000"},
		{"open", []string{"Origin", "capacitor://localhost"}, 200, "capacitor://localhost"},
		{"open", []string{"Origin", "capacitor://localhost", "Sec-Fetch-Site", "cross-site"}, 200, "capacitor://localhost"},
		{"open", []string{"Origin", "https://example.com", "Sec-Fetch-Site", "same-origin"}, 200, ""},
		{"open", []string{"Origin", "https://evil.example"}, 403, ""},
		{"open", []string{"Origin", "https://app.example.evil.example"}, 403, ""},
		{"open", []string{"Origin", "http://app.example"}, 403, ""},
		{"open", []string{"Origin", "https://app.example:8443"}, 403, ""},
		{"open", []string{"Origin", "capacitor://localhost.evil.example"}, 403, ""},
		{"open", []string{"Origin", "ionic://localhost"}, 403, ""},
		{"open", []string{"Origin", "https://localhost"}, 403, ""},
		{"open", []string{"Origin", "null"}, 403, ""},
		{"open", []string{"Sec-Fetch-Site", "cross-site"}, 403, ""},
	} {
		s := sites[test.site]
		w := s.get("/klavi/institutions", append([]string{"Authorization", s.seal(t, gateway.LinkToken{})}, test.headers...)...)
		got := w.Header()
		if w.Code != test.status || got.Get("Access-Control-Allow-Origin") != test.cors {
			t.Errorf("%s, %q: got status %d for origin %q, want %d for %q", test.site, test.headers,
				w.Code, got.Get("Access-Control-Allow-Origin"), test.status, test.cors)
		}
		if test.cors != "" && (got.Get("Access-Control-Allow-Credentials") != "true" || got.Get("Access-Control-Expose-Headers") != "Retry-After") {
			t.Errorf("%s, %q: got headers %v, want credentials allowed and Retry-After exposed", test.site, test.headers, got)
		}
		if vary := strings.Join(got.Values("Vary"), ","); (test.site == "open") != strings.Contains(vary, "Origin") {
			t.Errorf("%s, %q: got Vary %q", test.site, test.headers, vary)
		}
		if test.status == http.StatusForbidden {
			wantProblem(t, w, 403, "origin", "")
		}
	}
}

// A page of a listed origin can read why it was refused.
func TestProblemsCarryCORS(t *testing.T) {
	f := publicSite()
	f.AllowOrigins = []string{"https://app.example"}
	s := newSite(t, f)
	for _, path := range []string{"/klavi/institutions", "/klavi/nothing"} {
		w := s.get(path, "Origin", "https://app.example")
		if w.Code < 400 || w.Header().Get("Access-Control-Allow-Origin") != "https://app.example" {
			t.Errorf("%s: got status %d with headers %v, want a problem for the origin", path, w.Code, w.Header())
		}
	}
}

func TestPreflights(t *testing.T) {
	open := publicSite()
	open.AllowOrigins = []string{"https://app.example", "capacitor://localhost"}
	for _, test := range []struct {
		name                          string
		f                             Frontend
		path, origin, method, headers string
		status                        int
	}{
		{"listed", open, "/klavi/links", "https://app.example", "POST", "authorization,content-type,idempotency-key,klavi-link-token", 204},
		{"listed, get", open, "/klavi/institutions", "https://app.example", "GET", "authorization", 204},
		{"listed, as jsdom asks", open, "/klavi/links", "https://app.example", "POST", "Klavi-Link-Token, Idempotency-Key, klavi-link-token", 204},
		{"listed, an app's", open, "/klavi/links", "capacitor://localhost", "POST", "authorization,content-type", 204},
		{"other app's", open, "/klavi/links", "ionic://localhost", "POST", "", 403},
		{"other header among ours", open, "/klavi/links", "https://app.example", "POST", "X-Evil, Klavi-Link-Token", 403},
		{"other origin", open, "/klavi/links", "https://evil.example", "POST", "", 403},
		{"other method", open, "/klavi/links", "https://app.example", "DELETE", "", 403},
		{"other header", open, "/klavi/links", "https://app.example", "POST", "x-evil", 403},
		{"other path", open, "/klavi/tokens", "https://app.example", "POST", "", 404},
		{"nothing listed", publicSite(), "/klavi/links", "https://app.example", "POST", "", 403},
	} {
		s := newSite(t, test.f)
		r := httptest.NewRequest(http.MethodOptions, test.path, nil)
		r.Header.Set("Origin", test.origin)
		r.Header.Set("Access-Control-Request-Method", test.method)
		if test.headers != "" {
			r.Header.Set("Access-Control-Request-Headers", test.headers)
		}
		w := s.do(r)
		if w.Code != test.status {
			t.Errorf("%s: got status %d (%s), want %d", test.name, w.Code, w.Body, test.status)
		}
		headers := test.headers
		if strings.Contains(headers, "Idempotency-Key, ") {
			headers = "idempotency-key,klavi-link-token"
		}
		allowed := w.Header().Get("Access-Control-Allow-Headers") == headers && w.Header().Get("Access-Control-Allow-Methods") == test.method
		if test.status == 204 && !allowed {
			t.Errorf("%s: got headers %v, want method and headers allowed", test.name, w.Header())
		}
		s.wantNothingSent(t)
	}
}

// Without a Host, as HTTP/1.0 allows, an opaque origin is no more at home.
func TestNullOriginWithoutHost(t *testing.T) {
	s := newSite(t, publicSite())
	r := httptest.NewRequest(http.MethodGet, "/klavi/institutions", nil)
	r.Host = ""
	r.Header.Set("Origin", "null")
	r.Header.Set("Authorization", s.seal(t, gateway.LinkToken{}))
	wantProblem(t, s.do(r), 403, "origin", "")
}

// Without Sec-Fetch-Site, a host is not enough to be a page of the site's own.
func TestOriginsOfAnotherScheme(t *testing.T) {
	closed := publicSite()
	open := publicSite()
	open.AllowOrigins = []string{"http://example.com"}
	sites := map[string]*site{"closed": newSite(t, closed), "open": newSite(t, open)}
	for _, test := range []struct {
		site, scheme, origin string
		status               int
	}{
		{"closed", "https", "https://example.com", 200},
		{"closed", "https", "http://example.com", 403},
		{"closed", "https", "app://example.com", 403},
		{"closed", "https", "https://example.com/", 403},
		{"closed", "http", "http://example.com", 200},
		{"closed", "http", "https://example.com", 200}, // TLS ends at a proxy before this one
		{"closed", "http", "ftp://example.com", 403},
		{"closed", "http", "capacitor://example.com", 403},
		{"open", "https", "http://example.com", 200},
		{"open", "https", "app://example.com", 403},
	} {
		s := sites[test.site]
		r := httptest.NewRequest(http.MethodGet, test.scheme+"://example.com/klavi/institutions", nil)
		r.RequestURI = "/klavi/institutions"
		r.Header.Set("Origin", test.origin)
		r.Header.Set("Authorization", s.seal(t, gateway.LinkToken{}))
		if test.scheme == "https" {
			r.TLS = &tls.ConnectionState{HandshakeComplete: true}
		}
		if w := s.do(r); w.Code != test.status {
			t.Errorf("%s, %s for a page of %s: got status %d, want %d", test.site, test.scheme, test.origin, w.Code, test.status)
		}
	}
}
