package integration

import (
	"crypto/sha256"
	"fmt"
	"net"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-klavi/caddy-klavi/klavi"
)

// A reload under load keeps the token and drops no request that a handler has
// begun to read. Connections that Caddy closes before that are the client's to
// repeat: for those, nothing has reached Klavi, and no report is accepted.
func TestReloadUnderLoad(t *testing.T) {
	t.Setenv("TEST_SECRET_KEY", testSecret)
	g := startAlone(t)
	token := g.link().field("linkToken")
	g.want(g.institutions(token), 200, "")

	var stop atomic.Bool
	var wg sync.WaitGroup
	var links, others, reports atomic.Int64
	var answered [][sha256.Size]byte // reports
	keep := func(answered *atomic.Int64, method, url, body string, headers func(i int) []string) {
		wg.Go(func() {
			for i := 0; !stop.Load(); i++ {
				a, err := try(method, url, body, headers(i)...)
				if err != nil {
					continue // not read: the client repeats it
				}
				answered.Add(1)
				if a.status != 200 {
					t.Errorf("%s %s: got %d %s, want 200", method, url, a.status, a.body)
					return
				}
			}
		})
	}
	asMariaWithLink := append(asMaria, "Klavi-Link-Token", token)
	keep(&others, "GET", g.url("app", "/klavi/institutions"), "", func(int) []string { return asMariaWithLink })
	keep(&links, "POST", g.url("app", "/klavi/links"), "{}", func(i int) []string { // one user may not create so many
		return []string{"X-User", fmt.Sprintf("user-%d", i), "X-Cpf", testCPF}
	})
	keep(&others, "GET", g.url("services", "/consents?personalTaxId="+testCPF), "", func(int) []string { return nil })
	wg.Go(func() {
		for i := 0; !stop.Load(); i++ {
			body := fmt.Sprintf(`{"productName":"pf_loans","productReportId":"report-%d"}`, i)
			a, err := try("POST", g.url("hooks", "/klavi/reports"), body, klavi.SignatureHeader, klavi.Sign([]byte(testSecret), []byte(body)))
			if err != nil {
				continue
			}
			if a.status != 200 {
				t.Errorf("report %d: got %d %s, want 200", i, a.status, a.body)
				return
			}
			answered = append(answered, sha256.Sum256([]byte(body)))
			reports.Add(1)
		}
	})

	loaded := func() bool { return links.Load() >= 5 && others.Load() >= 5 && reports.Load() >= 5 }
	for i := 0; i < 20 || i < 1000 && !loaded(); i++ {
		if err := g.load(faces + fmt.Sprintf("# reload %d\n", i)); err != nil {
			t.Fatalf("reload %d: %v", i, err)
		}
	}
	stop.Store(true)
	wg.Wait()
	if !loaded() {
		t.Errorf("got %d links, %d reports and %d others during the reloads, want load", links.Load(), reports.Load(), others.Load())
	}
	g.eventually("all reports at their upstream", func() bool {
		g.mu.Lock()
		defer g.mu.Unlock()
		return !slices.ContainsFunc(answered, func(report [sha256.Size]byte) bool { return !g.accepted[report] })
	})
	if made, answered := g.links.Load(), links.Load()+1; made != answered {
		t.Errorf("%d links were made at klavi and %d were answered, want as many", made, answered)
	}
	g.wantLogins(1)
	g.want(g.institutions(token), 200, "") // sealed before, opened after
}

func TestReloadsLeakNoGoroutine(t *testing.T) {
	t.Setenv("TEST_SECRET_KEY", testSecret)
	g := startAlone(t)
	reload := func(times int) {
		for i := range times {
			g.want(g.link(), 200, "")
			if err := g.load(faces + fmt.Sprintf("# reload %d\n", i)); err != nil {
				t.Fatal(err)
			}
		}
	}
	settled := func() int {
		low := runtime.NumGoroutine()
		for range 200 {
			runtime.Gosched()
			low = min(low, runtime.NumGoroutine())
		}
		return low
	}
	reload(3)                              // what is made once is made
	report := `{"productName":"pf_loans"}` // answered by an inbox that has been opened
	g.want(g.do("POST", g.url("hooks", "/klavi/reports"), report, klavi.SignatureHeader, klavi.Sign([]byte(testSecret), []byte(report))), 200, "")
	before := settled()
	reload(20)
	g.eventually(fmt.Sprintf("%d goroutines or so", before), func() bool { return settled() <= before+5 })
}

// A config that does not load leaves the running one as it was, its token
// included.
func TestFailedReload(t *testing.T) {
	t.Setenv("TEST_SECRET_KEY", testSecret)
	g := start(t, site)
	token := g.link().field("linkToken")
	for name, broken := range map[string]string{
		"an account that is not there": strings.Replace(site, "klavi_proxy {", "klavi_proxy {\n\t\taccount nope", 1),
		"an empty key":                 strings.Replace(site, "klavi_timeout 2s", "accept_secret_keys {env.TEST_UNSET}", 1),
		"a port that cannot be opened": site + "\nhttp://:{{other}} {\n\tbind 192.0.2.1\n\trespond ok\n}\n",
	} {
		if err := g.load(broken); err == nil {
			t.Fatalf("%s: got no error", name)
		}
		g.repeat("GET", g.url("app", "/klavi/institutions"), "", append(asMaria, "Klavi-Link-Token", token)...)
		g.repeat("GET", g.url("services", "/consents?personalTaxId="+testCPF), "")
	}
	g.wantLogins(1)
}

// repeat makes a request until it is answered, and wants 200. The failed config
// may have opened its listeners beside those that stay: what they took from the
// line is closed unread.
func (g *gateway) repeat(method, url, body string, headers ...string) {
	g.t.Helper()
	g.eventually(method+" "+url+" to be answered", func() bool {
		a, err := try(method, url, body, headers...)
		if err == nil {
			g.want(a, 200, "")
		}
		return err == nil
	})
}

// Cleanup of the old config runs while a request of its is still at Klavi.
func TestRequestInFlightAcrossReload(t *testing.T) {
	t.Setenv("TEST_SECRET_KEY", testSecret)
	g := startAlone(t)
	g.link()
	g.fault(`{"latency":"500ms"}`)
	done := make(chan answer)
	go func() {
		a, err := try("POST", g.url("app", "/klavi/links"), "{}", asMaria...)
		if err != nil {
			t.Errorf("the request in flight: %v", err)
		}
		done <- a
	}()
	g.eventually("the request to reach klavi", func() bool { return len(g.atKlavi("POST", "/links")) == 2 })
	if err := g.load(faces + "# reloaded\n"); err != nil {
		t.Fatal(err)
	}
	if a := <-done; a.status != 200 || a.field("linkToken") == "" {
		t.Errorf("got %d %s, want the link", a.status, a.body)
	}
}

// A changed secret never reuses the old one's token; the older key still
// verifies reports and opens links while it is accepted.
func TestSecretKeyRotation(t *testing.T) {
	t.Setenv("TEST_SECRET_KEY", testSecret)
	g := startAlone(t)
	token := g.link().field("linkToken")
	g.wantLogins(1)

	t.Setenv("TEST_NEW_KEY", "another-secret-key")
	rotated := strings.Replace(faces, "secret_key {env.TEST_SECRET_KEY}\n\t\tklavi_timeout",
		"secret_key {env.TEST_NEW_KEY}\n\t\taccept_secret_keys {env.TEST_SECRET_KEY}\n\t\tklavi_timeout", 1)
	if rotated == faces {
		t.Fatal("the test's config has changed")
	}
	if err := g.load(rotated); err != nil {
		t.Fatal(err)
	}
	g.want(g.institutions(token), 200, "")
	// The sandbox still signs with the old key, and does not know the new one.
	g.want(g.link(), 502, "klavi-refused")
	report := g.do("POST", g.url("klavi", "/_sandbox/trigger"),
		`{"product":"pf_loans","url":"`+g.url("hooks", "/klavi/reports")+`"}`)
	if report.status != 202 {
		t.Fatalf("got %d %s", report.status, report.body)
	}
	g.eventually("the report signed with the old key", func() bool {
		g.mu.Lock()
		defer g.mu.Unlock()
		return len(g.accepted) == 1
	})
}

// caddy validate provisions a config and cleans it up: nothing of Klavi is asked.
func TestValidateAsksNothing(t *testing.T) {
	t.Setenv("TEST_SECRET_KEY", testSecret)
	g := &gateway{t: t, ports: make(map[string]string), logs: t.TempDir() + "/log"}
	l, err := net.Listen("tcp", "127.0.0.1:"+g.port("klavi"))
	if err != nil {
		t.Fatal(err)
	}
	asked := make(chan bool, 1)
	go func() {
		_, err := l.Accept()
		asked <- err == nil
	}()
	config, err := adapt(g.expand(site))
	if err != nil {
		t.Fatal(err)
	}
	var cfg caddy.Config
	if err := caddy.StrictUnmarshalJSON(config, &cfg); err != nil {
		t.Fatal(err)
	}
	if err := caddy.Validate(&cfg); err != nil {
		t.Errorf("got %v, want a valid config", err)
	}
	l.Close()
	if <-asked {
		t.Error("validating the config called klavi")
	}
}
