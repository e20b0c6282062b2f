package faults

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A second Caddy on the directory stores nothing and says who has it, until the
// first ends, however that ends.
func TestTwoProcesses(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(*process){"ends": (*process).stop, "is killed": (*process).kill} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			u, s := newUpstream(t), newSender(t)
			config := newSetup(t, u.URL)
			first := start(t, config)
			first.dial()
			config.port, config.admin = freePort(t), freePort(t)
			second := start(t, config)
			for n := range 10 {
				id := fmt.Sprint("first-", n)
				s.mustPost(first.url, id, reportOf("pf_loans", id, 300))
			}
			if got := s.once(second.url, "refused", reportOf("pf_loans", "refused", 300)); got != 503 {
				t.Errorf("got status %d from the second, want 503", got)
			}
			if who := "process " + first.pid() + " since"; !strings.Contains(second.log(), who) {
				t.Errorf("got no word of %q in the log of the second", who)
			}
			if _, there := first.records()["refused"]; there {
				t.Error("got a record of what was refused")
			}
			third := config
			third.port, third.admin = freePort(t), freePort(t)
			start(t, third).stop() // who waits can be stopped, too
			end(first)
			s.post(second.url, "second", reportOf("pf_loans", "second", 300))
			if s.taken() != 11 {
				t.Fatalf("got %d reports taken, want 11", s.taken())
			}
			s.drain(second, u)
		})
	}
}

// A report that comes before the inbox is open waits for it, a little.
func TestReportWaitsForInbox(t *testing.T) {
	t.Parallel()
	u, s := newUpstream(t), newSender(t)
	config := newSetup(t, u.URL)
	first := start(t, config)
	first.dial()
	config.port, config.admin = freePort(t), freePort(t)
	second := start(t, config)
	answered := make(chan int)
	go func() { answered <- s.once(second.url, "early", reportOf("pf_loans", "early", 300)) }()
	first.kill()
	if got := <-answered; got != 200 {
		t.Errorf("got status %d, want 200 once the inbox is open", got)
	}
	s.drain(second, u)
}

// The inbox is opened by a Caddy that runs and keeps reports, and by nobody else.
func TestNobodyElseOpensInbox(t *testing.T) {
	u := newUpstream(t)
	config := newSetup(t, u.URL)
	wantNone := func(what string) {
		t.Helper()
		if _, err := os.Stat(config.dir); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: got %v for the directory, want that there is none", what, err)
		}
	}
	direct := config
	direct.reports = "direct"
	p := start(t, direct)
	s := newSender(t)
	s.mustPost(p.url, "direct", reportOf("pf_loans", "direct", 300))
	wantNone("direct")

	file := filepath.Join(p.home, "other.caddyfile")
	writeFile(t, file, config.caddyfile())
	p.run("validate", "--config", file)
	p.run("adapt", "--config", file)
	wantNone("validate and adapt")
	bad := config
	bad.sites = "http://:" + freePort(t) + " {\nroot nowhere\nreverse_proxy 1.2.3.4 {\ntransport http {\ntls_trust_pool file nowhere\n}\n}\n}"
	if err := p.load(bad); err == nil || !strings.Contains(err.Error(), "no such file") {
		t.Errorf("got %v from a config that cannot be provisioned, want that a file is not there", err)
	}
	wantNone("a config that cannot be provisioned")
}

// A Caddy with a wrong key touches nothing, and works as soon as it has the right
// one.
func TestWrongKey(t *testing.T) {
	t.Parallel()
	u, s := newUpstream(t), newSender(t)
	u.answers(status(503))
	config := newSetup(t, u.URL)
	p := start(t, config)
	for _, size := range []int{300, 200_000} {
		id := fmt.Sprint("report-", size)
		s.mustPost(p.url, id, reportOf("pf_loans", id, size))
	}
	p.stop()
	before := digests(t, config.dir)

	right := config.key
	config.key = otherKey
	p = start(t, config)
	if got := s.once(p.url, "refused", reportOf("pf_loans", "refused", 300)); got != 503 {
		t.Errorf("got status %d with a wrong key, want 503", got)
	}
	if !strings.Contains(p.log(), "wrong encryption key") {
		t.Error("got no word of the wrong key in the log")
	}
	after := digests(t, config.dir)
	for path := range after {
		if after[path] != before[path] {
			t.Errorf("got another %s after a wrong key, want it as it was", path)
		}
	}
	if len(after) != len(before) {
		t.Errorf("got %d files after a wrong key, want %d", len(after), len(before))
	}
	config.key = right
	if err := p.load(config); err != nil {
		t.Fatal(err)
	}
	if got := s.post(p.url, "after", reportOf("pf_loans", "after", 300)); got != 200 {
		t.Errorf("got status %d with the right key, want 200", got)
	}
	s.check(p, u)
	u.answers(nil)
	s.drain(p, u)
}

// digests are those of all files in a directory, but for what is there while it is
// open: the lock, which says who had it, an empty log and its index.
func digests(t testing.TB, dir string) map[string][32]byte {
	t.Helper()
	all := make(map[string][32]byte)
	for path, content := range filesIn(t, dir) {
		if len(content) > 0 && filepath.Base(path) != "lock" && !strings.HasSuffix(path, "-shm") {
			all[path] = sha256.Sum256(content)
		}
	}
	return all
}
