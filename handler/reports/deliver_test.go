package reports

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-klavi/caddy-klavi/klavi"
)

func TestWhatIsAccepted(t *testing.T) {
	closed := httptest.NewServer(nil)
	closed.Close()
	upstream := func(do http.HandlerFunc) func(t *testing.T) json.RawMessage {
		return func(t *testing.T) json.RawMessage {
			ts := httptest.NewServer(do)
			t.Cleanup(ts.Close)
			return proxyTo(ts)
		}
	}
	handler := func(do caddyhttp.HandlerFunc) func(t *testing.T) json.RawMessage {
		return func(t *testing.T) json.RawMessage { return hook(t, "it", do) }
	}
	status := func(status int) func(t *testing.T) json.RawMessage {
		return upstream(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", "/elsewhere")
			w.Header().Set("Retry-After", "1")
			w.WriteHeader(status)
		})
	}
	tests := []struct {
		name  string
		route func(t *testing.T) json.RawMessage
		want  int
		log   string
	}{
		{"200", status(200), 200, ""},
		{"201", status(201), 200, ""},
		{"204", status(204), 200, ""},
		{"301", status(301), 502, "no status of the 2xx class (status 301)"},
		{"304", status(304), 502, "status 304"},
		{"400", status(400), 502, "status 400"},
		{"410", status(410), 502, "status 410"},
		{"429", status(429), 502, "status 429"},
		{"500", status(500), 502, "status 500"},
		{"503", status(503), 502, "status 503"},
		{"200 with an error in it", upstream(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, `{"error":"x"}`) }), 200, ""},
		{"103, then nothing but 200", upstream(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(103) }), 200, ""},
		{"103, then 500", upstream(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(103); w.WriteHeader(500) }), 502, "status 500"},
		{"refused connection", func(*testing.T) json.RawMessage { return proxyTo(closed) }, 502, "connection refused"},
		{"upstream aborts before its status", upstream(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }), 502, "EOF"},
		{"upstream aborts after its status", upstream(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "100")
			_, _ = io.WriteString(w, "begun")
			http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		}), 502, "the connection to the upstream broke (status 200)"},
		{"nobody answers", handler(func(http.ResponseWriter, *http.Request) error { return nil }), 502, "wrote nothing"},
		{"only a header", handler(func(w http.ResponseWriter, _ *http.Request) error {
			w.Header().Set("X", "y")
			return http.NewResponseController(w).Flush()
		}), 502, "wrote nothing"},
		{"only 1xx", handler(func(w http.ResponseWriter, _ *http.Request) error { w.WriteHeader(100); return nil }), 502, "wrote nothing"},
		{"written without a status", handler(func(w http.ResponseWriter, _ *http.Request) error { _, err := w.Write(nil); return err }), 200, ""},
		{"the first status counts", handler(func(w http.ResponseWriter, _ *http.Request) error { w.WriteHeader(500); w.WriteHeader(200); return nil }), 502, "status 500"},
		{"200, then an error", handler(func(w http.ResponseWriter, _ *http.Request) error {
			w.WriteHeader(200)
			return errors.New("too late, said 258.722.521-37")
		}), 502, "too late"},
		{"handler error", handler(func(http.ResponseWriter, *http.Request) error { return caddyhttp.Error(418, errors.New("tea")) }), 502, "tea (status 418)"},
		{"panic", handler(func(http.ResponseWriter, *http.Request) error { panic("25872252137") }), 502, "a handler of the route panicked"},
		{"abort", handler(func(http.ResponseWriter, *http.Request) error { panic(http.ErrAbortHandler) }), 502, "broke"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			g := newGate(t, Reports{Routes: oneRoute(tt.route(t))}).serve()
			got := g.send(reportOf("pf_loans", "id-7", 300))
			if got.status != tt.want {
				t.Errorf("got status %d, want %d: %s", got.status, tt.want, got.body)
			}
			result := "result=accepted"
			if tt.want != 200 {
				result = "result=failed"
				if got.problem() != "report-not-accepted" {
					t.Errorf("got problem %q, want report-not-accepted", got.problem())
				}
			}
			if n := g.counted("caddy_klavi_reports_total", "route=all", result); n != 1 {
				t.Errorf("got %v counted as %s, want 1", n, result)
			}
			if !strings.Contains(g.logged(), tt.log) {
				t.Errorf("got log without %q:\n%s", tt.log, g.logged())
			}
			for _, never := range []string{"25872252137", "258.722.521-37", "transactionName", secret} {
				if strings.Contains(g.logged(), never) {
					t.Errorf("got %q in the log:\n%s", never, g.logged())
				}
			}
		})
	}
}

func TestUnroutable(t *testing.T) {
	tests := []struct{ name, body, reason string }{
		{"no route for the type", `{"productName":"pj_balance","productReportId":"id-9"}`, "there is no route for its type"},
		{"no route for the event", `{"eventName":"page_view","eventId":"e"}`, "there is no route for its events"},
		{"cut", `{"productName":"pf_loans"`, "ends before"},
		{"no JSON", `productName=pf_loans&cpf=25872252137`, "not valid JSON"},
		{"byte order mark", "\ufeff" + `{"productName":"pf_loans"}`, "not valid JSON"},
		{"something behind", `{"productName":"pf_loans"} {}`, "something follows"},
		{"type twice", `{"productName":"pf_loans","productName":"pj_balance"}`, "twice"},
		{"case twin", `{"ProductName":"pf_loans"}`, "neither a productName nor"},
		{"type null", `{"productName":null}`, "productName"},
		{"type nested", `{"report":{"productName":"pf_loans"}}`, "neither"},
		{"array of reports", `[{"productName":"pf_loans"}]`, "eventName"},
		{"not UTF-8 type", "{\"productName\":\"pf_\xff\"}", "productName"},
		{"NUL", "{\"productName\":\"pf_loans\x00\"}", "not valid JSON"},
		{"text", `"pf_loans"`, "neither an object nor"},
		{"space", ` `, "ends before"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			upstream, n := counting(t)
			g := newGate(t, Reports{Routes: []*Route{
				{Name: "it", Specific: []string{"pf_*"}, Events: []string{"consent_*"}, HandlersRaw: []json.RawMessage{proxyTo(upstream)}},
			}}).serve()
			got := g.send([]byte(tt.body))
			if got.status != 404 || got.problem() != "not-found" || n.Load() != 0 {
				t.Errorf("got status %d (%s) and %d deliveries, want 404 and none", got.status, got.problem(), n.Load())
			}
			if n := g.counted("caddy_klavi_reports_total", "result=unroutable"); n != 1 {
				t.Errorf("got %v counted as unroutable, want 1", n)
			}
			entries := g.logs.FilterMessage("signed report has no route").All()
			if len(entries) != 1 || !strings.Contains(fmt.Sprint(entries[0].ContextMap()["reason"]), tt.reason) {
				t.Errorf("got %s, want one error with %q", g.logged(), tt.reason)
			}
			if sum := sha256.Sum256([]byte(tt.body)); len(entries) == 1 && entries[0].ContextMap()["sha256"] != hex.EncodeToString(sum[:]) {
				t.Errorf("got digest %v, want that of the body", entries[0].ContextMap()["sha256"])
			}
			if strings.Contains(g.logged(), "25872252137") {
				t.Errorf("got content in the log: %s", g.logged())
			}
		})
	}
}

// Neither the code nor the data of a report decides whether it is delivered.
func TestDeliveredAsItIs(t *testing.T) {
	for _, body := range []string{
		`{"code":204,"productName":"pf_loans"}`,
		`{"code":5000,"message":"bank is down","productName":"pf_loans"}`,
		`{"productName":"pf_loans","data":1e400,"more":9223372036854775808}`,
		`{"data":{"productName":"pj_balance","productName":"x"},"productName":"pf_loans"}`,
		"{\"productName\":\"pf_loans\",\"name\":\"\xff\xfe\"}\r\n\t ",
		`{"enquiryCpf":"gPuKXrCJU05J4k_-gPuKXrCJU05J4k","productName":"pf_loans"}`,
		`{"productName":"pf_loans","deep":` + strings.Repeat("[", 5000) + strings.Repeat("]", 5000) + `}`,
	} {
		upstream, got := recording(t)
		g := newGate(t, Reports{Routes: []*Route{{Specific: []string{"pf_loans"}, HandlersRaw: []json.RawMessage{proxyTo(upstream)}}}}).serve()
		if a := g.send([]byte(body)); a.status != 200 || len(*got) != 1 || string((*got)[0].body) != body {
			t.Errorf("%.60q: got status %d and %d deliveries, want 200 and the same bytes: %s", body, a.status, len(*got), g.logged())
		}
	}
}

// An array of events goes whole to each route that one of them names; the retry
// after a failure goes to those alone that failed.
func TestEventsToSeveralRoutes(t *testing.T) {
	var calls [2]atomic.Int32
	var down atomic.Bool
	down.Store(true)
	route := func(i int, down *atomic.Bool) []json.RawMessage {
		return []json.RawMessage{hook(t, fmt.Sprint(i), func(w http.ResponseWriter, r *http.Request) error {
			calls[i].Add(1)
			if _, err := io.Copy(io.Discard, r.Body); err != nil {
				return err
			}
			if down.Load() {
				w.WriteHeader(500)
			}
			w.WriteHeader(200)
			return nil
		})}
	}
	g := newGate(t, Reports{Routes: []*Route{
		{Name: "a", Events: []string{"link_created"}, HandlersRaw: route(0, new(atomic.Bool))},
		{Name: "b", Events: []string{"consent_*"}, HandlersRaw: route(1, &down)},
	}}).serve()
	body := []byte(`[{"eventName":"link_created"},{"eventName":"consent_error"},{"eventName":"consent_error"},{"eventName":"page_view"}]`)
	if got := g.send(body); got.status != 502 {
		t.Errorf("with b down: got status %d, want 502", got.status)
	}
	down.Store(false)
	if got := g.send(body); got.status != 200 {
		t.Errorf("with b back: got status %d, want 200", got.status)
	}
	if got := g.send(body); got.status != 200 {
		t.Errorf("once more: got status %d, want 200", got.status)
	}
	if a, b := calls[0].Load(), calls[1].Load(); a != 1 || b != 2 {
		t.Errorf("got %d calls of a and %d of b, want 1 and 2", a, b)
	}
	if !strings.Contains(g.logged(), "page_view") {
		t.Errorf("got no line about the event without a route:\n%s", g.logged())
	}
}

// A copy that comes while the first is under way waits for its outcome, even if
// the first one's sender has left.
func TestCopiesJoin(t *testing.T) {
	for _, want := range []int{200, 502} {
		var calls atomic.Int32
		var release chan struct{}
		body := reportOf("pf_loans", fmt.Sprint("joined-", want), 2<<20)
		route := hook(t, fmt.Sprint(want), func(w http.ResponseWriter, r *http.Request) error {
			calls.Add(1)
			<-release
			digest := sha256.New()
			if _, err := io.Copy(digest, r.Body); err != nil || [32]byte(digest.Sum(nil)) != sha256.Sum256(body) {
				t.Errorf("got another body (%v), want what was sent", err)
			}
			w.WriteHeader(want)
			return nil
		})
		bubble(t, Reports{Routes: oneRoute(route)}, func(t *testing.T, g *gate, dial func() net.Conn) {
			release = make(chan struct{})
			send := func() net.Conn {
				conn := dial()
				_, _ = io.WriteString(conn, head(len(body), fromKlavi, klavi.Sign([]byte(secret), body)))
				_, _ = conn.Write(body)
				synctest.Wait()
				return conn
			}
			send().Close()
			if calls.Load() != 1 {
				t.Fatalf("got %d deliveries, want one under way", calls.Load())
			}
			var copies []net.Conn
			for range 4 {
				copies = append(copies, send())
			}
			close(release)
			for _, conn := range copies {
				if got, err := answerOf(conn); err != nil || got != want {
					t.Errorf("a copy got status %d (%v), want %d", got, err, want)
				}
				conn.Close()
			}
			if calls.Load() != 1 {
				t.Errorf("got %d deliveries, want 1", calls.Load())
			}
		})
	}
}

func TestSlowUpstream(t *testing.T) {
	forever := make(chan struct{})
	tests := map[string]caddyhttp.HandlerFunc{
		"ends with its context": func(_ http.ResponseWriter, r *http.Request) error {
			<-r.Context().Done()
			return r.Context().Err()
		},
		"does not": func(http.ResponseWriter, *http.Request) error {
			<-forever
			return nil
		},
		// The body belongs to the delivery for as long as that takes.
		"says 200 too late": func(w http.ResponseWriter, r *http.Request) error {
			time.Sleep(deliveryTime + time.Second)
			if n, err := io.Copy(io.Discard, r.Body); err != nil || n != 2<<20 {
				t.Errorf("got %d bytes (%v) after the answer, want the whole body", n, err)
			}
			w.WriteHeader(200)
			return nil
		},
	}
	for name, do := range tests {
		t.Run(name, func(t *testing.T) {
			body := reportOf("pf_loans", name, 2<<20)
			bubble(t, Reports{Routes: oneRoute(hook(t, "slow", do))}, func(t *testing.T, g *gate, dial func() net.Conn) {
				if name == "does not" {
					forever = make(chan struct{})
				}
				conn := dial()
				began := time.Now()
				go func() {
					_, _ = io.WriteString(conn, head(len(body), fromKlavi, klavi.Sign([]byte(secret), body)))
					_, _ = conn.Write(body)
				}()
				got, err := answerOf(conn)
				conn.Close()
				if took := time.Since(began); err != nil || got != 504 || took != deliveryTime {
					t.Errorf("got status %d (%v) after %v, want 504 after %v", got, err, took, deliveryTime)
				}
				if name == "does not" {
					close(forever)
				}
				time.Sleep(time.Minute)
				synctest.Wait()
				if free := g.reports.limits.spool.free; free != 2<<30 {
					t.Errorf("got room %d after all, want all of it", free)
				}
			})
		})
	}
}

// A stale connection to the upstream is no failure: the body can be sent again.
func TestStaleConnection(t *testing.T) {
	var calls atomic.Int32
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		if calls.Add(1) == 2 {
			conn, _, err := http.NewResponseController(w).Hijack()
			if err == nil {
				conn.Close() // as if it had been closed before the request came
			}
		}
	}))
	t.Cleanup(upstream.Close)
	g := newGate(t, Reports{Routes: oneRoute(proxyTo(upstream))}).serve()
	for i := range 2 {
		body := reportOf("pf_loans", fmt.Sprint("stale-", i), 2<<20)
		if got := g.send(body); got.status != 200 {
			t.Errorf("report %d: got status %d, want 200: %s", i, got.status, g.logged())
		}
	}
}
