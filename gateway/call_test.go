package gateway

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"

	"github.com/caddy-klavi/caddy-klavi/klavi"
)

// fakeKlavi logs in with token-1, token-2, … until they are revoked.
type fakeKlavi struct {
	*httptest.Server
	logins  atomic.Int64
	refuse  atomic.Bool  // the credentials
	revoked atomic.Int64 // tokens up to this number

	mu   sync.Mutex
	seen []string // method, path, Authorization and body of what came, but logins
}

func newFakeKlavi(t testing.TB) *fakeKlavi {
	k := new(fakeKlavi)
	mux := http.NewServeMux()
	mux.HandleFunc("POST /data/v1/auth", func(w http.ResponseWriter, _ *http.Request) {
		if k.refuse.Load() {
			w.WriteHeader(http.StatusUnauthorized)
			fmt.Fprint(w, `{"statusCode":401,"error":"Unauthorized","message":"Invalid accessKey or secretKey"}`)
			return
		}
		fmt.Fprintf(w, `{"accessToken":"token-%d","expireIn":1800}`, k.logins.Add(1))
	})
	mux.HandleFunc("/data/v1/slow", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	mux.HandleFunc("/data/v1/broken", func(w http.ResponseWriter, _ *http.Request) {
		conn, buf, _ := http.NewResponseController(w).Hijack()
		fmt.Fprint(buf, "HTTP/9 secret nonsense\r\n\r\n")
		buf.Flush()
		conn.Close()
	})
	mux.HandleFunc("/data/v1/", func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		k.mu.Lock()
		k.seen = append(k.seen, strings.Join([]string{r.Method, r.URL.Path, r.Header.Get("Authorization"), string(body)}, " "))
		k.mu.Unlock()
		var n int64
		_, _ = fmt.Sscanf(r.Header.Get("Authorization"), "Bearer token-%d", &n)
		if n <= k.revoked.Load() {
			w.WriteHeader(http.StatusUnauthorized)
			fmt.Fprint(w, `{"statusCode":401}`)
			return
		}
		fmt.Fprint(w, "ok")
	})
	k.Server = httptest.NewServer(mux)
	t.Cleanup(k.Close)
	return k
}

func (k *fakeKlavi) wantSeen(t *testing.T, want ...string) {
	t.Helper()
	k.mu.Lock()
	defer k.mu.Unlock()
	if strings.Join(k.seen, "\n") != strings.Join(want, "\n") {
		t.Errorf("klavi got\n%s\nwant\n%s", strings.Join(k.seen, "\n"), strings.Join(want, "\n"))
	}
	k.seen = nil
}

func (k *fakeKlavi) account(t testing.TB) *Account {
	t.Helper()
	account, _ := k.provision(t)
	return account
}

func (k *fakeKlavi) provision(t testing.TB) (*Account, caddy.Context) {
	t.Helper()
	app, ctx, err := provisionApp(t, fmt.Sprintf(`{"accounts":{"default":{"base_url":"%s/data/v1","access_key":"a","secret_key":"s"}}}`, k.URL))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = app.Cleanup() })
	return app.Accounts["default"], ctx
}

func send(t testing.TB, a *Account, method, path, body string, replayable bool) (int, string, error) {
	t.Helper()
	var raw []byte
	if body != "" {
		raw = []byte(body)
	}
	req, err := a.NewRequest(method, path, raw)
	if err != nil {
		t.Fatal(err)
	}
	if !replayable {
		req.GetBody = nil
	}
	res, err := a.SendAuthorized(t.Context(), req)
	if req.Header.Get("Authorization") != "" {
		t.Error("the token was put on the caller's own request")
	}
	if err != nil {
		return 0, "", err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(text), nil
}

func TestSendAuthorizedAfter401(t *testing.T) {
	for _, tt := range []struct {
		name, method, body string
		replayable         bool
		status             int
		want               []string
	}{
		{"GET", "GET", "", true, 200, []string{"GET /data/v1/consents Bearer token-1 ", "GET /data/v1/consents Bearer token-2 "}},
		{"POST", "POST", "{}", true, 200, []string{"POST /data/v1/consents Bearer token-1 {}", "POST /data/v1/consents Bearer token-2 {}"}},
		{"a body that cannot be had again", "POST", "{}", false, 401, []string{"POST /data/v1/consents Bearer token-1 {}"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			k := newFakeKlavi(t)
			a := k.account(t)
			if status, _, err := send(t, a, "GET", "/links/x", "", true); status != 200 || err != nil {
				t.Fatalf("got %d, %v, want 200", status, err)
			}
			k.wantSeen(t, "GET /data/v1/links/x Bearer token-1 ")

			k.revoked.Store(1)
			status, _, err := send(t, a, tt.method, "/consents", tt.body, tt.replayable)
			if status != tt.status || err != nil {
				t.Errorf("got %d, %v, want %d", status, err, tt.status)
			}
			k.wantSeen(t, tt.want...)
			// Whether or not it was sent again, the token is given up.
			if status, _, err := send(t, a, "GET", "/consents", "", true); status != 200 || err != nil {
				t.Errorf("got %d, %v for the next request, want 200", status, err)
			}
			k.wantSeen(t, "GET /data/v1/consents Bearer token-2 ")
		})
	}
}

func TestSendAuthorizedSecond401(t *testing.T) {
	k := newFakeKlavi(t)
	a := k.account(t)
	k.revoked.Store(1000)
	for range 20 {
		status, body, err := send(t, a, "GET", "/consents", "", true)
		if status != 401 || body != `{"statusCode":401}` || err != nil {
			t.Fatalf("got %d %q, %v, want klavi's own 401", status, body, err)
		}
	}
	if got := k.logins.Load(); got > 5 {
		t.Errorf("got %d logins for 20 requests that klavi refuses, want a few", got)
	}
}

func TestSendAuthorizedWithoutToken(t *testing.T) {
	k := newFakeKlavi(t)
	a := k.account(t)
	k.refuse.Store(true)
	_, _, err := send(t, a, "GET", "/consents", "", true)
	var login *klavi.LoginError
	if !errors.As(err, &login) || !login.Refused {
		t.Errorf("got %v where klavi refuses the keys, want a LoginError that is Refused", err)
	}
	k.wantSeen(t)

	k2 := newFakeKlavi(t)
	a2 := k2.account(t)
	k2.Close()
	_, _, err = send(t, a2, "GET", "/consents", "", true)
	if !errors.As(err, &login) || login.Refused || login.RetryAfter <= 0 {
		t.Errorf("got %v where klavi is down, want a LoginError with RetryAfter", err)
	}
}

func TestCallErrors(t *testing.T) {
	k := newFakeKlavi(t)
	a := k.account(t)
	a.KlaviTimeout = caddy.Duration(50 * time.Millisecond)
	var call *CallError
	if _, _, err := send(t, a, "GET", "/slow", "", true); !errors.As(err, &call) || !call.Timeout {
		t.Errorf("got %v from a klavi that does not answer, want a CallError with Timeout", err)
	}
	a.KlaviTimeout = 0
	if _, _, err := send(t, a, "GET", "/broken", "", true); !errors.As(err, &call) || call.Timeout || call.Unsent || strings.Contains(err.Error(), "secret") {
		t.Errorf("got %v from a klavi that answers nonsense, want a CallError that does not repeat it", err)
	}
	k.Close()
	if _, _, err := send(t, a, "GET", "/x", "", true); !errors.As(err, &call) || !call.Unsent {
		t.Errorf("got %v from a klavi that is down, want a CallError with Unsent", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	req, _ := a.NewRequest("GET", "/x", nil)
	if _, err := a.SendAuthorized(ctx, req); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v for a caller that has left, want %v", err, context.Canceled)
	}
}

// What a person who sets a gateway up gets wrong must be told in the log, and is
// nothing that Klavi has seen.
func TestCallErrorsOfTLSAndProxies(t *testing.T) {
	secure := httptest.NewTLSServer(http.NotFoundHandler())
	defer secure.Close()
	secure.Config.ErrorLog = log.New(io.Discard, "", 0)
	plain := httptest.NewServer(http.NotFoundHandler())
	defer plain.Close()
	refusing := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusProxyAuthRequired)
	}))
	defer refusing.Close()

	for _, tt := range []struct{ name, base, transport, want string }{
		{"unknown authority", secure.URL, ``, "signed by an unknown authority"},
		{"another host", strings.Replace(secure.URL, "127.0.0.1", "localhost", 1), ``, "certificate is not accepted"},
		{"no TLS", strings.Replace(plain.URL, "http:", "https:", 1), ``, "does not answer with TLS"},
		{
			"a proxy that refuses", "https://api.klavi.invalid",
			`,"transport":{"network_proxy":{"from":"url","url":"` + refusing.URL + `"}}`, "egress proxy of the account's transport refused",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			app, _, err := provisionApp(t, fmt.Sprintf(
				`{"accounts":{"default":{"base_url":"%s/data/v1","access_key":"a","secret_key":"s"%s}}}`, tt.base, tt.transport))
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = app.Cleanup() }()
			_, _, err = send(t, app.Accounts["default"], "GET", "/consents", "", true)
			call, ok := errors.AsType[*CallError](err)
			if !ok || !call.Unsent || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want a CallError with Unsent that says %q", err, tt.want)
			}
		})
	}
}

// forward_auth is a proxy that runs before us on the same request. The address
// that it dialed stays in the request's context, and Caddy's transport would
// dial it again: the link token would go to the login service.
func TestCallIgnoresEarlierProxies(t *testing.T) {
	login := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		t.Errorf("the login service got %s %s with %q", r.Method, r.URL, r.Header.Get("Authorization"))
	}))
	defer login.Close()
	k := newFakeKlavi(t)
	a, ctx := k.provision(t)

	proxy := new(reverseproxy.Handler)
	proxy.Upstreams = reverseproxy.UpstreamPool{{Dial: strings.TrimPrefix(login.URL, "http://")}}
	proxy.Transport = &dialProbe{account: a, t: t}
	if err := proxy.Provision(ctx); err != nil {
		t.Fatal(err)
	}
	r := httptest.NewRequest("GET", "/klavi/institutions", nil)
	r = caddyhttp.PrepareRequest(r, caddy.NewReplacer(), nil, &caddyhttp.Server{})
	if err := proxy.ServeHTTP(httptest.NewRecorder(), r, caddyhttp.HandlerFunc(func(http.ResponseWriter, *http.Request) error { return nil })); err != nil {
		t.Fatal(err)
	}
	k.wantSeen(t, "GET /data/v1/links/institutions Bearer link-token ")
}

// dialProbe calls Klavi under the context of another proxy's round trip.
type dialProbe struct {
	account *Account
	t       *testing.T
}

func (p *dialProbe) RoundTrip(r *http.Request) (*http.Response, error) {
	if _, ok := reverseproxy.GetDialInfo(r.Context()); !ok {
		p.t.Error("the proxy left no address in the context: this test shows nothing")
	}
	req, err := p.account.NewRequest("GET", "/links/institutions", nil)
	if err != nil {
		return nil, err
	}
	return p.account.SendWithLinkToken(r.Context(), req, "link-token")
}
