package integration

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/caddy-klavi/caddy-klavi/inbox"
	"github.com/caddy-klavi/caddy-klavi/klavi"
)

// watched is a gateway that keeps reports, with what operators look at.
const watched = `
{
	admin 127.0.0.1:{{admin}}
	auto_https off
	log {
		output file {{log}}
	}
	klavi {
		base_url http://127.0.0.1:1/data/v1
		access_key access
		secret_key {env.TEST_SECRET_KEY}
		inbox {
			dir {env.TEST_INBOX}
		}
	}
}
http://:{{hooks}} {
	bind 127.0.0.1
	klavi_reports /klavi/reports {
		all http://127.0.0.1:{{upstream}}/ as ledger
	}
	klavi_ready /ready
	respond 404
}
`

// metric returns a value of /metrics, and whether it is there.
func (g *gateway) metric(name string) (float64, bool) {
	g.t.Helper()
	for line := range strings.Lines(g.do("GET", g.url("admin", "/metrics"), "").body) {
		if text, ok := strings.CutPrefix(line, "caddy_klavi_"+name+" "); ok {
			value, err := strconv.ParseFloat(strings.TrimSpace(text), 64)
			if err != nil {
				g.t.Fatalf("%s: %v", line, err)
			}
			return value, true
		}
	}
	return 0, false
}

func (g *gateway) eventuallyMetric(name string, want float64) {
	g.t.Helper()
	g.eventually(name+" to be "+strconv.FormatFloat(want, 'f', -1, 64), func() bool {
		got, ok := g.metric(name)
		return ok && got == want
	})
}

// What an operator sees of an inbox that another process has, then of a service
// that is away, and across a reload.
func TestInboxIsWatched(t *testing.T) {
	t.Setenv("TEST_SECRET_KEY", testSecret)
	dir := filepath.Join(t.TempDir(), "inbox")
	t.Setenv("TEST_INBOX", dir)
	var status atomic.Int32
	status.Store(503)
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(int(status.Load()))
	}))
	t.Cleanup(upstream.Close)
	other, err := inbox.Open(t.Context(), inbox.Options{Dir: dir, Unencrypted: true, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	g := start(t, watched, "upstream", upstream.URL[strings.LastIndex(upstream.URL, ":")+1:])
	ready := func() answer { return g.do("GET", g.url("hooks", "/ready"), "") }
	wantReady := func(status int, body string) {
		t.Helper()
		g.eventually(body, func() bool { a := ready(); return a.status == status && a.body == body+"\n" })
	}

	wantReady(503, `{"ready":false,"accounts":{"default":"locked"}}`)
	g.eventuallyMetric(`inbox_ready{account="default"}`, 0)
	if err := other.Close(); err != nil {
		t.Fatal(err)
	}
	wantReady(200, `{"ready":true}`)
	g.eventuallyMetric(`inbox_ready{account="default"}`, 1)
	if a := g.do("HEAD", g.url("hooks", "/ready"), ""); a.status != 200 || a.body != "" || a.header.Get("Cache-Control") != "no-store" {
		t.Errorf("got %d %q for HEAD, want 200 without a body, not to be stored", a.status, a.body)
	}
	g.want(g.do("POST", g.url("hooks", "/ready"), "{}"), 405, "method-not-allowed")

	body := `{"productName":"pf_loans","productReportId":"report-1","enquiryCpf":"` + testCPF + `"}`
	g.want(g.do("POST", g.url("hooks", "/klavi/reports"), body, klavi.SignatureHeader, klavi.Sign([]byte(testSecret), []byte(body))), 200, "")
	g.eventuallyMetric(`inbox_waiting{account="default",route="ledger"}`, 1)
	g.eventually("a failed attempt", func() bool {
		n, _ := g.metric(`reports_total{account="default",result="failed",route="ledger"}`)
		return n > 0
	})
	if a := ready(); a.status != 200 {
		t.Errorf("got %d %s while a service is away, want 200", a.status, a.body)
	}

	stored, _ := g.metric(`inbox_reports_total{account="default",result="stored"}`)
	failed, _ := g.metric(`reports_total{account="default",result="failed",route="ledger"}`)
	if err := g.load(watched + "# reloaded\n"); err != nil {
		t.Fatal(err)
	}
	if n, _ := g.metric(`inbox_reports_total{account="default",result="stored"}`); n != stored || n < 1 {
		t.Errorf("got %v stored after a reload, want %v as before", n, stored)
	}
	if n, _ := g.metric(`reports_total{account="default",result="failed",route="ledger"}`); n < failed {
		t.Errorf("got %v failed after a reload, want %v or more", n, failed)
	}
	status.Store(200)
	g.eventuallyMetric(`inbox_waiting{account="default",route="ledger"}`, 0)
	g.eventuallyMetric(`inbox_oldest_seconds{account="default",route="ledger"}`, 0)
	g.eventually("that it is counted", func() bool {
		n, _ := g.metric(`reports_total{account="default",result="accepted",route="ledger"}`)
		return n > 0
	})

	// Without an inbox there is nothing to say of one.
	direct := strings.Replace(watched, "klavi_reports /klavi/reports {", "klavi_reports /klavi/reports {\n\t\tdirect", 1)
	if err := g.load(direct); err != nil {
		t.Fatal(err)
	}
	if n, ok := g.metric(`inbox_ready{account="default"}`); ok {
		t.Errorf("got an inbox_ready of %v with direct, want none", n)
	}
	wantReady(200, `{"ready":true}`)
	wantNowhere(t, "/metrics", g.do("GET", g.url("admin", "/metrics"), "").body, testSecret, testCPF, dir)
}
