package integration

import (
	"bytes"
	"crypto/tls"
	"net"
	"regexp"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/quic-go/quic-go"
)

// earlyConn is the socket of a client that hears nothing until it may, and whose
// datagrams are recorded until then.
type earlyConn struct {
	net.PacketConn
	hear chan struct{}
	once sync.Once

	recorded [][]byte // what the client has sent before it heard anything
}

func (c *earlyConn) WriteTo(p []byte, to net.Addr) (int, error) {
	select {
	case <-c.hear:
	default:
		c.recorded = append(c.recorded, bytes.Clone(p))
	}
	return c.PacketConn.WriteTo(p, to)
}

func (c *earlyConn) ReadFrom(p []byte) (int, net.Addr, error) {
	<-c.hear
	return c.PacketConn.ReadFrom(p)
}

func (c *earlyConn) Close() error {
	c.once.Do(func() { close(c.hear) })
	return c.PacketConn.Close()
}

// ticketCache says when a session ticket has come.
type ticketCache struct {
	tls.ClientSessionCache
	came chan struct{}
	once sync.Once
}

func (c *ticketCache) Put(key string, state *tls.ClientSessionState) {
	c.ClientSessionCache.Put(key, state)
	c.once.Do(func() { close(c.came) })
}

var refusedEarly = regexp.MustCompile(`caddy_klavi_refusals_total\{account="early",face="frontend",type="too-early"\} ([0-9]+)`)

// Whoever records early data of HTTP/3 (0-RTT) can have it served again, without
// being able to read it. No consent comes of it; what only reads is served.
func TestScopeEarlyData(t *testing.T) {
	t.Setenv("QUIC_GO_DISABLE_RECEIVE_BUFFER_WARNING", "true") // the client's socket is not one of the system's
	certificate, key := writeCertificate(t)
	p := placement{name: "early", site: "klavi_frontend /klavi BLOCK\n"}
	tlsLine := "tls " + certificate + " " + key
	p.more = "http://:{{metrics}} {\nbind 127.0.0.1\nmetrics\n}\n"
	s := startScope(t, "servers {\nprotocols h1 h2 h3\n}\n", tlsLine, nil, p)
	came := make(map[string]int)
	refused := func() int {
		for token, n := range s.klavi.take() {
			came[token] += n
		}
		n := 0
		if found := refusedEarly.FindStringSubmatch(s.do("GET", s.url("metrics", "/metrics"), "").body); found != nil {
			n, _ = strconv.Atoi(found[1])
		}
		return n
	}
	before := refused()

	cache := &ticketCache{ClientSessionCache: tls.NewLRUClientSessionCache(1), came: make(chan struct{})}
	first, err := quic.DialAddr(t.Context(), s.address(p), h3TLS(cache), quicConfig)
	if err != nil {
		t.Fatal(err)
	}
	<-cache.came
	_ = first.CloseWithError(0, "")

	socket, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	client := &earlyConn{PacketConn: socket, hear: make(chan struct{})}
	transport := &quic.Transport{Conn: client}
	defer transport.Close()
	defer client.Close()
	server, err := net.ResolveUDPAddr("udp", s.address(p))
	if err != nil {
		t.Fatal(err)
	}
	conn, err := transport.DialEarly(t.Context(), server, h3TLS(cache), quicConfig)
	if err != nil {
		t.Fatal(err)
	}
	if err := begin(conn); err != nil {
		t.Fatal(err)
	}
	send := func(m message) *quic.Stream {
		stream, err := conn.OpenStreamSync(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		_ = stream.SetDeadline(time.Now().Add(20 * time.Second))
		if _, err := stream.Write(m.frames()); err != nil {
			t.Fatal(err)
		}
		_ = stream.Close()
		return stream
	}
	reading, creating := "early.get", "early.post"
	read := send(get().withToken(s.sealer.seal(p, reading, true)))
	create := send(post().withToken(s.sealer.seal(p, creating, true)))
	s.eventually("the early data to be served", func() bool { return refused()-before+came[creating] == 1 && came[reading] == 1 })

	// The client hears that it was too early, and tries again.
	client.once.Do(func() { close(client.hear) })
	if got, err := readH3(read); err != nil || got.status != 200 {
		t.Errorf("GET in early data: got %d (%v), want 200", got.status, err)
	}
	if got, err := readH3(create); err != nil || got.status != 425 || got.field("type") != "too-early" {
		t.Errorf("POST in early data: got %d %s (%v), want 425", got.status, got.body, err)
	}
	select {
	case <-conn.HandshakeComplete():
	case <-time.After(20 * time.Second):
		t.Fatal("the handshake did not end")
	}
	if !conn.ConnectionState().Used0RTT {
		t.Fatal("the server took no early data: this test shows nothing")
	}
	if got, err := readH3(send(post().withToken(s.sealer.seal(p, creating, true)))); err != nil || got.status != 200 {
		t.Errorf("POST after the handshake: got %d %s (%v), want 200", got.status, got.body, err)
	}
	_ = conn.CloseWithError(0, "")

	// Somebody else sends the recorded datagrams. The server takes them for a new
	// connection as soon as it has forgotten the other one.
	copied, err := net.Dial("udp", s.address(p))
	if err != nil {
		t.Fatal(err)
	}
	defer copied.Close()
	s.eventually("the copy to be served", func() bool {
		for _, datagram := range client.recorded {
			_, _ = copied.Write(datagram)
		}
		return refused()-before+came[creating] >= 3 && came[reading] >= 2
	})
	if came[creating] != 1 {
		t.Errorf("got %d consents at klavi, want the one that the client asked for after the handshake", came[creating])
	}
}
