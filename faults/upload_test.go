package faults

import (
	"net/http"
	"path/filepath"
	"testing"

	"github.com/caddy-klavi/caddy-klavi/inbox"
)

// Configs change while 50 MB are half there. They are stored where they were begun.
func TestReloadDuringUpload(t *testing.T) {
	for name, change := range map[string]func(*setup){
		"limits change":     func(c *setup) { c.inbox += "\nmax_size 1GiB" },
		"dir changes":       func(c *setup) { c.dir += "-2" },
		"the inbox is gone": func(c *setup) { c.reports = "direct" },
	} {
		t.Run(name, func(t *testing.T) {
			u, s := newUpstream(t), newSender(t)
			config := newSetup(t, u.URL)
			config.routes = "all " + u.URL
			p := start(t, config)
			s.mustPost(p.url, "before", reportOf("pf_loans", "before", 300))
			body := reportOf("pf_loans", "large", 50<<20)
			reached, more, answered := make(chan struct{}), make(chan struct{}), make(chan int, 1)
			go func() { answered <- s.send(p.url, "large", body, slowly(body, 25<<20, reached, more)) }()
			<-reached
			next := config
			change(&next)
			if err := p.load(next); err != nil {
				t.Fatal(err)
			}
			close(more)
			status := <-answered
			if status != http.StatusOK {
				t.Errorf("got status %d, want 200", status)
			}
			if err := p.load(config); err != nil { // which has the old inbox
				t.Fatal(err)
			}
			s.drain(p, u)
			if status == http.StatusOK && u.accepted("large") == 0 {
				t.Error("it was answered 200, and its upstream never got it")
			}
		})
	}
}

// What waits in a directory that the config no longer has is there when it has it again.
func TestDirectoryChanges(t *testing.T) {
	u, s := newUpstream(t), newSender(t)
	u.answers(status(http.StatusServiceUnavailable))
	old := newSetup(t, u.URL)
	p := start(t, old)
	s.mustPost(p.url, "old", reportOf("pf_loans", "old", 70_000))
	next, inNext := old, newSender(t)
	next.dir += "-2"
	if err := p.load(next); err != nil {
		t.Fatal(err)
	}
	inNext.mustPost(p.url, "new", reportOf("pf_loans", "new", 70_000))
	eventually(t, "the old inbox to be closed", func() bool { return p.handles()[filepath.Join(old.dir, "lock")] == 0 })
	u.answers(nil)
	p.setup.dir = next.dir
	inNext.drain(p, u)
	if n := u.accepted("old"); n != 0 {
		t.Errorf("got the report of the old inbox %d times, want that it waits", n)
	}
	if err := p.load(old); err != nil {
		t.Fatal(err)
	}
	p.setup.dir = old.dir
	s.drain(p, u)
}

// Klavi signs with a new key before the config has it. What came meanwhile from its
// addresses becomes a report as soon as it has, also if Caddy was killed in between.
func TestKeyOfKlaviIsNewer(t *testing.T) {
	u, s := newUpstream(t), newSender(t)
	s.key = nextKey
	config := newSetup(t, u.URL)
	config.reports = "klavi_sources 127.0.0.1"
	p := start(t, config)
	for id, size := range map[string]int{"small": 300, "large": 3 << 20} {
		if got := s.once(p.url, id, reportOf("pf_loans", id, size)); got != http.StatusUnauthorized {
			t.Errorf("got status %d for an unknown key, want 401", got)
		}
	}
	p.kill()
	p = start(t, config)
	if st, err := p.dial().Stats(t.Context()); err != nil || st.Quarantined != 2 || st.Waiting != 0 {
		t.Errorf("got %+v, %v, want two bodies in quarantine", st, err)
	}
	config.account = "accept_secret_keys " + nextKey
	if err := p.load(config); err != nil {
		t.Fatal(err)
	}
	eventually(t, "both to be delivered", func() bool { return u.accepted("small") == 1 && u.accepted("large") == 1 })
	s.drain(p, u)
	for id, r := range s.check(p, u) {
		if r.State != inbox.Delivered {
			t.Errorf("got state %s of %s, want delivered", r.State, id)
		}
	}
}
