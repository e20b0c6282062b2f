package faults

import (
	"fmt"
	"net"
	"net/netip"
	"sync"
	"testing"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/caddy-klavi/caddy-klavi/inbox"
)

// The name of an upstream is not to be had for a while, then it leads to the upstream,
// then elsewhere, and then to another one. Each connection asks anew: what waits goes to
// where the name leads, and to nobody else.
func TestUpstreamsNameChanges(t *testing.T) {
	t.Parallel()
	names := newNameServer(t)
	first, second, s := newUpstream(t), newUpstream(t), newSender(t)
	port := freePort(t)
	config := newSetup(t, "")
	config.routes = fmt.Sprintf(`all as it {
			reverse_proxy %s:%s {
				transport http {
					resolvers %s
				}
			}
		}`, names.name, port, names.address)
	here := newServerAt(t, "http://127.0.0.1:"+port, first.take)
	p := start(t, config)

	waits := func(id string, change func()) {
		t.Helper()
		asked, tried := names.times(), len(p.records()[id].Attempts)
		if tried > 0 {
			tried++ // one may have begun before the change
		}
		change()
		eventually(t, "the name to be asked for, and an attempt with "+id, func() bool {
			return names.times() > asked && len(p.records()[id].Attempts) > tried
		})
		r := p.records()[id]
		if a := r.Attempts[len(r.Attempts)-1]; r.State != inbox.Waiting || a.Status != 502 || a.Reason != "the upstream could not be reached" {
			t.Errorf("%s: got %s after status %d because %q, want that it waits after 502 because the upstream could not be reached",
				id, r.State, a.Status, a.Reason)
		}
	}
	names.lead(dnsmessage.RCodeServerFailure, "")
	s.mustPost(p.url, "a", reportOf("pf_loans", "a", 200_000))
	waits("a", func() {})
	waits("a", func() { names.lead(dnsmessage.RCodeNameError, "") })
	names.lead(dnsmessage.RCodeSuccess, "127.0.0.1")
	eventually(t, "it at the first upstream", func() bool { return first.accepted("a") == 1 })

	// The upstream moves, and somebody else is where it was.
	names.lead(dnsmessage.RCodeSuccess, "127.0.0.2") // nobody is there
	here.CloseClientConnections()
	here.Close()
	newServerAt(t, "http://127.0.0.1:"+port, second.take)
	s.mustPost(p.url, "b", reportOf("pf_loans", "b", 200_000))
	waits("b", func() {})
	if n := second.attempts(); n != 0 {
		t.Errorf("got %d attempts where the name does not lead, want none", n)
	}
	names.lead(dnsmessage.RCodeSuccess, "127.0.0.1")
	eventually(t, "it at the second upstream", func() bool { return second.accepted("b") == 1 })
	s.drain(p, first, second)
	if n := first.again() + second.again(); n != 0 {
		t.Errorf("got %d reports twice, want none", n)
	}
}

// nameServer answers for one name on this machine.
type nameServer struct {
	name, address string

	mu    sync.Mutex
	code  dnsmessage.RCode
	to    netip.Addr
	asked int
}

func newNameServer(t testing.TB) *nameServer {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	n := &nameServer{name: "reports.test", address: conn.LocalAddr().String()}
	var serving sync.WaitGroup
	serving.Go(func() {
		buf := make([]byte, 4096)
		for {
			size, from, err := conn.ReadFrom(buf)
			if err != nil {
				return
			}
			if answer, err := n.answer(buf[:size]); err != nil {
				t.Errorf("answering for a name: %v", err)
			} else {
				_, _ = conn.WriteTo(answer, from) // who asked may have gone
			}
		}
	})
	t.Cleanup(func() {
		conn.Close()
		serving.Wait()
	})
	return n
}

// lead has the name lead to an address, if there is no error.
func (n *nameServer) lead(code dnsmessage.RCode, address string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.code, n.to = code, netip.Addr{}
	if address != "" {
		n.to = netip.MustParseAddr(address)
	}
}

func (n *nameServer) times() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.asked
}

func (n *nameServer) answer(query []byte) ([]byte, error) {
	var p dnsmessage.Parser
	head, err := p.Start(query)
	if err != nil {
		return nil, err
	}
	q, err := p.Question()
	if err != nil {
		return nil, err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	m := dnsmessage.Message{
		Header:    dnsmessage.Header{ID: head.ID, Response: true, RecursionDesired: head.RecursionDesired, RecursionAvailable: true, RCode: n.code},
		Questions: []dnsmessage.Question{q},
	}
	switch {
	case q.Name.String() != n.name+".": // with one of this machine's search domains
		m.RCode = dnsmessage.RCodeNameError
	case q.Type == dnsmessage.TypeA:
		n.asked++
		if n.code == dnsmessage.RCodeSuccess {
			m.Answers = []dnsmessage.Resource{{
				Header: dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: q.Class, TTL: 3600},
				Body:   &dnsmessage.AResource{A: n.to.As4()},
			}}
		}
	}
	return m.Pack()
}
