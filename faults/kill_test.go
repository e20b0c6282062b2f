package faults

import (
	"fmt"
	"net/http"
	"testing"
)

// most is how many deliveries can be under way or not on record yet when the process
// dies: the workers of a route, and those whose end is not written down.
const most = 8 + 64

// Caddy is killed while reports arrive and are delivered, and started again on the
// same directory.
func TestKilledUnderLoad(t *testing.T) {
	u, s := newUpstream(t), newSender(t)
	config := newSetup(t, u.URL)
	rounds := soakRounds(4)
	for round := range rounds {
		// In every other round, nothing is accepted until it is over.
		if round%2 == 1 {
			u.answers(status(http.StatusServiceUnavailable))
		}
		p := start(t, config)
		before := s.taken()
		stop := s.load(fmt.Sprint("round-", round), func(id string, body []byte) int { return s.once(p.url, id, body) })
		eventually(t, "reports to be taken", func() bool { return s.taken() >= before+50+10*round })
		p.kill()
		stop()
		u.answers(nil)
		if again := u.again(); again > most*(round+1) {
			t.Errorf("got %d reports twice after %d rounds, want at most %d for each", again, round+1, most)
		}
	}
	p := start(t, config)
	s.check(p, u)
	s.drain(p, u)
	t.Logf("%d reports in %d rounds, %d delivered again", s.taken(), rounds, u.again())
}
