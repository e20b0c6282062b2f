package conformance

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// A target that takes a request and never answers costs the time that one
// request has.
func TestSilence(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	w := wire{target: target(t, "http://"+listener.Addr().String()+"/klavi"), timeout: 30 * time.Millisecond}
	got, err := w.send(t.Context(), []byte("GET /klavi HTTP/1.1\r\n\r\n"))
	if err != nil || len(got) != 1 || got[0].None != noneTimeout {
		t.Errorf("got %v (%v), want a time-out", got, err)
	}
}

// Answers are taken as they come, whatever the target speaks.
func TestAnswers(t *testing.T) {
	const ok = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n[]"
	const no = "HTTP/1.1 405 Method Not Allowed\r\nContent-Length: 0\r\n\r\n"
	one, two := "GET / HTTP/1.1\r\n\r\n", "GET / HTTP/1.1\r\n\r\n{}GET / HTTP/1.1\r\n\r\n"
	for _, test := range []struct{ what, request, answer, want string }{
		{"one", one, ok, "[200 application/json]"},
		{"one of two", one, ok + no, "[200 application/json]"},
		{"two", two, ok + no, "[200 application/json 405]"},
		{"two wanted", two, ok, "[200 application/json]"},
		{"closed by the first", two, strings.Replace(ok, "\r\n", "\r\nConnection: close\r\n", 1) + no, "[200 application/json]"},
		{"to HEAD", "HEAD / HTTP/1.1\r\n\r\n", strings.TrimSuffix(ok, "[]"), "[200 application/json]"},
		{"to HEAD, and the next", "HEAD / HTTP/1.1\r\n\r\nGET / HTTP/1.1\r\n\r\n", strings.TrimSuffix(ok, "[]") + no, "[200 application/json 405]"},
		{"continue", one, "HTTP/1.1 100 Continue\r\n\r\n" + ok, "[200 application/json]"},
		{"cut off", one, strings.TrimSuffix(ok, "]"), "[200 application/json]"},
		{"an upgrade", two, "HTTP/1.1 101 Switching Protocols\r\n\r\n\x00\x00", "[101]"},
		{"nothing", one, "", "[closed]"},
		{"half a status", one, "HTTP/1.1 20", "[not HTTP]"},
		{"HTTP/0.9", one, "[{\"institutionCode\":\"341\"}]", "[not HTTP]"},
		{"HTTP/2", one, "\x00\x00\x12\x04\x00\x00\x00\x00\x00", "[HTTP/2]"},
		{"no request at all", "\x16\x03\x01", no, "[405]"},
		{"another type", one, "HTTP/1.1 200 OK\r\nContent-Type: x/secret\r\nContent-Length: 0\r\n\r\n", "[200 other]"},
	} {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			_, _ = io.ReadFull(conn, make([]byte, len(test.request)))
			_, _ = io.WriteString(conn, test.answer)
			_ = conn.Close()
		}()
		w := wire{target: target(t, "http://"+listener.Addr().String()+"/klavi"), timeout: timeout}
		got, err := w.send(t.Context(), []byte(test.request))
		if err != nil || fmt.Sprint(got) != test.want {
			t.Errorf("%s: got %v (%v), want %s", test.what, got, err, test.want)
		}
		_ = listener.Close()
	}
}

func TestTunnel(t *testing.T) {
	for answer, want := range map[string]bool{
		"HTTP/1.1 200 Connection established\r\n\r\n":           true,
		"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n":          false,
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n": false,
		"HTTP/1.1 405 Method Not Allowed\r\n\r\n":               false,
	} {
		got, _ := readAnswer(bufio.NewReader(strings.NewReader(answer)), http.MethodConnect)
		if got.tunnel != want {
			t.Errorf("%q: got a tunnel %v, want %v", answer, got.tunnel, want)
		}
		if v, _ := (request{line: &Line{}}).judge([]Want{Reject}, []Answer{got}); (v == Fail) != want {
			t.Errorf("%q: got %s", answer, v)
		}
	}
}
