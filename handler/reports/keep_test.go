package reports

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-klavi/caddy-klavi/gateway"
	"github.com/caddy-klavi/caddy-klavi/inbox"
	"github.com/caddy-klavi/caddy-klavi/klavi"
)

// newInboxGate returns a gate that keeps reports in an inbox, which is open.
func newInboxGate(t testing.TB, config Reports) *gate {
	t.Helper()
	g, err := provision(t, config)
	if err != nil {
		t.Fatal(err)
	}
	startKlavi(t, g.ctx)
	return g.serve()
}

// startKlavi does what Caddy does when it runs a config, and when it ends.
func startKlavi(t testing.TB, ctx caddy.Context) {
	t.Helper()
	mod, err := ctx.App("klavi")
	if err != nil {
		t.Fatal(err)
	}
	app := mod.(*gateway.App)
	if err := app.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = app.Stop()
		if err := app.Cleanup(); err != nil {
			t.Error(err)
		}
	})
}

func (g *gate) store() *inbox.Store {
	g.t.Helper()
	store, done, err := g.reports.account.OpenInbox(g.t.Context())
	if err != nil {
		g.t.Fatal(err)
	}
	done()
	return store
}

// record returns what the inbox has of the only report with that id.
func (g *gate) record(id string) inbox.Record {
	g.t.Helper()
	list, err := g.store().Audit(g.t.Context(), inbox.Filter{ReportID: id}, inbox.Page{})
	if err != nil || len(list) != 1 {
		g.t.Fatalf("got %d records of %s, %v, want one", len(list), id, err)
	}
	return list[0]
}

func (g *gate) eventually(what string, is func() bool) {
	g.t.Helper()
	for end := time.Now().Add(20 * time.Second); !is(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			g.t.Fatalf("got never %s; the log:\n%s", what, g.logged())
		}
	}
}

// service takes reports, and remembers them.
type service struct {
	*httptest.Server
	mu       sync.Mutex
	status   int
	requests []*http.Request
	bodies   [][]byte
}

func newService(t testing.TB, status int) *service {
	s := &service{status: status}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		s.mu.Lock()
		defer s.mu.Unlock()
		s.requests, s.bodies = append(s.requests, r), append(s.bodies, body)
		w.WriteHeader(s.status)
	}))
	t.Cleanup(s.Close)
	return s
}

func (s *service) answers(status int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.status = status
}

func (s *service) got() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.requests)
}

// Bodies in memory and in a file of the inbox arrive as they came, with what the
// direct mode would have told of them.
func TestInboxDelivers(t *testing.T) {
	for name, size := range map[string]int{"in memory": 300, "in a row": 60 << 10, "in a file": 200 << 10, "spooled": 3 << 20} {
		t.Run(name, func(t *testing.T) {
			s := newService(t, 204)
			g := newInboxGate(t, Reports{Routes: oneRoute(proxyTo(s.Server))})
			body := reportOf("pf_loans", "id-7", size)
			if got := g.send(body); got.status != 200 {
				t.Fatalf("got status %d, want 200: %s", got.status, got.body)
			}
			g.eventually("the report at its service", func() bool { return s.got() == 1 })
			if !bytes.Equal(s.bodies[0], body) {
				t.Errorf("got a body of %d bytes, want the %d that were sent", len(s.bodies[0]), len(body))
			}
			header := s.requests[0].Header
			for name, want := range map[string]string{
				"Klavi-Report-Type": "pf_loans", "Klavi-Report-Id": "id-7", "Idempotency-Key": "id-7", "Klavi-Request-Id": "112334",
				"Klavi-Report-Code": "200", "Klavi-Link-Id": "gPuKXrCJU05J4k", "Klavi-Consent-Id": "f55c899f,a66d900a",
				"Klavi-Account": g.account, "Klavi-Delivery-Attempt": "1", "Klavi-Report-Repeat": "", "Klavi-Report-Conflict": "",
				"Content-Type": "application/json", "User-Agent": "klavi/1.0", klavi.TimestampHeader: "1740716924",
				klavi.SignatureHeader: klavi.Sign([]byte(secret), body),
			} {
				if got := header.Get(name); got != want {
					t.Errorf("got %s %q, want %q", name, got, want)
				}
			}
			g.eventually("that it is delivered", func() bool { return g.record("id-7").State == inbox.Delivered })
			g.eventually("that it is counted", func() bool { return g.counted("caddy_klavi_reports_total", "route=all") > 0 })
			for what, n := range map[string]float64{
				"stored": g.counted("caddy_klavi_inbox_reports_total", "result=stored"),
				"signed": g.counted("caddy_klavi_signatures_total", "key=secret_key"),
				"taken":  g.counted("caddy_klavi_reports_total", "route=all", "result=accepted"),
			} {
				if n != 1 {
					t.Errorf("got %v counted as %s, want 1", n, what)
				}
			}
		})
	}
}

// What the service does not take is kept, tried again, and told apart.
func TestInboxTriesAgain(t *testing.T) {
	s := newService(t, 503)
	g := newInboxGate(t, Reports{Routes: oneRoute(proxyTo(s.Server))})
	if got := g.send(reportOf("pf_loans", "id-7", 300)); got.status != 200 {
		t.Fatalf("got status %d, want 200: %s", got.status, got.body)
	}
	g.eventually("an attempt", func() bool { return len(g.record("id-7").Attempts) >= 1 })
	r := g.record("id-7")
	if r.State != inbox.Waiting || r.Attempts[0].Status != 503 || r.Attempts[0].Reason != "the route answered with status 503" {
		t.Errorf("got %s after %+v, want that it waits after a 503", r.State, r.Attempts[0])
	}
	s.answers(200)
	if _, err := g.store().Retry(t.Context(), inbox.Filter{}, "a test", nil); err != nil {
		t.Fatal(err)
	}
	g.eventually("that it is delivered", func() bool { return g.record("id-7").State == inbox.Delivered })
	if got := s.requests[len(s.requests)-1].Header.Get("Klavi-Delivery-Attempt"); got == "1" {
		t.Errorf("got Klavi-Delivery-Attempt %s, want a later one", got)
	}
}

// How an attempt ends decides what becomes of a report.
func TestOutcomes(t *testing.T) {
	tests := []struct {
		name string
		do   caddyhttp.HandlerFunc
		want inbox.State
		why  string
	}{
		{"410", func(w http.ResponseWriter, _ *http.Request) error { w.WriteHeader(410); return nil }, inbox.Dead, "the route answered with status 410"},
		{"nothing", func(http.ResponseWriter, *http.Request) error { return nil }, inbox.Waiting, "the route's handlers wrote nothing"},
		{"abort", func(http.ResponseWriter, *http.Request) error { panic(http.ErrAbortHandler) }, inbox.Waiting, "the connection to the upstream broke"},
		{"panic", func(http.ResponseWriter, *http.Request) error { panic("25872252137") }, inbox.Waiting, "a handler of the route panicked"},
		{"502", func(http.ResponseWriter, *http.Request) error {
			return caddyhttp.Error(502, errors.New("dial tcp: 25872252137"))
		}, inbox.Waiting, "the upstream could not be reached"},
		{"503", func(http.ResponseWriter, *http.Request) error { return caddyhttp.Error(503, errors.New("none")) }, inbox.Waiting, "no upstream is available"},
		{"error", func(http.ResponseWriter, *http.Request) error { return errors.New("25872252137") }, inbox.Waiting, "a handler of the route failed"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			g := newInboxGate(t, Reports{Routes: oneRoute(hook(t, "it", tt.do))})
			if got := g.send(reportOf("pf_loans", "id-7", 300)); got.status != 200 {
				t.Fatalf("got status %d, want 200", got.status)
			}
			g.eventually("an attempt", func() bool { return len(g.record("id-7").Attempts) >= 1 })
			r := g.record("id-7")
			if r.State != tt.want || r.Attempts[0].Reason != tt.why {
				t.Errorf("got %s because %q, want %s because %q", r.State, r.Attempts[0].Reason, tt.want, tt.why)
			}
			if strings.Contains(g.logged(), "25872252137") {
				t.Errorf("got a tax id in the log:\n%s", g.logged())
			}
		})
	}
}

func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 11, 29, 8, 0, 0, 0, time.UTC)
	for text, want := range map[string]time.Duration{
		"": 0, "0": 0, "120": 2 * time.Minute, "-1": 0, "1.5": 0, "soon": 0, "99999999999999999999": 0,
		"Sun, 29 Nov 2026 08:00:30 GMT": 30 * time.Second, "Sun, 29 Nov 2026 07:00:00 GMT": 0,
	} {
		if got := retryAfter(http.Header{"Retry-After": {text}}, now); got != want {
			t.Errorf("%q: got %v, want %v", text, got, want)
		}
	}
}

// Nothing that is signed is refused: what has no route or cannot be read is kept.
func TestInboxKeepsWhatHasNoRoute(t *testing.T) {
	s := newService(t, 200)
	g := newInboxGate(t, Reports{Routes: []*Route{{Name: "loans", Specific: []string{"pf_loans"}, HandlersRaw: []json.RawMessage{proxyTo(s.Server)}}}})
	for _, tt := range []struct {
		name, body, id string
		encoding       string
		want           inbox.State
		result         string
	}{
		{"no route", `{"productName":"pj_balance","productReportId":"id-9"}`, "id-9", "", inbox.Waiting, "stored"},
		{"cut", `{"productName":"pf_loans"`, "", "", inbox.Dead, "unreadable"},
		{"no JSON", `hello`, "", "", inbox.Dead, "unreadable"},
		{"no events", `[]`, "", "", inbox.Dead, "unreadable"},
		{"encoded", `{"productName":"pf_loans","productReportId":"id-10"}`, "", "gzip", inbox.Dead, "unreadable"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			before := g.counted("caddy_klavi_inbox_reports_total", "result="+tt.result)
			r := g.signed([]byte(tt.body))
			if tt.encoding != "" {
				r.Header.Set("Content-Encoding", tt.encoding)
			}
			if got := send(t, r); got.status != 200 {
				t.Fatalf("got status %d, want 200: %s", got.status, got.body)
			}
			id := tt.id
			if id == "" {
				id = sum(tt.body)
			}
			record := g.record(id)
			if record.State != tt.want {
				t.Errorf("got it %s, want %s", record.State, tt.want)
			}
			if n := g.counted("caddy_klavi_inbox_reports_total", "result="+tt.result); n != before+1 {
				t.Errorf("got %v counted as %s, want %v", n, tt.result, before+1)
			}
			body, err := g.store().Export(t.Context(), record.UID, "a test", "to compare")
			if err != nil {
				t.Fatal(err)
			}
			defer body.Close()
			if got, err := io.ReadAll(body); string(got) != tt.body || err != nil {
				t.Errorf("got %q, %v, want %q", got, err, tt.body)
			}
		})
	}
	if n := s.got(); n != 0 {
		t.Errorf("got %d reports at the only route, want none", n)
	}
}

// A copy is answered 200 and delivered once; one with the same id that says
// something else is told apart.
func TestInboxCopies(t *testing.T) {
	s := newService(t, 200)
	g := newInboxGate(t, Reports{Routes: oneRoute(proxyTo(s.Server))})
	body := reportOf("pf_loans", "id-7", 300)
	for range 3 {
		if got := g.send(body); got.status != 200 {
			t.Fatalf("got status %d, want 200", got.status)
		}
	}
	if got := g.send(reportOf("pf_loans", "id-7", 400)); got.status != 200 {
		t.Fatalf("got status %d, want 200", got.status)
	}
	g.eventually("both reports", func() bool { return s.got() == 2 })
	var conflicts []string
	for _, r := range s.requests {
		conflicts = append(conflicts, r.Header.Get("Klavi-Report-Conflict"))
	}
	if fmt.Sprint(conflicts) != "[ true]" && fmt.Sprint(conflicts) != "[true ]" {
		t.Errorf("got Klavi-Report-Conflict %q, want it true on one of two", conflicts)
	}
	for result, want := range map[string]float64{"stored": 1, "duplicate": 2, "conflict": 1} {
		if got := g.counted("caddy_klavi_inbox_reports_total", "result="+result); got != want {
			t.Errorf("got %v counted as %s, want %v", got, result, want)
		}
	}
}

// A report that comes again, and is not a copy, is told apart from a new one.
func TestInboxRepeats(t *testing.T) {
	s := newService(t, 410)
	g := newInboxGate(t, Reports{Routes: oneRoute(proxyTo(s.Server))})
	body := reportOf("pf_loans", "id-7", 300)
	send := func() {
		t.Helper()
		if got := g.send(body); got.status != 200 {
			t.Fatalf("got status %d, want 200: %s", got.status, got.body)
		}
	}
	send()
	g.eventually("that it is dead", func() bool { return g.record("id-7").State == inbox.Dead })
	if n, err := g.store().Drop(t.Context(), inbox.Filter{ReportID: "id-7"}, "ana", "a test", nil); n != 1 || err != nil {
		t.Fatalf("got %d dropped and %v, want one", n, err)
	}
	s.answers(200)
	send()
	g.eventually("it again", func() bool { return s.got() == 2 })
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, want := range []string{"", "true"} {
		if got := s.requests[i].Header.Get("Klavi-Report-Repeat"); got != want {
			t.Errorf("delivery %d: got Klavi-Report-Repeat %q, want %q", i+1, got, want)
		}
	}
}

// An array of events goes whole to each route that one of its events names, once.
func TestInboxEvents(t *testing.T) {
	privacy, rest := newService(t, 200), newService(t, 200)
	g := newInboxGate(t, Reports{Routes: []*Route{
		{Name: "privacy", Events: []string{"consent_revoked", "consent_deleted*"}, HandlersRaw: []json.RawMessage{proxyTo(privacy.Server)}},
		{Name: "rest", Events: []string{"*"}, HandlersRaw: []json.RawMessage{proxyTo(rest.Server)}},
	}})
	body := `[{"eventName":"consent_revoked","eventId":"e1","linkId":"l1","consentId":"c1"},{"eventName":"consent_deleted_by_user","eventId":"e2"},` +
		`{"eventName":"page_view","eventId":"e3"}]`
	if got := g.send([]byte(body)); got.status != 200 {
		t.Fatalf("got status %d, want 200", got.status)
	}
	g.eventually("that it is delivered", func() bool { return g.record(sum(body)).State == inbox.Delivered })
	for name, s := range map[string]*service{"privacy": privacy, "rest": rest} {
		if s.got() != 1 || string(s.bodies[0]) != body {
			t.Errorf("%s: got %d requests, want one with the whole array", name, s.got())
			continue
		}
		header := s.requests[0].Header
		if got, want := header.Get("Klavi-Event-Name"), "consent_revoked,consent_deleted_by_user,page_view"; got != want {
			t.Errorf("%s: got Klavi-Event-Name %q, want %q", name, got, want)
		}
		if got := header.Get("Klavi-Event-Id"); got != "e1,e2,e3" {
			t.Errorf("%s: got Klavi-Event-Id %q, want e1,e2,e3", name, got)
		}
	}
}

// A body of Klavi's address whose key is not known yet is kept aside, and becomes a
// report when it is.
func TestQuarantine(t *testing.T) {
	s := newService(t, 200)
	g := newInboxGate(t, Reports{Routes: oneRoute(proxyTo(s.Server)), KlaviSources: []string{"203.0.113.7"}})
	small, large := reportOf("pf_loans", "id-1", 300), reportOf("pf_loans", "id-2", 2<<20)
	for i, body := range [][]byte{small, large, small} {
		r := g.unsigned(body)
		r.Header.Set(klavi.SignatureHeader, klavi.Sign([]byte("a coming key"), body))
		r.Header.Set("X-Forwarded-For", []string{"203.0.113.7", "203.0.113.7", "198.51.100.1"}[i])
		if got := send(t, r); got.status != 401 {
			t.Errorf("got status %d, want 401", got.status)
		}
	}
	stats, err := g.store().Stats(t.Context())
	if err != nil || stats.Quarantined != 2 {
		t.Fatalf("got %d quarantined, %v, want 2: none from elsewhere", stats.Quarantined, err)
	}
	if n, err := g.store().Release(t.Context(), g.reports.Verify); n != 0 || err != nil {
		t.Errorf("got %d released, %v, want none before the key is known", n, err)
	}
	reload(t, g, "a coming key", proxyTo(s.Server))
	g.eventually("both reports", func() bool { return s.got() == 2 })
	for _, r := range s.requests {
		if got := r.Header.Get("Klavi-Report-Type"); got != "pf_loans" {
			t.Errorf("got Klavi-Report-Type %q, want pf_loans", got)
		}
	}
}

// reload starts a config that accepts one more key, beside that of the gate.
func reload(t *testing.T, g *gate, key string, to json.RawMessage) {
	t.Helper()
	handler := map[string]any{"handler": "klavi_reports", "account": g.account, "routes": oneRoute(to)}
	ctx, err := caddy.ProvisionContext(caddyConfig(g.dir, g.account, []string{key}, handler))
	if err != nil {
		t.Fatal(err)
	}
	startKlavi(t, ctx)
}

// A full inbox refuses, before it reads.
func TestInboxIsFull(t *testing.T) {
	g := newInboxGate(t, Reports{Routes: oneRoute(respond(503))})
	g.store().Configure(inbox.Settings{MaxSize: 1000})
	if got := g.send(reportOf("pf_loans", "id-1", 300)); got.status != 200 {
		t.Fatalf("got status %d, want 200", got.status)
	}
	if strings.Contains(g.logged(), "refused") {
		t.Errorf("got a refusal in the log, want none yet:\n%s", g.logged())
	}
	got := g.send(reportOf("pf_loans", "id-2", 700))
	if got.status != 503 || got.problem() != "busy" || got.header.Get("Retry-After") == "" {
		t.Errorf("got %d %s with Retry-After %q, want 503 busy with one", got.status, got.problem(), got.header.Get("Retry-After"))
	}
	if n := g.counted("caddy_klavi_reports_refused_total", "reason=inbox_full"); n != 1 {
		t.Errorf("got %v refused for a full inbox, want 1", n)
	}
	if !strings.Contains(g.logged(), "error signed report refused") {
		t.Errorf("got a log without an error of a signed report that was refused:\n%s", g.logged())
	}
}

// A body of exactly max_body is kept as it is, and one byte more is refused, also
// where no length is announced.
func TestInboxMaxBody(t *testing.T) {
	for _, limit := range []int{500, maxInMemory, 3 << 20} { // in memory, and in a file
		g := newInboxGate(t, Reports{MaxBody: int64(limit), Routes: oneRoute(respond(503))})
		for size, want := range map[int]int{limit: 200, limit + 1: 413} {
			for _, announced := range []bool{true, false} {
				id := fmt.Sprintf("id-%d-%t", size, announced)
				body := reportOf("pf_loans", id, size)
				r := g.signed(body)
				if !announced {
					r.ContentLength = -1
				}
				// The answer to a body that is too large may be lost: nobody reads the rest of it.
				if a, err := trySend(r); a.status != want && (want == 200 || err == nil) {
					t.Errorf("size %d of %d, announced %t: got status %d (%v), want %d", size, limit, announced, a.status, err, want)
				}
				if want == 200 && g.record(id).Digest != sum(string(body)) {
					t.Errorf("size %d, announced %t: got digest %s, want that of what was sent", size, announced, g.record(id).Digest)
				}
			}
		}
		if n := g.counted("caddy_klavi_reports_refused_total", "reason=too_large"); n != 2 {
			t.Errorf("max_body %d: got %v bodies refused as too large, want 2", limit, n)
		}
		if stats, err := g.store().Stats(t.Context()); err != nil || stats.Waiting != 2 {
			t.Errorf("max_body %d: got %+v, %v, want two reports that wait", limit, stats, err)
		}
	}
}

// sum is the digest of a body as inbox and headers show it.
func sum(body string) string {
	digest := sha256.Sum256([]byte(body))
	return hex.EncodeToString(digest[:])
}
