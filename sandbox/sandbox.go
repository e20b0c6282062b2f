// Package sandbox is a stand-in for Klavi (Brazilian Open Finance): its API, its hosted pages and its signed deliveries,
// as docs.klavi.ai describes them. It holds no real data and asks no real bank. Gateways, examples and a partner's own
// tests run against it without an account and without a network.
//
// It is a reading of Klavi's documents of its own and shares no code with the gateway, so that a mistake in one shows
// against the other.
package sandbox

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"net/http"
	"strings"
	"sync"
	"time"
)

// How much is remembered; above it the oldest is forgotten.
const (
	maxTokens     = 200_000
	maxLinks      = 50_000
	maxConsents   = 50_000
	maxSessions   = 10_000
	maxRequests   = 1_000
	maxDeliveries = 1_000
)

// Sandbox is one simulated Klavi with one partner application. It is an http.Handler, safe for concurrent use.
type Sandbox struct {
	clock   clock
	journal journal
	cancel  context.CancelFunc
	keeper  sync.WaitGroup

	mu     sync.Mutex
	opts   Options
	client *http.Client
	faults faults
	round  *round
	closed bool
	state
}

// state is what a reset forgets.
type state struct {
	tokens     *store[*token]
	links      *store[*link]
	consents   *store[*consent]
	tasks      *store[*task]
	tickets    *store[ticket]
	sessions   *store[*session]
	deliveries *store[*delivery]
	trackIDs   map[string]string // externalTrackId -> consentId
}

func newState() state {
	return state{
		tokens:     newStore[*token](maxTokens),
		links:      newStore[*link](maxLinks),
		consents:   newStore[*consent](maxConsents),
		tasks:      newStore[*task](maxSessions),
		tickets:    newStore[ticket](maxSessions),
		sessions:   newStore[*session](maxSessions),
		deliveries: newStore[*delivery](maxDeliveries),
		trackIDs:   make(map[string]string),
	}
}

// round is the deliveries under way; a reset ends them and begins a new round.
type round struct {
	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup
	active int
}

func newRound() *round {
	ctx, cancel := context.WithCancel(context.Background())
	return &round{ctx: ctx, cancel: cancel}
}

// New starts a sandbox. Close ends it.
func New(o Options) (*Sandbox, error) {
	s := &Sandbox{state: newState(), round: newRound()}
	if err := s.configure(o); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	s.cancel = cancel
	s.keeper.Go(func() { s.keepTime(ctx) })
	return s, nil
}

// configure replaces the options in place; links, consents and tokens stay.
func (s *Sandbox) configure(o Options) error {
	o, err := o.withDefaults()
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.opts = o
	if s.client == nil || o.Transport != nil {
		s.client = newClient(o.Transport)
	}
	return nil
}

// Close ends deliveries under way and waits for them. A closed sandbox still answers, and delivers nothing.
func (s *Sandbox) Close() error {
	s.mu.Lock()
	s.closed = true
	r, client := s.round, s.client
	s.mu.Unlock()
	s.cancel()
	r.cancel()
	r.wg.Wait()
	s.keeper.Wait()
	client.CloseIdleConnections()
	return nil
}

// Destruct implements caddy.Destructor.
func (s *Sandbox) Destruct() error { return s.Close() }

// reset forgets everything but the options, and returns once no older delivery can arrive any more.
func (s *Sandbox) reset() {
	s.mu.Lock()
	old := s.round
	s.round = newRound()
	s.state = newState()
	s.faults = faults{}
	s.clock.reset()
	s.mu.Unlock()
	s.journal.reset()
	old.cancel()
	old.wg.Wait()
}

// keepTime turns consents over when their time has come.
func (s *Sandbox) keepTime(ctx context.Context) {
	t := time.NewTicker(time.Second)
	defer t.Stop()
	for {
		select {
		case <-t.C:
			s.mu.Lock()
			s.settle()
			s.mu.Unlock()
		case <-ctx.Done():
			return
		}
	}
}

// ServeHTTP answers Klavi's API under /data/v1, the hosted pages, and the controls under /_sandbox/.
func (s *Sandbox) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path := r.URL.EscapedPath()
	if name, ok := strings.CutPrefix(path, controlPrefix); ok {
		s.serveControl(w, r, name)
		return
	}
	if page, ok := pages[path]; ok {
		s.servePage(w, r, page)
		return
	}
	if code, ok := strings.CutPrefix(path, avatarPrefix); ok {
		serveAvatar(w, code)
		return
	}
	s.serveAPI(w, r, path)
}

// baseURL is the address under which the caller reached the sandbox.
func baseURL(r *http.Request) string {
	if r.TLS != nil {
		return "https://" + r.Host
	}
	return "http://" + r.Host
}

// randomHex returns n random bytes in hex.
func randomHex(n int) string {
	b := make([]byte, n)
	rand.Read(b)
	return hex.EncodeToString(b)
}
