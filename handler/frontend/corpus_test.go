package frontend

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	_ "github.com/caddyserver/caddy/v2/modules/caddyhttp/rewrite"

	"github.com/caddy-klavi/caddy-klavi/command/conformance" //nolint:depguard // it has the corpus, and imports nothing of this module
	"github.com/caddy-klavi/caddy-klavi/gateway"
)

// wireKlavi keeps every byte that reaches it, one request per connection.
type wireKlavi struct {
	*httptest.Server
	mu    sync.Mutex
	conns []*wireConn
}

type wireConn struct {
	net.Conn
	klavi *wireKlavi
	read  bytes.Buffer
}

func (c *wireConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.klavi.mu.Lock()
	defer c.klavi.mu.Unlock()
	c.read.Write(p[:n])
	return n, err
}

type wireListener struct {
	net.Listener
	klavi *wireKlavi
}

func (l wireListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	c := &wireConn{Conn: conn, klavi: l.klavi}
	l.klavi.mu.Lock()
	defer l.klavi.mu.Unlock()
	l.klavi.conns = append(l.klavi.conns, c)
	return c, nil
}

func newWireKlavi(t *testing.T) *wireKlavi {
	t.Helper()
	k := new(wireKlavi)
	answers := &fakeKlavi{answers: make(map[string]http.HandlerFunc)}
	k.Server = httptest.NewUnstartedServer(http.HandlerFunc(answers.serve))
	k.Listener = wireListener{k.Listener, k}
	k.Config.SetKeepAlivesEnabled(false)
	k.Start()
	t.Cleanup(k.Close)
	return k
}

// take returns what was read since the last call, connection by connection.
func (k *wireKlavi) take() []string {
	k.mu.Lock()
	defer k.mu.Unlock()
	var requests []string
	for _, c := range k.conns {
		if c.read.Len() > 0 {
			requests = append(requests, c.read.String())
		}
	}
	k.conns = nil
	return requests
}

// startCaddy runs the whole of Caddy with these handlers and returns its address.
func startCaddy(t *testing.T, klaviURL, handlers string) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	_ = listener.Close()
	config := `{"admin":{"disabled":true,"config":{"persist":false}},"logging":{"logs":{"default":{"level":"ERROR"}}},"apps":{` +
		`"klavi":{"accounts":{"default":{"base_url":"` + klaviURL + `/data/v1","access_key":"a","secret_key":"b"}}},` +
		`"http":{"servers":{"s":{"listen":["` + address + `"],"automatic_https":{"disable":true},"routes":[{"handle":[` + handlers + `]}]}}}}}`
	if err := caddy.Load([]byte(config), true); err != nil {
		t.Fatalf("loading %s: %v", config, err)
	}
	t.Cleanup(func() { _ = caddy.Stop() })
	return address
}

// sealFor seals a token as the site of startCaddy would.
func sealFor(t *testing.T, klaviURL string, link gateway.LinkToken) string {
	t.Helper()
	ctx, err := caddy.ProvisionContext(&caddy.Config{AppsRaw: caddy.ModuleMap{
		"klavi": []byte(`{"accounts":{"default":{"base_url":"` + klaviURL + `/data/v1","access_key":"a","secret_key":"b"}}}`),
	}})
	if err != nil {
		t.Fatal(err)
	}
	_, account, err := gateway.ForAccount(ctx, "")
	if err != nil {
		t.Fatal(err)
	}
	link.Token, link.LinkID, link.Expires = rawLinkToken, "link-1", time.Now().Add(time.Hour)
	sealed, err := account.SealLinkToken(link)
	if err != nil {
		t.Fatal(err)
	}
	return sealed
}

// send writes raw bytes and returns the status of each answer.
func send(t *testing.T, address string, raw []byte) []int {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	go func() { _, _ = conn.Write(raw) }() // who refuses early does not read it all
	answers := bufio.NewReader(conn)
	var statuses []int
	for range bytes.Count(raw, []byte(" HTTP/1.1\r\n")) {
		head, err := answers.Peek(4)
		if err != nil || string(head) != "HTTP" {
			return statuses
		}
		res, err := http.ReadResponse(answers, nil)
		if err == nil && res.StatusCode == http.StatusContinue {
			res, err = http.ReadResponse(answers, nil)
		}
		if err != nil {
			return statuses
		}
		statuses = append(statuses, res.StatusCode)
		if _, err := io.Copy(io.Discard, res.Body); err != nil {
			return statuses
		}
	}
	return statuses
}

// Every attack over a connection, against the handler in each place of a site,
// with links that fix nothing and links that fix all. What reaches Klavi is
// compared byte for byte.
func TestAttackCorpus(t *testing.T) {
	corpus, err := conformance.Corpus()
	if err != nil || len(corpus) < 190 {
		t.Fatalf("got %d lines (%v), want the whole corpus", len(corpus), err)
	}
	const handler = `{"handler":"klavi_frontend","prefix":"/klavi","public":true,"redirect_urls":["` + testRedirect + `"]}`
	const last = `{"handler":"static_response","status_code":404}`
	places := map[string]string{
		"first":       handler + "," + last,
		"handle_path": `{"handler":"rewrite","strip_path_prefix":"/klavi"},` + handler + "," + last,
		"rewritten":   `{"handler":"rewrite","method":"GET","uri":"/klavi/institutions"},` + handler + "," + last,
	}
	links := map[string]gateway.LinkToken{
		"open":  {},
		"fixed": {PersonalTaxID: testCPF, InstitutionCode: "341"},
	}
	for place, handlers := range places {
		t.Run(place, func(t *testing.T) {
			k := newWireKlavi(t)
			address := startCaddy(t, k.URL, handlers)
			host := strings.TrimPrefix(k.URL, "http://")
			institutions := "GET /data/v1/links/institutions HTTP/1.1\r\nHost: " + host + "\r\nUser-Agent: caddy-klavi\r\n" +
				"Accept: application/json\r\nAuthorization: Bearer " + rawLinkToken + "\r\nAccept-Encoding: gzip\r\n\r\n"
			body := `{"externalTrackId":"x","personalTaxId":"` + testCPF + `","institutionCode":"341","redirectURL":"` + testRedirect + `"}`
			consent := "POST /data/v1/consents HTTP/1.1\r\nHost: " + host + "\r\nUser-Agent: caddy-klavi\r\nContent-Length: " +
				strconv.Itoa(len(body)) + "\r\nAccept: application/json\r\nAuthorization: Bearer " + rawLinkToken +
				"\r\nContent-Type: application/json\r\nAccept-Encoding: gzip\r\n\r\n" + body
			for kind, link := range links {
				token := sealFor(t, k.URL, link)
				for _, a := range corpus {
					t.Run(kind+" "+a.ID, func(t *testing.T) {
						raw, err := a.Bytes(token)
						if err != nil {
							t.Fatal(err)
						}
						k.take()
						statuses := send(t, address, raw)
						requests := k.take()
						constant := institutions
						if strings.HasPrefix(a.Raw, "POST ") {
							constant = consent
						}
						for _, request := range requests {
							if request != constant {
								t.Errorf("%s: got at klavi\n%q\nwant\n%q", a.What, request, constant)
							}
						}
						least, most := wantSent(t, &a, kind)
						if len(requests) < least || len(requests) > most {
							t.Errorf("%s (%s): got %d requests at klavi, want %d to %d; the answers were %v",
								a.What, a.Expect, len(requests), least, most, statuses)
						}
						if err := wantStatuses(statuses, len(requests)); err != nil {
							t.Errorf("%s (%s): %v", a.What, a.Expect, err)
						}
					})
				}
			}
		})
	}
}

// wantSent is how many requests may reach Klavi.
func wantSent(t *testing.T, a *conformance.Line, link string) (least, most int) {
	t.Helper()
	wants, err := a.Wants()
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range wants {
		switch want {
		case conformance.Allow:
			// A consent for no institution is no consent.
			if strings.HasPrefix(a.Raw, "POST ") && link == "open" {
				continue
			}
			least, most = least+1, most+1
		case conformance.Either:
			most++
		case conformance.Reject:
		}
	}
	return least, most
}

// wantStatuses checks that as many answers were a success as requests were sent,
// and that the others were refusals.
func wantStatuses(statuses []int, sent int) error {
	for _, status := range statuses {
		switch {
		case status == http.StatusOK:
			sent--
		case status == http.StatusNotImplemented: // net/http's answer to a Transfer-Encoding that it does not know
		case status < 400 || status >= 500:
			return fmt.Errorf("got statuses %v, want refusals to be 4xx", statuses)
		}
	}
	if sent != 0 {
		return fmt.Errorf("got statuses %v, want one 200 for each request at klavi", statuses)
	}
	return nil
}
