package integration

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

const (
	scopeRedirect    = "https://app.example/connected"
	scopeInstitution = "341"
	scopeConsent     = `{"externalTrackId":"x","personalTaxId":"` + testCPF + `","institutionCode":"` + scopeInstitution + `","redirectURL":"` + scopeRedirect + `"}`
	scopeLink        = `{"redirectURL":"` + scopeRedirect + `"}`
	scopeLinkOf      = `{"redirectURL":"` + scopeRedirect + `","externalInfo":{"user":"` + scopeUser + `"}}`
	scopeUser        = "maria"

	// scopeAccessToken is the one that the corpus tries.
	scopeAccessToken = "SERVERTOKEN"

	// scopeMark stands in every answer of Klavi's.
	scopeMark = "Banco do Teste"
)

// scopeKlavi stands in for Klavi, and keeps every byte that reaches it.
type scopeKlavi struct {
	*httptest.Server
	t    testing.TB
	hold func(*http.Request) // called before an answer, if not nil

	mu    sync.Mutex
	conns []*keptConn
}

// keptConn is a connection to Klavi.
type keptConn struct {
	net.Conn
	klavi *scopeKlavi
	read  []byte
}

func (c *keptConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.klavi.mu.Lock()
	defer c.klavi.mu.Unlock()
	c.read = append(c.read, p[:n]...)
	return n, err
}

type keptListener struct {
	net.Listener
	klavi *scopeKlavi
}

func (l keptListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	c := &keptConn{Conn: conn, klavi: l.klavi}
	l.klavi.mu.Lock()
	defer l.klavi.mu.Unlock()
	l.klavi.conns = append(l.klavi.conns, c)
	return c, nil
}

func newScopeKlavi(t testing.TB, hold func(*http.Request)) *scopeKlavi {
	t.Helper()
	k := &scopeKlavi{t: t, hold: hold}
	k.Server = httptest.NewUnstartedServer(http.HandlerFunc(k.answer))
	k.Listener = keptListener{k.Listener, k}
	k.Start()
	t.Cleanup(k.Close)
	return k
}

func (k *scopeKlavi) port() string { return k.URL[strings.LastIndex(k.URL, ":")+1:] }

func (k *scopeKlavi) answer(w http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body)
	if k.hold != nil {
		k.hold(r)
	}
	w.Header().Set("Content-Type", "application/json")
	switch r.Method + " " + r.RequestURI {
	case "POST /data/v1/auth":
		_, _ = io.WriteString(w, `{"accessToken":"`+scopeAccessToken+`","expireIn":1800}`)
	case "POST /data/v1/links":
		_, _ = io.WriteString(w, `{"linkId":"link-1","linkToken":"made.by.klavi","linkURL":"https://conecte.example/?v=1","expireIn":1800,"note":"`+scopeMark+`"}`)
	case "GET /data/v1/links/institutions":
		_, _ = io.WriteString(w, `[{"institutionCode":"`+scopeInstitution+`","name":"`+scopeMark+`"}]`)
	case "POST /data/v1/consents":
		_, _ = io.WriteString(w, `{"consentId":"c-1","note":"`+scopeMark+`"}`)
	default:
		w.WriteHeader(http.StatusNotFound)
	}
}

// take returns how often each link token has come since the last call, with
// "login" and "link" beside them. What is on the wire must be constant requests,
// one behind the other, and not a byte beside them.
func (k *scopeKlavi) take() map[string]int {
	k.t.Helper()
	for range 1000 { // what is on its way may have been read in part
		if k.isWhole() {
			break
		}
		time.Sleep(time.Millisecond)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	came := make(map[string]int)
	for _, c := range k.conns {
		if rest, request := k.requests(string(c.read), func(who string) { came[who]++ }); rest != "" {
			k.t.Errorf("got at klavi\n%.2000q\nwant\n%q", rest, request)
		}
		c.read = c.read[:0]
	}
	return came
}

// requests calls each with whose the constant requests at the beginning of wire are.
// It returns the rest, and what that should begin with.
func (k *scopeKlavi) requests(wire string, each func(who string)) (rest, request string) {
	for wire != "" {
		who, request := k.constant(wire)
		if request == "" || !strings.HasPrefix(wire, request) {
			return wire, request
		}
		each(who)
		wire = wire[len(request):]
	}
	return "", ""
}

// isWhole says whether nothing has come in part. A server that waits for a request
// reads the first byte of it alone.
func (k *scopeKlavi) isWhole() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return !slices.ContainsFunc(k.conns, func(c *keptConn) bool {
		rest, request := k.requests(string(c.read), func(string) {})
		return rest != "" && (!strings.Contains(rest, "\r\n\r\n") || strings.HasPrefix(request, rest))
	})
}

// constant returns the one form that the request at the beginning of wire may
// have, and whose it is.
func (k *scopeKlavi) constant(wire string) (who, request string) {
	line, _, _ := strings.Cut(wire, "\r\n")
	_, behind, _ := strings.Cut(wire, "\r\nAuthorization: Bearer ")
	token, _, _ := strings.Cut(behind, "\r\n")
	write := func(authorization, body string) string {
		length, kind := "", ""
		if body != "" {
			length, kind = "Content-Length: "+strconv.Itoa(len(body))+"\r\n", "Content-Type: application/json\r\n"
		}
		return line + "\r\nHost: " + strings.TrimPrefix(k.URL, "http://") + "\r\nUser-Agent: caddy-klavi\r\n" + length +
			"Accept: application/json\r\n" + authorization + kind + "Accept-Encoding: gzip\r\n\r\n" + body
	}
	bearer := "Authorization: Bearer " + token + "\r\n"
	switch line {
	case "GET /data/v1/links/institutions HTTP/1.1":
		return token, write(bearer, "")
	case "POST /data/v1/consents HTTP/1.1":
		return token, write(bearer, scopeConsent)
	case "POST /data/v1/links HTTP/1.1":
		bearer = "Authorization: Bearer " + scopeAccessToken + "\r\n"
		if strings.Contains(wire, `"externalInfo"`) {
			return "link", write(bearer, scopeLinkOf)
		}
		return "link", write(bearer, scopeLink)
	case "POST /data/v1/auth HTTP/1.1":
		_, behind, _ := strings.Cut(wire, `{"accessKey":"access-`)
		account, _, _ := strings.Cut(behind, `"`)
		return "login", write("", fmt.Sprintf(`{"accessKey":"access-%s","secretKey":"secret-%s"}`, account, account))
	default:
		return "", ""
	}
}
