package proxy

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"
)

// wire is a server that keeps every byte that reaches it, one request per
// connection.
type wire struct {
	*httptest.Server
	mu    sync.Mutex
	conns []*wireConn
}

type wireConn struct {
	net.Conn
	wire *wire
	read bytes.Buffer
}

func (c *wireConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.wire.mu.Lock()
	defer c.wire.mu.Unlock()
	c.read.Write(p[:n])
	return n, err
}

type wireListener struct {
	net.Listener
	wire *wire
}

func (l wireListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	c := &wireConn{Conn: conn, wire: l.wire}
	l.wire.mu.Lock()
	defer l.wire.mu.Unlock()
	l.wire.conns = append(l.wire.conns, c)
	return c, nil
}

func newWire(t *testing.T, handler http.HandlerFunc) *wire {
	t.Helper()
	w := new(wire)
	w.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // all has arrived when it is answered
		handler(rw, r)
	}))
	w.Listener = wireListener{w.Listener, w}
	w.Config.SetKeepAlivesEnabled(false)
	w.Start()
	t.Cleanup(w.Close)
	return w
}

// take returns what was read since the last call, connection by connection.
func (w *wire) take() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var all []string
	for _, c := range w.conns {
		if c.read.Len() > 0 {
			all = append(all, c.read.String())
		}
	}
	w.conns = nil
	return all
}

func (w *wire) address() string { return strings.TrimPrefix(w.URL, "http://") }

// atKlavi is the only form in which a request of a service may reach Klavi.
func (w *wire) atKlavi(method, uri, body string) string {
	text := method + " /data/v1" + uri + " HTTP/1.1\r\nHost: " + w.address() + "\r\nUser-Agent: caddy-klavi\r\n"
	if body != "" {
		text += fmt.Sprintf("Content-Length: %d\r\n", len(body))
	}
	text += "Accept: */*\r\nAccept-Encoding: identity\r\nAuthorization: Bearer " + wireToken + "\r\n"
	if body != "" {
		text += "Content-Type: application/json\r\n"
	}
	return text + "\r\n" + body
}

const (
	wireToken = "secret-token-of-the-wire"

	// placeholders are all ways in which a handler can name what went on.
	placeholders = "[{http.request.header.Authorization}] [{http.request.header.*}] [{http.request}] [{http.vars.client_ip}] [{http.auth.user.id}] " +
		"[{http.reverse_proxy.header.Authorization}] [{http.reverse_proxy.header.X-Where}] [{http.reverse_proxy.status_text}] " +
		"[{http.reverse_proxy.upstream.address}] [{http.reverse_proxy.upstream.hostport}] [{http.intercept.header.X-Where}] " +
		"[{http.request.orig_uri}] [{http.request.uri}] [{http.error.message}]"
)

// elsewhere is a site whose author would take the token anywhere. OTHER stands for
// a server of theirs, EVERYTHING for all placeholders.
const elsewhere = `[
	{"match": [{"path": ["/dial/*"]}], "handle": [
		{"handler": "rewrite", "strip_path_prefix": "/dial"},
		{"handler": "reverse_proxy", "transport": {"protocol": "klavi"}, "upstreams": [{"dial": "OTHER"}, {"dial": "{http.request.header.X-Where}"}],
			"load_balancing": {"selection_policy": {"policy": "round_robin"}, "retries": 2}}
	]},
	{"match": [{"path": ["/header-up/*"]}], "handle": [
		{"handler": "rewrite", "strip_path_prefix": "/header-up"},
		{KLAVI, "headers": {"request": {
			"set": {"Authorization": ["Basic bWluZQ=="], "Host": ["OTHER"], "Cookie": ["a=b"], "X-Forwarded-Host": ["OTHER"], "X-Forwarded-Proto": ["http"],
				"X-Forwarded-For": ["10.0.0.1"], "Connection": ["Authorization"], "X-Http-Method-Override": ["DELETE"], "X-Original-Url": ["/refresh"],
				"Content-Length": ["0"], "Transfer-Encoding": ["chunked"], "Upgrade": ["h2c"], "Expect": ["100-continue"], "Te": ["trailers"], "Via": ["1.1 x"],
				"X-Copy": ["EVERYTHING"], "Range": ["bytes=0-1"], "If-None-Match": ["x"], "User-Agent": ["mine"], ":authority": ["OTHER"], "Trailer": ["Authorization"]},
			"add": {"Authorization": ["Bearer mine"], "authorization": ["Bearer mine too"], "Proxy-Authorization": ["Basic bWluZQ=="]},
			"replace": {"Authorization": [{"search_regexp": "Bearer (.*)", "replace": "Bearer $1 $1"}]}
		}}}
	]},
	{"match": [{"path": ["/header-down/*"]}], "handle": [
		{"handler": "rewrite", "strip_path_prefix": "/header-down"},
		{KLAVI, "headers": {"response": {"set": {"X-Copy": ["EVERYTHING"], "Location": ["http://OTHER/?{http.request.header.Authorization}"]}, "deferred": true}}}
	]},
	{"match": [{"path": ["/inner-method/*"]}], "handle": [
		{"handler": "rewrite", "strip_path_prefix": "/inner-method"},
		{KLAVI, "rewrite": {"method": "POST", "uri": "/auth"}}
	]},
	{"match": [{"path": ["/inner-host/*"]}], "handle": [
		{"handler": "rewrite", "strip_path_prefix": "/inner-host"},
		{KLAVI, "rewrite": {"uri": "http://OTHER{http.request.uri}"}}
	]},
	{"match": [{"path": ["/outer-method/*"]}], "handle": [
		{"handler": "rewrite", "method": "GET", "uri": "/refresh"}, {KLAVI}
	]},
	{"match": [{"path": ["/regexp/*"]}], "handle": [
		{"handler": "rewrite", "path_regexp": [{"find": "^/regexp/consents$", "replace": "/data/v1/%72efresh"}]}, {KLAVI}
	]},
	{"match": [{"path": ["/substring/*"]}], "handle": [
		{"handler": "rewrite", "strip_path_prefix": "/substring"},
		{"handler": "rewrite", "uri_substring": [{"find": "consents", "replace": "refresh"}]}, {KLAVI}
	]},
	{"match": [{"path": ["/suffix/*"]}], "handle": [
		{"handler": "rewrite", "strip_path_prefix": "/suffix", "strip_path_suffix": "/1"}, {KLAVI}
	]},
	{"match": [{"path": ["/query/*"]}], "handle": [
		{"handler": "rewrite", "strip_path_prefix": "/query"},
		{"handler": "rewrite", "query": {"add": [{"key": "token", "val": "EVERYTHING"}], "set": [{"key": "x", "val": "a&b=c#d e\u0000"}]}}, {KLAVI}
	]},
	{"match": [{"path": ["/copied/*"]}], "handle": [
		{"handler": "rewrite", "strip_path_prefix": "/copied"},
		{KLAVI, "handle_response": [{"routes": [{"handle": [
			{"handler": "copy_response_headers"},
			{"handler": "copy_response", "status_code": 203}
		]}]}]}
	]},
	{"match": [{"path": ["/told/*"]}], "handle": [
		{"handler": "rewrite", "strip_path_prefix": "/told"},
		{KLAVI, "handle_response": [{"match": {"status_code": [2]}, "routes": [{"handle": [
			{"handler": "headers", "response": {"set": {"X-Copy": ["EVERYTHING"]}}, "request": {"set": {"X-Copy": ["EVERYTHING"]}}},
			{"handler": "static_response", "body": "EVERYTHING"}
		]}]}]}
	]},
	{"match": [{"path": ["/passed-on/*"]}], "handle": [
		{"handler": "rewrite", "strip_path_prefix": "/passed-on"},
		{KLAVI, "handle_response": [{"routes": [
			{"handle": [{"handler": "subroute", "routes": [{"handle": [
				{"handler": "headers", "request": {"set": {"X-Copy": ["EVERYTHING"]}}},
				{"handler": "reverse_proxy", "upstreams": [{"dial": "OTHER"}]}
			]}]}]}
		]}]}
	]},
	{"match": [{"path": ["/steered/*"]}], "handle": [
		{"handler": "rewrite", "strip_path_prefix": "/steered"},
		{KLAVI, "handle_response": [{"routes": [{"handle": [
			{"handler": "rewrite", "method": "GET", "uri": "{http.reverse_proxy.header.X-Next}"}, {KLAVI}
		]}]}]}
	]},
	{"match": [{"path": ["/sent-off/*"]}], "handle": [
		{"handler": "rewrite", "strip_path_prefix": "/sent-off"},
		{KLAVI, "handle_response": [{"routes": [{"handle": [
			{"handler": "reverse_proxy", "upstreams": [{"dial": "{http.reverse_proxy.header.X-Where}"}]}
		]}]}]}
	]},
	{"match": [{"path": ["/intercepted/*"]}], "handle": [
		{"handler": "rewrite", "strip_path_prefix": "/intercepted"},
		{"handler": "intercept", "handle_response": [{"routes": [{"handle": [
			{"handler": "headers", "request": {"set": {"X-Copy": ["EVERYTHING"]}}},
			{"handler": "reverse_proxy", "upstreams": [{"dial": "OTHER"}]}
		]}]}]},
		{KLAVI}
	]},
	{"match": [{"path": ["/asked-first/*"]}], "handle": [
		{"handler": "reverse_proxy", "upstreams": [{"dial": "OTHER"}], "rewrite": {"method": "GET", "uri": "/whoami"},
			"handle_response": [{"match": {"status_code": [2]}, "routes": [{"handle": [
				{"handler": "headers", "request": {"set": {"Authorization": ["{http.reverse_proxy.header.X-Where}"], "X-User": ["u"]}}}
			]}]}]},
		{"handler": "rewrite", "strip_path_prefix": "/asked-first"}, {KLAVI}
	]},
	{"match": [{"path": ["/buffered/*"]}], "handle": [
		{"handler": "request_body", "max_size": 1000},
		{"handler": "rewrite", "strip_path_prefix": "/buffered"},
		{KLAVI, "request_buffers": -1, "response_buffers": -1, "flush_interval": -1, "trusted_proxies": ["127.0.0.1/8"],
			"load_balancing": {"retries": 3, "try_duration": "1m", "try_interval": "1ms",
				"retry_match": [{"method": ["GET", "POST"]}, {"expression": "true"}]}}
	]},
	{"match": [{"path": ["/encoded/*"]}], "handle": [
		{"handler": "encode", "encodings": {"gzip": {}}, "minimum_length": 1},
		{"handler": "tracing", "span": "x"},
		{"handler": "log_append", "key": "all", "value": "{http.request.header.Authorization}"},
		{"handler": "vars", "all": "EVERYTHING"},
		{"handler": "rewrite", "strip_path_prefix": "/encoded"},
		{KLAVI}
	]},
	{"match": [{"path": ["/broken/*"]}], "handle": [
		{"handler": "rewrite", "strip_path_prefix": "/broken"},
		{KLAVI, "handle_response": [{"routes": [{"handle": [{"handler": "error", "error": "EVERYTHING", "status_code": "502"}]}]}]}
	]},
	{"handle": [{KLAVI}]}
]`

// Every way that a site has to take the token elsewhere. What reaches Klavi is
// compared byte for byte; nothing else, and no log, has the token.
func TestTokenGoesNowhereElse(t *testing.T) {
	other := newWire(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Where", "Bearer of-the-other")
		_, _ = io.WriteString(w, "other "+r.Method+" "+r.RequestURI)
	})
	k := newWire(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/data/v1/auth" {
			_, _ = io.WriteString(w, `{"accessToken":"`+wireToken+`","expireIn":1800}`)
			return
		}
		h := w.Header()
		h.Set("Content-Type", "application/json")
		h.Set("X-Where", other.address())
		h.Set("X-Next", r.URL.Query().Get("next"))
		if r.URL.Path == "/data/v1/consents/down" {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		_, _ = io.WriteString(w, `{"ok":true}`)
	})
	c := runRoutes(t, k.URL, "json", strings.NewReplacer("OTHER", other.address(), "EVERYTHING", placeholders).Replace(elsewhere))
	address := strings.TrimPrefix(c.url, "http://")

	get := func(uri string) []string { return []string{k.atKlavi("GET", uri, "")} }
	post := func(uri string) []string { return []string{k.atKlavi("POST", uri, `{"a":1}`)} }
	for _, tt := range []struct {
		line   string // method and target
		status int
		klavi  []string // what reaches Klavi
		other  int      // how many requests reach the other server
	}{
		{"GET /consents", 200, get("/consents"), 0},
		{"POST /links", 200, post("/links"), 0},
		{"GET http://OTHER/consents", 200, get("/consents"), 0},
		{"GET /dial/consents", 200, get("/consents"), 0},
		{"POST /dial/links", 200, post("/links"), 0},
		{"GET /header-up/consents", 200, get("/consents"), 0},
		{"DELETE /header-up/consents/1/revoke", 200, []string{k.atKlavi("DELETE", "/consents/1/revoke", "")}, 0},
		{"GET /header-down/consents", 200, get("/consents"), 0},
		{"GET /inner-method/consents", 403, nil, 0},
		{"POST /inner-method/links", 403, nil, 0},
		{"GET /inner-host/consents", 403, nil, 0},
		{"POST /outer-method/links", 403, nil, 0},
		{"GET /regexp/consents", 403, nil, 0},
		{"GET /substring/consents", 403, nil, 0},
		{"GET /suffix/refresh/1", 403, nil, 0},
		{"GET /suffix/consents/1", 200, get("/consents"), 0},
		{"GET /query/consents/1?a=b", 200, get("/consents/1?a=b&QUERY"), 0},
		{"GET /copied/consents", 203, get("/consents"), 0},
		{"GET /told/consents", 200, get("/consents"), 0},
		{"GET /passed-on/consents", 200, get("/consents"), 1},
		{"GET /steered/consents?next=/refresh", 403, get("/consents?next=/refresh"), 0},
		{"GET /steered/consents?next=/auth", 403, get("/consents?next=/auth"), 0},
		{"GET /steered/consents?next=/consents/2", 200, append(get("/consents?next=/consents/2"), get("/consents/2?next=/consents/2")...), 0},
		{"GET /sent-off/consents", 200, get("/consents"), 1},
		{"GET /intercepted/consents", 200, get("/consents"), 1},
		{"GET /intercepted/refresh", 200, nil, 1},
		{"GET /asked-first/consents", 200, get("/consents"), 1},
		{"POST /asked-first/links", 200, post("/links"), 1},
		{"POST /asked-first/auth", 403, nil, 1},
		{"GET /buffered/consents", 200, get("/consents"), 0},
		{"POST /buffered/links", 200, post("/links"), 0},
		{"GET /buffered/consents/down", 503, nil, 0}, // how often is up to the site
		{"GET /encoded/consents", 200, get("/consents"), 0},
		{"GET /broken/consents", 502, get("/consents"), 0},

		// Targets that mean another endpoint to somebody.
		{"GET /refresh", 403, nil, 0},
		{"POST /auth", 403, nil, 0},
		{"GET /REFRESH", 403, nil, 0},
		{"GET /refresh/", 403, nil, 0},
		{"GET //refresh", 403, nil, 0},
		{"GET /./refresh", 403, nil, 0},
		{"GET /%72efresh", 403, nil, 0},
		{"GET /%2572efresh", 403, nil, 0},
		{"GET /refresh%00", 403, nil, 0},
		{"GET /refresh%20", 403, nil, 0},
		{"GET /refresh;a=b", 403, nil, 0},
		{"GET /refresh%3f", 403, nil, 0},
		{"GET /consents/../refresh", 403, nil, 0},
		{"GET /consents/..%2frefresh", 403, nil, 0},
		{"GET /consents/..%5crefresh", 403, nil, 0},
		{"GET /consents/%2e%2e/refresh", 403, nil, 0},
		{"GET /consents/..;/refresh", 403, nil, 0},
		{"GET /consents/1/../../refresh", 403, nil, 0},
		{"GET /consents%2f1", 403, nil, 0},
		{"GET /consents/1%2frevoke", 403, nil, 0},
		{"GET /data/v1/refresh", 403, nil, 0},
		{"GET /data/v1/data/v1/consents", 403, nil, 0},
		{"GET /DATA/V1/consents", 403, nil, 0},
		{"GET /links/institutions", 403, nil, 0},
		{"POST /consents", 403, nil, 0},
		{"CONNECT /consents", 403, nil, 0},
		{"PRI /consents", 403, nil, 0},
		{"get /consents", 403, nil, 0},
	} {
		t.Run(tt.line, func(t *testing.T) {
			k.take()
			other.take()
			status, answer := c.raw(t, address, strings.Replace(tt.line, "OTHER", other.address(), 1), other.address())
			if status != tt.status {
				t.Errorf("got %d %.300q, want %d", status, answer, tt.status)
			}
			var calls []string
			for _, call := range k.take() {
				if !strings.HasPrefix(call, "POST /data/v1/auth ") {
					calls = append(calls, call)
				}
			}
			if strings.HasPrefix(tt.line, "GET /buffered/consents/down") {
				tt.klavi = nil
				for range max(1, len(calls)) {
					tt.klavi = append(tt.klavi, get("/consents/down")...)
				}
			}
			wantWire(t, "Klavi", calls, tt.klavi)
			others := other.take()
			if len(others) != tt.other {
				t.Errorf("the other server got %d requests %q, want %d", len(others), others, tt.other)
			}
			told := strings.Join(append(others, answer), "\n")
			wantNoSecret(t, told)
			if shows := strings.HasPrefix(tt.line, "GET /told/") || tt.other > 0; shows && !strings.Contains(told, "Bearer client") {
				t.Errorf("got %q, which does not show what would be there", told)
			}
		})
	}
	log, err := os.ReadFile(c.log)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"upstream roundtrip", "Bearer client", `"all":"Bearer client"`} {
		if !strings.Contains(string(log), want) {
			t.Errorf("got no %q in the log: it does not show what would be there", want)
		}
	}
	wantNoSecret(t, string(log))
}

// raw sends a request as it is written, with what a client could send along.
func (c chain) raw(t *testing.T, address, line, other string) (status int, answer string) {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	request := line + " HTTP/1.1\r\nHost: services.example\r\nConnection: close\r\nAuthorization: Bearer client\r\nCookie: c=d\r\n" +
		"X-Where: " + other + "\r\nX-Forwarded-Host: " + other + "\r\nX-Forwarded-For: 192.0.2.1\r\nForwarded: host=" + other + "\r\n" +
		"Proxy-Authorization: Basic Zm9v\r\nX-Original-Url: /refresh\r\nX-Rewrite-Url: /refresh\r\nX-Http-Method: GET\r\n" +
		"Accept: */*\r\nAccept-Encoding: identity\r\nIdempotency-Key: k\r\n"
	if strings.HasPrefix(line, "POST ") {
		request += "Content-Type: application/json\r\nContent-Length: 7\r\n\r\n{\"a\":1}"
	} else {
		request += "\r\n"
	}
	if _, err := io.WriteString(conn, request); err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(conn)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Sscanf(string(text), "HTTP/1.1 %d", &status); err != nil {
		t.Fatalf("got %q: %v", text, err)
	}
	return status, string(text)
}

func wantWire(t *testing.T, who string, got, want []string) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%s got %d requests %q, want %d", who, len(got), got, len(want))
	}
	for i := range got {
		// The query of one is made of what went on, which differs.
		before, rest, cut := strings.Cut(want[i], "QUERY")
		if cut {
			line, tail, _ := strings.Cut(got[i], " HTTP/1.1")
			if strings.HasPrefix(line, before) && " HTTP/1.1"+tail == rest && !strings.ContainsAny(line[len(before):], " #\x00") {
				continue
			}
		}
		if got[i] != want[i] {
			t.Errorf("%s got\n%q\nwant\n%q", who, got[i], want[i])
		}
	}
}

func wantNoSecret(t *testing.T, text string) {
	t.Helper()
	for _, secret := range []string{wireToken, "chain-secret-key", "chain-access-key"} {
		if at := strings.Index(text, secret); at >= 0 {
			t.Errorf("got %s in %.300q", secret, text[max(0, at-150):])
		}
	}
}
