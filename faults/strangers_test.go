package faults

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddy-klavi/caddy-klavi/klavi"
)

// Strangers announce large bodies, send a few bytes and then nothing. Klavi's reports
// are taken while they wait, large ones too.
func TestIdleStrangers(t *testing.T) {
	t.Parallel()
	u, s := newUpstream(t), newSender(t)
	config := newSetup(t, u.URL)
	config.global = "servers {\ntrusted_proxies static 127.0.0.1/32\n}"
	config.reports = "klavi_sources 203.0.113.7"
	config.inbox += "\nmax_size 200MiB"
	p := start(t, config)
	s.from = "203.0.113.7"
	s.mustPost(p.url, "first", reportOf("pf_loans", "first", 300))

	var strangers []net.Conn
	for n := range 4 {
		conn, err := net.Dial("tcp", "127.0.0.1:"+config.port)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		fmt.Fprintf(conn, "POST /klavi/reports HTTP/1.1\r\nHost: hooks\r\nX-Forwarded-For: 198.51.100.%d\r\n%s: %s\r\nContent-Length: %d\r\n\r\n{\"code\":",
			n+1, klavi.SignatureHeader, strings.Repeat("ab", 32), 64<<20)
		strangers = append(strangers, conn)
	}
	for n, size := range []int{300, 70_000, 3 << 20, 50 << 20, 300} {
		id := fmt.Sprint("report-", n)
		s.mustPost(p.url, id, reportOf("pf_loans", id, size))
	}
	for _, conn := range strangers {
		if _, err := fmt.Fprint(conn, "200,"); err != nil {
			t.Errorf("got %v from a stranger, want that the reports were taken while all wait", err)
		}
	}
	// They get an answer when their time is over, and nothing of them stays.
	for _, conn := range strangers {
		_ = conn.SetReadDeadline(time.Now().Add(60 * time.Second))
		answer, err := io.ReadAll(conn)
		if !bytes.HasPrefix(answer, []byte("HTTP/1.1 408")) {
			t.Errorf("got %.40q, %v for a stranger, want 408", answer, err)
		}
	}
	s.drain(p, u)
}

// Many large reports at once are all kept, and take up no more memory than there may
// be of bodies: they go to files as they arrive. One that finds no room is told to
// come again, and nothing else.
func TestManyLargeReports(t *testing.T) {
	size, often, most := 10<<20, 0, 400<<10 // kB, of the process
	cmd := exec.Command(program)
	if raced {
		size = 2 << 20 // or else it would not be in time
	} else if soaking() {
		size, often = 60<<20, 32 // they are more than there is room for at once
		cmd = confined(t, 512<<20)
	}
	u, s := newUpstream(t), newSender(t)
	u.answers(status(http.StatusServiceUnavailable))
	config := newSetup(t, u.URL)
	p := begin(t, config, cmd, "GOMEMLIMIT=256MiB")
	p.wantAlive()
	p.dial()
	before := p.status("VmHWM")
	bodies := make([][]byte, 32)
	for n := range bodies {
		bodies[n] = reportOf("pf_loans", fmt.Sprint("report-", n), size)
	}
	var all sync.WaitGroup
	var mu sync.Mutex
	refused := make(map[int]int) // by status
	for n, body := range bodies {
		all.Go(func() {
			id := fmt.Sprint("report-", n)
			for range 6 { // as often as Klavi tries
				status := s.once(p.url, id, body)
				if status == http.StatusOK {
					return
				}
				mu.Lock()
				refused[status]++
				mu.Unlock()
			}
			t.Errorf("%s was not taken in six tries", id)
		})
	}
	all.Wait()
	refusals := 0
	for status, n := range refused {
		refusals += n
		if status != 0 && status != http.StatusServiceUnavailable {
			t.Errorf("got status %d %d times, want 200, or 503 for want of room", status, n)
		}
	}
	if refusals > often {
		t.Errorf("got %d refusals of 32 reports, want at most %d", refusals, often)
	}
	arrived := p.status("VmHWM")
	u.answers(nil)
	s.drain(p, u)
	delivered := p.status("VmHWM")
	t.Logf("32 reports of %d MiB, refused by status: %v; at most %d MiB of memory before, %d when they had arrived, %d when they were delivered",
		size>>20, refused, before>>10, arrived>>10, delivered>>10)
	if n := u.all(); n != len(bodies) {
		t.Errorf("got %d reports at the upstream, want %d", n, len(bodies))
	}
	if delivered > most && !raced {
		t.Errorf("got %d kB of memory, want at most %d", delivered, most)
	}
}

// Without file handles, reports are refused or delivered later. When there are some
// again, all goes on.
func TestNoFileHandles(t *testing.T) {
	t.Parallel()
	u, s := newUpstream(t), newSender(t)
	config := newSetup(t, u.URL)
	p := begin(t, config, limited(64))
	p.wantAlive()
	s.mustPost(p.url, "first", reportOf("pf_loans", "first", 300))

	var idle []net.Conn
	defer func() {
		for _, conn := range idle {
			conn.Close()
		}
	}()
	open := func() (n int) {
		for _, often := range p.handles() {
			n += often
		}
		return n
	}
	// One handle less each time, so that each step of storing is the one without.
	const none = "too many open files"
	for n := 0; (open() < 64 || !strings.Contains(p.log(), none)) && n < 100; n++ {
		conn, err := net.Dial("tcp", "127.0.0.1:"+config.port)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprint(conn, "POST /klavi/reports HTTP/1.1\r\n")
		idle = append(idle, conn)
		if open() < 50 {
			continue
		}
		for _, size := range []int{300, 70_000, 1_200_000} {
			id := fmt.Sprintf("report-%d-%d", n, size)
			s.briefly(p.url, id, reportOf("pf_loans", id, size))
		}
	}
	for _, conn := range idle {
		conn.Close()
	}
	idle = nil
	if got := s.post(p.url, "last", reportOf("pf_loans", "last", 200_000)); got != http.StatusOK {
		t.Errorf("got status %d when there are handles again, want 200", got)
	}
	if !strings.Contains(p.log(), none) {
		t.Error("got no word of handles in the log: this test shows less than it says")
	}
	s.drain(p, u)
}

// briefly sends a report that may get no answer, since nobody can take its connection.
func (s *sender) briefly(url, id string, body []byte) {
	patient := s.fresh
	hasty := *patient
	hasty.Timeout = 300 * time.Millisecond
	s.fresh = &hasty
	s.once(url, id, body)
	s.fresh = patient
}
