package proxy

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"

	"github.com/caddyserver/caddy/v2"
	_ "github.com/caddyserver/caddy/v2/modules/standard"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/caddy-klavi/caddy-klavi/gateway"
)

// fakeKlavi logs everybody in and notes what it is asked.
type fakeKlavi struct {
	*httptest.Server
	// answer takes the place of the answer {"ok":true}.
	answer http.HandlerFunc
	// login takes the place of the answer to /auth.
	login http.HandlerFunc

	mu     sync.Mutex
	logins int
	calls  []call
}

type call struct {
	method, uri, host string
	header            http.Header
	trailer           http.Header
	length            int64
	body              string
	bodyErr           error
}

func newKlavi(t *testing.T) *fakeKlavi {
	t.Helper()
	k := new(fakeKlavi)
	k.Server = httptest.NewServer(k)
	t.Cleanup(k.Close)
	return k
}

func (k *fakeKlavi) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/data/v1/auth" {
		k.mu.Lock()
		k.logins++
		n := k.logins
		k.mu.Unlock()
		if k.login != nil {
			k.login(w, r)
			return
		}
		fmt.Fprintf(w, `{"accessToken":"secret-token-%d","expireIn":1800}`, n)
		return
	}
	body, err := io.ReadAll(r.Body)
	c := call{r.Method, r.RequestURI, r.Host, r.Header.Clone(), r.Trailer.Clone(), r.ContentLength, string(body), err}
	k.mu.Lock()
	k.calls = append(k.calls, c)
	k.mu.Unlock()
	r.Body = io.NopCloser(bytes.NewReader(body))
	if k.answer != nil {
		k.answer(w, r)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = io.WriteString(w, `{"ok":true}`)
}

// seen returns what was asked so far, logins aside.
func (k *fakeKlavi) seen() []call {
	k.mu.Lock()
	defer k.mu.Unlock()
	return append([]call(nil), k.calls...)
}

func (k *fakeKlavi) loggedIn() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.logins
}

// traces is what a transport leaves behind.
type traces struct {
	*observer.ObservedLogs
	metrics *prometheus.Registry
}

// provision returns the transport as Caddy would set it up, and what it logs.
func provision(t *testing.T, base string, config Transport) (*Transport, *traces) {
	t.Helper()
	tr, logs, err := tryProvision(t, base, config)
	if err != nil {
		t.Fatal(err)
	}
	return tr, logs
}

func tryProvision(t *testing.T, base string, config Transport) (*Transport, *traces, error) {
	t.Helper()
	app, err := json.Marshal(gateway.App{Accounts: map[string]*gateway.Account{
		gateway.DefaultAccount: {BaseURL: base + "/data/v1", AccessKey: "access-" + t.Name(), SecretKey: "secret-" + t.Name()},
	}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, err := caddy.ProvisionContext(&caddy.Config{
		Admin:   &caddy.AdminConfig{Disabled: true},
		AppsRaw: caddy.ModuleMap{"klavi": app},
	})
	if err != nil {
		t.Fatal(err)
	}
	raw, err := json.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	mod, err := ctx.LoadModuleByID("http.reverse_proxy.transport.klavi", raw)
	if err != nil {
		return nil, nil, err
	}
	core, logs := observer.New(zapcore.DebugLevel)
	tr := mod.(*Transport)
	tr.logger = zap.New(core)
	return tr, &traces{logs, ctx.GetMetricsRegistry()}, nil
}

// incoming returns a request as reverse_proxy hands it over.
func incoming(method, target string, body io.Reader) *http.Request {
	return incomingContext(context.Background(), method, target, body)
}

func incomingContext(ctx context.Context, method, target string, body io.Reader) *http.Request {
	req := httptest.NewRequestWithContext(ctx, method, target, body)
	return req.WithContext(context.WithValue(req.Context(), caddy.ReplacerCtxKey, replacerFor(req)))
}

func replacerFor(req *http.Request) *caddy.Replacer {
	repl := caddy.NewReplacer()
	repl.Map(func(key string) (any, bool) {
		const prefix = "http.request.header."
		if len(key) > len(prefix) && key[:len(prefix)] == prefix {
			return req.Header.Get(key[len(prefix):]), true
		}
		return nil, false
	})
	return repl
}

// answerOf is an answer with its body read.
type answerOf struct {
	status int
	header http.Header
	body   string
}

func roundTrip(t *testing.T, tr *Transport, req *http.Request) answerOf {
	t.Helper()
	res, err := tr.RoundTrip(req)
	if err != nil {
		t.Fatalf("round trip: %v", err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatalf("reading the answer: %v", err)
	}
	if res.Request != req {
		t.Errorf("got an answer to another request, want that of the caller: the token stands in the other")
	}
	return answerOf{res.StatusCode, res.Header, string(body)}
}

// problemOf decodes a problem.
func problemOf(t *testing.T, a answerOf) (kind, field, detail string) {
	t.Helper()
	if got := a.header.Get("Content-Type"); got != "application/problem+json" {
		t.Fatalf("got status %d, Content-Type %q and %q, want a problem", a.status, got, a.body)
	}
	var p struct{ Type, Field, Detail string }
	if err := json.Unmarshal([]byte(a.body), &p); err != nil {
		t.Fatalf("decoding problem %q: %v", a.body, err)
	}
	return p.Type, p.Field, p.Detail
}
