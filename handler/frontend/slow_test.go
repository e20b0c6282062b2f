package frontend

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"testing"
	"testing/synctest"
	"time"
)

// oneConn is a listener for one connection.
type oneConn struct {
	conns  chan net.Conn
	closed chan struct{}
}

func (l *oneConn) Accept() (net.Conn, error) {
	select {
	case conn := <-l.conns:
		return conn, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *oneConn) Close() error   { close(l.closed); return nil }
func (l *oneConn) Addr() net.Addr { return &net.TCPAddr{} }

// A body that never comes does not hold a connection for ever, and its sender is
// told.
func TestSlowBody(t *testing.T) {
	s := newSite(t, publicSite())
	synctest.Test(t, func(t *testing.T) {
		l := &oneConn{make(chan net.Conn, 1), make(chan struct{})}
		server := &http.Server{Handler: s}
		go func() { _ = server.Serve(l) }()
		client, conn := net.Pipe()
		l.conns <- conn

		began := time.Now()
		_, err := io.WriteString(client, "POST /klavi/links HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 10\r\n\r\n{")
		if err != nil {
			t.Fatal(err)
		}
		res, err := http.ReadResponse(bufio.NewReader(client), nil)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		if res.StatusCode != http.StatusRequestTimeout || time.Since(began) != bodyTime {
			t.Errorf("got %d after %s, want 408 after %s", res.StatusCode, time.Since(began), bodyTime)
		}
		_, _ = io.Copy(io.Discard, res.Body)
		client.Close()
		server.Close()
		synctest.Wait()
	})
	s.wantNothingSent(t)
}
