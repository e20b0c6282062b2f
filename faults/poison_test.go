package faults

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/caddy-klavi/caddy-klavi/inbox"
)

// Two thousand reports that their service cannot take are no reason for those behind
// them to wait, of the same type or of another.
func TestPoison(t *testing.T) {
	t.Parallel()
	for name, bad := range map[string]func(http.ResponseWriter){
		"it answers 500":           func(w http.ResponseWriter) { w.WriteHeader(http.StatusInternalServerError) },
		"it breaks the connection": func(w http.ResponseWriter) { hangUp(w, "") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			u, other, s := newUpstream(t), newUpstream(t), newSender(t)
			u.answers(func(w http.ResponseWriter, _ *http.Request, id string) {
				if strings.HasPrefix(id, "bad") {
					bad(w)
					return
				}
				u.accepts(id)
				w.WriteHeader(http.StatusOK)
			})
			config := newSetup(t, u.URL)
			config.routes = "specific pf_loans " + u.URL + "\nother " + other.URL
			p := start(t, config)
			poison := 2000
			if testing.Short() || raced {
				poison = 200
			}
			s.many(p.url, "bad", "pf_loans", poison)
			s.many(p.url, "good", "pf_loans", 100)
			s.many(p.url, "other", "pf_credit_card", 100)
			eventually(t, "all good reports", func() bool { return u.all() == 100 && other.all() == 100 })
			waiting := 0
			for _, r := range s.check(p, u, other) {
				if r.State == inbox.Waiting {
					waiting++
				}
			}
			if waiting < poison {
				t.Errorf("got %d reports that wait, want the %d bad ones", waiting, poison)
			}
			u.answers(nil)
			s.drain(p, u, other)
		})
	}
}

// many sends n reports of a type, some at once.
func (s *sender) many(url, name, reportType string, n int) {
	s.t.Helper()
	next, done := make(chan int), make(chan struct{})
	const senders = 8
	for range senders {
		go func() {
			defer func() { done <- struct{}{} }()
			for i := range next {
				id := fmt.Sprint(name, "-", i)
				if got := s.once(url, id, reportOf(reportType, id, 400)); got != http.StatusOK {
					s.t.Errorf("got status %d for %s, want 200", got, id)
				}
			}
		}()
	}
	for i := range n {
		next <- i
	}
	close(next)
	for range senders {
		<-done
	}
}

// hangUp ends the connection after some text.
func hangUp(w http.ResponseWriter, text string) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(err)
	}
	fmt.Fprint(conn, text)
	conn.Close()
}
