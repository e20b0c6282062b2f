package faults

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"

	"github.com/caddy-klavi/caddy-klavi/klavi"
)

// most is how many deliveries can be under way or not on record yet when the process
// dies: the workers of a route, and those whose end is not written down.
const most = 8 + 64

// Caddy is killed while reports arrive, are delivered, and configs are loaded; and it is
// started again on the same directory.
func TestKilledUnderLoad(t *testing.T) {
	endUnderLoad(t, soakRounds(4), (*process).kill, most)
}

// Caddy that is asked to end leaves nothing of what it did off the record.
func TestEndedUnderLoad(t *testing.T) {
	endUnderLoad(t, soakRounds(3), (*process).stop, 0)
}

// endUnderLoad has Caddy end in several rounds, in each of which at most so many
// reports may have been delivered without a record of it.
func endUnderLoad(t *testing.T, rounds int, end func(*process), unsure int) {
	u, s := newUpstream(t), newSender(t)
	config := newSetup(t, u.URL)
	config.global = "grace_period 5s"
	for round := range rounds {
		// In every other round, nothing is accepted until it is over.
		if round%2 == 1 {
			u.answers(status(http.StatusServiceUnavailable))
		}
		p := start(t, config)
		s.again(p.url) // some of it may be there
		before := s.taken()
		stop := s.load(fmt.Sprint("round-", round), func(id string, body []byte) int { return s.once(p.url, id, body) })
		loaded := make(chan struct{})
		go func() {
			defer close(loaded)
			for round%3 == 2 && p.load(config) == nil {
			}
		}()
		eventually(t, "reports to be taken", func() bool { return s.taken() >= before+50+10*round })
		end(p)
		stop()
		<-loaded
		u.answers(nil)
		if again := u.again(); again > unsure*(round+1) {
			t.Errorf("got %d reports twice after %d rounds, want at most %d for each", again, round+1, unsure)
		}
	}
	p := start(t, config)
	s.check(p, u)
	s.again(p.url)
	s.drain(p, u)
	t.Logf("%d reports in %d rounds, %d delivered again", s.taken(), rounds, u.again())
}

// A restart within the time for which Klavi tries loses nothing at all: what was not
// taken before is taken after.
func TestRestartWithinKlavisTries(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(*process){"stopped": (*process).stop, "killed": (*process).kill} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			u, s := newUpstream(t), newSender(t)
			config := newSetup(t, u.URL)
			config.global = "grace_period 3s"
			p := start(t, config)
			url := p.url
			stop := s.load("report", func(id string, body []byte) int { return s.post(url, id, body) })
			for range soakRounds(2) {
				taken := s.taken()
				eventually(t, "reports to be taken", func() bool { return s.taken() >= taken+20 })
				end(p)
				p = start(t, config)
			}
			stop()
			s.mu.Lock()
			for id := range s.sent {
				if !s.acked[id] {
					t.Errorf("%s was not taken in all tries of Klavi's", id)
				}
			}
			s.mu.Unlock()
			s.drain(p, u)
		})
	}
}

// Caddy is killed, or the sender goes, while 50 MB are half there: nothing of it is
// stored, and what was there already goes.
func TestEndsDuringUpload(t *testing.T) {
	t.Parallel()
	u, s := newUpstream(t), newSender(t)
	config := newSetup(t, u.URL)
	p := start(t, config)
	s.mustPost(p.url, "before", reportOf("pf_loans", "before", 300))
	body := reportOf("pf_loans", "large", 50<<20)
	half := func() (conn net.Conn) {
		t.Helper()
		conn, err := net.Dial("tcp", "127.0.0.1:"+config.port)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(conn, "POST /klavi/reports HTTP/1.1\r\nHost: hooks\r\n%s: %s\r\nContent-Length: %d\r\n\r\n",
			klavi.SignatureHeader, klavi.Sign([]byte(secret), body), len(body))
		if _, err := conn.Write(body[:25<<20]); err != nil {
			t.Fatal(err)
		}
		eventually(t, "some of it to be in a file", func() bool { return len(entries(t, filepath.Join(config.dir, "tmp"))) == 1 })
		return conn
	}
	half().Close()
	eventually(t, "the file to go with the sender", func() bool { return len(entries(t, filepath.Join(config.dir, "tmp"))) == 0 })
	conn := half()
	p.kill()
	conn.Close()
	p = start(t, config)
	s.drain(p, u)
	if _, there := p.records()["large"]; there {
		t.Error("got a record of what never came")
	}
	s.mustPost(p.url, "large", body)
	s.drain(p, u)
}

func entries(t testing.TB, dir string) []os.DirEntry {
	t.Helper()
	list, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	return list
}
