package faults

import (
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"

	"github.com/caddy-klavi/caddy-klavi/inbox"
)

// An upstream that resets the connection in the middle of 50 MB gets them again, from
// their first byte and under the same key, until it takes them.
func TestUpstreamResets(t *testing.T) {
	u, s := newUpstream(t), newSender(t)
	var mu sync.Mutex
	var keys, attempts []string
	resets := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		keys = append(keys, r.Header.Get("Idempotency-Key"))
		attempts = append(attempts, r.Header.Get("Klavi-Delivery-Attempt"))
		n := len(attempts)
		mu.Unlock()
		if n > 2 {
			u.take(w, r)
			return
		}
		if _, err := io.CopyN(io.Discard, r.Body, 3<<20); err != nil {
			t.Error(err)
		}
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		_ = conn.(*net.TCPConn).SetLinger(0) // it is reset, and not ended
		_ = conn.Close()
	}))
	defer resets.Close()
	p := start(t, newSetup(t, resets.URL))
	s.mustPost(p.url, "large", reportOf("pf_loans", "large", 50<<20))
	eventually(t, "the report to be taken", func() bool { return u.accepted("large") > 0 })
	s.drain(p, u)
	r := p.records()["large"]
	for n, a := range r.Attempts {
		if want := []int{502, 502, 200}; len(r.Attempts) != len(want) || a.Status != want[n] {
			t.Errorf("got status %d for attempt %d of %d, want %v", a.Status, n+1, len(r.Attempts), want)
		}
	}
	mu.Lock()
	defer mu.Unlock()
	if want := []string{"1", "2", "3"}; !slices.Equal(attempts, want) {
		t.Errorf("got Klavi-Delivery-Attempt %q, want %q", attempts, want)
	}
	if len(slices.Compact(keys)) != 1 || keys[0] == "" {
		t.Errorf("got Idempotency-Key %q, want one and the same", keys)
	}
	if n := u.accepted("large"); n != 1 {
		t.Errorf("got it delivered %d times, want once", n)
	}
}

// What goes to a host that nobody knows, or that nobody vouches for, waits until the
// config has the right one.
func TestWrongUpstream(t *testing.T) {
	u, s := newUpstream(t), newSender(t)
	untrusted := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		t.Error("got a request at an upstream whose certificate is not trusted, want none")
	}))
	untrusted.Config.ErrorLog = log.New(io.Discard, "", 0) // of handshakes
	untrusted.StartTLS()
	defer untrusted.Close()
	config := newSetup(t, "")
	config.routes = "specific pf_unknown http://no-such-host.invalid\nspecific pf_untrusted " + untrusted.URL
	p := start(t, config)
	for _, id := range []string{"pf_unknown", "pf_untrusted"} {
		s.mustPost(p.url, id, reportOf(id, id, 200_000))
	}
	for _, id := range []string{"pf_unknown", "pf_untrusted"} {
		var r inbox.Record
		eventually(t, "an attempt with "+id, func() bool {
			r = p.records()[id]
			return len(r.Attempts) > 0
		})
		if a := r.Attempts[0]; r.State != inbox.Waiting || a.Status != 502 || a.Reason != "the upstream could not be reached" {
			t.Errorf("%s: got %s after status %d because %q, want that it waits after 502 because the upstream could not be reached",
				id, r.State, a.Status, a.Reason)
		}
	}
	config.routes = "all " + u.URL
	if err := p.load(config); err != nil {
		t.Fatal(err)
	}
	s.drain(p, u)
}

// Klavi gets its answer while an upstream gives none.
func TestUpstreamNeverAnswers(t *testing.T) {
	u, s := newUpstream(t), newSender(t)
	under, answer := make(chan struct{}), make(chan struct{})
	once := sync.OnceFunc(func() { close(under) })
	u.answers(func(w http.ResponseWriter, r *http.Request, id string) {
		once()
		select {
		case <-answer:
			u.accepts(id)
			w.WriteHeader(http.StatusOK)
		case <-r.Context().Done():
			t.Error("an attempt was cut off, want that it goes on")
		}
	})
	config := newSetup(t, "")
	config.routes = "all " + u.URL + " {\ntimeout 10m\n}"
	p := start(t, config)
	s.mustPost(p.url, "first", reportOf("pf_loans", "first", 300))
	<-under
	for n := range 20 {
		id := fmt.Sprint("report-", n)
		s.mustPost(p.url, id, reportOf("pf_loans", id, 10_000*n))
	}
	for id, r := range s.check(p, u) {
		if r.State != inbox.Waiting || len(r.Attempts) > 0 {
			t.Errorf("%s: got %s after %d attempts, want that it waits and none has ended", id, r.State, len(r.Attempts))
		}
	}
	close(answer)
	s.drain(p, u)
	if n := u.again(); n != 0 {
		t.Errorf("got %d reports twice, want none", n)
	}
}
