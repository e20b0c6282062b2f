package integration

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"
)

// patience has Klavi answer nothing until it is told to, or the gateway gives up.
type patience struct {
	over func() // begins to answer
	done <-chan struct{}

	mu        sync.Mutex
	now, most int // requests under way
	came      int
}

func (p *patience) hold(r *http.Request) {
	if r.URL.Path == "/data/v1/auth" {
		return
	}
	p.mu.Lock()
	p.now++
	p.came++
	p.most = max(p.most, p.now)
	p.mu.Unlock()
	select {
	case <-p.done:
	case <-r.Context().Done():
	}
	p.mu.Lock()
	p.now--
	p.mu.Unlock()
}

func (p *patience) counts() (now, most, came int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.now, p.most, p.came
}

const (
	// maxStreams is how many streams of a connection Caddy serves at once.
	maxStreams = 250
	// maxCreations is how many consents of one address may be under way.
	maxCreations = 100
)

// openWide is openH2 with windows for all answers, which nobody reads closely.
func openWide(t *testing.T, address string) *h2Conn {
	t.Helper()
	c, err := openH2(address, true)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if err := c.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 30}); err != nil {
		t.Fatal(err)
	}
	if err := c.WriteWindowUpdate(0, 1<<30); err != nil {
		t.Fatal(err)
	}
	return c
}

func startPatient(t *testing.T, protocols string) (*scopeSites, placement, *patience) {
	t.Helper()
	certificate, key := writeCertificate(t)
	p := placements[0]
	done := make(chan struct{})
	held := &patience{over: sync.OnceFunc(func() { close(done) }), done: done}
	s := startScope(t, "servers {\nprotocols "+protocols+"\n}\n", "tls "+certificate+" "+key, held.hold, p)
	t.Cleanup(held.over) // or else it could not be closed
	return s, p, held
}

// Streams that are reset as soon as they are open (CVE-2023-44487) make no more
// work than streams that are not, and none of it outlives them.
func TestScopeRapidReset(t *testing.T) {
	s, p, held := startPatient(t, "h1 h2")
	c := openWide(t, s.address(p))
	go func() { // or else the server could not write
		for {
			if _, err := c.ReadFrame(); err != nil {
				return
			}
		}
	}()
	request := get().withToken(s.sealer.seal(p, "rapid", true))
	if err := c.send(1, request); err != nil {
		t.Fatal(err)
	}
	s.eventually("a call to klavi", func() bool { _, _, came := held.counts(); return came == 1 })
	for stream := uint32(3); stream < 4000; stream += 2 {
		if c.send(stream, request) != nil || c.WriteRSTStream(stream, http2.ErrCodeCancel) != nil {
			break // the server had enough
		}
	}
	_ = c.WriteRSTStream(1, http2.ErrCodeCancel)
	s.eventually("the calls to klavi to end", func() bool { now, _, _ := held.counts(); return now == 0 })
	if _, most, came := held.counts(); most > maxStreams {
		t.Errorf("got %d calls to klavi at once (%d in all), want at most %d", most, came, maxStreams)
	}
}

// The same over HTTP/3.
func TestScopeRapidResetHTTP3(t *testing.T) {
	s, p, held := startPatient(t, "h1 h2 h3")
	c, err := openH3(s.address(p))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.CloseWithError(0, "") }()
	frames := get().withToken(s.sealer.seal(p, "rapid", true)).frames()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for i := range 1000 {
		stream, err := c.OpenStreamSync(ctx)
		if err != nil {
			t.Fatalf("after %d streams: %v", i, err)
		}
		_, _ = stream.Write(frames)
		_ = stream.Close()
		if i == 0 {
			s.eventually("a call to klavi", func() bool { _, _, came := held.counts(); return came == 1 })
		}
		stream.CancelRead(0x10c) // H3_REQUEST_CANCELLED
	}
	s.eventually("the calls to klavi to end", func() bool { now, _, _ := held.counts(); return now == 0 })
	if _, most, came := held.counts(); most > maxStreams {
		t.Errorf("got %d calls to klavi at once (%d in all), want at most %d", most, came, maxStreams)
	}
}

// With an Idempotency-Key a call outlives its stream, since others may wait for
// it. How many an address may have is bounded all the same.
func TestScopeResetsWithIdempotencyKeys(t *testing.T) {
	s, p, held := startPatient(t, "h1 h2")
	token := s.sealer.seal(p, "rapid", true)
	refused := 0
	for wave := range 3 {
		c := openWide(t, s.address(p))
		for i := range uint32(maxStreams) {
			m := post(field{"idempotency-key", fmt.Sprintf("%d-%d", wave, i)}).withToken(token)
			if err := c.send(2*i+1, m); err != nil {
				t.Fatal(err)
			}
		}
		// Those beyond the bound are answered; the others wait for Klavi.
		want := maxStreams
		if wave == 0 {
			want -= maxCreations
		}
		for range want {
			got, err := c.next()
			if err != nil {
				t.Fatalf("wave %d: %v", wave, err)
			}
			if got != http.StatusTooManyRequests {
				t.Errorf("wave %d: got status %d, want 429", wave, got)
			}
			refused++
		}
		for i := range uint32(maxStreams) {
			_ = c.WriteRSTStream(2*i+1, http2.ErrCodeCancel) // those that are over are over
		}
		c.Close()
	}
	now, most, came := held.counts()
	if now != maxCreations || most != maxCreations || came != maxCreations {
		t.Errorf("got %d calls to klavi under way, at most %d at once, %d in all, want %d", now, most, came, maxCreations)
	}
	held.over()
	s.eventually("the calls to klavi to end", func() bool { now, _, _ := held.counts(); return now == 0 })
}

// next returns the status of the next answer on any stream.
func (c *h2Conn) next() (int, error) {
	for {
		f, err := c.ReadFrame()
		if err != nil {
			return 0, err
		}
		if head, ok := f.(*http2.MetaHeadersFrame); ok {
			return statusOf(head), nil
		}
	}
}
