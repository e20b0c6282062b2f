package frontend

import (
	"bytes"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

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

// What was recorded before the handshake was over can be sent again by others.
func TestEarlyData(t *testing.T) {
	s := newSite(t, publicSite())
	authorization := s.seal(t, gateway.LinkToken{InstitutionCode: "341"})
	for _, test := range []struct {
		method, path string
		complete     bool
		header       []string // of Early-Data
		status       int
	}{
		{"GET", "/klavi/institutions", false, nil, 200},
		{"GET", "/klavi/institutions", true, []string{"1"}, 200},
		{"POST", "/klavi/consents", true, nil, 200},
		{"POST", "/klavi/links", true, nil, 200},
		{"POST", "/klavi/consents", false, nil, 425},
		{"POST", "/klavi/links", false, nil, 425},
		{"POST", "/klavi/consents", true, []string{"1"}, 425},
		{"POST", "/klavi/consents", true, []string{"0", "1"}, 425},
		{"POST", "/klavi/links", true, []string{"?"}, 425},
	} {
		body := "{}"
		if test.method == http.MethodGet {
			body = ""
		}
		r := httptest.NewRequest(test.method, test.path, strings.NewReader(body))
		r.TLS = &tls.ConnectionState{HandshakeComplete: test.complete}
		r.Header.Set("Authorization", authorization)
		r.Header.Set("Content-Type", "application/json")
		if test.header != nil {
			r.Header["Early-Data"] = test.header
		}
		w := s.do(r)
		if w.Code != test.status {
			t.Errorf("%s %s, complete %t, Early-Data %q: got status %d, want %d", test.method, test.path, test.complete, test.header, w.Code, test.status)
		}
		if requests := s.klavi.take(); test.status == http.StatusTooEarly {
			wantProblem(t, w, http.StatusTooEarly, "too-early", "")
			if len(requests) > 0 {
				t.Errorf("%s %s: got %d requests at klavi, want none", test.method, test.path, len(requests))
			}
		}
	}
}

// pipeWriter is a ResponseWriter whose request body is the other end of a pipe.
type pipeWriter struct {
	*httptest.ResponseRecorder
	net.Conn
}

func (w pipeWriter) Write(p []byte) (int, error) { return w.ResponseRecorder.Write(p) }

// Whether a request of unknown length has a body is not waited for without end.
func TestSlowBodyOfGet(t *testing.T) {
	s := newSite(t, publicSite())
	authorization := s.seal(t, gateway.LinkToken{})
	synctest.Test(t, func(t *testing.T) {
		client, body := net.Pipe()
		defer client.Close()
		r := httptest.NewRequest(http.MethodGet, "/klavi/institutions", nil)
		r.Header.Set("Authorization", authorization)
		r.Body, r.ContentLength = body, -1
		w := pipeWriter{httptest.NewRecorder(), body}
		began := time.Now()
		s.ServeHTTP(w, r)
		if w.Code != http.StatusBadRequest || time.Since(began) != bodyTime {
			t.Errorf("got status %d after %s, want 400 after %s", w.Code, time.Since(began), bodyTime)
		}
	})
	s.wantNothingSent(t)
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
