package frontend

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-klavi/caddy-klavi/gateway"
)

func TestTargets(t *testing.T) {
	s := newSite(t, publicSite())
	authorization := s.seal(t, gateway.LinkToken{})
	for _, test := range []struct {
		method, target string
		status         int
		allow          string
	}{
		{"GET", "/klavi/institutions", 200, ""},
		{"GET", "/klavi/institutions?", 200, ""},
		{"GET", "/klavi/institutions?next=/../links", 200, ""},
		{"GET", "/klavi/institutions?_method=DELETE", 400, ""},
		{"GET", "/klavi/institutions?a=1&%5Fmethod=POST", 400, ""},
		{"HEAD", "/klavi/institutions", 405, "GET"},
		{"POST", "/klavi/institutions", 405, "GET"},
		{"OPTIONS", "/klavi/institutions", 405, "GET"},
		{"get", "/klavi/institutions", 405, "GET"},
		{"GET", "/klavi/consents", 405, "POST"},
		{"DELETE", "/klavi/consents", 405, "POST"},
		{"GET", "/klavi/links", 405, "POST"},

		{"GET", "/klavi", 404, ""},
		{"GET", "/klavi/", 404, ""},
		{"GET", "/klavi/institutions/", 404, ""},
		{"GET", "/klavi/institutions/status", 404, ""},
		{"GET", "/klavi/institutions;x=1", 404, ""},
		{"GET", "/klavi/institutions%20", 404, ""},
		{"GET", "/klavi/institution%73", 404, ""},
		{"GET", "/klavi/INSTITUTIONS", 404, ""},
		{"GET", "/KLAVI/institutions", 404, ""},
		{"GET", "//klavi/institutions", 404, ""},
		{"GET", "/klavi//institutions", 404, ""},
		{"GET", "/klavi/./institutions", 404, ""},
		{"GET", "/x/../klavi/institutions", 404, ""},
		{"GET", "/%6blavi/institutions", 404, ""},
		{"GET", "/klavi%2Finstitutions", 404, ""},
		{"GET", "/klavi/institutions/../../secret", 404, ""},
		{"GET", "http://gw.example/klavi/institutions", 404, ""},
		{"GET", "/other", passed, ""},
		{"GET", "/klavi-institutions", passed, ""},
	} {
		r := httptest.NewRequest(http.MethodGet, test.target, nil)
		r.Method, r.RequestURI = test.method, test.target
		w := s.do(withHeader(r, []string{"Authorization", authorization}))
		if w.Code != test.status || w.Header().Get("Allow") != test.allow {
			t.Errorf("%s %s: got status %d with Allow %q, want %d with %q",
				test.method, test.target, w.Code, w.Header().Get("Allow"), test.status, test.allow)
		}
		requests := s.klavi.take()
		if want := test.status == 200; want != (len(requests) == 1) {
			t.Errorf("%s %s: got %d requests at klavi", test.method, test.target, len(requests))
		}
		for _, request := range requests {
			if request.uri != "/data/v1/links/institutions" {
				t.Errorf("%s %s: got %s at klavi, want the bare path", test.method, test.target, request.uri)
			}
		}
	}
}

// Rewrites, as handle_path and uri make them, neither open nor close anything.
func TestTargetIsTheOriginalOne(t *testing.T) {
	s := newSite(t, publicSite())
	serve := func(target, rewritten string) int {
		r := httptest.NewRequest(http.MethodGet, target, nil)
		r.Header.Set("Authorization", s.seal(t, gateway.LinkToken{}))
		w := httptest.NewRecorder()
		r = caddyhttp.PrepareRequest(r, caddy.NewReplacer(), w, &caddyhttp.Server{})
		r.URL.Path, r.RequestURI = rewritten, rewritten
		_ = s.Frontend.ServeHTTP(w, r, caddyhttp.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) error {
			w.WriteHeader(passed)
			return nil
		}))
		return w.Code
	}
	for _, test := range []struct {
		target, rewritten string
		want              int
	}{
		{"/klavi/institutions", "/institutions", 200},
		{"/klavi/institutions", "/index.html", 200},
		{"/elsewhere", "/klavi/institutions", passed},
		{"/klavi//institutions", "/klavi/institutions", 404},
	} {
		if got := serve(test.target, test.rewritten); got != test.want {
			t.Errorf("%s rewritten to %s: got status %d, want %d", test.target, test.rewritten, got, test.want)
		}
	}
}

func TestClosedEndpoints(t *testing.T) {
	for name, test := range map[string]struct {
		change func(*Frontend)
		closed []string
	}{
		"links off":  {noLinks(func(*Frontend) {}), []string{"/klavi/links"}},
		"whitelabel": {func(f *Frontend) { f.Flow = "whitelabel" }, []string{"/klavi/institutions", "/klavi/consents"}},
		"api only":   {func(f *Frontend) { f.Flow = "api_only" }, nil},
	} {
		f := publicSite()
		test.change(&f)
		s := newSite(t, f)
		for _, path := range []string{"/klavi/links", "/klavi/institutions", "/klavi/consents"} {
			want := http.StatusMethodNotAllowed
			for _, closed := range test.closed {
				if path == closed {
					want = http.StatusNotFound
				}
			}
			if w := s.do(httptest.NewRequest(http.MethodPut, path, nil)); w.Code != want {
				t.Errorf("%s: PUT %s: got status %d, want %d", name, path, w.Code, want)
			}
		}
	}
}

func TestRefusedRequests(t *testing.T) {
	s := newSite(t, publicSite())
	authorization := s.seal(t, gateway.LinkToken{})
	for name, test := range map[string]struct {
		change func(*http.Request)
		status int
		kind   string
	}{
		"two Authorization":         {func(r *http.Request) { r.Header.Add("Authorization", authorization) }, 400, "invalid-request"},
		"two link tokens":           {func(r *http.Request) { r.Header["Klavi-Link-Token"] = []string{"a", "a"} }, 400, "invalid-request"},
		"connection: authorization": {func(r *http.Request) { r.Header.Set("Connection", "close, AUTHORIZATION") }, 400, "invalid-request"},
		"connection: link token":    {func(r *http.Request) { r.Header.Set("Connection", "klavi-link-token") }, 400, "invalid-request"},
		"body": {func(r *http.Request) {
			r.Body, r.ContentLength = io.NopCloser(strings.NewReader("x")), 1
		}, 400, "invalid-request"},
		"chunked": {func(r *http.Request) {
			r.Body, r.ContentLength, r.TransferEncoding = io.NopCloser(strings.NewReader("")), -1, []string{"chunked"}
		}, 400, "invalid-request"},
		"body of unknown length": {func(r *http.Request) {
			r.Body, r.ContentLength = io.NopCloser(strings.NewReader("x")), -1
		}, 400, "invalid-request"},
	} {
		t.Run(name, func(t *testing.T) {
			r := httptest.NewRequest(http.MethodGet, "/klavi/institutions", nil)
			r.Header.Set("Authorization", authorization)
			test.change(r)
			wantProblem(t, s.do(r), test.status, test.kind, "")
			s.wantNothingSent(t)
		})
	}
}

// HTTP/3 knows no length for a GET request.
func TestUnknownLengthWithoutBody(t *testing.T) {
	s := newSite(t, publicSite())
	r := httptest.NewRequest(http.MethodGet, "/klavi/institutions", nil)
	r.Header.Set("Authorization", s.seal(t, gateway.LinkToken{}))
	r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(nil)), -1
	if w := s.do(r); w.Code != http.StatusOK {
		t.Errorf("got status %d (%s), want 200", w.Code, w.Body)
	}
}

// Nothing of a client's request but its token travels.
func TestConstantRequest(t *testing.T) {
	s := newSite(t, publicSite())
	w := s.get("/klavi/institutions?page=2", "Authorization", s.seal(t, gateway.LinkToken{}),
		"Cookie", "a=b", "X-Forwarded-For", "1.2.3.4", "X-Original-URL", "/links", "Accept", "text/html", "User-Agent", "browser",
		"Upgrade", "h2c", "X-Http-Method-Override", "POST", "Accept-Language", "pt", "Te", "trailers", "Traceparent", "00-x")
	if w.Code != http.StatusOK {
		t.Fatalf("got status %d: %s", w.Code, w.Body)
	}
	requests := s.klavi.take()
	if len(requests) != 1 {
		t.Fatalf("got %d requests at klavi, want 1", len(requests))
	}
	want := http.Header{
		"Accept": {"application/json"}, "User-Agent": {"caddy-klavi"}, "Authorization": {"Bearer " + rawLinkToken}, "Accept-Encoding": {"gzip"},
	}
	got := requests[0].header
	if len(got) != len(want) {
		t.Errorf("got headers %v, want %v", got, want)
	}
	for name, values := range want {
		if len(got[name]) != 1 || got[name][0] != values[0] {
			t.Errorf("got %s %q, want %q", name, got[name], values)
		}
	}
}

func FuzzTarget(f *testing.F) {
	for _, seed := range []string{
		"/klavi/institutions", "/klavi/institutions?x", "/klavi//institutions", "/KLAVI/links", "/klavi%2Flinks", "/klavi/links/../consents",
		"http://h/klavi/links", "*", "h:443", "/klavi/links%00", "/%6b%6c%61%76%69/links",
	} {
		f.Add("GET", seed)
		f.Add("POST", seed)
	}
	s := newSite(f, publicSite())
	authorization := s.seal(f, gateway.LinkToken{InstitutionCode: "341"})
	f.Fuzz(func(t *testing.T, method, uri string) {
		raw := method + " " + uri + " HTTP/1.1\r\nHost: gw.example\r\nAuthorization: " + authorization +
			"\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
		r, err := http.ReadRequest(newReader(raw))
		if err != nil {
			return
		}
		if method == http.MethodGet {
			r.Body, r.ContentLength = http.NoBody, 0
		}
		s.do(r)
		path, _, _ := strings.Cut(r.RequestURI, "?")
		for _, request := range s.klavi.take() {
			open := map[string]string{
				"GET /data/v1/links/institutions": "GET /klavi/institutions",
				"POST /data/v1/consents":          "POST /klavi/consents",
				"POST /data/v1/links":             "POST /klavi/links",
			}
			if got, want := r.Method+" "+path, open[request.method+" "+request.uri]; got != want {
				t.Errorf("%q became %s %s at klavi", got, request.method, request.uri)
			}
		}
	})
}
