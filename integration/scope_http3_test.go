package integration

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"strconv"
	"testing"
	"time"

	"github.com/quic-go/qpack"
	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/quicvarint"
)

// Types of frames and streams (RFC 9114).
const (
	h3Data     = 0x0
	h3Headers  = 0x1
	h3Settings = 0x4
	h3Control  = 0x0 // stream
)

func h3TLS(sessions tls.ClientSessionCache) *tls.Config {
	return &tls.Config{
		ServerName: scopeHost, NextProtos: []string{"h3"}, ClientSessionCache: sessions,
		InsecureSkipVerify: true,
	}
}

var quicConfig = &quic.Config{HandshakeIdleTimeout: 20 * time.Second, MaxIdleTimeout: 20 * time.Second}

// h3Conn is a connection whose frames are ours.
type h3Conn struct{ *quic.Conn }

func openH3(address string) (h3Conn, error) {
	conn, err := quic.DialAddr(context.Background(), address, h3TLS(nil), quicConfig)
	if err != nil {
		return h3Conn{}, err
	}
	return h3Conn{conn}, begin(conn)
}

// begin opens the control stream.
func begin(conn *quic.Conn) error {
	control, err := conn.OpenUniStream()
	if err != nil {
		return err
	}
	_, err = control.Write([]byte{h3Control, h3Settings, 0})
	return err
}

func h3Frame(kind uint64, payload []byte) []byte {
	head := quicvarint.Append(quicvarint.Append(nil, kind), uint64(len(payload)))
	return append(head, payload...)
}

func h3Fields(fields []field) []byte {
	var block bytes.Buffer
	e := qpack.NewEncoder(&block)
	for _, f := range fields {
		_ = e.WriteField(qpack.HeaderField{Name: f.name, Value: f.value}) // to memory
	}
	return h3Frame(h3Headers, block.Bytes())
}

// frames returns m as it is.
func (m message) frames() []byte {
	frames := h3Fields(m.fields)
	if m.data || m.body != "" {
		frames = append(frames, h3Frame(h3Data, []byte(m.body))...)
	}
	if len(m.trailers) > 0 {
		frames = append(frames, h3Fields(m.trailers)...)
	}
	return frames
}

// exchange sends m over a stream of its own.
func (c h3Conn) exchange(m message) (answer, error) {
	stream, err := c.OpenStreamSync(context.Background())
	if err != nil {
		return answer{}, err
	}
	_ = stream.SetDeadline(time.Now().Add(20 * time.Second))
	_, _ = stream.Write(m.frames()) // who refuses early does not read it all
	_ = stream.Close()
	return readH3(stream)
}

func readH3(stream *quic.Stream) (answer, error) {
	var a answer
	rd := quicvarint.NewReader(stream)
	for {
		kind, err := quicvarint.Read(rd)
		if errors.Is(err, io.EOF) && a.status != 0 {
			return a, nil
		}
		if err != nil {
			return a, h3Error(err)
		}
		length, err := quicvarint.Read(rd)
		if err != nil {
			return a, h3Error(err)
		}
		payload := make([]byte, length)
		if _, err := io.ReadFull(rd, payload); err != nil {
			return a, h3Error(err)
		}
		switch kind {
		case h3Headers:
			for decode := qpack.NewDecoder().Decode(payload); ; {
				f, err := decode()
				if err != nil {
					break
				}
				if f.Name == ":status" && f.Value != "100" {
					if a.status, err = strconv.Atoi(f.Value); err != nil {
						return a, err
					}
				}
			}
		case h3Data:
			a.body += string(payload)
		}
	}
}

// h3Error is errRefused for what a server does, and err itself for silence.
func h3Error(err error) error {
	if e, ok := errors.AsType[net.Error](err); ok && e.Timeout() {
		return err
	}
	return errRefused
}

// The corpus, as far as HTTP/3 can express it, and what only HTTP/2 and HTTP/3 can.
func TestScopeHTTP3(t *testing.T) {
	certificate, key := writeCertificate(t)
	s := startScope(t, "servers {\nprotocols h1 h2 h3\n}\n", "tls "+certificate+" "+key, nil, tlsPlacements(t)...)
	for _, p := range tlsPlacements(t) {
		t.Run(p.name, func(t *testing.T) {
			s.tryMessages(t, p, func() func(message) (answer, error) {
				var c h3Conn
				return func(m message) (answer, error) {
					if c.Conn == nil || c.Context().Err() != nil || m.odd {
						var err error
						if c, err = openH3(s.address(p)); err != nil {
							return answer{}, err
						}
						t.Cleanup(func() { _ = c.CloseWithError(0, "") })
					}
					return c.exchange(m)
				}
			})
		})
	}
}

// Frames out of their order bring nothing to Klavi but constant requests, and end
// nobody else's connection.
func TestScopeHTTP3Frames(t *testing.T) {
	certificate, key := writeCertificate(t)
	p := placements[0]
	s := startScope(t, "servers {\nprotocols h1 h2 h3\n}\n", "tls "+certificate+" "+key, nil, p)
	for name, write := range map[string]func(good []byte) []byte{
		"a frame that nobody knows":          func(good []byte) []byte { return append(h3Frame(0x21, []byte("x")), good...) },
		"data before the fields":             func(good []byte) []byte { return append(h3Frame(h3Data, []byte("x")), good...) },
		"two requests":                       func(good []byte) []byte { return append(bytes.Clone(good), good...) },
		"settings on a request's stream":     func(good []byte) []byte { return append(h3Frame(h3Settings, nil), good...) },
		"a push promise":                     func(good []byte) []byte { return append(h3Frame(0x5, []byte{0}), good...) },
		"a frame of HTTP/2":                  func(good []byte) []byte { return append(h3Frame(0x2, nil), good...) },
		"fields that are cut off":            func(good []byte) []byte { return good[:len(good)-5] },
		"fields that are longer than all":    func([]byte) []byte { return []byte{h3Headers, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff} },
		"compression that refers to nothing": func([]byte) []byte { return h3Frame(h3Headers, []byte{0, 0, 0xff, 0xff, 0x7f}) },
		"compression by a dynamic table":     func([]byte) []byte { return h3Frame(h3Headers, []byte{2, 0, 0x80}) },
		"nothing":                            func([]byte) []byte { return nil },
		"a stream of HTTP/1.1":               func([]byte) []byte { return []byte("GET /klavi/institutions HTTP/1.1\r\nHost: gw.example\r\n\r\n") },
	} {
		t.Run(name, func(t *testing.T) {
			s.klavi.t = t
			other, err := openH3(s.address(p))
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = other.CloseWithError(0, "") }()
			c, err := openH3(s.address(p))
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = c.CloseWithError(0, "") }()
			stream, err := c.OpenStreamSync(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			_ = stream.SetDeadline(time.Now().Add(20 * time.Second))
			_, _ = stream.Write(write(get().withToken(s.sealer.seal(p, "frames", true)).frames()))
			_ = stream.Close()
			if _, err := readH3(stream); err != nil && !errors.Is(err, errRefused) {
				t.Error(err)
			}
			if got, err := other.exchange(get().withToken(s.sealer.seal(p, "other", true))); err != nil || got.status != 200 {
				t.Errorf("got %d (%v) on another connection, want 200", got.status, err)
			}
			if came := s.klavi.take(); came["other"] != 1 || came["frames"] > 1 || len(came) > 2 {
				t.Errorf("got at klavi %v, want at most one of these frames", came)
			}
		})
	}
}
