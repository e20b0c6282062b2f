package demo

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddyserver/caddy/v2"
)

// page is a browser that follows the arrivals.
type page struct {
	mu     sync.Mutex
	header http.Header
	status int
	text   strings.Builder
	left   context.CancelFunc
	done   chan struct{}
}

func (p *page) Header() http.Header { return p.header }
func (p *page) WriteHeader(status int) {
	p.status = status
}
func (p *page) Flush() {}
func (p *page) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.text.Write(b)
}

// read returns what came since the last time.
func (p *page) read() string {
	synctest.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	defer p.text.Reset()
	return p.text.String()
}

func follow(a *arrivals, lastEventID string, stopping chan struct{}) *page {
	ctx, cancel := context.WithCancel(context.Background())
	p := &page{header: make(http.Header), left: cancel, done: make(chan struct{})}
	r := httptest.NewRequestWithContext(ctx, "GET", "/received/stream", nil)
	if lastEventID != "" {
		r.Header.Set("Last-Event-ID", lastEventID)
	}
	go func() {
		defer close(p.done)
		a.stream(p, r, stopping)
	}()
	return p
}

// paths are those of the arrivals in a text of events, in their order.
func paths(t *testing.T, text string) string {
	t.Helper()
	var list []string
	for line := range strings.Lines(text) {
		data, ok := strings.CutPrefix(line, "data: ")
		if !ok {
			continue
		}
		var arrival Arrival
		if err := json.Unmarshal([]byte(data), &arrival); err != nil {
			t.Fatalf("%v in %s", err, line)
		}
		list = append(list, arrival.Path)
	}
	return strings.Join(list, " ")
}

func TestStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newArrivals()
		a.add(Arrival{Path: "/1"})
		p := follow(a, "", nil)
		first := p.read()
		if p.status != 200 || p.header.Get("Content-Type") != "text/event-stream" || p.header.Get("Cache-Control") != "no-store" {
			t.Errorf("got %d %v, want an event stream", p.status, p.header)
		}
		if want := "id: " + a.run + "-1\n"; !strings.Contains(first, want) || paths(t, first) != "/1" {
			t.Errorf("got %q, want the arrival from before with %q", first, want)
		}
		a.add(Arrival{Path: "/2"})
		a.add(Arrival{Path: "/3"})
		if got := paths(t, p.read()); got != "/2 /3" {
			t.Errorf("got %s, want /2 /3 as they arrive", got)
		}
		time.Sleep(heartbeat)
		if got := p.read(); got != ":\n\n" {
			t.Errorf("got %q, want a heartbeat", got)
		}
		p.left()
		<-p.done
	})
}

func TestStreamResumes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newArrivals()
		for i := range 3 {
			a.add(Arrival{Path: fmt.Sprintf("/%d", i+1)})
		}
		for id, want := range map[string]string{
			a.run + "-2":     "/3",
			a.run + "-3":     "",
			a.run + "-99":    "",
			a.run + "--1":    "/1 /2 /3",
			a.run + "-x":     "/1 /2 /3",
			"OTHERRUN-3":     "/1 /2 /3",
			"3":              "/1 /2 /3",
			a.run + "-1\n-2": "/1 /2 /3",
		} {
			p := follow(a, id, nil)
			if got := paths(t, p.read()); got != want {
				t.Errorf("after %q: got %q, want %q", id, got, want)
			}
			p.left()
			<-p.done
		}
	})
}

// What is forgotten is left out; the numbers go on.
func TestStreamIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newArrivals()
		for i := range keptArrivals + 5 {
			a.add(Arrival{Path: fmt.Sprintf("/%d", i+1)})
		}
		p := follow(a, a.run+"-1", nil)
		text := p.read()
		if got := strings.Fields(paths(t, text)); len(got) != keptArrivals || got[0] != "/6" {
			t.Errorf("got %d from %s, want %d from /6", len(got), got[0], keptArrivals)
		}
		if want := fmt.Sprintf("id: %s-6\n", a.run); !strings.Contains(text, want) {
			t.Errorf("got no %q", want)
		}
		p.left()
		<-p.done
	})
}

func TestStreamsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newArrivals()
		var pages []*page
		for range maxStreams {
			pages = append(pages, follow(a, "", nil))
		}
		synctest.Wait()
		late := follow(a, "", nil)
		<-late.done
		if late.status != 503 || late.header.Get("Retry-After") == "" {
			t.Errorf("got %d %v, want 503 with Retry-After", late.status, late.header)
		}
		pages[0].left()
		<-pages[0].done
		next := follow(a, "", nil)
		next.read()
		if next.status != 200 {
			t.Errorf("got %d after one left, want 200", next.status)
		}
		for _, p := range append(pages[1:], next) {
			p.left()
			<-p.done
		}
		if a.streams != 0 {
			t.Errorf("got %d streams, want none", a.streams)
		}
	})
}

func TestStreamEndsWhenCaddyStops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stopping := make(chan struct{})
		p := follow(newArrivals(), "", stopping)
		p.read()
		close(stopping)
		<-p.done
	})
}

// deaf accepts nothing.
type deaf struct{ *httptest.ResponseRecorder }

func (deaf) Write([]byte) (int, error) { return 0, http.ErrHandlerTimeout }

func TestStreamEndsWhenNobodyReads(t *testing.T) {
	a := newArrivals()
	a.stream(deaf{httptest.NewRecorder()}, httptest.NewRequest("GET", "/received/stream", nil), nil)
	if a.streams != 0 {
		t.Errorf("got %d streams, want none", a.streams)
	}
}

// A page that follows the arrivals does not hold up Caddy's end: with this grace
// period the test would never come to its own.
func TestCaddyStopsWithOpenStreams(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	l.Close()
	config := `{"admin":{"disabled":true,"config":{"persist":false}},"logging":{"logs":{"default":{"level":"ERROR"}}},
		"apps":{"http":{"grace_period":"1h","servers":{"s":{"listen":["` + address + `"],"automatic_https":{"disable":true},
		"routes":[{"handle":[{"handler":"klavi_demo_upstream"}]}]}}}}}`
	if err := caddy.Load([]byte(config), true); err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Transport: new(http.Transport)}
	defer client.CloseIdleConnections()
	resp, err := client.Get("http://" + address + "/received/stream")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if _, err := resp.Body.Read(make([]byte, 1)); err != nil || resp.StatusCode != 200 {
		t.Fatalf("got %d %v, want a stream", resp.StatusCode, err)
	}
	if err := caddy.Stop(); err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		t.Errorf("got %v, want the stream's proper end", err)
	}
}
