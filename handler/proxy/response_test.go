package proxy

import (
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strings"
	"testing"
)

// answers has Klavi answer with raw bytes, but to logins.
func (k *fakeKlavi) answers(raw string, stay bool) {
	k.answer = func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			panic(err)
		}
		defer conn.Close()
		_, _ = io.WriteString(conn, raw)
		if stay {
			_, _ = io.Copy(io.Discard, conn)
		}
	}
}

var (
	dates = regexp.MustCompile(`Date: [^\r]*\r\n`)
	hints = regexp.MustCompile(`(?s)^HTTP/1\.1 10[0-9] .*?\r\n\r\n`)
)

// withoutDate drops what differs between two answers that are the same.
func withoutDate(answer string) string { return dates.ReplaceAllString(answer, "") }

// Services see what they would see through a proxy that knows nothing of Klavi:
// each answer goes through that one too, and the two are compared byte for byte.
func TestAnswersAreThoseOfAPlainProxy(t *testing.T) {
	k := newKlavi(t)
	c := runRoutes(t, k.URL, "json", `[
		{"match": [{"path": ["/plain/*"]}], "handle": [
			{"handler": "rewrite", "strip_path_prefix": "/plain"},
			{"handler": "rewrite", "uri": "/data/v1{http.request.uri}"},
			{"handler": "reverse_proxy", "upstreams": [{"dial": "`+strings.TrimPrefix(k.URL, "http://")+`"}]}
		]},
		{"handle": [{KLAVI}]}
	]`)
	address := strings.TrimPrefix(c.url, "http://")
	const (
		typed  = "Content-Type: application/json\r\n" // or else Caddy looks at the body, if that has come
		closed = typed + "Connection: close\r\n\r\n"
	)
	for name, raw := range map[string]string{
		"a body":               "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}",
		"headers":              "HTTP/1.1 200 OK\r\nSet-Cookie: a=b\r\nSet-Cookie: c=d\r\nServer: x\r\nX-Powered-By: y\r\nCache-Control: public\r\nEtag: \"1\"\r\n" + closed + "{}",
		"hop-by-hop headers":   "HTTP/1.1 200 OK\r\n" + typed + "Connection: close, X-Hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\nProxy-Authenticate: Basic\r\nTe: x\r\nUpgrade: h2c\r\n\r\n{}",
		"201":                  "HTTP/1.1 201 Created\r\nLocation: /x\r\n" + closed + "{}",
		"204":                  "HTTP/1.1 204 No Content\r\n\r\n",
		"206":                  "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 0-1/9\r\n" + closed + "{}",
		"redirect":             "HTTP/1.1 302 Found\r\nLocation: https://elsewhere.example/\r\nContent-Length: 0\r\n\r\n",
		"304":                  "HTTP/1.1 304 Not Modified\r\nEtag: \"1\"\r\n\r\n",
		"416":                  "HTTP/1.1 416 Range\r\n" + closed + `{"statusCode":4003,"statusCode":4004}`,
		"429":                  "HTTP/1.1 429 Slow\r\nRetry-After: 7\r\n" + closed + "{}", // of nothing, Caddy may know the length in time, or not
		"an error page":        "HTTP/1.1 503 Down\r\n" + closed + "<html>ip-10-0-0-7",
		"600":                  "HTTP/1.1 600 Odd\r\n" + closed + "x",
		"999":                  "HTTP/1.1 999 Odd\r\n" + closed + "x",
		"chunks":               "HTTP/1.1 200 OK\r\n" + typed + "Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
		"trailers":             "HTTP/1.1 200 OK\r\n" + typed + "Transfer-Encoding: chunked\r\nTrailer: X-T\r\n\r\n2\r\n{}\r\n0\r\nX-T: t\r\n\r\n",
		"not announced":        "HTTP/1.1 200 OK\r\n" + typed + "Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\nX-T: t\r\n\r\n",
		"gzip":                 "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n" + closed + "\x1f\x8b is not looked at",
		"brotli":               "HTTP/1.1 200 OK\r\nContent-Encoding: br\r\n" + closed + "\x0b\x02\x80[]\x03",
		"not UTF-8":            "HTTP/1.1 200 OK\r\nX-Odd: \xff\r\n" + closed + "\xff\x00",
		"HTTP/1.0":             "HTTP/1.0 200 OK\r\n" + typed + "\r\n{}",
		"a length too long":    "HTTP/1.1 200 OK\r\n" + typed + "Content-Length: 9\r\n\r\n{}",
		"a length too short":   "HTTP/1.1 200 OK\r\n" + typed + "Content-Length: 1\r\nConnection: close\r\n\r\n{}",
		"chunks without end":   "HTTP/1.1 200 OK\r\n" + typed + "Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n",
		"chunks that are none": "HTTP/1.1 200 OK\r\n" + typed + "Transfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			k.answers(raw, false)
			_, got := c.raw(t, address, "GET /consents", "x")
			_, want := c.raw(t, address, "GET /plain/consents", "x")
			if withoutDate(got) != withoutDate(want) {
				t.Errorf("got\n%q, a plain proxy answers\n%q", got, want)
			}
			wantNoSecret(t, got)
		})
	}
	if calls := k.seen(); len(calls) != 2*24 {
		t.Errorf("Klavi got %d requests, want two for each answer", len(calls))
	}
}

// What is no end to a request is no answer: a proxy would tie the client to a
// connection that is logged in, wait for good, or panic.
func TestAnswersThatAreNone(t *testing.T) {
	k := newKlavi(t)
	c := runRoutes(t, k.URL, "json", `[{"handle": [{KLAVI}]}]`)
	address := strings.TrimPrefix(c.url, "http://")
	for _, tt := range []struct {
		name, raw string
		stay      bool
		status    int
		kind      string
	}{
		{"101", "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\nhello", true, 502, "klavi-nonsense"},
		{"101 to nothing", "HTTP/1.1 101 Switching Protocols\r\n\r\n", true, 502, "klavi-nonsense"},
		{"101 with a length", "HTTP/1.1 101 Switching Protocols\r\nContent-Length: 9\r\n\r\nhello", true, 502, "klavi-nonsense"},
		{"101 to HTTP/2", "HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: upgrade\r\n\r\n", true, 502, "klavi-nonsense"},
		{"000", "HTTP/1.1 000 Zero\r\nContent-Length: 2\r\n\r\n{}", false, 502, "klavi-nonsense"},
		{"099", "HTTP/1.1 099 Odd\r\nContent-Length: 2\r\n\r\n{}", false, 502, "klavi-nonsense"},
		{"103 and an end", "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n", false, 502, "klavi-unreachable"},
		{"no HTTP", "SSH-2.0 secret-token-1\r\n", false, 502, "klavi-unreachable"},
		{"two lengths", "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n{}", false, 502, "klavi-unreachable"},
		{"a smuggled length", "HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\n{}", false, 502, "klavi-unreachable"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			k.answers(tt.raw, tt.stay)
			for _, line := range []string{"GET /consents", "POST /links"} {
				status, answer := c.raw(t, address, line, "x")
				if status != tt.status || !strings.Contains(answer, `"type":"`+tt.kind+`"`) {
					t.Errorf("%s: got %d %q, want %d %s", line, status, answer, tt.status, tt.kind)
				}
				if strings.Contains(answer, "secret-token") {
					t.Errorf("%s: got %q, want nothing of what Klavi wrote", line, answer)
				}
			}
		})
	}
}

// Hints and the like are not passed on: nothing but the answer is.
func TestInformationIsNotPassedOn(t *testing.T) {
	k := newKlavi(t)
	c := runRoutes(t, k.URL, "json", `[{"handle": [{KLAVI}]}]`)
	address := strings.TrimPrefix(c.url, "http://")
	for _, line := range []string{"100 Continue", "102 Processing", "103 Early Hints", "199 Odd"} {
		k.answers("HTTP/1.1 "+line+"\r\nLink: </x.js>; rel=preload\r\nSet-Cookie: a=b\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", false)
		status, answer := c.raw(t, address, "GET /consents", "x")
		if status != http.StatusOK || hints.MatchString(answer) || strings.Contains(answer, "Link") || strings.Contains(answer, "Cookie") {
			t.Errorf("%s: got %d %q, want the answer alone", line, status, answer)
		}
	}
}

// A sealed answer is made of Klavi's, and repeats nothing that is the gateway's own.
func TestSealedLinkRepeatsNoCredential(t *testing.T) {
	for _, secret := range []string{"secret-token-1", "access-" + t.Name(), "secret-" + t.Name()} {
		for _, answer := range []string{
			`{"linkId":"SECRET","linkToken":"a.b.c","linkURL":"https://conecte.example/"}`,
			`{"linkId":"1","linkToken":"SECRET","linkURL":"https://conecte.example/"}`,
			`{"linkId":"1","linkToken":"a.b.c","linkURL":"https://conecte.example/?v=SECRET&x"}`,
		} {
			tr, k, logs := sealing(t, Transport{})
			k.answer = func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("X-Echo", secret)
				_, _ = io.WriteString(w, strings.ReplaceAll(answer, "SECRET", secret))
			}
			a := roundTrip(t, tr, linkRequest(`{}`))
			if kind, _, _ := problemOf(t, a); a.status != http.StatusBadGateway || kind != "klavi-nonsense" {
				t.Errorf("%s with %s: got %d %s, want 502 klavi-nonsense", answer, secret, a.status, kind)
			}
			if text := fmt.Sprint(a, logs.All()); strings.Contains(text, secret) {
				t.Errorf("%s: got %s in %s", answer, secret, text)
			}
		}
	}
}
