package ready

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-klavi/caddy-klavi/gateway"
	"github.com/caddy-klavi/caddy-klavi/inbox"
)

// noReports takes none: all that comes waits.
type noReports struct{}

func (noReports) Route(inbox.Kind, string) string { return "" }
func (noReports) List() []inbox.Route             { return nil }
func (noReports) Deliver(context.Context, string, *inbox.Delivery) inbox.Outcome {
	return inbox.Outcome{}
}
func (noReports) LargestBody() int64 { return 1 << 20 }

func (noReports) Verify(*inbox.Quarantined) (*inbox.Head, error) { return nil, nil }

// site is a handler and the accounts that it speaks of: keeps has an inbox.
type site struct {
	t       *testing.T
	handler *Ready
	app     *gateway.App
	dir     string // of the inbox
}

// newSite returns a site that is not started yet.
func newSite(t *testing.T, settings string) *site {
	t.Helper()
	s := &site{t: t, handler: new(Ready), dir: filepath.Join(t.TempDir(), "inbox")}
	account := `{"base_url":"http://127.0.0.1:1/data/v1","access_key":"a","secret_key":"s"`
	config := fmt.Sprintf(`{"accounts":{"direct":%s},"keeps":%[1]s,"inbox":{"dir":%q%s}}}}`, account, s.dir, settings)
	ctx, err := caddy.ProvisionContext(&caddy.Config{
		Admin: &caddy.AdminConfig{Disabled: true}, AppsRaw: caddy.ModuleMap{"klavi": json.RawMessage(config)},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.handler.Provision(ctx); err != nil {
		t.Fatal(err)
	}
	s.app = s.handler.app
	s.takeReports("direct", nil)
	t.Cleanup(func() {
		_ = s.app.Stop()
		if err := s.app.Cleanup(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// takeReports does what a klavi_reports of the account does.
func (s *site) takeReports(account string, reports gateway.Reports) {
	s.t.Helper()
	if err := s.app.AddReportRoutes(s.app.Accounts[account], "a test", []byte("[]"), reports); err != nil {
		s.t.Fatal(err)
	}
}

func (s *site) start() {
	s.t.Helper()
	if err := s.app.Start(); err != nil {
		s.t.Fatal(err)
	}
}

// newOpenSite returns one whose inbox is open.
func newOpenSite(t *testing.T) (*site, *inbox.Store) {
	t.Helper()
	s := newSite(t, "")
	s.takeReports("keeps", noReports{})
	s.start()
	store, done, err := s.app.Accounts["keeps"].OpenInbox(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	done()
	return s, store
}

func (s *site) ask(method string) *httptest.ResponseRecorder {
	s.t.Helper()
	w := httptest.NewRecorder()
	if err := s.handler.ServeHTTP(w, httptest.NewRequest(method, "/ready", nil), nil); err != nil {
		s.t.Fatal(err)
	}
	return w
}

const (
	yes = `{"ready":true}` + "\n"
	no  = `{"ready":false,"accounts":{"keeps":"%s"}}` + "\n"
)

// want asks until that is the answer: what is wrong with an inbox is found out in
// the background.
func (s *site) want(status int, body string) {
	s.t.Helper()
	var w *httptest.ResponseRecorder
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if w = s.ask("GET"); w.Code == status && w.Body.String() == body {
			return
		}
	}
	s.t.Fatalf("got %d %s, want %d %s", w.Code, w.Body, status, body)
}

func (s *site) wantReason(reason string) {
	s.t.Helper()
	s.want(http.StatusServiceUnavailable, fmt.Sprintf(no, reason))
}

func (s *site) wantReady() {
	s.t.Helper()
	s.want(http.StatusOK, yes)
}

func TestWithoutInbox(t *testing.T) {
	s := newSite(t, "")
	s.wantReady() // of two accounts, one is direct and one has no klavi_reports
	s.start()
	s.wantReady()
}

func TestOpening(t *testing.T) {
	s := newSite(t, "")
	s.takeReports("keeps", noReports{})
	s.wantReason("opening") // the app is started after the server that listens
	s.start()
	s.wantReady()
}

func TestAnswer(t *testing.T) {
	s, _ := newOpenSite(t)
	for _, method := range []string{"GET", "HEAD"} {
		w := s.ask(method)
		if got := w.Header(); w.Code != 200 || got.Get("Content-Type") != "application/json" || got.Get("Cache-Control") != "no-store" ||
			got.Get("Content-Length") != fmt.Sprint(len(yes)) {
			t.Errorf("%s: got %d with %v, want 200 with JSON that nobody stores", method, w.Code, got)
		}
	}
	for _, method := range []string{"POST", "OPTIONS", "get"} {
		if w := s.ask(method); w.Code != 405 || w.Header().Get("Allow") != "GET, HEAD" {
			t.Errorf("%s: got %d with Allow %q, want 405 with GET, HEAD", method, w.Code, w.Header().Get("Allow"))
		}
	}
}

// The inbox of another process, and one of another key.
func TestCannotBeOpened(t *testing.T) {
	s := newSite(t, `,"encryption_key":"0123456789abcdef0123456789abcdef"`)
	other, err := inbox.Open(t.Context(), inbox.Options{Dir: s.dir, Unencrypted: true, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	s.takeReports("keeps", noReports{})
	s.start()
	s.wantReason("locked")
	if strings.Contains(s.ask("GET").Body.String(), s.dir) {
		t.Error("got the directory in the answer, which anybody can read")
	}
	if err := other.Close(); err != nil {
		t.Fatal(err)
	}
	s.wantReason("wrong_key")
}

func TestFull(t *testing.T) {
	s, store := newOpenSite(t)
	s.wantReady()
	d, err := store.NewDraft()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.Write([]byte("{}")); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Commit(t.Context(), inbox.Head{Kind: inbox.KindReport, Subjects: []string{"pf_loans"}, ReportID: "1"}, [32]byte{1}); err != nil {
		t.Fatal(err)
	}
	store.Configure(inbox.Settings{MaxSize: 1})
	s.wantReason("full")
	store.Configure(inbox.Settings{})
	s.wantReady()
}

func TestCannotBeWritten(t *testing.T) {
	s, _ := newOpenSite(t)
	s.wantReady()
	if err := os.RemoveAll(s.dir); err != nil {
		t.Fatal(err)
	}
	s.wantReason("unavailable")
}

func TestNeedsAnAccount(t *testing.T) {
	ctx, cancel := caddy.NewContext(caddy.Context{Context: t.Context()})
	defer cancel()
	if err := new(Ready).Provision(ctx); err == nil || !strings.Contains(err.Error(), "no account at Klavi is configured") {
		t.Errorf("got %v without the app klavi, want that it is missing", err)
	}
}

// A machine that is to go.
func TestDrained(t *testing.T) {
	s, store := newOpenSite(t)
	s.wantReady()
	if err := store.Drain(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	s.wantReason("draining")
}
