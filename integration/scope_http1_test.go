package integration

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddy-klavi/caddy-klavi/command/conformance"
	gw "github.com/caddy-klavi/caddy-klavi/gateway"
)

// attempt is a request of which Klavi may get so many.
type attempt struct {
	id, what    string
	raw         string
	token       string // of Klavi's, in the link token that raw holds
	least, most int
}

// Every request of the corpus, byte by byte, in every placement. What reaches
// Klavi is nothing or the constant request, and as often as the corpus says.
func TestScopeHTTP1(t *testing.T) {
	s := startScope(t, "servers {\nprotocols h1\n}\nservers 127.0.0.1:{{trusted_proxy}} {\nprotocols h1\ntrusted_proxies static private_ranges\n}\n",
		"", nil, placements...)
	corpus, err := conformance.Corpus()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range placements {
		t.Run(p.name, func(t *testing.T) {
			s.klavi.t = t
			attempts := append(controls(p, s.sealer), tokens(p, s.sealer)...)
			for i := range corpus {
				if p.name != "bare" && strings.Contains(corpus[i].Raw, "bytes total>") {
					continue // megabytes, whose way is the same in all placements
				}
				attempts = append(attempts, ofCorpus(t, &corpus[i], p, s.sealer, true))
				if p.name == "bare" {
					attempts = append(attempts, ofCorpus(t, &corpus[i], p, s.sealer, false))
				}
			}
			answers := make([][]answer, len(attempts))
			each(len(attempts), func() func(int) {
				return func(i int) {
					var err error
					if answers[i], err = exchange(s.address(p), p.write(attempts[i].raw)); err != nil {
						t.Errorf("%s (%s): %v", attempts[i].id, attempts[i].what, err)
					}
				}
			})
			came := s.klavi.take()
			for i, a := range attempts {
				a.check(t, came[a.token], answers[i])
				delete(came, a.token)
			}
			if came["link"] != 1 || came["login"] != 1 || len(came) != 2 {
				t.Errorf("got at klavi beside that: %v, want one link and one login", came)
			}
		})
	}
}

// controls are what browsers do, and odd requests that the corpus cannot hold,
// since what comes back depends on the site.
func controls(p placement, s sealer) []attempt {
	var attempts []attempt
	add := func(id, raw string, least, most int) {
		token := p.name + ".control." + id
		attempts = append(attempts, attempt{
			id: id, what: "control", token: token, least: least, most: most,
			raw: strings.ReplaceAll(raw, "TOKEN", s.seal(p, token, true)),
		})
	}
	const end = "Connection: close\r\n\r\n"
	add("institutions", "GET /klavi/institutions HTTP/1.1\r\nHost: gw.example\r\nAuthorization: Bearer TOKEN\r\n"+end, 1, 1)
	add("consents", "POST /klavi/consents HTTP/1.1\r\nHost: gw.example\r\nKlavi-Link-Token: TOKEN\r\nContent-Type: application/json\r\n"+
		"Content-Length: 23\r\n"+end+`{"externalTrackId":"x"}`, 1, 1)
	add("links", "POST /klavi/links HTTP/1.1\r\nHost: gw.example\r\nContent-Type: application/json\r\nContent-Length: 2\r\n"+end+"{}", 0, 0)
	for id, lines := range map[string]string{
		"HTTP/1.0":               "GET /klavi/institutions HTTP/1.0\r\nHost: gw.example\r\n",
		"HTTP/1.0 without Host":  "GET /klavi/institutions HTTP/1.0\r\n",
		"HTTP/1.2":               "GET /klavi/institutions HTTP/1.2\r\nHost: gw.example\r\n",
		"Host of Klavi":          "GET /klavi/institutions HTTP/1.1\r\nHost: api.klavi.ai\r\n",
		"Host in upper case":     "GET /klavi/institutions HTTP/1.1\r\nHost: GW.EXAMPLE.:80\r\n",
		"absolute, another host": "GET http://api.klavi.ai/klavi/institutions HTTP/1.1\r\nHost: gw.example\r\n",
	} {
		add(id, lines+"Authorization: Bearer TOKEN\r\n"+end, 0, 1)
	}
	add("HTTP/1.0 with chunks", "POST /klavi/consents HTTP/1.0\r\nHost: gw.example\r\nAuthorization: Bearer TOKEN\r\nContent-Type: application/json\r\n"+
		"Transfer-Encoding: chunked\r\n"+end+"17\r\n{\"externalTrackId\":\"x\"}\r\n0\r\n\r\n", 0, 1)
	add("asterisk", "OPTIONS * HTTP/1.1\r\nHost: gw.example\r\nAuthorization: Bearer TOKEN\r\n"+end, 0, 0)
	return attempts
}

// tokens are requests with something else than the link token that the site gave
// out.
func tokens(p placement, s sealer) []attempt {
	otherAccount, otherUser := p, p
	otherAccount.name = placements[0].name
	if p.name == otherAccount.name {
		otherAccount.name = placements[1].name
	}
	otherUser.user += "x"
	half := func(token string) int { return len(token) / 2 }
	var attempts []attempt
	for what, change := range map[string]func(raw, sealed string) string{
		"as it is at Klavi":     func(raw, _ string) string { return raw },
		"without its beginning": func(_, sealed string) string { return sealed[1:] },
		"without its prefix":    func(_, sealed string) string { return strings.TrimPrefix(sealed, gw.SealedPrefix) },
		"without its middle":    func(_, sealed string) string { return sealed[:half(sealed)] + sealed[half(sealed)+1:] },
		"half of it":            func(_, sealed string) string { return sealed[:half(sealed)] },
		"in upper case":         func(_, sealed string) string { return strings.ToUpper(sealed) },
		"halves swapped":        func(_, sealed string) string { return sealed[half(sealed):] + sealed[:half(sealed)] },
		"in plain base64":       func(_, sealed string) string { return strings.NewReplacer("-", "+", "_", "/").Replace(sealed) + "=" },
		"in base64 once more":   func(_, sealed string) string { return base64.RawURLEncoding.EncodeToString([]byte(sealed)) },
		"in hexadecimal":        func(_, sealed string) string { return hex.EncodeToString([]byte(sealed)) },
		"escaped":               func(_, sealed string) string { return "%4B" + sealed[1:] },
		"twice":                 func(_, sealed string) string { return sealed + "." + sealed },
		"of another account":    func(raw, _ string) string { return s.seal(otherAccount, raw, true) },
		"of another user":       func(raw, _ string) string { return s.seal(otherUser, raw, true) },
		"the access token":      func(_, _ string) string { return scopeAccessToken },
	} {
		for _, header := range []string{"Authorization: Bearer ", "Klavi-Link-Token: "} {
			raw := fmt.Sprintf("%s.token.%d", p.name, len(attempts))
			attempts = append(attempts, attempt{
				id: "link token", what: what, token: raw,
				raw: "GET /klavi/institutions HTTP/1.1\r\nHost: gw.example\r\n" + header + change(raw, s.seal(p, raw, true)) +
					"\r\nConnection: close\r\n\r\n",
			})
		}
	}
	return attempts
}

// ofCorpus is a line of the corpus with a link token of its own.
func ofCorpus(t *testing.T, line *conformance.Line, p placement, s sealer, fixed bool) attempt {
	t.Helper()
	a := attempt{id: line.ID, what: line.What + ": " + line.Expect, token: p.name + "." + line.ID}
	if !fixed {
		a.token += ".open"
	}
	raw, err := line.Bytes(s.seal(p, a.token, fixed))
	if err != nil {
		t.Fatal(err)
	}
	a.raw = string(raw)
	wants, err := line.Wants()
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range wants {
		switch want {
		case conformance.Allow:
			a.least++
			a.most++
		case conformance.Either:
			a.most++
		}
	}
	// A consent for no institution is no consent.
	if !fixed && strings.HasPrefix(a.raw, "POST ") {
		a.least, a.most = 0, 0
	}
	return a
}

// write returns a request as it reaches a site: below its path, and through its
// proxy.
func (p placement) write(raw string) []byte {
	if p.at != "" {
		method, target, _ := strings.Cut(raw, " ")
		if strings.HasPrefix(target, "/") {
			raw = method + " " + p.at + target
		}
	}
	if p.proxy != "" {
		raw = strings.Replace(raw, "\r\nHost: gw.example\r\n", "\r\nHost: gw.example\r\n"+p.proxy, 1)
	}
	return []byte(raw)
}

// check compares what reached Klavi, and what came back, with what may.
func (a attempt) check(t *testing.T, came int, answers []answer) {
	t.Helper()
	if came < a.least || came > a.most {
		t.Errorf("%s (%s): got %d requests at klavi, want %d to %d; the answers were %s", a.id, a.what, came, a.least, a.most, short(answers))
	}
	served := 0
	for _, got := range answers {
		switch {
		case got.status == http.StatusOK && (strings.Contains(got.body, scopeMark) || got.field("linkId") != ""):
			served++
		case got.status >= 500 && got.status != http.StatusNotImplemented && got.status != http.StatusHTTPVersionNotSupported:
			t.Errorf("%s (%s): got %s, want no error of the server's", a.id, a.what, short(answers))
		}
	}
	if a.id == "links" {
		came = 1
	}
	// Who refuses what follows a request may end its stream before the answer.
	ended := len(answers) == 0 && a.least == 0
	if served != came && !ended {
		t.Errorf("%s (%s): got %s, want an answer of klavi's for each of %d requests", a.id, a.what, short(answers), came)
	}
}

func short(answers []answer) string {
	texts := make([]string, 0, len(answers))
	for _, a := range answers {
		texts = append(texts, fmt.Sprintf("%d %.100s", a.status, a.body))
	}
	return fmt.Sprintf("%q", texts)
}

// each calls what worker returns for 0 to n-1, several at once.
func each(n int, worker func() func(i int)) {
	var wg sync.WaitGroup
	next := make(chan int)
	for range 16 {
		wg.Go(func() {
			do := worker()
			for i := range next {
				do(i)
			}
		})
	}
	for i := range n {
		next <- i
	}
	close(next)
	wg.Wait()
}

// exchange writes raw over a connection of its own and returns the answers: one
// for each request that raw can be taken for, or fewer where the server has enough.
func exchange(address string, raw []byte) ([]answer, error) {
	conn, err := net.Dial("tcp", address)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	go func() { _, _ = conn.Write(raw) }() // who refuses early does not read it all

	var methods []string
	for line := range bytes.Lines(raw) {
		if bytes.HasSuffix(line, []byte(" HTTP/1.1\r\n")) {
			method, _, _ := bytes.Cut(line, []byte(" "))
			methods = append(methods, string(method))
		}
	}
	if methods == nil {
		methods = []string{http.MethodGet}
	}
	rd := bufio.NewReader(conn)
	var answers []answer
	for _, method := range methods {
		got, err := readAnswer(rd, &http.Request{Method: method})
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return answers, errors.New("got no answer, and the connection stayed open")
		}
		if err != nil {
			break // it was closed
		}
		answers = append(answers, got)
	}
	return answers, nil
}

func readAnswer(rd *bufio.Reader, request *http.Request) (answer, error) {
	res, err := http.ReadResponse(rd, request)
	for err == nil && res.StatusCode == http.StatusContinue {
		res, err = http.ReadResponse(rd, request)
	}
	if err != nil {
		return answer{}, err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	return answer{res.StatusCode, res.Header, string(body)}, err
}
