package postgrestest

import (
	"net"
	"net/url"
	"strconv"
	"sync"
	"testing"
)

// Proxy stands between clients and a server, as the network does. What happens to it
// the server does not see, but that connections are gone.
type Proxy struct {
	// URL is that of the database, through the proxy.
	URL string

	t      testing.TB
	server string // the address behind it
	addr   string // its own
	all    sync.WaitGroup

	mu       sync.Mutex
	changed  *sync.Cond
	listener net.Listener // nil while nothing comes through
	links    map[*link]bool
	requests bool // they hang
	answers  bool // they hang
}

// link is one connection through the proxy. The proxy's mu guards it.
type link struct {
	client, server net.Conn // server is nil until it is connected
	cut            bool
}

// NewProxy puts a proxy before the database with a URL, for as long as the test lasts.
func NewProxy(t testing.TB, to string) *Proxy {
	t.Helper()
	u, err := url.Parse(to)
	if err != nil {
		t.Fatal("this is no URL of a database")
	}
	p := &Proxy{t: t, server: u.Host, links: make(map[*link]bool)}
	p.changed = sync.NewCond(&p.mu)
	for p.listener == nil {
		p.addr = net.JoinHostPort("127.0.0.1", strconv.Itoa(freePort()))
		p.listener, _ = net.Listen("tcp", p.addr) // or somebody else has taken it
	}
	u.Host = p.addr
	p.URL = u.String()
	first := p.listener // Cut may come before it is asked for
	p.all.Go(func() { p.accept(first) })
	t.Cleanup(func() {
		p.Cut()
		p.all.Wait()
	})
	return p
}

// Cut closes all connections, and refuses new ones.
func (p *Proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.listener != nil {
		_ = p.listener.Close()
		p.listener = nil
	}
	for l := range p.links {
		p.close(l)
	}
}

// Stall lets hang what comes from clients and from the server. Clients can connect, but
// nobody answers.
func (p *Proxy) Stall() { p.hang(true, true) }

// StallAnswers lets hang what comes from the server only: it does what it is told to,
// and the client does not learn of it.
func (p *Proxy) StallAnswers() { p.hang(false, true) }

func (p *Proxy) hang(requests, answers bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.requests, p.answers = requests, answers
	p.changed.Broadcast()
}

// Resume ends what [Proxy.Cut] or [Proxy.Stall] began. What hung goes on.
func (p *Proxy) Resume() {
	p.t.Helper()
	p.hang(false, false)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.listener != nil {
		return
	}
	l, err := net.Listen("tcp", p.addr)
	if err != nil {
		p.t.Fatal(err)
	}
	p.listener = l
	p.all.Go(func() { p.accept(l) })
}

func (p *Proxy) accept(from net.Listener) {
	for {
		client, err := from.Accept()
		if err != nil {
			return
		}
		l := &link{client: client}
		p.mu.Lock()
		if p.listener != from { // it was cut meanwhile
			p.mu.Unlock()
			_ = client.Close()
			return
		}
		p.links[l] = true
		p.all.Go(func() { p.serve(l) })
		p.mu.Unlock()
	}
}

// serve connects a client to the server, both ways.
func (p *Proxy) serve(l *link) {
	defer p.end(l)
	if !p.pass(l, &p.requests) {
		return
	}
	server, err := net.Dial("tcp", p.server)
	if err != nil {
		return
	}
	p.mu.Lock()
	l.server = server
	if l.cut {
		_ = server.Close()
	}
	p.mu.Unlock()
	p.all.Go(func() {
		defer p.end(l)
		p.copy(l, server, l.client, &p.answers)
	})
	p.copy(l, l.client, server, &p.requests)
}

// copy takes bytes across until either side has ended. That one has, the other does not
// learn while bytes hang.
func (p *Proxy) copy(l *link, from, to net.Conn, stalled *bool) {
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		if !p.pass(l, stalled) || err != nil {
			return
		}
		if _, err := to.Write(buf[:n]); err != nil {
			return
		}
	}
}

// pass waits while bytes hang. It is false if the connection is cut.
func (p *Proxy) pass(l *link, stalled *bool) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for *stalled && !l.cut {
		p.changed.Wait()
	}
	return !l.cut
}

func (p *Proxy) end(l *link) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.close(l)
}

// close closes both sides. Callers hold mu.
func (p *Proxy) close(l *link) {
	l.cut = true
	_ = l.client.Close()
	if l.server != nil {
		_ = l.server.Close()
	}
	delete(p.links, l)
	p.changed.Broadcast()
}
