package faults

import (
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/caddy-klavi/caddy-klavi/inbox"
)

// Caddy is asked to end while 50 MB are half there. What still comes within the
// grace period is stored, and what does not is not said to be.
func TestTermDuringUpload(t *testing.T) {
	t.Parallel()
	for name, comes := range map[string]bool{"the rest comes": true, "the rest never comes": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			u, s := newUpstream(t), newSender(t)
			config := newSetup(t, u.URL)
			config.global = "grace_period 1s"
			if comes {
				config.global = "grace_period 30s"
			}
			p := start(t, config)
			s.mustPost(p.url, "before", reportOf("pf_loans", "before", 300))

			body := reportOf("pf_loans", "large", 50<<20)
			reached, more, answered := make(chan struct{}), make(chan struct{}), make(chan int, 1)
			go func() { answered <- s.send(p.url, "large", body, slowly(body, 25<<20, reached, more)) }()
			<-reached
			p.term()
			eventually(t, "Caddy to begin to end", func() bool { return strings.Contains(p.log(), "grace period initiated") })
			if !comes {
				p.wait()
			}
			close(more)
			want := 0
			if comes {
				want = http.StatusOK
			}
			if got := <-answered; got != want {
				t.Errorf("got status %d, want %d", got, want)
			}
			p.wait()

			p = start(t, config)
			s.check(p, u)
			if _, there := p.records()["large"]; there != comes {
				t.Errorf("got a record of it: %v, want %v", there, comes)
			}
			s.drain(p, u)
			if n := u.accepted("large"); comes && n != 1 {
				t.Errorf("got it %d times at the upstream, want once", n)
			}
		})
	}
}

// Attempts under way when Caddy is asked to end are on record if they end soon; if
// they do not, the report waits.
func TestTermDuringAttempt(t *testing.T) {
	t.Parallel()
	for name, ends := range map[string]bool{"it ends": true, "it does not": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			u, s := newUpstream(t), newSender(t)
			under, release := make(chan struct{}), make(chan struct{})
			u.answers(func(w http.ResponseWriter, r *http.Request, id string) {
				close(under)
				select {
				case <-release:
					u.accepts(id)
					w.WriteHeader(http.StatusAccepted)
				case <-r.Context().Done():
				}
			})
			config := newSetup(t, u.URL)
			p := start(t, config)
			s.mustPost(p.url, "a", reportOf("pf_loans", "a", 300))
			<-under
			p.term()
			eventually(t, "Caddy to begin to end", func() bool { return strings.Contains(p.log(), "shutting down") })
			if ends {
				close(release)
			}
			p.wait()
			u.answers(status(http.StatusServiceUnavailable))
			p = start(t, config)
			want := inbox.Waiting
			if ends {
				want = inbox.Delivered
			}
			if got := s.check(p, u)["a"]; got.State != want {
				t.Errorf("got state %s, want %s", got.State, want)
			}
			u.answers(nil)
			s.drain(p, u)
			if n := u.accepted("a"); n != 1 {
				t.Errorf("got it accepted %d times, want once", n)
			}
		})
	}
}

// Without a grace period, and with one of 0, which is the same to Caddy, it ends when
// what is under way has ended: an upload is stored and answered, or its time is over,
// and an attempt is on record.
func TestTermWithoutGracePeriod(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		grace string
		comes bool
	}{
		"not set": {"", true}, "0": {"grace_period 0", true}, "the rest never comes": {"", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			u, s := newUpstream(t), newSender(t)
			s.fresh.Timeout = 0 // it is not the sender who gives up
			under, release := make(chan struct{}), make(chan struct{})
			begun := sync.OnceFunc(func() { close(under) })
			u.answers(func(w http.ResponseWriter, r *http.Request, id string) {
				begun()
				select {
				case <-release:
					u.accepts(id)
					w.WriteHeader(http.StatusOK)
				case <-r.Context().Done():
				}
			})
			config := newSetup(t, u.URL)
			config.global = tt.grace
			p := start(t, config)
			s.mustPost(p.url, "before", reportOf("pf_loans", "before", 300))
			<-under
			body := reportOf("pf_loans", "large", 20<<20)
			reached, more, answered := make(chan struct{}), make(chan struct{}), make(chan int, 1)
			go func() { answered <- s.send(p.url, "large", body, slowly(body, 10<<20, reached, more)) }()
			<-reached
			p.term()
			eventually(t, "Caddy to begin to end", func() bool { return strings.Contains(p.log(), "shutting down apps") })
			close(release)
			eventually(t, "it to close its addresses", func() bool { return strings.Contains(p.log(), "eternal grace period") })
			if !tt.comes {
				p.wait()
			}
			close(more)
			got := <-answered
			if took := got == http.StatusOK; took != tt.comes {
				t.Errorf("got status %d, want that it is taken: %v", got, tt.comes)
			}
			p.wait()

			p = start(t, config)
			records := s.check(p, u)
			if got := records["before"]; got.State != inbox.Delivered || u.accepted("before") != 1 {
				t.Errorf("got what was under way %s and accepted %d times, want it delivered once", got.State, u.accepted("before"))
			}
			if _, there := records["large"]; there != tt.comes {
				t.Errorf("got a record of the upload: %v, want %v", there, tt.comes)
			}
			u.answers(nil)
			s.drain(p, u)
			if n := u.accepted("large"); tt.comes && n != 1 {
				t.Errorf("got the upload delivered %d times, want once", n)
			}
		})
	}
}
