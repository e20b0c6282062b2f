package reports

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	_ "github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"
	_ "github.com/caddyserver/caddy/v2/modules/caddyhttp/rewrite"
	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/caddy-klavi/caddy-klavi/klavi"
)

func TestMain(m *testing.M) {
	caddy.RegisterModule(Hook{})
	goleak.VerifyTestMain(m,
		goleak.IgnoreCurrent(),
		// What a config of Caddy's runs until it is unloaded, which one that is only provisioned never is.
		goleak.IgnoreAnyFunction("github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy.(*metricsUpstreamsHealthyUpdater).init.func1"),
		goleak.IgnoreAnyFunction("github.com/caddyserver/certmagic.(*Cache).maintainAssets"),
		// Connections to upstreams that stay open for the next request.
		goleak.IgnoreAnyFunction("net/http.(*persistConn).readLoop"),
		goleak.IgnoreAnyFunction("net/http.(*persistConn).writeLoop"),
	)
}

const secret, oldSecret = "the-secret-key", "the-old-secret-key"

// Hook is a handler of which a test says what it does.
type Hook struct {
	Name string `json:"name"`
}

var hooks sync.Map // name -> caddyhttp.HandlerFunc

func (Hook) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.handlers.test_hook", New: func() caddy.Module { return new(Hook) }}
}

func (k Hook) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	do, ok := hooks.Load(k.Name)
	if !ok {
		return next.ServeHTTP(w, r)
	}
	return do.(caddyhttp.HandlerFunc)(w, r)
}

// hook returns the config of a handler that does what do says.
func hook(t testing.TB, name string, do caddyhttp.HandlerFunc) json.RawMessage {
	name = t.Name() + "/" + name
	hooks.Store(name, do)
	t.Cleanup(func() { hooks.Delete(name) })
	return object(map[string]any{"handler": "test_hook", "name": name})
}

func proxyTo(upstream *httptest.Server) json.RawMessage {
	return object(map[string]any{
		"handler":   "reverse_proxy",
		"upstreams": []any{map[string]any{"dial": upstream.Listener.Addr().String()}},
	})
}

func respond(status int) json.RawMessage {
	return object(map[string]any{"handler": "static_response", "status_code": status})
}

func object(value any) json.RawMessage {
	raw, err := json.Marshal(value)
	if err != nil {
		panic(err)
	}
	return raw
}

// gate is a provisioned Caddy with one server whose only handler is the one
// under test, under an account of its own.
type gate struct {
	t       testing.TB
	ctx     caddy.Context
	account string
	dir     string // of its inbox
	reports *Reports
	server  *caddyhttp.Server
	logs    *observer.ObservedLogs
	url     string

	canceled atomic.Int32 // requests whose context was, while they were served
}

// gates counts them: what an account remembers outlives its config.
var gates atomic.Int64

// newGate returns a gate that delivers while the sender waits.
func newGate(t testing.TB, config Reports) *gate {
	t.Helper()
	config.Direct = true
	g, err := provision(t, config)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func provision(t testing.TB, config Reports) (*gate, error) {
	accept := []string{oldSecret}
	if _, ok := t.(*testing.B); ok {
		accept = nil // one key is what most have
	}
	g := &gate{t: t, dir: t.TempDir(), account: fmt.Sprint(t.Name(), "-", gates.Add(1))}
	config.Account = g.account
	handler := map[string]any{}
	if err := json.Unmarshal(object(config), &handler); err != nil {
		t.Fatal(err)
	}
	handler["handler"] = "klavi_reports"
	ctx, err := caddy.ProvisionContext(caddyConfig(g.dir, g.account, accept, handler))
	if err != nil {
		return nil, err
	}
	g.ctx = ctx
	app, err := ctx.App("http")
	if err != nil {
		t.Fatal(err)
	}
	g.server = app.(*caddyhttp.App).Servers["srv0"]
	g.reports = g.server.Routes[0].Handlers[0].(*Reports)
	var core zapcore.Core
	core, g.logs = observer.New(zap.DebugLevel)
	g.reports.logger = zap.New(core)
	g.reports.limits.spoolDir = t.TempDir()
	return g, nil
}

// caddyConfig has one account, and a server for each handler.
func caddyConfig(dir, account string, accept []string, handlers ...map[string]any) *caddy.Config {
	servers := make(map[string]any)
	for i, handler := range handlers {
		servers[fmt.Sprint("srv", i)] = map[string]any{
			"listen":          []string{fmt.Sprint("127.0.0.1:", i)},
			"trusted_proxies": map[string]any{"source": "static", "ranges": []string{"127.0.0.1/32"}},
			"automatic_https": map[string]any{"disable": true},
			"routes":          []any{map[string]any{"handle": []any{handler}}},
		}
	}
	return &caddy.Config{AppsRaw: caddy.ModuleMap{
		"klavi": object(map[string]any{"accounts": map[string]any{account: map[string]any{
			"base_url":           "http://127.0.0.1:1/data/v1",
			"access_key":         "access",
			"secret_key":         secret,
			"accept_secret_keys": accept,
			"inbox":              map[string]any{"dir": dir},
		}}}),
		"http": object(map[string]any{"servers": servers}),
	}}
}

// serve makes the gate reachable.
func (g *gate) serve() *gate {
	ts := httptest.NewServer(g.server)
	g.t.Cleanup(ts.Close)
	g.url = ts.URL + "/klavi/reports"
	return g
}

// answer is what Klavi would see.
type answer struct {
	status int
	header http.Header
	body   string
}

// problem returns the type of the problem, or "".
func (a answer) problem() string {
	var p struct{ Type string }
	_ = json.Unmarshal([]byte(a.body), &p)
	return p.Type
}

// send sends a request as it is.
func send(t testing.TB, r *http.Request) answer {
	t.Helper()
	a, err := trySend(r)
	if err != nil {
		t.Fatalf("sending a report: %v", err)
	}
	return a
}

func trySend(r *http.Request) (answer, error) {
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	res, err := client.Do(r)
	if err != nil {
		return answer{}, err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	return answer{res.StatusCode, res.Header, string(body)}, err
}

// signed returns a request as Klavi makes it.
func (g *gate) signed(body []byte) *http.Request {
	r := g.unsigned(body)
	r.Header.Set(klavi.SignatureHeader, klavi.Sign([]byte(secret), body))
	r.Header.Set(klavi.TimestampHeader, "1740716924")
	return r
}

func (g *gate) unsigned(body []byte) *http.Request {
	r, err := http.NewRequestWithContext(context.Background(), http.MethodPost, g.url, bytes.NewReader(body))
	if err != nil {
		g.t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("User-Agent", "klavi/1.0")
	return r
}

func (g *gate) send(body []byte) answer {
	g.t.Helper()
	return send(g.t, g.signed(body))
}

// counted returns the value of a counter of this gate's account.
func (g *gate) counted(name string, labels ...string) float64 {
	g.t.Helper()
	families, err := g.ctx.GetMetricsRegistry().Gather()
	if err != nil {
		g.t.Fatal(err)
	}
	want := append([]string{"account=" + g.account}, labels...)
	for _, family := range families {
		if family.GetName() != name {
			continue
		}
		for _, metric := range family.GetMetric() {
			has := make(map[string]bool)
			for _, label := range metric.GetLabel() {
				has[label.GetName()+"="+label.GetValue()] = true
			}
			all := true
			for _, label := range want {
				all = all && has[label]
			}
			if all {
				return metric.GetCounter().GetValue()
			}
		}
	}
	return 0
}

// logged returns all that was logged, as one text.
func (g *gate) logged() string {
	var b strings.Builder
	for _, entry := range g.logs.All() {
		fmt.Fprintf(&b, "%s %s %v\n", entry.Level, entry.Message, entry.ContextMap())
	}
	return b.String()
}

// reportOf returns a report of that type and size, or a little larger.
func reportOf(reportType, id string, size int) []byte {
	head := fmt.Sprintf(`{"code":200,"message":"OK","requestId":"112334","productName":%q,"productReportId":%q,`+
		`"enquiryCpf":"25872252137","links":[{"linkId":"gPuKXrCJU05J4k","consents":[{"consentId":"f55c899f"},{"consentId":"a66d900a"}]}],"data":[`,
		reportType, id)
	const row, tail = `{"transactionName":"PIX","amount":"1000.0400"}`, `]}`
	var b bytes.Buffer
	b.WriteString(head)
	b.WriteString(row)
	for b.Len()+1+len(row)+len(tail) <= size {
		b.WriteString("," + row)
	}
	for b.Len()+len(tail) < size {
		b.WriteByte(' ')
	}
	b.WriteString(tail)
	return b.Bytes()
}

func oneRoute(handlers ...json.RawMessage) []*Route {
	return []*Route{{Name: "all", All: true, Events: []string{"*"}, HandlersRaw: handlers}}
}

// pipeListener serves connections that need no network, so that time can be
// made to pass in a test.
type pipeListener struct {
	conns chan net.Conn
	done  chan struct{}
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case conn := <-l.conns:
		return conn, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error {
	close(l.done)
	return nil
}

func (l *pipeListener) Addr() net.Addr { return pipeAddr{} }

type pipeAddr struct{}

func (pipeAddr) Network() string { return "pipe" }
func (pipeAddr) String() string  { return "127.0.0.1:1" }

type pipeConn struct{ net.Conn }

func (pipeConn) RemoteAddr() net.Addr { return pipeAddr{} }

// servePipes serves the gate inside of a bubble; dial connects to it.
func (g *gate) servePipes() (dial func() net.Conn, stop func()) {
	l := &pipeListener{make(chan net.Conn), make(chan struct{})}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		g.server.ServeHTTP(w, r)
		if r.Context().Err() != nil {
			g.canceled.Add(1)
		}
	})}
	go server.Serve(l)
	return func() net.Conn {
		client, conn := net.Pipe()
		l.conns <- pipeConn{conn}
		return client
	}, func() { server.Close() }
}

func mustAddr(text string) netip.Addr { return netip.MustParseAddr(text) }
