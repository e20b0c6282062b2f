package integration

import (
	"crypto/sha256"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-klavi/caddy-klavi/inbox/postgrestest"
)

// What waits in a directory is moved into a database, while Caddy is stopped or runs
// on that database already, and delivered from there: once, and byte for byte.
func TestMoveIntoADatabase(t *testing.T) {
	inDatabase := strings.Replace(withInbox, "dir {env.TEST_INBOX}", "postgres {env.TEST_INBOX_URL}", 1)
	for _, how := range []string{"stopped", "running"} {
		t.Run(how, func(t *testing.T) {
			dir := t.TempDir()
			t.Setenv("TEST_SECRET_KEY", testSecret)
			t.Setenv("TEST_INBOX", filepath.Join(dir, "inbox"))
			database := postgrestest.Shared(t).Database(t)
			t.Setenv("TEST_INBOX_URL", database)
			t.Setenv("TEST_INBOX_KEY", strings.Repeat("07", 32))
			var up atomic.Bool
			var mu sync.Mutex
			got := make(map[string]int) // by digest
			upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				body, err := io.ReadAll(r.Body)
				if !up.Load() || err != nil {
					w.WriteHeader(http.StatusServiceUnavailable)
					return
				}
				mu.Lock()
				defer mu.Unlock()
				got[fmt.Sprintf("%x", sha256.Sum256(body))]++
			}))
			defer upstream.Close()
			g := start(t, withInbox, "upstream", upstream.URL[strings.LastIndex(upstream.URL, ":")+1:])
			want := make(map[string]int)
			const reports = 30
			for i := range reports {
				body := fmt.Sprintf(`{"productName":"pf_credit_card","productReportId":"report-%d", "data":{"personalTaxId":"%s","pad":"%s"}}`,
					i, testCPF, strings.Repeat("x", i%3*60_000))
				if a := g.report(body); a.status != 200 {
					t.Fatalf("got %d %s, want the report taken", a.status, a.body)
				}
				want[fmt.Sprintf("%x", sha256.Sum256([]byte(body)))] = 1
			}
			config := filepath.Join(dir, "Caddyfile")
			if err := os.WriteFile(config, []byte(g.expand(inDatabase)), 0o600); err != nil {
				t.Fatal(err)
			}
			move := []string{"inbox", "move", "--from", filepath.Join(dir, "inbox"), "--config", config}
			if out, ok := command(t, move...); ok || !strings.Contains(out, "stop that Caddy") {
				t.Errorf("got %v and %s while Caddy has the directory open, want what to do", ok, out)
			}
			up.Store(how == "running")
			if how == "stopped" {
				if err := caddy.Stop(); err != nil {
					t.Fatal(err)
				}
			} else if err := g.load(inDatabase); err != nil {
				t.Fatal(err)
			}
			g.eventually("that the old Caddy lets go of the directory", func() bool {
				out, ok := command(t, move...)
				return ok && strings.Contains(out, fmt.Sprintf("klavi: %d reports", reports))
			})
			if how == "stopped" {
				up.Store(true)
				if err := g.load(inDatabase); err != nil {
					t.Fatal(err)
				}
			}
			g.eventually("the deliveries", func() bool {
				out, ok := command(t, "reports", "list", "--state", "waiting", "--config", config)
				return ok && !strings.Contains(out, "waiting")
			})
			mu.Lock()
			defer mu.Unlock()
			if len(got) != reports {
				t.Errorf("got %d reports, want %d", len(got), reports)
			}
			for digest, n := range got {
				if n != want[digest] {
					t.Errorf("got %d of %s, want %d", n, digest, want[digest])
				}
			}
			if out, ok := command(t, move...); !ok || !strings.Contains(out, ": 0 reports\nnothing is left") {
				t.Errorf("got %v and %s, want that nothing is left", ok, out)
			}
			u, err := url.Parse(database)
			if err != nil {
				t.Fatal(err)
			}
			password, _ := u.User.Password()
			wantNowhere(t, "the log", readFile(t, g.logs), testCPF, "070707", password)
		})
	}
}
