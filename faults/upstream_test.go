package faults

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddy-klavi/caddy-klavi/inbox"
)

// Whatever an upstream does instead of taking a report, the report waits or is dead
// and Caddy runs on; once the upstream does its work, the report is delivered.
func TestUpstreamsMisbehave(t *testing.T) {
	tests := []struct {
		reportType string
		does       func(w http.ResponseWriter, r *http.Request, id string)
		status     int
		reason     string
		state      inbox.State
	}{
		{"pf_down", nil, 502, "the upstream could not be reached", inbox.Waiting},
		{"pf_slow", func(_ http.ResponseWriter, r *http.Request, _ string) { <-r.Context().Done() }, 504, "the route did not answer in time", inbox.Waiting},
		{"pf_hangs_up", func(w http.ResponseWriter, _ *http.Request, _ string) { hangUp(w, "") }, 502, "the upstream could not be reached", inbox.Waiting},
		{"pf_cut", func(w http.ResponseWriter, _ *http.Request, _ string) {
			hangUp(w, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
		}, 200, "the connection to the upstream broke", inbox.Waiting},
		{"pf_cut_chunks", func(w http.ResponseWriter, _ *http.Request, _ string) {
			hangUp(w, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n")
		}, 200, "the connection to the upstream broke", inbox.Waiting},
		{"pf_garbage", func(w http.ResponseWriter, _ *http.Request, _ string) { hangUp(w, "SSH-2.0-OpenSSH\r\n") }, 502, "the upstream could not be reached", inbox.Waiting},
		{"pf_endless", func(w http.ResponseWriter, r *http.Request, _ string) {
			for block := make([]byte, 1<<10); r.Context().Err() == nil; {
				if _, err := w.Write(block); err != nil {
					return
				}
				_ = http.NewResponseController(w).Flush()
				<-time.After(time.Millisecond)
			}
		}, 200, "the route did not answer in time", inbox.Waiting},
		{"pf_gone", status(410), 410, "the route answered with status 410", inbox.Dead},
		{"pf_not_found", status(404), 404, "the route answered with status 404", inbox.Waiting},
		{"pf_too_many", func(w http.ResponseWriter, _ *http.Request, _ string) {
			w.Header().Set("Retry-After", "3600")
			w.WriteHeader(http.StatusTooManyRequests)
		}, 429, "the route answered with status 429", inbox.Waiting},
		{"pf_moved", func(w http.ResponseWriter, r *http.Request, _ string) {
			http.Redirect(w, r, "/elsewhere", http.StatusTemporaryRedirect)
		}, 307, "the route answered with status 307", inbox.Waiting},
		{"pf_timeout", status(408), 408, "the route answered with status 408", inbox.Waiting},
		{"pf_too_early", status(425), 425, "the route answered with status 425", inbox.Waiting},
		{"pf_stranger", status(401), 401, "the route answered with status 401", inbox.Waiting},
		{"pf_too_large", status(413), 413, "the route answered with status 413", inbox.Waiting},
		{"pf_moved_for_good", func(w http.ResponseWriter, r *http.Request, _ string) {
			http.Redirect(w, r, "/elsewhere", http.StatusMovedPermanently)
		}, 301, "the route answered with status 301", inbox.Waiting},
		{"pf_long_header", func(w http.ResponseWriter, _ *http.Request, _ string) {
			w.Header().Set("X-Long", strings.Repeat("a", 1<<20))
			w.WriteHeader(http.StatusInternalServerError)
		}, 500, "the route answered with status 500", inbox.Waiting},
		{"pf_endless_header", func(w http.ResponseWriter, _ *http.Request, _ string) {
			w.Header().Set("X-Long", strings.Repeat("a", 11<<20)) // more than is read of it
		}, 502, "the upstream could not be reached", inbox.Waiting},
		{"pf_early", func(w http.ResponseWriter, _ *http.Request, _ string) {
			hangUp(w, "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n")
		}, 502, "the upstream could not be reached", inbox.Waiting},
	}
	s, config := newSender(t), newSetup(t, "")
	var upstreams []*upstream
	config.routes = ""
	for _, tt := range tests {
		u := newUpstream(t)
		if tt.does == nil {
			u.Close()
			u.Server = nil
			config.routes += fmt.Sprintf("specific %s http://127.0.0.1:%s as %[1]s\n", tt.reportType, freePort(t))
		} else {
			u.answers(tt.does)
			timeout := "1m"
			if tt.reportType == "pf_slow" || tt.reportType == "pf_endless" {
				timeout = "1s"
			}
			config.routes += fmt.Sprintf("specific %s %s as %[1]s {\ntimeout %[3]s\n}\n", tt.reportType, u.URL, timeout)
		}
		upstreams = append(upstreams, u)
	}
	config.routes += "other " + upstreams[1].URL + " as other\n"
	p := start(t, config)
	for _, tt := range tests {
		s.mustPost(p.url, tt.reportType, reportOf(tt.reportType, tt.reportType, 200_000))
	}
	for _, tt := range tests {
		var r inbox.Record
		eventually(t, "an attempt with "+tt.reportType, func() bool {
			r = p.records()[tt.reportType]
			return len(r.Attempts) > 0
		})
		a := r.Attempts[0]
		if r.State != tt.state || a.Status != tt.status || a.Reason != tt.reason {
			t.Errorf("%s: got %s after status %d because %q, want %s after %d because %q",
				tt.reportType, r.State, a.Status, a.Reason, tt.state, tt.status, tt.reason)
		}
		if due := r.Deliveries[0].Due; tt.reportType == "pf_too_many" && due.Sub(a.At) < 59*time.Minute {
			t.Errorf("got it due %v after an answer that asks for an hour", due.Sub(a.At))
		}
	}
	for i, tt := range tests {
		u := upstreams[i]
		u.answers(nil)
		if tt.does == nil {
			_, rest, _ := strings.Cut(config.routes, "specific "+tt.reportType+" ")
			url, _, _ := strings.Cut(rest, " as ")
			u.Server = newServerAt(t, url, u.take)
		}
	}
	s.drain(p, upstreams...)
}

// newServerAt is a server that comes up where something was down.
func newServerAt(t testing.TB, url string, take http.HandlerFunc) *httptest.Server {
	t.Helper()
	server := httptest.NewUnstartedServer(take)
	listenAt(t, server, strings.TrimPrefix(url, "http://"))
	server.Start()
	t.Cleanup(server.Close)
	return server
}

// An empty 200 is all that it takes to have accepted a report, and so is any other
// status of its class.
func TestUpstreamsAccept(t *testing.T) {
	u, s := newUpstream(t), newSender(t)
	u.answers(func(w http.ResponseWriter, _ *http.Request, id string) {
		u.accepts(id)
		switch id {
		case "nothing":
		case "204":
			w.WriteHeader(http.StatusNoContent)
		case "202":
			w.WriteHeader(http.StatusAccepted)
			fmt.Fprint(w, "an error, in truth")
		}
	})
	p := start(t, newSetup(t, u.URL))
	for _, id := range []string{"nothing", "204", "202"} {
		s.mustPost(p.url, id, reportOf("pf_loans", id, 300))
	}
	s.drain(p, u)
	if n := u.attempts(); n != 3 {
		t.Errorf("got %d attempts, want one for each of 3 reports", n)
	}
}

// An upstream that health checks have given up gets reports again when it is back,
// although the config was loaded anew meanwhile.
func TestHealthChecksAcrossReload(t *testing.T) {
	u, s := newUpstream(t), newSender(t)
	var mu sync.Mutex
	healthy := false
	health := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		if !healthy {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		_, _ = io.WriteString(w, "ok")
	}))
	defer health.Close()
	config := newSetup(t, "")
	config.routes = fmt.Sprintf(`all as it {
			reverse_proxy %s {
				health_uri /
				health_port %s
				health_interval 50ms
				fail_duration 1h
			}
		}`, host(u), health.URL[strings.LastIndex(health.URL, ":")+1:])
	p := start(t, config)
	seen := 0
	wantGivenUp := func() {
		t.Helper()
		// It is said before it counts, and again by the next check.
		eventually(t, "the upstream to be given up", func() bool { return strings.Count(p.log()[seen:], "out of tolerances") > 1 })
	}
	wantGivenUp()
	s.mustPost(p.url, "a", reportOf("pf_loans", "a", 300))
	eventually(t, "an attempt that finds no upstream", func() bool {
		r := p.records()["a"]
		return len(r.Attempts) > 0 && r.Attempts[0].Reason == "no upstream is available"
	})
	config.inbox += "\nretry_for 24h"
	if err := p.load(config); err != nil {
		t.Fatal(err)
	}
	// A new config takes its upstreams for healthy until it has checked them: a may
	// get there before.
	seen = len(p.log())
	wantGivenUp()
	s.mustPost(p.url, "b", reportOf("pf_loans", "b", 300))
	if n := u.accepted("b"); n != 0 {
		t.Errorf("got %d attempts at an upstream that is not healthy, want none", n)
	}
	mu.Lock()
	healthy = true
	mu.Unlock()
	eventually(t, "the reports at their upstream", func() bool { return u.all() == 2 })
	s.drain(p, u)
}
