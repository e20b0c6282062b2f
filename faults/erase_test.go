package faults

import (
	"bytes"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/caddy-klavi/caddy-klavi/inbox"
)

// What is erased while Caddy runs is gone, with what comes later for it, and nothing
// of a report can be read in the directory, before and after.
func TestErase(t *testing.T) {
	u, s := newUpstream(t), newSender(t)
	u.answers(status(http.StatusServiceUnavailable))
	config := newSetup(t, u.URL)
	p := start(t, config)
	for n := range 6 {
		id := fmt.Sprint("report-", n)
		s.mustPost(p.url, id, reportOf("pf_loans", id, 300+60_000*n))
	}
	wantSealed := func() {
		t.Helper()
		for path, content := range filesIn(t, config.dir) {
			for _, word := range []string{testCPF, testWords} {
				if bytes.Contains(content, []byte(word)) {
					t.Errorf("got %q in %s, want it nowhere", word, path)
				}
			}
		}
	}
	wantSealed()
	for _, n := range []int{0, 5} {
		said := p.run("klavi", "reports", "erase", "--dir", config.dir, "--consent", fmt.Sprint("consent-report-", n), "--why", "a test")
		if !strings.Contains(said, "1 report, 1 body destroyed") {
			t.Errorf("got %q, want the receipt for a report", said)
		}
	}
	if got := s.once(p.url, "late", bytes.ReplaceAll(reportOf("pf_loans", "late", 300), []byte("consent-late"), []byte("consent-report-0"))); got != 200 {
		t.Errorf("got status %d for what comes after the erasure, want 200", got)
	}
	records := p.records()
	for _, id := range []string{"report-0", "report-5", "late"} {
		if got := records[id].State; got != inbox.Erased {
			t.Errorf("got state %s of %s, want erased", got, id)
		}
		s.mu.Lock()
		delete(s.acked, id) // it is to be found nowhere
		s.mu.Unlock()
	}
	wantSealed()
	u.answers(nil)
	s.drain(p, u)
	for _, id := range []string{"report-0", "report-5", "late"} {
		if n := u.accepted(id); n != 0 {
			t.Errorf("got %s accepted %d times after it was erased, want never", id, n)
		}
	}
	for path := range filesIn(t, config.dir) {
		if strings.Contains(path, records["report-5"].UID) {
			t.Errorf("got %s, want that the file of an erased report is gone", path)
		}
	}
}

// The command says of a running Caddy what the inbox holds.
func TestListOfARunningCaddy(t *testing.T) {
	u, s := newUpstream(t), newSender(t)
	u.answers(status(http.StatusServiceUnavailable))
	p := start(t, newSetup(t, u.URL))
	s.many(p.url, "report", "pf_loans", 20)
	if n := strings.Count(p.run("klavi", "reports", "list", "--json", "--dir", p.setup.dir, "--state", "waiting"), "\n"); n != 20 {
		t.Errorf("got %d reports, want 20", n)
	}
	p.kill()
	config := p.setup
	key := p.home + "/key"
	writeFile(t, key, config.key)
	if n := strings.Count(p.run("klavi", "reports", "list", "--json", "--dir", config.dir, "--encryption-key-file", key), "\n"); n != 20 {
		t.Errorf("got %d reports when Caddy was killed, want 20", n)
	}
	u.answers(nil)
	s.drain(start(t, config), u)
}
