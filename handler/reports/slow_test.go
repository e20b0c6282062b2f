package reports

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-klavi/caddy-klavi/klavi"
)

// bubble runs a test in which time passes by itself, against a gate that is
// provisioned outside of it.
func bubble(t *testing.T, config Reports, test func(t *testing.T, g *gate, dial func() net.Conn)) {
	g := newGate(t, config)
	synctest.Test(t, func(t *testing.T) {
		dial, stop := g.servePipes()
		test(t, g, dial)
		stop()
		synctest.Wait()
	})
}

func head(length int, from, signature string) string {
	return fmt.Sprintf("POST /klavi/reports HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: %s\r\nX-Klavi-Signature: %s\r\nContent-Length: %d\r\n\r\n", from, signature, length)
}

// answerOf reads one answer.
func answerOf(conn net.Conn) (int, error) {
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return 0, err
	}
	defer res.Body.Close()
	_, err = io.Copy(io.Discard, res.Body)
	return res.StatusCode, err
}

const (
	fromKlavi   = "18.230.43.17"
	fromAnybody = "203.0.113.50"
)

func TestSlowBody(t *testing.T) {
	body := reportOf("pf_loans", "slow", 400)
	signature := klavi.Sign([]byte(secret), body)
	tests := []struct {
		name string
		gap  time.Duration // between bytes
		want int
	}{
		{"in time", 20 * time.Millisecond, 200},
		{"a byte a second", time.Second, 408},
		{"never", time.Hour, 408},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, Reports{Routes: oneRoute(respond(200))}, func(t *testing.T, g *gate, dial func() net.Conn) {
				conn := dial()
				began := time.Now()
				go func() {
					if _, err := io.WriteString(conn, head(len(body), fromKlavi, signature)); err != nil {
						return
					}
					for i := range body {
						if _, err := conn.Write(body[i : i+1]); err != nil {
							return
						}
						time.Sleep(tt.gap)
					}
				}()
				got, err := answerOf(conn)
				conn.Close()
				if err != nil || got != tt.want {
					t.Errorf("got status %d (%v), want %d", got, err, tt.want)
				}
				if took := time.Since(began); tt.want == 408 && took != bodyTime {
					t.Errorf("got refused after %v, want %v", took, bodyTime)
				}
				time.Sleep(2 * time.Hour) // the sender above
			})
		})
	}
}

// The time that a body has is over when it has arrived: its delivery has its own.
func TestSlowBodyThenSlowUpstream(t *testing.T) {
	body := reportOf("pf_loans", "slow", 400)
	route := hook(t, "slow", func(w http.ResponseWriter, _ *http.Request) error {
		time.Sleep(8 * time.Second)
		w.WriteHeader(200)
		return nil
	})
	bubble(t, Reports{Routes: oneRoute(route)}, func(t *testing.T, g *gate, dial func() net.Conn) {
		g.server.ReadIdleTimeout = 0 // or else Caddy takes care of it
		conn := dial()
		began := time.Now()
		go func() {
			_, _ = io.WriteString(conn, head(len(body), fromKlavi, klavi.Sign([]byte(secret), body)))
			time.Sleep(9 * time.Second)
			_, _ = conn.Write(body)
		}()
		got, err := answerOf(conn)
		if took := time.Since(began); err != nil || got != 200 || took != 17*time.Second {
			t.Errorf("got status %d (%v) after %v, want 200 after 17s", got, err, took)
		}
		go func() {
			_, _ = io.WriteString(conn, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
		}()
		if got, err := answerOf(conn); err != nil || got != 200 {
			t.Errorf("on the same connection: got status %d (%v), want 200", got, err)
		}
		if g.canceled.Load() != 0 {
			t.Errorf("got %d canceled requests, want none", g.canceled.Load())
		}
		conn.Close()
	})
}

// Whoever announces much and sends little takes little; whoever sends much
// takes no more than half; and Klavi comes through.
func TestStrangersLeaveRoom(t *testing.T) {
	bubble(t, Reports{Routes: oneRoute(respond(200))}, func(t *testing.T, g *gate, dial func() net.Conn) {
		g.reports.limits.memory = newRoom(4 << 20)
		g.reports.limits.spool = newRoom(16 << 20)
		junk := make([]byte, 600<<10)
		var strangers []net.Conn
		for range 20 {
			conn := dial()
			strangers = append(strangers, conn)
			go func() {
				_, _ = io.WriteString(conn, head(64<<20, fromAnybody, strings.Repeat("0", 64)))
				_, _ = conn.Write(junk)
			}()
		}
		synctest.Wait()
		if free := g.reports.limits.memory.free; free < 2<<20 {
			t.Errorf("strangers left %d bytes of memory, want half of it", free)
		}
		began := time.Now()
		for i, size := range []int{500, 1 << 20, 3 << 20} {
			body := reportOf("pf_loans", fmt.Sprint("klavi-", i), size)
			conn := dial()
			go func() {
				_, _ = io.WriteString(conn, head(len(body), fromKlavi, klavi.Sign([]byte(secret), body)))
				_, _ = conn.Write(body)
			}()
			if got, err := answerOf(conn); err != nil || got != 200 {
				t.Errorf("a report of %d bytes beside strangers: got status %d (%v), want 200", size, got, err)
			}
			conn.Close()
		}
		if waited := time.Since(began); waited != 0 {
			t.Errorf("Klavi waited %v for strangers, want not at all", waited)
		}
		// Those who wait for room are told so; the others are too slow.
		counts := map[int]int{}
		for _, conn := range strangers {
			got, err := answerOf(conn)
			if err != nil {
				t.Errorf("a stranger got %v, want an answer", err)
			}
			counts[got]++
			conn.Close()
		}
		if counts[503] == 0 || counts[408] == 0 || counts[503]+counts[408] != len(strangers) {
			t.Errorf("strangers got %v, want some 503, some 408, and nothing else", counts)
		}
		synctest.Wait()
		if g.reports.limits.memory.free != 4<<20 || g.reports.limits.spool.free != 16<<20 {
			t.Errorf("got room %d and %d after all, want all of it", g.reports.limits.memory.free, g.reports.limits.spool.free)
		}
	})
}

func TestNoDisk(t *testing.T) {
	g := newGate(t, Reports{Routes: oneRoute(respond(200))}).serve()
	g.reports.limits.spoolDir = filepath.Join(t.TempDir(), "gone")
	// Without network: the answer to a body that nobody reads may be lost there.
	w := httptest.NewRecorder()
	g.server.ServeHTTP(w, g.signed(reportOf("pf_loans", "large", 2<<20)))
	if w.Code != 503 || w.Header().Get("Retry-After") == "" {
		t.Errorf("without a disk: got status %d, want 503 with Retry-After", w.Code)
	}
	if got := g.send(reportOf("pf_loans", "small", 2<<10)); got.status != 200 {
		t.Errorf("small, without a disk: got status %d, want 200", got.status)
	}
}

func TestSpoolHasNoName(t *testing.T) {
	var seen []string
	var g *gate
	g = newGate(t, Reports{Routes: oneRoute(hook(t, "look", func(w http.ResponseWriter, r *http.Request) error {
		for _, dir := range []string{os.TempDir(), g.reports.limits.spoolDir} {
			names, err := filepath.Glob(filepath.Join(dir, "klavi-report-*"))
			if err != nil {
				return err
			}
			seen = append(seen, names...)
		}
		w.WriteHeader(200)
		return nil
	}))}).serve()
	if got := g.send(reportOf("pf_loans", "id", 3<<20)); got.status != 200 {
		t.Fatalf("got status %d, want 200", got.status)
	}
	if len(seen) > 0 {
		t.Errorf("got files %v while a report is delivered, want none with a name", seen)
	}
}
