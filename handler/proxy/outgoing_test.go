package proxy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/caddy-klavi/caddy-klavi/klavi"
)

func TestOnlyAShortListOfHeadersTravels(t *testing.T) {
	k := newKlavi(t)
	tr, _ := provision(t, k.URL, Transport{})
	req := incoming(http.MethodPost, "/personal/user-data", strings.NewReader(`{}`))
	req.Host = "services.example.com"
	maps.Copy(req.Header, http.Header{
		"Accept":                 {"application/json;q=0.9", "text/html"},
		"Accept-Encoding":        {"br, gzip"},
		"Accept-Language":        {"pt-BR"},
		"Access-Control-Test":    {"x"},
		"Authorization":          {"Bearer client", "Basic Zm9v"},
		"Connection":             {"Upgrade"},
		"Content-Type":           {"application/json", "text/plain"},
		"Cookie":                 {"a=b"},
		"Expect":                 {"100-continue"},
		"Forwarded":              {"for=1.2.3.4"},
		"Idempotency-Key":        {"k"},
		"If-None-Match":          {"x"},
		"Klavi-User":             {"maria"},
		"Proxy-Authorization":    {"Basic Zm9v"},
		"Range":                  {"bytes=0-1"},
		"Referer":                {"https://x"},
		"Te":                     {"trailers"},
		"Traceparent":            {"00-1-1-00"},
		"Trailer":                {"X-Trailer"},
		"Upgrade":                {"websocket"},
		"User-Agent":             {"curl/8"},
		"Via":                    {"1.1 Caddy"},
		"X-Forwarded-For":        {"1.2.3.4"},
		"X-Forwarded-Host":       {"x"},
		"X-Forwarded-Proto":      {"http"},
		"X-Http-Method-Override": {"DELETE"},
		"X-Idempotency-Key":      {"k"},
		"X-Anything":             {"y"},
	})
	req.Trailer = http.Header{"X-Trailer": {"z"}}
	before := req.Header.Clone()
	roundTrip(t, tr, req)

	calls := k.seen()
	if len(calls) != 1 {
		t.Fatalf("Klavi got %d requests, want 1", len(calls))
	}
	want := map[string]string{
		"Accept":          "application/json;q=0.9",
		"Accept-Encoding": "br, gzip",
		"Authorization":   "Bearer secret-token-1",
		"Content-Length":  "2",
		"Content-Type":    "application/json",
		"User-Agent":      klavi.UserAgent,
	}
	for name, values := range calls[0].header {
		if len(values) != 1 || values[0] != want[name] {
			t.Errorf("Klavi got %s %q, want %q", name, values, want[name])
		}
		delete(want, name)
	}
	for name := range want {
		t.Errorf("Klavi got no %s", name)
	}
	if got := calls[0].host; got != strings.TrimPrefix(k.URL, "http://") {
		t.Errorf("got Host %q, want the account's", got)
	}
	if len(calls[0].trailer) != 0 {
		t.Errorf("got trailers %v, want none", calls[0].trailer)
	}
	for name := range before {
		if got := req.Header[name]; len(got) != len(before[name]) {
			t.Errorf("the caller's %s became %q, want it as it was", name, got)
		}
	}
	if got := req.Header.Get("Authorization"); got != "Bearer client" {
		t.Errorf("the caller's request has Authorization %q, want its own", got)
	}
}

func TestHeadersThatKlaviExpects(t *testing.T) {
	k := newKlavi(t)
	tr, _ := provision(t, k.URL, Transport{})
	roundTrip(t, tr, incoming(http.MethodGet, "/consents", nil))
	header := k.seen()[0].header
	if got := header.Get("Accept"); got != "application/json" {
		t.Errorf("got Accept %q, want application/json", got)
	}
	if _, ok := header["Content-Type"]; ok {
		t.Error("got a Content-Type for a request without one")
	}
}

func TestAnswersAreUntouched(t *testing.T) {
	k := newKlavi(t)
	tr, _ := provision(t, k.URL, Transport{})
	for _, status := range []int{200, 201, 204, 302, 400, 403, 404, 409, 416, 429, 500, 503} {
		text := fmt.Sprintf(`{"statusCode":4002,"error":"E","message":"as it is %d"}`, status)
		if status == 204 {
			text = ""
		}
		k.answer = func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json; charset=utf-8")
			w.Header().Set("Retry-After", "7")
			w.Header().Set("X-Request-Id", "abc")
			w.Header().Set("Location", "/elsewhere")
			w.Header().Add("Set-Cookie", "a=b")
			w.WriteHeader(status)
			_, _ = io.WriteString(w, text)
		}
		a := roundTrip(t, tr, incoming(http.MethodGet, "/consents", nil))
		if a.status != status || a.body != text {
			t.Errorf("got %d %q, want %d %q", a.status, a.body, status, text)
		}
		for name, want := range map[string]string{
			"Content-Type": "application/json; charset=utf-8", "Retry-After": "7", "X-Request-Id": "abc", "Set-Cookie": "a=b", "Location": "/elsewhere",
		} {
			if got := a.header.Get(name); got != want {
				t.Errorf("%d: got %s %q, want %q", status, name, got, want)
			}
		}
	}
}

func TestCompressedAnswersAreUntouched(t *testing.T) {
	k := newKlavi(t)
	tr, _ := provision(t, k.URL, Transport{})
	k.answer = func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Encoding", "br")
		_, _ = io.WriteString(w, "compressed")
	}
	req := incoming(http.MethodGet, "/consents", nil)
	req.Header.Set("Accept-Encoding", "br")
	if a := roundTrip(t, tr, req); a.body != "compressed" || a.header.Get("Content-Encoding") != "br" {
		t.Errorf("got %q as %q, want it as Klavi sent it", a.body, a.header.Get("Content-Encoding"))
	}
}

func TestProtocolIsNeverChanged(t *testing.T) {
	k := newKlavi(t)
	tr, _ := provision(t, k.URL, Transport{})
	k.answer = func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Upgrade", "websocket")
		w.Header().Set("Connection", "Upgrade")
		w.WriteHeader(http.StatusSwitchingProtocols)
	}
	req := incoming(http.MethodGet, "/consents", nil)
	req.Header.Set("Upgrade", "websocket")
	req.Header.Set("Connection", "Upgrade")
	a := roundTrip(t, tr, req)
	if kind, _, _ := problemOf(t, a); a.status != http.StatusBadGateway || kind != "klavi-nonsense" {
		t.Errorf("got %d %s, want 502 klavi-nonsense", a.status, kind)
	}
}

// chunked hides how long a body is.
type chunked struct{ io.Reader }

func TestRetryAfter401(t *testing.T) {
	small, large := strings.Repeat("s", 1000), strings.Repeat("l", maxBuffered+1)
	exact := strings.Repeat("e", maxBuffered)
	tests := []struct {
		name, method, path string
		body               func() io.Reader
		want               string
		tries, status      int
	}{
		{"no body", "GET", "/consents", nil, "", 2, 200},
		{"delete", "DELETE", "/consents/1/revoke", nil, "", 2, 200},
		{"small body", "POST", "/links", func() io.Reader { return strings.NewReader(small) }, small, 2, 200},
		{"chunked body", "POST", "/links", func() io.Reader { return chunked{strings.NewReader(small)} }, small, 2, 200},
		{"empty chunked body", "POST", "/links", func() io.Reader { return chunked{strings.NewReader("")} }, "", 2, 200},
		{"largest body", "POST", "/links", func() io.Reader { return chunked{strings.NewReader(exact)} }, exact, 2, 200},
		{"large body", "POST", "/links", func() io.Reader { return strings.NewReader(large) }, large, 1, 401},
		{"large chunked body", "POST", "/links", func() io.Reader { return chunked{strings.NewReader(large)} }, large, 1, 401},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			k := newKlavi(t)
			tr, _ := provision(t, k.URL, Transport{})
			k.answer = func(w http.ResponseWriter, r *http.Request) {
				if r.Header.Get("Authorization") == "Bearer secret-token-1" {
					w.WriteHeader(http.StatusUnauthorized)
					_, _ = io.WriteString(w, "first")
					return
				}
				_, _ = io.WriteString(w, "second")
			}
			var body io.Reader
			if tt.body != nil {
				body = tt.body()
			}
			req := incoming(tt.method, tt.path, body)
			if _, ok := body.(chunked); ok {
				req.ContentLength = -1
			}
			a := roundTrip(t, tr, req)
			calls := k.seen()
			if a.status != tt.status || len(calls) != tt.tries {
				t.Fatalf("got %d after %d tries, want %d after %d", a.status, len(calls), tt.status, tt.tries)
			}
			for i, c := range calls {
				if c.body != tt.want || c.bodyErr != nil {
					t.Errorf("try %d: got %d bytes (%v), want %d", i+1, len(c.body), c.bodyErr, len(tt.want))
				}
			}
			if tt.status == 401 && a.body != "first" {
				t.Errorf("got body %q, want Klavi's", a.body)
			}
			// The refused token is given up, also where nothing was sent again.
			if a := roundTrip(t, tr, incoming("GET", "/consents", nil)); a.status != 200 || k.loggedIn() != 2 {
				t.Errorf("got %d and %d logins afterwards, want 200 and 2", a.status, k.loggedIn())
			}
		})
	}
}

func TestSecond401IsPassedOn(t *testing.T) {
	k := newKlavi(t)
	tr, _ := provision(t, k.URL, Transport{})
	k.answer = func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Www-Authenticate", "Bearer")
		w.WriteHeader(http.StatusUnauthorized)
		_, _ = io.WriteString(w, "no to "+strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer secret-"))
	}
	a := roundTrip(t, tr, incoming("POST", "/links", strings.NewReader("{}")))
	if a.status != 401 || a.body != "no to token-2" || a.header.Get("Www-Authenticate") != "Bearer" {
		t.Errorf("got %d %q %v, want Klavi's second answer", a.status, a.body, a.header)
	}
	if n := len(k.seen()); n != 2 {
		t.Errorf("got %d tries, want 2", n)
	}
}

func TestNoAnswer(t *testing.T) {
	k := newKlavi(t)
	k.login = func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusUnauthorized)
		_, _ = io.WriteString(w, `{"statusCode":401,"error":"Unauthorized","message":"Invalid accessKey or secretKey"}`)
	}
	refused, _ := provision(t, k.URL, Transport{})

	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nowhere := "http://" + listener.Addr().String()
	_ = listener.Close()
	unreachable, _ := provision(t, nowhere, Transport{})

	breaking := newKlavi(t)
	breaking.answer = func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }
	broken, _ := provision(t, breaking.URL, Transport{})

	for _, tt := range []struct {
		name       string
		tr         *Transport
		status     int
		kind       string
		retryAfter bool
	}{
		{"login refused", refused, 502, "klavi-refused", false},
		{"login unreachable", unreachable, 503, "klavi-unreachable", true},
		{"connection broken", broken, 502, "klavi-unreachable", true},
	} {
		a := roundTrip(t, tt.tr, incoming("POST", "/links", strings.NewReader("{}")))
		kind, _, _ := problemOf(t, a)
		if a.status != tt.status || kind != tt.kind {
			t.Errorf("%s: got %d %s, want %d %s", tt.name, a.status, kind, tt.status, tt.kind)
		}
		seconds, err := strconv.Atoi(a.header.Get("Retry-After"))
		if got := err == nil && seconds > 0; got != tt.retryAfter {
			t.Errorf("%s: got Retry-After %q, want one: %v", tt.name, a.header.Get("Retry-After"), tt.retryAfter)
		}
	}
}

func TestCallerHasGone(t *testing.T) {
	k := newKlavi(t)
	tr, _ := provision(t, k.URL, Transport{})
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	k.answer = func(_ http.ResponseWriter, r *http.Request) {
		cancel()
		<-r.Context().Done()
	}
	res, err := tr.RoundTrip(incomingContext(ctx, "GET", "/consents", nil))
	if res != nil {
		res.Body.Close()
	}
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want context.Canceled, which Caddy logs as 499", err)
	}

	expired, cancel := context.WithTimeout(context.Background(), 0)
	defer cancel()
	a := roundTrip(t, tr, incomingContext(expired, "GET", "/consents", nil))
	if kind, _, _ := problemOf(t, a); a.status != 504 || kind != "klavi-unreachable" {
		t.Errorf("got %d %s, want 504 klavi-unreachable", a.status, kind)
	}
}

func TestBodyThatBreaksOff(t *testing.T) {
	broken := errors.New("broken")
	large := strings.Repeat("l", 2*maxBuffered)
	for _, tt := range []struct {
		name   string
		body   io.Reader
		length int64
		status int
	}{
		{"small", io.MultiReader(strings.NewReader("{}"), iotest.ErrReader(broken)), 10, 400},
		{"small, ends early", strings.NewReader("{}"), 10, 400},
		{"chunked", io.MultiReader(strings.NewReader("{}"), iotest.ErrReader(broken)), -1, 400},
		{"large", io.MultiReader(strings.NewReader(large), iotest.ErrReader(broken)), 10 * maxBuffered, 400},
		{"large chunked", io.MultiReader(strings.NewReader(large), iotest.ErrReader(broken)), -1, 400},
		{"limited", http.MaxBytesReader(nil, io.NopCloser(strings.NewReader("{1234}")), 3), 6, 413},
		{"large and limited", http.MaxBytesReader(nil, io.NopCloser(strings.NewReader(large)), maxBuffered+7), int64(len(large)), 413},
	} {
		t.Run(tt.name, func(t *testing.T) {
			k := newKlavi(t)
			tr, _ := provision(t, k.URL, Transport{})
			req := incoming("POST", "/links", tt.body)
			req.ContentLength = tt.length
			a := roundTrip(t, tr, req)
			if a.status != tt.status {
				t.Errorf("got %d %s, want %d", a.status, a.body, tt.status)
			}
			k.Close() // waits for what is under way
			for _, c := range k.seen() {
				if c.bodyErr == nil {
					t.Errorf("Klavi got a whole request of %d bytes, want none", len(c.body))
				}
			}
		})
	}
}

// closeCounter is a body that notes that it was closed.
type closeCounter struct {
	io.Reader
	closed bool
}

func (c *closeCounter) Close() error {
	c.closed = true
	return nil
}

func TestBodiesAreClosed(t *testing.T) {
	k := newKlavi(t)
	tr, _ := provision(t, k.URL, Transport{})
	for _, path := range []string{"/links", "/auth"} {
		for _, size := range []int{1, maxBuffered + 1} {
			req := incoming("POST", path, nil)
			body := &closeCounter{Reader: bytes.NewReader(make([]byte, size))}
			req.Body, req.ContentLength = body, int64(size)
			roundTrip(t, tr, req)
			if !body.closed {
				t.Errorf("%s with %d bytes: got a body that is open, want it closed", path, size)
			}
		}
	}
}

func TestEncodedBodyIsRefused(t *testing.T) {
	k := newKlavi(t)
	tr, _ := provision(t, k.URL, Transport{})
	req := incoming("POST", "/links", strings.NewReader("\x1f\x8b"))
	req.Header.Set("Content-Encoding", "gzip")
	if a := roundTrip(t, tr, req); a.status != http.StatusUnsupportedMediaType || len(k.seen()) != 0 {
		t.Errorf("got %d and %d requests, want 415 and none", a.status, len(k.seen()))
	}
	req = incoming("POST", "/links", strings.NewReader("{}"))
	req.Header.Set("Content-Encoding", "identity")
	if a := roundTrip(t, tr, req); a.status != http.StatusOK {
		t.Errorf("identity: got %d, want 200", a.status)
	}
}

func TestRefusalsAreCountedAndLogged(t *testing.T) {
	k := newKlavi(t)
	tr, logs := provision(t, k.URL, Transport{})
	count := func() float64 {
		families, err := logs.metrics.Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range families {
			for _, m := range f.GetMetric() {
				labels := make(map[string]string)
				for _, l := range m.GetLabel() {
					labels[l.GetName()] = l.GetValue()
				}
				if f.GetName() == "caddy_klavi_refusals_total" && labels["face"] == "proxy" && labels["type"] == "not-allowed" {
					return m.GetCounter().GetValue()
				}
			}
		}
		return 0
	}
	before := count()
	roundTrip(t, tr, incoming("GET", "/consents/52998224725/x", nil))
	if got := count() - before; got != 1 {
		t.Errorf("got %v refusals counted, want 1", got)
	}
	lines := logs.FilterMessage("request refused").All()
	if len(lines) != 1 || lines[0].ContextMap()["type"] != "not-allowed" {
		t.Errorf("got %v, want one line with the type", logs.All())
	}
	if strings.Contains(fmt.Sprint(logs.All()), "52998224725") {
		t.Error("the path is in the log, want no personal data there")
	}
}
