package faults

import (
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddy-klavi/caddy-klavi/inbox"
)

// Configs come and go while reports arrive: equal ones, changed ones and those that
// fail. No report is lost or delivered twice, and nothing is left behind.
func TestReloadsUnderLoad(t *testing.T) {
	first, second, never, s := newUpstream(t), newUpstream(t), newUpstream(t), newSender(t)
	config := newSetup(t, first.URL)
	config.global = "grace_period 5s"
	p := start(t, config)
	with := func(change func(*setup)) setup {
		c := config
		change(&c)
		return c
	}
	toSecond, toNever := strings.NewReplacer(first.URL, second.URL), strings.NewReplacer(first.URL, never.URL)
	fine := []setup{
		config,
		with(func(c *setup) { c.inbox += "\nmax_size 1GiB" }),
		with(func(c *setup) { c.account = "accept_secret_keys " + nextKey }),
		with(func(c *setup) { c.routes = toSecond.Replace(c.routes) }),
		with(func(c *setup) { c.routes = toSecond.Replace(c.routes); c.inbox += "\nretry_for 24h" }),
		config,
	}
	broken := map[string]setup{
		"another encryption_key": with(func(c *setup) { c.key = otherKey; c.routes = toNever.Replace(c.routes) }),
		"listen": with(func(c *setup) {
			c.sites = "http://:" + freePort(t) + " {\nbind 192.0.2.1\nrespond ok\n}"
			c.routes = toNever.Replace(c.routes)
			c.inbox += "\nmax_size 1KiB\nmax_share 100%"
			c.reports = "max_body 512B"
		}),
	}
	if err := p.load(config); err != nil {
		t.Fatal(err)
	}
	s.mustPost(p.url, "first", reportOf("pf_loans", "first", 300))
	goroutines := p.goroutines()

	stop := s.load("report", func(id string, body []byte) int { return s.post(p.url, id, body) })
	loads, after := 24, []string(nil)
	if soaking() {
		loads = 100
	}
	goesOn := func() {
		t.Helper()
		taken := s.taken()
		eventually(t, "reports to be taken", func() bool { return s.taken() >= taken+5 })
	}
	for n := range loads {
		if err := p.load(fine[n%len(fine)]); err != nil {
			t.Fatalf("loading config %d: %v", n, err)
		}
		goesOn()
		if n%4 != 3 {
			continue
		}
		for want, c := range broken {
			if err := p.load(c); err == nil || !strings.Contains(err.Error(), want) {
				t.Fatalf("got %v from a config that cannot be, want %q in it", err, want)
			}
			// It may have been in force for a moment. From now on it is not.
			id := fmt.Sprintf("after-%d-%s", n, strings.ReplaceAll(want, " ", "-"))
			if got := s.post(p.url, id, reportOf("pf_loans", id, 2000)); got != http.StatusOK {
				t.Errorf("got status %d after a config that cannot be, want 200", got)
			}
			after = append(after, id)
		}
	}
	if err := p.load(config); err != nil {
		t.Fatal(err)
	}
	goesOn()
	if stop() == 0 {
		t.Error("got no report in all that time")
	}
	s.mu.Lock()
	for id := range s.sent {
		if !s.acked[id] {
			t.Errorf("%s was not taken in six tries", id)
		}
	}
	s.mu.Unlock()
	s.drain(p, first, second, never)
	for _, id := range after {
		if never.accepted(id) > 0 {
			t.Errorf("%s went where a config says that failed before", id)
		}
	}
	for _, u := range []*upstream{first, second} {
		if n := u.again(); n != 0 {
			t.Errorf("got %d reports twice, want none", n)
		}
		if u.all() == 0 {
			t.Error("an upstream got nothing: its config was never in force")
		}
	}
	s.mu.Lock()
	for id := range s.acked {
		if n := first.accepted(id) + second.accepted(id) + never.accepted(id); n != 1 {
			t.Errorf("%s was delivered %d times, want once", id, n)
		}
	}
	s.mu.Unlock()
	eventually(t, "one store and no more", func() bool {
		open := p.handles()
		return open[filepath.Join(p.setup.dir, "lock")] == 1
	})
	// What a config was delivering when it went keeps its connection for two minutes,
	// as Caddy has it, in case that there is more.
	first.CloseClientConnections()
	second.CloseClientConnections()
	never.CloseClientConnections()
	eventually(t, "the goroutines of all configs but one to end", func() bool {
		return p.goroutines() <= goroutines+10
	})
	t.Logf("%d reports in %d reloads", s.taken(), loads)
}

// The reports of a site that is gone wait for one that takes them.
func TestReloadWithoutReports(t *testing.T) {
	u, s := newUpstream(t), newSender(t)
	u.answers(status(http.StatusServiceUnavailable))
	config := newSetup(t, u.URL)
	p := start(t, config)
	for n := range 20 {
		id := fmt.Sprint("report-", n)
		s.mustPost(p.url, id, reportOf("pf_loans", id, 3000*n))
	}
	without := config
	without.reports, without.routes = "direct", "all "+u.URL
	if err := p.load(without); err != nil {
		t.Fatal(err)
	}
	u.answers(nil)
	eventually(t, "the inbox to be closed", func() bool {
		return p.handles()[filepath.Join(p.setup.dir, "lock")] == 0
	})
	direct := newSender(t)
	direct.mustPost(p.url, "direct", reportOf("pf_loans", "direct", 300))
	if err := p.load(config); err != nil {
		t.Fatal(err)
	}
	s.drain(p, u)
}

// Reports wait through a reload that sends their type elsewhere, and go where the
// newest config says.
func TestRouteChangesWhileReportsWait(t *testing.T) {
	dead, alive, s := newUpstream(t), newUpstream(t), newSender(t)
	dead.answers(status(http.StatusBadGateway))
	config := newSetup(t, dead.URL)
	p := start(t, config)
	s.mustPost(p.url, "a", reportOf("pf_loans", "a", 300))
	s.mustPost(p.url, "b", reportOf("pf_credit_card", "b", 300))
	config.routes = "specific pf_loans " + alive.URL
	if err := p.load(config); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the report at its new route", func() bool { return alive.accepted("a") == 1 })
	records := s.check(p, alive, dead)
	if r := records["b"]; r.State != inbox.Waiting || !r.Deliveries[0].Undeliverable {
		t.Errorf("got %+v for a type without a route, want that it is undeliverable", r)
	}
	config.routes = "all " + alive.URL
	if err := p.load(config); err != nil {
		t.Fatal(err)
	}
	s.drain(p, alive, dead)
}

// An attempt under way goes on when the config that began it is gone, and is on record.
func TestAttemptAcrossReload(t *testing.T) {
	first, second, s := newUpstream(t), newUpstream(t), newSender(t)
	under, release := make(chan struct{}), make(chan struct{})
	first.answers(func(w http.ResponseWriter, r *http.Request, id string) {
		close(under)
		select {
		case <-release:
			first.accepts(id)
			w.WriteHeader(http.StatusAccepted)
		case <-r.Context().Done():
			t.Error("the attempt was cut off")
		}
	})
	config := newSetup(t, first.URL)
	p := start(t, config)
	s.mustPost(p.url, "a", reportOf("pf_loans", "a", 200_000))
	<-under
	next := config
	next.routes = "all " + second.URL
	for range 3 {
		if err := p.load(next); err != nil {
			t.Fatal(err)
		}
	}
	s.mustPost(p.url, "b", reportOf("pf_loans", "b", 300))
	eventually(t, "a report at the route of the newest config", func() bool { return second.accepted("b") == 1 })
	close(release)
	s.drain(p, first, second)
	if n := second.accepted("a"); n != 0 {
		t.Errorf("got the report under way %d times at the newest config's route, want never", n)
	}
}
