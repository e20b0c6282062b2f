package proxy

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
)

// chainRoutes is a site around the transport, as careless as sites get. KLAVI
// stands for a stock reverse_proxy on the transport.
const chainRoutes = `[
	{"match": [{"path": ["/strip/*"]}], "handle": [
		{"handler": "rewrite", "strip_path_prefix": "/strip"}, {KLAVI}
	]},
	{"match": [{"path": ["/refresh-me"]}], "handle": [
		{"handler": "rewrite", "uri": "/refresh"}, {KLAVI}
	]},
	{"match": [{"path": ["/inner-rewrite"]}], "handle": [
		{KLAVI, "rewrite": {"uri": "/links/institutions"}}
	]},
	{"match": [{"path": ["/header-up"]}], "handle": [
		{"handler": "rewrite", "uri": "/consents"},
		{KLAVI, "headers": {"request": {
			"set": {"Authorization": ["Bearer mine"], "Cookie": ["a=b"], "Host": ["evil.example.com"], "Idempotency-Key": ["k"], "X-Mine": ["{http.request.header.Authorization}"]},
			"add": {"authorization": ["Bearer also mine"]}
		}}}
	]},
	{"match": [{"path": ["/header-down"]}], "handle": [
		{"handler": "rewrite", "uri": "/consents"},
		{KLAVI, "headers": {"request": {"delete": ["*"]}}}
	]},
	{"match": [{"path": ["/handled"]}], "handle": [
		{"handler": "rewrite", "uri": "/consents"},
		{KLAVI, "handle_response": [{"routes": [{"handle": [
			{"handler": "static_response", "body": "handled {http.reverse_proxy.status_code} [{http.request.header.Authorization}] [{http.reverse_proxy.header.Authorization}] [{http.reverse_proxy.upstream.address}]"}
		]}]}]}
	]},
	{"match": [{"path": ["/failing"]}], "handle": [
		{"handler": "rewrite", "uri": "/consents"},
		{KLAVI, "handle_response": [{"routes": [{"handle": [
			{"handler": "error", "error": "after klavi", "status_code": "500"}
		]}]}]}
	]},
	{"match": [{"path": ["/again"]}], "handle": [
		{"handler": "rewrite", "uri": "/links"},
		{KLAVI, "load_balancing": {"retries": 3, "try_duration": "1m", "try_interval": "1ms"}}
	]},
	{"handle": [{KLAVI}]}
]`

const chainConfig = `{
	"admin": {"disabled": true, "config": {"persist": false}},
	"logging": {"logs": {"default": {
		"level": "DEBUG",
		"writer": {"output": "file", "filename": %q, "mode": "0644"},
		"encoder": {"format": %q}
	}}},
	"apps": {
		"klavi": {"accounts": {"default": {"base_url": %q, "access_key": "chain-access-key", "secret_key": "chain-secret-key"}}},
		"http": {"servers": {"main": {
			"listen": [%q],
			"automatic_https": {"disable": true},
			"trusted_proxies": {"source": "static", "ranges": ["127.0.0.1/8"]},
			"logs": {"should_log_credentials": true},
			"routes": %s,
			"errors": {"routes": [{"handle": [{"handler": "static_response",
				"body": "error {http.error.status_code} [{http.request.header.Authorization}]"}]}]}
		}}}
	}
}`

type chain struct {
	url, log string
}

// runChain starts Caddy with the routes above.
func runChain(t *testing.T, klaviURL, encoder string) chain {
	t.Helper()
	return runRoutes(t, klaviURL, encoder, chainRoutes)
}

// runRoutes starts Caddy with these routes.
func runRoutes(t *testing.T, klaviURL, encoder, routes string) chain {
	t.Helper()
	caddy.ConfigAutosavePath = filepath.Join(t.TempDir(), "autosave.json")
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	_ = listener.Close()
	logFile := filepath.Join(t.TempDir(), "caddy.log")
	routes = strings.ReplaceAll(routes, "KLAVI",
		`"handler": "reverse_proxy", "transport": {"protocol": "klavi"}, "upstreams": [{"dial": "127.0.0.1:1"}]`)
	config := fmt.Sprintf(chainConfig, logFile, encoder, klaviURL+"/data/v1", address, routes)
	if err := caddy.Load([]byte(config), true); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := caddy.Stop(); err != nil {
			t.Error(err)
		}
	})
	return chain{"http://" + address, logFile}
}

func (c chain) do(t *testing.T, method, path string, body io.Reader, header map[string]string) answerOf {
	t.Helper()
	req, err := http.NewRequest(method, c.url+path, body)
	if err != nil {
		t.Fatal(err)
	}
	req.Close = true
	for name, value := range header {
		req.Header.Set(name, value)
	}
	res, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answerOf{res.StatusCode, res.Header, string(text)}
}

func TestChain(t *testing.T) {
	k := newKlavi(t)
	k.answer = func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost && r.Header.Get("Authorization") == "Bearer secret-token-1" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusRequestedRangeNotSatisfiable)
		_, _ = io.WriteString(w, `{"statusCode":4003}`)
	}
	c := runChain(t, k.URL, "json")
	const refused = `"type":"not-allowed"`
	for _, tt := range []struct {
		method, path string
		body         string
		status       int
		want         string // in the answer
		uri          string // what Klavi gets; empty for nothing
	}{
		{"GET", "/consents?personalTaxId=52998224725", "", 416, `{"statusCode":4003}`, "/data/v1/consents?personalTaxId=52998224725"},
		{"GET", "/data/v1/consents/1", "", 416, `{"statusCode":4003}`, "/data/v1/consents/1"},
		{"GET", "/strip/consents/1", "", 416, `{"statusCode":4003}`, "/data/v1/consents/1"},
		{"GET", "/strip/refresh", "", 403, refused, ""},
		{"GET", "/strip/strip/consents", "", 403, refused, ""},
		{"GET", "/strip/..%2frefresh", "", 403, refused, ""},
		{"GET", "/refresh-me", "", 403, refused, ""},
		{"GET", "/inner-rewrite", "", 403, refused, ""},
		{"POST", "/auth", "{}", 403, refused, ""},
		{"GET", "/header-up", "", 416, `{"statusCode":4003}`, "/data/v1/consents"},
		{"GET", "/header-down", "", 416, `{"statusCode":4003}`, "/data/v1/consents"},
		{"GET", "/handled", "", 200, "handled 416 [Bearer client] [", "/data/v1/consents"},
		{"GET", "/failing", "", 500, "error 500 [Bearer client]", "/data/v1/consents"},
		{"POST", "/again", `{"a":1}`, 416, `{"statusCode":4003}`, "/data/v1/links"},
	} {
		before := len(k.seen())
		a := c.do(t, tt.method, tt.path, strings.NewReader(tt.body), map[string]string{
			"Authorization": "Bearer client", "Cookie": "c=d", "X-Forwarded-For": "192.0.2.1", "X-Idempotency-Key": "k",
			"Connection": "Upgrade", "Upgrade": "websocket",
		})
		if a.status != tt.status || !strings.Contains(a.body, tt.want) {
			t.Errorf("%s %s: got %d %q, want %d %q", tt.method, tt.path, a.status, a.body, tt.status, tt.want)
		}
		calls := k.seen()[before:]
		if (len(calls) == 0) != (tt.uri == "") {
			t.Errorf("%s %s: Klavi got %d requests, want some: %v", tt.method, tt.path, len(calls), tt.uri != "")
		}
		for _, call := range calls {
			if call.uri != tt.uri || call.body != tt.body {
				t.Errorf("%s %s: Klavi got %s %q, want %s %q", tt.method, tt.path, call.uri, call.body, tt.uri, tt.body)
			}
			if got := call.header["Authorization"]; len(got) != 1 || !strings.HasPrefix(got[0], "Bearer secret-token-") {
				t.Errorf("%s %s: Klavi got Authorization %q, want the access token alone", tt.method, tt.path, got)
			}
			for _, name := range []string{"Cookie", "Via", "X-Forwarded-For", "X-Forwarded-Host", "X-Idempotency-Key", "Idempotency-Key", "Upgrade", "X-Mine"} {
				if got := call.header.Get(name); got != "" {
					t.Errorf("%s %s: Klavi got %s %q, want none", tt.method, tt.path, name, got)
				}
			}
			if call.host != strings.TrimPrefix(k.URL, "http://") {
				t.Errorf("%s %s: Klavi got Host %q, want its own", tt.method, tt.path, call.host)
			}
		}
		if strings.Contains(fmt.Sprint(a.header, a.body), "secret-") {
			t.Errorf("%s %s: got a secret in %v %q", tt.method, tt.path, a.header, a.body)
		}
	}
	if n := k.loggedIn(); n != 2 {
		t.Errorf("got %d logins, want 2: one, and one after the 401", n)
	}

	log, err := os.ReadFile(c.log)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"upstream roundtrip", "Bearer client", "handled request", "does not mask tax ids"} {
		if !strings.Contains(string(log), want) {
			t.Errorf("got no %q in the log: it does not show what would be there", want)
		}
	}
	for _, secret := range []string{"secret-token", "chain-secret-key", "chain-access-key"} {
		if strings.Contains(string(log), secret) {
			t.Errorf("got %q in the log", secret)
		}
	}
}

func TestChainKeepsStatusAndRetryAfter(t *testing.T) {
	k := newKlavi(t)
	k.login = func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) }
	c := runChain(t, k.URL, "klavi")
	for _, path := range []string{"/consents", "/again"} {
		method := "GET"
		if path == "/again" {
			method = "POST"
		}
		a := c.do(t, method, path, strings.NewReader(`{}`), nil)
		if kind, _, _ := problemOf(t, a); a.status != 503 || kind != "klavi-unreachable" || a.header.Get("Retry-After") == "" {
			t.Errorf("%s: got %d %s, Retry-After %q, want 503 klavi-unreachable with one", path, a.status, kind, a.header.Get("Retry-After"))
		}
	}
	if n := k.loggedIn(); n != 1 {
		t.Errorf("got %d logins, want 1: the proxy's retries are not to knock", n)
	}
	log, err := os.ReadFile(c.log)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(log), "does not mask tax ids") {
		t.Error("got a warning about the log, want none: it has the encoder klavi")
	}
}

func TestChainUpgradeIsNotTunnelled(t *testing.T) {
	k := newKlavi(t)
	k.answer = func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Upgrade", "websocket")
		w.Header().Set("Connection", "Upgrade")
		w.WriteHeader(http.StatusSwitchingProtocols)
	}
	c := runChain(t, k.URL, "json")
	a := c.do(t, "GET", "/consents", nil, map[string]string{"Connection": "Upgrade", "Upgrade": "websocket"})
	if a.status != http.StatusBadGateway {
		t.Errorf("got %d, want 502", a.status)
	}
}

func TestModuleID(t *testing.T) {
	info, err := caddy.GetModule("http.reverse_proxy.transport.klavi")
	if err != nil {
		t.Fatal(err)
	}
	if raw, err := json.Marshal(info.New()); err != nil || string(raw) != "{}" {
		t.Errorf("got %s, %v, want an empty config", raw, err)
	}
}
