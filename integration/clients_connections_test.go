package integration

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

// connections asks for things that are refused, and for others behind them on the
// same connection without waiting for answers.
func (g *clientsGateway) connections(t *testing.T) {
	link := g.do("POST", g.url("app", "/go/klavi/links"), `{"personalTaxId":"52998224725"}`)
	g.want(link, 200, "")
	token := link.field("linkToken")
	type one struct {
		method, path, body string
		headers            string
		status             int
	}
	const json = "Content-Type: application/json\r\n"
	for _, test := range []struct {
		face     string
		requests []one
	}{
		{"app", []one{
			{"HEAD", "/", "", "", 200},
			{"OPTIONS", "/go/klavi/links", "", "", 405},
			{"HEAD", "/go/klavi/institutions", "", "", 405},
			{"GET", "/go/klavi/links", "", "", 405},
			{"GET", "/go/klavi", "", "", 404},
			{"POST", "/go/klavi/nothing", `{"a":1}`, json, 404},
			{"POST", "/go/klavi/links", "personalTaxId=52998224725", "Content-Type: application/x-www-form-urlencoded\r\n", 415},
			{"POST", "/go/klavi/links", `{"personalTaxId":`, json, 400},
			{"POST", "/go/klavi/links", `{"personalTaxId":"1"}`, json, 400},
			{"POST", "/go/klavi/links", strings.Repeat("x", 100<<10), json, 413},
			{"POST", "/go/klavi/consents", `{"institutionCode":"341"}`, json, 401},
			{"POST", "/go/klavi/links", `{}`, json + "Origin: https://evil.example\r\n", 403},
			{"GET", "/go/klavi/institutions", "a body", "Klavi-Link-Token: " + token + "\r\n", 400},
			{"GET", "/go/klavi/institutions", "", "Authorization: Bearer nonsense\r\n", 401},
			{"GET", "/go/klavi/institutions", "", "Klavi-Link-Token: " + token + "\r\n", 200},
			{"POST", "/go/klavi/links", `{}`, json, 200},
		}},
		{"services", []one{
			{"GET", "/", "", "", 403},
			{"HEAD", "/consents", "", "", 403},
			{"OPTIONS", "/consents", "", "", 403},
			{"GET", "/refresh", "", "", 403},
			{"POST", "/auth", `{"accessKey":"a","secretKey":"b"}`, json, 403},
			{"POST", "/nothing", strings.Repeat("x", 100<<10), json, 403},
			{"GET", "/consents", "", "Origin: https://evil.example\r\n", 403},
			{"GET", "/consents?personalTaxId=52998224725", "", "", 200},
			{"POST", "/links", `{}`, json, 200},
		}},
	} {
		for _, chunked := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, chunked %v", test.face, chunked), func(t *testing.T) {
				conn := g.dial(t, test.face)
				var all strings.Builder
				for _, r := range test.requests {
					fmt.Fprintf(&all, "%s %s HTTP/1.1\r\nHost: 127.0.0.1:%s\r\n%s", r.method, r.path, g.port(test.face), r.headers)
					switch {
					case r.body == "":
						all.WriteString("\r\n")
					case chunked:
						fmt.Fprintf(&all, "Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n", len(r.body), r.body)
					default:
						fmt.Fprintf(&all, "Content-Length: %d\r\n\r\n%s", len(r.body), r.body)
					}
				}
				go io.WriteString(conn, all.String())
				answers := bufio.NewReader(conn)
				for _, r := range test.requests {
					res := nextAnswer(t, answers, r.method)
					if res.StatusCode != r.status || res.Close {
						t.Errorf("%s %s: got %d, with the connection closed: %v, want %d and an open one", r.method, r.path, res.StatusCode, res.Close, r.status)
					}
					if allow := res.Header.Get("Allow"); (r.status == 405) != (allow != "") {
						t.Errorf("%s %s: got %d with Allow: %q", r.method, r.path, res.StatusCode, allow)
					}
				}
			})
		}
	}
	t.Run("HTTP/1.0", func(t *testing.T) {
		conn := g.dial(t, "app")
		answers := bufio.NewReader(conn)
		ask := "GET /go/klavi/institutions HTTP/1.0\r\nKlavi-Link-Token: " + token + "\r\nAccept: */*\r\n"
		for _, more := range []string{"Host: 127.0.0.1\r\nConnection: Keep-Alive\r\n", "Connection: keep-alive\r\n", ""} {
			io.WriteString(conn, ask+more+"\r\n")
			res := nextAnswer(t, answers, "GET")
			if res.StatusCode != 200 || res.Close != (more == "") {
				t.Errorf("%q: got %d, with the connection closed: %v", more, res.StatusCode, res.Close)
			}
		}
	})
}

func (g *clientsGateway) dial(t *testing.T, face string) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", "127.0.0.1:"+g.port(face))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	return conn
}

// readAnswer reads the next answer to its end.
func nextAnswer(t *testing.T, from *bufio.Reader, method string) *http.Response {
	t.Helper()
	res, err := http.ReadResponse(from, &http.Request{Method: method})
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if _, err := io.Copy(io.Discard, res.Body); err != nil {
		t.Fatal(err)
	}
	return res
}
