package integration

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/caddyserver/caddy/v2"
)

// A Caddy that is to go delivers what waits, and takes no reports until it is
// restarted.
func TestDrainAGateway(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("TEST_SECRET_KEY", testSecret)
	t.Setenv("TEST_INBOX", filepath.Join(dir, "inbox"))
	t.Setenv("TEST_INBOX_KEY", strings.Repeat("07", 32))
	var up atomic.Bool
	var accepted atomic.Int32
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if !up.Load() {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		accepted.Add(1)
	}))
	defer upstream.Close()
	g := start(t, withInbox, "upstream", upstream.URL[strings.LastIndex(upstream.URL, ":")+1:])
	config := filepath.Join(dir, "Caddyfile")
	if err := os.WriteFile(config, []byte(g.expand(withInbox)), 0o600); err != nil {
		t.Fatal(err)
	}
	body := func(id string) string { return `{"productName":"pf_credit_card","productReportId":"` + id + `"}` }
	if a := g.report(body("a")); a.status != 200 {
		t.Fatalf("got %d %s, want the report taken", a.status, a.body)
	}
	drained := make(chan bool, 1)
	go func() {
		out, ok := command(t, "inbox", "drain", "--config", config)
		drained <- ok && strings.Contains(out, "nothing is left in "+filepath.Join(dir, "inbox"))
	}()
	refused := func() bool { return g.report(body("b")).status == 503 } // it is the same that is taken before that
	g.eventually("that no reports are taken", refused)
	select {
	case <-drained:
		t.Error("got it drained while a report waits")
	default:
	}
	up.Store(true)
	if !<-drained {
		t.Error("got something left, want nothing")
	}
	if n := accepted.Load(); n < 1 || !refused() {
		t.Errorf("got %d reports delivered, and reports taken: %v, want what waited, and none", n, !refused())
	}
	if err := g.load(withInbox); err != nil {
		t.Fatal(err)
	}
	if !refused() {
		t.Error("got a report taken after a reload, want none before a restart")
	}
	if err := caddy.Stop(); err != nil {
		t.Fatal(err)
	}
	if err := g.load(withInbox); err != nil {
		t.Fatal(err)
	}
	if a := g.report(body("c")); a.status != 200 {
		t.Errorf("got %d after a restart, want it taken", a.status)
	}
}
