package integration

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// dialH2 returns a connection on which HTTP/2 may be written.
func dialH2(address string, secure bool) (net.Conn, error) {
	conn, err := net.Dial("tcp", address)
	if err != nil || !secure {
		return conn, err
	}
	client := tls.Client(conn, &tls.Config{
		ServerName: scopeHost, NextProtos: []string{"h2"},
		InsecureSkipVerify: true,
	})
	if err := client.Handshake(); err != nil {
		_ = conn.Close()
		return nil, err
	}
	return client, nil
}

// h2Conn is a connection whose frames are ours.
type h2Conn struct {
	net.Conn
	*http2.Framer
	encoded bytes.Buffer
	fields  *hpack.Encoder
}

func openH2(address string, secure bool) (*h2Conn, error) {
	conn, err := dialH2(address, secure)
	if err != nil {
		return nil, err
	}
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	c := &h2Conn{Conn: conn, Framer: http2.NewFramer(conn, conn)}
	c.AllowIllegalWrites = true
	c.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	c.fields = hpack.NewEncoder(&c.encoded)
	if _, err := io.WriteString(conn, http2.ClientPreface); err != nil {
		return c, err
	}
	return c, c.WriteSettings()
}

func (c *h2Conn) encode(fields []field) []byte {
	c.encoded.Reset()
	for _, f := range fields {
		_ = c.fields.WriteField(hpack.HeaderField{Name: f.name, Value: f.value}) // to memory
	}
	return c.encoded.Bytes()
}

// frame is as long as a server takes it without having been asked.
const frame = 16 << 10

// send writes m as it is.
func (c *h2Conn) send(stream uint32, m message) error {
	hasData := m.data || m.body != ""
	block := c.encode(m.fields)
	first := block[:min(len(block), frame)]
	rest := block[len(first):]
	err := c.WriteHeaders(http2.HeadersFrameParam{
		StreamID: stream, BlockFragment: first, EndHeaders: len(rest) == 0, EndStream: !hasData && len(m.trailers) == 0,
	})
	for err == nil && len(rest) > 0 {
		part := rest[:min(len(rest), frame)]
		rest = rest[len(part):]
		err = c.WriteContinuation(stream, len(rest) == 0, part)
	}
	for body := m.body; err == nil && hasData; {
		part := body[:min(len(body), frame)]
		body = body[len(part):]
		hasData = body != ""
		err = c.WriteData(stream, !hasData && len(m.trailers) == 0, []byte(part))
	}
	if err == nil && len(m.trailers) > 0 {
		err = c.WriteHeaders(http2.HeadersFrameParam{
			StreamID: stream, BlockFragment: c.encode(m.trailers), EndHeaders: true, EndStream: true,
		})
	}
	return err
}

// errRefused means that a server ended a stream or a connection without an answer.
var errRefused = errors.New("refused without an answer")

// answer reads the answer on a stream.
func (c *h2Conn) answer(stream uint32) (answer, error) {
	var a answer
	for {
		f, err := c.ReadFrame()
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return a, err
		}
		if err != nil {
			return a, errRefused
		}
		switch f := f.(type) {
		case *http2.GoAwayFrame:
			if f.ErrCode != http2.ErrCodeNo {
				return a, errRefused
			}
		case *http2.RSTStreamFrame:
			if f.StreamID == stream && (a.status == 0 || f.ErrCode != http2.ErrCodeNo) {
				return a, errRefused
			}
		case *http2.MetaHeadersFrame:
			if f.StreamID != stream {
				continue
			}
			if status := statusOf(f); status > 100 {
				a.status = status
			}
			if f.StreamEnded() {
				return a, nil
			}
		case *http2.DataFrame:
			if f.StreamID != stream {
				continue
			}
			a.body += string(f.Data())
			if f.StreamEnded() {
				return a, nil
			}
		}
	}
}

func statusOf(f *http2.MetaHeadersFrame) int {
	status, err := strconv.Atoi(f.PseudoValue("status"))
	if err != nil {
		return 0 // they are trailers, or nonsense
	}
	return status
}

// h2Sender returns what sends messages to a server: each on a stream of its own,
// and those that could end a connection on a connection of their own.
func h2Sender(t *testing.T, address string, secure bool) func(message) (answer, error) {
	var c *h2Conn
	stream := uint32(0)
	end := func() {
		if c != nil {
			_ = c.Close()
			c = nil
		}
	}
	t.Cleanup(end)
	return func(m message) (answer, error) {
		if c == nil || m.odd {
			end()
			var err error
			if c, err = openH2(address, secure); err != nil {
				return answer{}, err
			}
			stream = 1
		} else {
			stream += 2
		}
		err := c.send(stream, m)
		var got answer
		if err != nil {
			err = errRefused // the server had enough
		} else {
			got, err = c.answer(stream)
		}
		if err != nil || m.odd {
			end()
		}
		return got, err
	}
}

// The corpus, as far as HTTP/2 can express it, and what only HTTP/2 can.
func TestScopeHTTP2(t *testing.T) {
	certificate, key := writeCertificate(t)
	s := startScope(t, "servers {\nprotocols h1 h2\n}\n", "tls "+certificate+" "+key, nil, tlsPlacements(t)...)
	for _, p := range tlsPlacements(t) {
		t.Run(p.name, func(t *testing.T) {
			s.tryMessages(t, p, func() func(message) (answer, error) { return h2Sender(t, s.address(p), true) })
		})
	}
}

// HTTP/2 without TLS, as a proxy before Caddy may speak it.
func TestScopeH2C(t *testing.T) {
	p := placements[0]
	s := startScope(t, "servers {\nprotocols h1 h2c\n}\n", "", nil, p)
	s.tryMessages(t, p, func() func(message) (answer, error) { return h2Sender(t, s.address(p), false) })
}

// Frames out of their order bring nothing to Klavi but constant requests, and end
// nobody else's connection.
func TestScopeHTTP2Frames(t *testing.T) {
	certificate, key := writeCertificate(t)
	p := placements[0]
	s := startScope(t, "servers {\nprotocols h1 h2\n}\n", "tls "+certificate+" "+key, nil, p)
	evil := []field{{"authorization", "Bearer OTHER"}}
	for name, write := range map[string]func(c *h2Conn, good message) error{
		"fields behind the end": func(c *h2Conn, good message) error {
			return errors.Join(c.send(1, good), c.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: c.encode(evil), EndHeaders: true}))
		},
		"a request on the same stream": func(c *h2Conn, good message) error { return errors.Join(c.send(1, good), c.send(1, good)) },
		"data behind the end": func(c *h2Conn, good message) error {
			return errors.Join(c.send(1, good), c.WriteData(1, true, []byte("x")))
		},
		"data before the fields": func(c *h2Conn, good message) error {
			return errors.Join(c.WriteData(1, false, []byte("x")), c.send(1, good))
		},
		"stream 0":                 func(c *h2Conn, good message) error { return c.send(0, good) },
		"a stream of the server's": func(c *h2Conn, good message) error { return c.send(2, good) },
		"a stream below the last one": func(c *h2Conn, good message) error {
			return errors.Join(c.send(5, message{fields: evil}), c.send(3, good))
		},
		"fields without an end": func(c *h2Conn, good message) error {
			return errors.Join(c.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: c.encode(good.fields), EndStream: true}), c.send(3, good))
		},
		"fields in two frames": func(c *h2Conn, good message) error {
			block := c.encode(good.fields)
			return errors.Join(c.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block[:9], EndStream: true}), c.WriteContinuation(1, true, block[9:]))
		},
		"continuations without end (CVE-2024-27316)": func(c *h2Conn, good message) error {
			err := c.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: c.encode(good.fields), EndStream: true})
			for range 100 {
				err = errors.Join(err, c.WriteContinuation(1, false, c.encode([]field{{"x-a", strings.Repeat("a", 8<<10)}})))
			}
			return err
		},
		"compression that refers to nothing": func(c *h2Conn, _ message) error {
			return c.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: []byte{0xff, 0xff, 0x7f}, EndHeaders: true, EndStream: true})
		},
		"a push": func(c *h2Conn, good message) error {
			return c.WritePushPromise(http2.PushPromiseParam{StreamID: 1, PromiseID: 2, BlockFragment: c.encode(good.fields), EndHeaders: true})
		},
		"a table that grows": func(c *h2Conn, good message) error {
			return errors.Join(c.WriteRawFrame(http2.FrameHeaders, http2.FlagHeadersEndHeaders|http2.FlagHeadersEndStream, 1,
				append([]byte{0x3f, 0xe1, 0xff, 0xff, 0x7f}, c.encode(good.fields)...)))
		},
	} {
		t.Run(name, func(t *testing.T) {
			s.klavi.t = t
			other, err := openH2(s.address(p), true)
			if err != nil {
				t.Fatal(err)
			}
			defer other.Close()
			c, err := openH2(s.address(p), true)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			_ = write(c, get().withToken(s.sealer.seal(p, "frames", true))) // the server may have enough before the end
			_ = c.WritePing(false, [8]byte{})
			c.untilPong()
			if err := other.send(1, get().withToken(s.sealer.seal(p, "other", true))); err != nil {
				t.Fatal(err)
			}
			if got, err := other.answer(1); err != nil || got.status != 200 {
				t.Errorf("got %d (%v) on another connection, want 200", got.status, err)
			}
			came := s.klavi.take()
			if came["other"] != 1 || came["frames"] > 1 || came["OTHER"] > 0 {
				t.Errorf("got at klavi %v, want at most one of these frames", came)
			}
		})
	}
}

// untilPong reads until the server has read all that was written, or has ended
// the connection.
func (c *h2Conn) untilPong() {
	for {
		f, err := c.ReadFrame()
		if err != nil {
			return
		}
		switch f := f.(type) {
		case *http2.GoAwayFrame:
			return
		case *http2.PingFrame:
			if f.IsAck() {
				return
			}
		}
	}
}
