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
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/go-json-experiment/json"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/caddy-klavi/caddy-klavi/gateway"
)

const (
	partnerAccessKey = "PartnerAccessKey"
	partnerSecretKey = "PartnerSecretKey"
	partnerOldSecret = "PartnerOlderKey"
)

// ownCredentials are what only the gateway and Klavi know. None of them looks
// like a token, so that nothing but knowing them can find them.
var ownCredentials = []string{accessToken, partnerAccessKey, partnerSecretKey, partnerOldSecret}

// answeringSite is a site in front of a Klavi that answers oddly, under keys that
// can be looked for.
func answeringSite(t *testing.T, f Frontend) *site {
	t.Helper()
	k := newFakeKlavi(t)
	ctx, err := caddy.ProvisionContext(&caddy.Config{AppsRaw: caddy.ModuleMap{"klavi": []byte(
		`{"accounts":{"default":{"base_url":"` + k.URL + `/data/v1","access_key":"` + partnerAccessKey + `","secret_key":"` + partnerSecretKey +
			`","accept_secret_keys":["` + partnerOldSecret + `"],` +
			// What is wrong with a connection is to be of no consequence for the next request.
			`"transport":{"keep_alive":{"enabled":false}}}}}`,
	)}})
	if err != nil {
		t.Fatal(err)
	}
	config, err := json.Marshal(f)
	if err != nil {
		t.Fatal(err)
	}
	mod, err := ctx.LoadModuleByID("http.handlers.klavi_frontend", config)
	if err != nil {
		t.Fatal(err)
	}
	s := &site{Frontend: mod.(*Frontend), klavi: k, clock: time.Date(2026, 11, 22, 13, 0, 0, 0, time.UTC)}
	core, logs := observer.New(zapcore.DebugLevel)
	s.logger, s.logs = zap.New(core), logs
	s.now = func() time.Time { return s.clock }
	return s
}

// wantLogWithout checks every line that was logged.
func (s *site) wantLogWithout(t *testing.T, secrets ...string) {
	t.Helper()
	for _, entry := range s.logs.All() {
		line, err := zapcore.NewJSONEncoder(zapcore.EncoderConfig{MessageKey: "msg"}).EncodeEntry(entry.Entry, entry.Context)
		if err != nil {
			t.Fatal(err)
		}
		wantNone(t, "the log", line.Bytes(), secrets...)
	}
}

// writes has Klavi answer an endpoint with raw bytes. It then closes its side,
// or waits for the gateway to do so.
func (k *fakeKlavi) writes(endpoint string, stay bool, raw ...string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.answers[endpoint] = func(w http.ResponseWriter, r *http.Request) {
		// What is not read of a request has its connection reset, and the answer with it.
		_, _ = io.Copy(io.Discard, r.Body)
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			panic(err)
		}
		defer conn.Close()
		for _, part := range raw {
			if _, err := io.WriteString(conn, part); err != nil {
				return
			}
		}
		if stay {
			_, _ = io.Copy(io.Discard, conn)
		}
	}
}

// writesOn has Klavi write without end, or wait, until the gateway leaves.
func (k *fakeKlavi) writesOn(endpoint, begin, again string) (left <-chan struct{}) {
	done := make(chan struct{})
	k.mu.Lock()
	defer k.mu.Unlock()
	k.answers[endpoint] = func(w http.ResponseWriter, _ *http.Request) {
		defer close(done)
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			panic(err)
		}
		defer conn.Close()
		_, err = io.WriteString(conn, begin)
		for again = strings.Repeat(again, 1000); again != "" && err == nil; {
			_, err = io.WriteString(conn, again)
		}
		_, _ = io.Copy(io.Discard, conn)
	}
	return done
}

// face is an endpoint of the frontend, and what Klavi answers on a good day.
type face struct {
	klavi, request, good string
}

var answeredUsers atomic.Int64

// faces returns the endpoints for a user of their own, whom no limit meets.
func (s *site) faces(t *testing.T) map[string]face {
	t.Helper()
	user := "user-" + strconv.FormatInt(answeredUsers.Add(1), 10)
	head := " HTTP/1.1\r\nHost: gw.example\r\nConnection: close\r\nX-User: " + user + "\r\nAuthorization: " +
		s.seal(t, gateway.LinkToken{User: user, InstitutionCode: "341"}) + "\r\n"
	post := head + "Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
	return map[string]face{
		"links":        {"POST /data/v1/links", "POST /klavi/links" + post, linkAnswer},
		"consents":     {"POST /data/v1/consents", "POST /klavi/consents" + post, bankAnswer},
		"institutions": {"GET /data/v1/links/institutions", "GET /klavi/institutions" + head + "\r\n", listAnswer},
	}
}

// ask sends a raw request and returns all that comes back.
func ask(t *testing.T, address, request string) []byte {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	if _, err := io.WriteString(conn, request); err != nil {
		t.Fatal(err)
	}
	answer, err := io.ReadAll(io.LimitReader(conn, 8<<20))
	if err != nil {
		t.Fatalf("after %d bytes: %v", len(answer), err)
	}
	return answer
}

// allowedHeaders are those that an answer may have, with the only value of those
// that are fixed.
var allowedHeaders = map[string]string{
	"Content-Type": "", "Content-Length": "", "Date": "", "Connection": "close", "Retry-After": "",
	"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", "Www-Authenticate": "Bearer",
}

// checkAnswer checks all that holds for every answer, whatever Klavi sent.
// whole is false if the connection ended before the answer did, or began.
func checkAnswer(t *testing.T, raw []byte) (res *http.Response, body []byte, whole bool) {
	t.Helper()
	rest := bufio.NewReader(bytes.NewReader(raw))
	res, err := http.ReadResponse(rest, nil)
	if len(raw) == 0 {
		return &http.Response{}, nil, false
	}
	if err != nil {
		t.Fatalf("got %q, which is no answer: %v", raw, err)
	}
	body, err = io.ReadAll(res.Body)
	whole = err == nil
	if res.StatusCode < 200 {
		t.Errorf("got status %d, want a final one", res.StatusCode)
	}
	for name, values := range res.Header {
		fixed, known := allowedHeaders[name]
		if !known || len(values) != 1 || fixed != "" && values[0] != fixed {
			t.Errorf("got the header %s %q, want none but %v", name, values, allowedHeaders)
		}
	}
	for _, name := range []string{"Cache-Control", "X-Content-Type-Options"} {
		if res.Header.Get(name) == "" {
			t.Errorf("got no %s", name)
		}
	}
	want := "application/json"
	if res.StatusCode >= 400 {
		want = "application/problem+json"
	}
	if got := res.Header.Get("Content-Type"); got != want {
		t.Errorf("got %d with Content-Type %q, want %q", res.StatusCode, got, want)
	}
	if len(res.Trailer) > 0 {
		t.Errorf("got the trailers %v, want none", res.Trailer)
	}
	if more, _ := io.ReadAll(rest); len(more) > 0 {
		t.Errorf("got %q behind the answer", more)
	}
	return res, body, whole
}

func wantNone(t *testing.T, what string, text []byte, secrets ...string) {
	t.Helper()
	for _, secret := range secrets {
		if bytes.Contains(text, []byte(secret)) {
			t.Errorf("%s has %s: %.2000q", what, secret, text)
		}
	}
}

// internals are headers that are Klavi's own business, or would let it reach
// beyond its answer.
const internals = "Server: nginx/1.2 (internal)\r\nX-Powered-By: Express\r\nVia: 1.1 ip-10-0-0-7.ec2.internal\r\nX-Request-Id: 7\r\n" +
	"Set-Cookie: sid=1; Path=/\r\nSet-Cookie: user=2\r\nLocation: https://evil.example/\r\nRefresh: 0;url=https://evil.example/\r\n" +
	"Link: <https://evil.example/x.js>; rel=preload\r\nAccess-Control-Allow-Origin: *\r\nAccess-Control-Allow-Credentials: true\r\n" +
	"Clear-Site-Data: \"*\"\r\nStrict-Transport-Security: max-age=0\r\nAlt-Svc: h3=\"evil.example:443\"\r\nEtag: \"x\"\r\n" +
	"Cache-Control: public, max-age=3600\r\nExpires: Thu, 01 Jan 2099 00:00:00 GMT\r\nVary: *\r\nContent-Disposition: attachment\r\n" +
	"Content-Location: /other\r\nX-Content-Type-Options: sniff\r\nWww-Authenticate: Basic realm=\"klavi\"\r\nProxy-Authenticate: Basic\r\n" +
	"Authorization: Bearer " + accessToken + "\r\nKlavi-Link-Token: " + rawLinkToken + "\r\nX-Echo: " + partnerSecretKey + "\r\n"

// What Klavi sends comes through as the documented answer, as a problem, or not
// at all; and nothing else with it.
func TestOddAnswers(t *testing.T) {
	const (
		typed  = "Content-Type: application/json\r\n"
		page   = "HTTP/1.1 %s\r\nContent-Type: text/html\r\nConnection: close\r\n\r\n<html><h1>502 from ip-10-0-0-7.ec2.internal</h1></html>"
		closed = "Connection: close\r\n\r\n"
	)
	good := func(status, headers string) string { return "HTTP/1.1 " + status + "\r\n" + headers + closed + "GOOD" }
	refusal := func(status, message string) string {
		return "HTTP/1.1 " + status + "\r\n" + typed + closed + `{"statusCode":4001,"error":"E","message":"` + message + `"}`
	}
	s := answeringSite(t, userSite())
	server := httptest.NewServer(s)
	defer server.Close()
	address := strings.TrimPrefix(server.URL, "http://")

	for _, test := range []struct {
		name string
		stay bool   // Klavi keeps the connection open
		raw  string // GOOD stands for the endpoint's documented body
		// What becomes of it: "good", "cut" (an end that nobody takes for
		// one), or the type of a problem.
		links, consents, institutions string
	}{
		{"headers", false, good("200 OK", typed+internals), "good", "good", "good"},
		{"201", false, good("201 Created", typed), "good", "good", "good"},
		{"a charset", false, good("200 OK", "Content-Type: application/json; charset=utf-7; x=\"</script>\"\r\n"), "good", "good", "good"},
		{"two types", false, good("200 OK", typed+"Content-Type: text/html\r\n"), "good", "good", "good"},
		{"upper case", false, good("200 OK", "CONTENT-TYPE: APPLICATION/JSON\r\n"), "good", "good", "good"},

		{"100", false, "HTTP/1.1 100 Continue\r\n" + internals + "\r\n" + good("200 OK", typed), "good", "good", "good"},
		{"102 and 103", false, "HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>; rel=preload\r\nSet-Cookie: a=b\r\n\r\n" + good("200 OK", typed), "good", "good", "good"},
		{"199", false, "HTTP/1.1 199 Odd\r\nSet-Cookie: a=b\r\n\r\n" + good("200 OK", typed), "good", "good", "good"},
		{"101", true, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\nGOOD", "klavi-nonsense", "klavi-nonsense", "klavi-nonsense"},
		{"101 without an upgrade", true, "HTTP/1.1 101 Switching Protocols\r\nContent-Length: 5\r\n\r\nGOOD", "klavi-nonsense", "klavi-nonsense", "klavi-nonsense"},
		{"000", false, good("000 Zero", typed), "klavi-nonsense", "klavi-nonsense", "klavi-nonsense"},
		{"099", false, good("099 Odd", typed), "klavi-nonsense", "klavi-nonsense", "klavi-nonsense"},
		{"204", false, "HTTP/1.1 204 No Content\r\n" + closed, "klavi-nonsense", "klavi-nonsense", "klavi-nonsense"},
		{"204 with a body", false, good("204 No Content", typed), "klavi-nonsense", "klavi-nonsense", "klavi-nonsense"},
		{"205", false, good("205 Reset Content", typed), "klavi-nonsense", "klavi-nonsense", "klavi-nonsense"},
		{"206", false, good("206 Partial Content", typed+"Content-Range: bytes 0-9/100\r\n"), "klavi-nonsense", "klavi-nonsense", "klavi-nonsense"},
		{"226", false, good("226 IM Used", typed), "klavi-nonsense", "klavi-nonsense", "klavi-nonsense"},
		{"299", false, good("299 Odd", typed), "klavi-nonsense", "klavi-nonsense", "klavi-nonsense"},
		{"301", false, good("301 Moved", typed+internals), "klavi-nonsense", "klavi-nonsense", "klavi-nonsense"},
		{"302 to a page", false, "HTTP/1.1 302 Found\r\nLocation: https://evil.example/\r\nContent-Length: 0\r\n" + closed, "klavi-nonsense", "klavi-nonsense", "klavi-nonsense"},
		{"304", false, "HTTP/1.1 304 Not Modified\r\nEtag: \"x\"\r\n" + closed, "klavi-nonsense", "klavi-nonsense", "klavi-nonsense"},
		{"307 to itself", false, "HTTP/1.1 307 Temporary Redirect\r\nLocation: /data/v1/links\r\nContent-Length: 0\r\n" + closed, "klavi-nonsense", "klavi-nonsense", "klavi-nonsense"},
		{"600", false, refusal("600 Odd", "x"), "klavi-unreachable", "klavi-unreachable", "klavi-unreachable"},
		{"999", false, refusal("999 Odd", "x"), "klavi-unreachable", "klavi-unreachable", "klavi-unreachable"},
		{"four digits", false, good("2000 OK", typed), "klavi-unreachable", "klavi-unreachable", "klavi-unreachable"},
		{"no HTTP", false, "SSH-2.0-OpenSSH_9.6 " + accessToken + "\r\n", "klavi-unreachable", "klavi-unreachable", "klavi-unreachable"},
		{"HTTP/0.9", false, "GOOD", "klavi-unreachable", "klavi-unreachable", "klavi-unreachable"},
		{"nothing", false, "", "klavi-unreachable", "klavi-unreachable", "klavi-unreachable"},
		{"half a header", false, "HTTP/1.1 200 OK\r\nContent-Ty", "klavi-unreachable", "klavi-unreachable", "klavi-unreachable"},
		{"a folded header", false, "HTTP/1.1 200 OK\r\nContent-Type: text/html,\r\n application/json\r\n" + closed + "GOOD", "good", "good", "klavi-nonsense"},
		{"a header without a name", false, "HTTP/1.1 200 OK\r\n: x\r\n" + typed + closed + "GOOD", "klavi-unreachable", "klavi-unreachable", "klavi-unreachable"},

		{"an error page", false, fmt.Sprintf(page, "200 OK"), "klavi-nonsense", "klavi-nonsense", "klavi-nonsense"},
		{"an error page, 500", false, fmt.Sprintf(page, "500 Oops"), "klavi-unreachable", "klavi-unreachable", "klavi-unreachable"},
		{"an error page, 404", false, fmt.Sprintf(page, "404 Not Found"), "klavi-refused", "klavi-refused", "klavi-refused"},
		{"an error page that claims to be JSON", false, "HTTP/1.1 403 Forbidden\r\n" + typed + closed + "<html>ip-10-0-0-7.ec2.internal", "klavi-refused", "klavi-refused", "klavi-refused"},

		{"a length too long", false, "HTTP/1.1 200 OK\r\n" + typed + "Content-Length: 5000\r\n\r\nGOOD", "klavi-unreachable", "klavi-unreachable", "klavi-unreachable"},
		{"a length too long of a long answer", false, "HTTP/1.1 200 OK\r\n" + typed + "Content-Length: 50000\r\n\r\nGOOD", "klavi-unreachable", "klavi-unreachable", "cut"},
		{"a length too short", false, "HTTP/1.1 200 OK\r\n" + typed + "Content-Length: 5\r\n\r\nGOOD", "klavi-nonsense", "klavi-nonsense", "short"},
		{"two lengths", false, "HTTP/1.1 200 OK\r\n" + typed + "Content-Length: 5\r\nContent-Length: 6\r\n\r\nGOOD", "klavi-unreachable", "klavi-unreachable", "klavi-unreachable"},
		{"a negative length", false, "HTTP/1.1 200 OK\r\n" + typed + "Content-Length: -1\r\n\r\nGOOD", "klavi-unreachable", "klavi-unreachable", "klavi-unreachable"},
		{"no length, HTTP/1.0", false, "HTTP/1.0 200 OK\r\n" + typed + "\r\nGOOD", "good", "good", "good"},
		{"a length and chunks", false, "HTTP/1.1 200 OK\r\n" + typed + "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\nCHUNKED", "good", "good", "good"},
		{"an odd transfer encoding", false, "HTTP/1.1 200 OK\r\n" + typed + "Transfer-Encoding: gzip, chunked\r\n\r\nCHUNKED", "klavi-unreachable", "klavi-unreachable", "klavi-unreachable"},
		{"chunks that are none", false, "HTTP/1.1 200 OK\r\n" + typed + "Transfer-Encoding: chunked\r\n\r\nzz\r\nGOOD", "klavi-unreachable", "klavi-unreachable", "klavi-unreachable"},
		{"chunks that end early", false, "HTTP/1.1 200 OK\r\n" + typed + "Transfer-Encoding: chunked\r\n\r\nffff\r\nGOOD", "klavi-unreachable", "klavi-unreachable", "cut"},
		{"chunks without an end", false, "HTTP/1.1 200 OK\r\n" + typed + "Transfer-Encoding: chunked\r\n\r\nUNENDED", "klavi-unreachable", "klavi-unreachable", "cut"},
		{"trailers", false, "HTTP/1.1 200 OK\r\n" + typed + "Transfer-Encoding: chunked\r\nTrailer: X-Trailer, Set-Cookie\r\n\r\nTRAILED", "good", "good", "good"},

		{"gzip that is none", false, good("200 OK", typed+"Content-Encoding: gzip\r\n"), "klavi-unreachable", "klavi-unreachable", "klavi-unreachable"},
		{"brotli, which was not asked for", false, "HTTP/1.1 200 OK\r\n" + typed + "Content-Encoding: br\r\n" + closed + "\x0b\x02\x80[]\x03", "klavi-nonsense", "klavi-nonsense", "klavi-nonsense"},
		{"not UTF-8", false, "HTTP/1.1 200 OK\r\n" + typed + closed + "{\"linkId\":\"\xff\",\"linkToken\":\"x\"}", "klavi-nonsense", "klavi-nonsense", "short"},
		{"names twice", false, "HTTP/1.1 200 OK\r\n" + typed + closed + `{"linkToken":"a","linkToken":"b","linkId":"1"}`, "klavi-nonsense", "short", "short"},
		{"two documents", false, "HTTP/1.1 200 OK\r\n" + typed + closed + `GOOD, GOOD`, "klavi-nonsense", "klavi-nonsense", "short"},
		{"null", false, "HTTP/1.1 200 OK\r\n" + typed + closed + `null`, "klavi-nonsense", "klavi-nonsense", "short"},
		{"empty", false, "HTTP/1.1 200 OK\r\n" + typed + closed, "klavi-nonsense", "klavi-nonsense", "klavi-nonsense"},
		{"no link", false, "HTTP/1.1 200 OK\r\n" + typed + closed + `{}`, "klavi-nonsense", "short", "short"},

		{"a cookie with a 401", false, "HTTP/1.1 401 Unauthorized\r\n" + typed + internals + closed + `{"statusCode":401,"message":"no"}`, "klavi-refused", "link-expired", "link-expired"},
		{"429 with a date", false, "HTTP/1.1 429 Slow\r\n" + typed + "Retry-After: Thu, 01 Jan 2099 00:00:00 GMT\r\n" + closed + `{}`, "rate-limited", "rate-limited", "rate-limited"},
		{"429 with a number beyond all", false, "HTTP/1.1 429 Slow\r\n" + typed + "Retry-After: 99999999999999999999\r\n" + closed + `{}`, "rate-limited", "rate-limited", "rate-limited"},
		{"200 with what is no Retry-After", false, good("200 OK", typed+"Retry-After: 1, 2\r\n"), "good", "good", "good"},
	} {
		for name, face := range s.faces(t) {
			want := map[string]string{"links": test.links, "consents": test.consents, "institutions": test.institutions}[name]
			t.Run(test.name+" "+name, func(t *testing.T) {
				chunk := fmt.Sprintf("%x\r\n%s\r\n", len(face.good), face.good)
				s.klavi.writes(face.klavi, test.stay, strings.NewReplacer("GOOD", face.good, "CHUNKED", chunk+"0\r\n\r\n", "UNENDED", chunk,
					"TRAILED", chunk+"0\r\nX-Trailer: "+accessToken+"\r\nSet-Cookie: a=b\r\n\r\n").Replace(test.raw))
				raw := ask(t, address, face.request)
				res, body, whole := checkAnswer(t, raw)
				wantNone(t, "the answer", raw, append([]string{"ec2.internal", "evil.example", "nginx", "Express"}, ownCredentials...)...)
				switch want {
				case "good", "short":
					if res.StatusCode/100 != 2 || !whole || name != "links" && want == "good" && string(body) != face.good {
						t.Errorf("got %d %q, whole: %t, want Klavi's answer", res.StatusCode, body, whole)
					}
				case "cut":
					if whole {
						t.Errorf("got %d %q as if it were whole", res.StatusCode, body)
					}
				default:
					if !whole || !bytes.Contains(body, []byte(`"type":"`+want+`"`)) {
						t.Errorf("got %d %q, want the problem %s", res.StatusCode, body, want)
					}
				}
			})
		}
	}
	s.wantLogWithout(t, append([]string{"ec2.internal"}, ownCredentials...)...)
}

// Klavi may repeat what it was sent, or what it knows. None of that reaches a
// browser or a log.
func TestEchoes(t *testing.T) {
	places := map[string]string{
		"message":      "HTTP/1.1 400 Bad Request\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n" + `{"statusCode":400,"message":"Bad token SECRET."}`,
		"cut message":  "HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n" + `{"message":"` + strings.Repeat("long ", 57) + `SECRET"}`,
		"list":         "HTTP/1.1 422 Odd\r\nConnection: close\r\n\r\n" + `{"message":["a","xSECRETx"]}`,
		"title":        "HTTP/1.1 403 Forbidden\r\nConnection: close\r\n\r\n" + `{"statusCode":4001,"error":"SECRET"}`,
		"unauthorized": "HTTP/1.1 401 Unauthorized\r\nConnection: close\r\n\r\n" + `{"statusCode":401,"message":"SECRET has run out"}`,
		"own house":    "HTTP/1.1 503 Down\r\nConnection: close\r\n\r\n" + `{"message":"SECRET"}`,
		"headers":      "HTTP/1.1 400 SECRET\r\nX-Echo: SECRET\r\nRetry-After: SECRET\r\nContent-Type: SECRET\r\nConnection: close\r\n\r\n{}",
		"broken":       "HTTP/1.1 SECRET\r\nConnection: close\r\n\r\n{}",
		"redirect":     "HTTP/1.1 302 Found\r\nLocation: https://evil.example/?t=SECRET\r\nConnection: close\r\n\r\n",
		"success":      "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n" + `{"linkId":"SECRET","linkToken":"a.b.c","linkURL":"https://conecte.example/","debug":"SECRET"}`,
		"link URL":     "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n" + `{"linkId":"1","linkToken":"a.b.c","linkURL":"https://conecte.example/?v=SECRET"}`,
		"link token":   "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n" + `{"linkId":"1","linkToken":"SECRET","linkURL":"https://conecte.example/"}`,
	}
	for _, kind := range []string{linkTokenSealed, linkTokenRaw} {
		f := userSite()
		f.LinkToken = kind
		s := answeringSite(t, f)
		server := httptest.NewServer(s)
		defer server.Close()
		address := strings.TrimPrefix(server.URL, "http://")
		ask(t, address, s.faces(t)["links"].request) // log in
		for place, raw := range places {
			for _, secret := range append([]string{rawLinkToken}, ownCredentials...) {
				for name, face := range s.faces(t) {
					if secret == rawLinkToken && (kind == linkTokenRaw || name == "links" || strings.Contains(raw, " 200 ")) {
						continue // it was not sent; or what Klavi documents may hold it
					}
					t.Run(kind+" "+place+" "+secret+" "+name, func(t *testing.T) {
						s.klavi.writes(face.klavi, false, strings.ReplaceAll(raw, "SECRET", secret))
						answer := ask(t, address, face.request)
						res, _, _ := checkAnswer(t, answer)
						wantNone(t, "the answer", answer, secret, "evil.example")
						if res.StatusCode < 400 {
							t.Errorf("got %d, want a problem", res.StatusCode)
						}
					})
				}
			}
		}
		s.wantLogWithout(t, append([]string{rawLinkToken, "evil.example"}, ownCredentials...)...)
	}
}

// What Klavi says in a refusal helps, as long as it is about the request.
func TestMessages(t *testing.T) {
	s := answeringSite(t, userSite())
	for _, test := range []struct {
		status        int
		message, want string
	}{
		{400, "Invalid phone", "Invalid phone"},
		{416, "Consents exceeds the limit", "Consents exceeds the limit"},
		{400, "CPF " + testCPF + " and 529.982.247-25 are wrong", "CPF [hidden] and [hidden] are wrong"},
		{400, `CPF 529.982.247\u201325`, "CPF [hidden]"},
		{400, "CNPJ 12.ABC.345/01DE-35 of ana@example.com", "CNPJ [hidden] of [hidden]"},
		{401, "jwt eyJhbGciOiJFUzI1NiJ9.e30.c2ln is expired", "jwt [hidden] is expired"},
		{400, `TypeError: x\n    at Object.<anonymous> (/usr/src/app/dist/main.js:12:34)\n    at node:internal`, "TypeError: x"},
		{400, `Traceback (most recent call last):\n  File \"/srv/app.py\", line 3`, "Traceback (most recent call last):"},
		{400, "x at f (/usr/src/app/dist/main.js:12:34)", "x at f ([hidden])"},
		{403, "no route to db.klavi.internal:5432 from 10.0.0.7:8080", "no route to [hidden] from [hidden]"},
		{404, "Cannot POST /data/v1/links", "Cannot POST /data/v1/links"},
		{500, "connect ECONNREFUSED 10.0.0.7:5432", ""},
		{502, "anything", ""},
		{999, "anything", ""},
	} {
		for name, face := range s.faces(t) {
			s.klavi.writes(face.klavi, false, fmt.Sprintf("HTTP/1.1 %d X\r\nConnection: close\r\n\r\n", test.status)+`{"message":"`+test.message+`"}`)
			server := httptest.NewServer(s)
			_, body, _ := checkAnswer(t, ask(t, strings.TrimPrefix(server.URL, "http://"), face.request))
			server.Close()
			var got struct {
				Message string `json:"message"`
			}
			if err := json.Unmarshal(body, &got); err != nil || got.Message != test.want {
				t.Errorf("%s, %d %s: got %s, want the message %q", name, test.status, test.message, body, test.want)
			}
		}
	}
}

// An answer that does not end holds nothing for longer than klavi_timeout, and
// no memory.
func TestEndlessAnswers(t *testing.T) {
	const head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
	for _, test := range []struct {
		name, begin, more string
		timeout           time.Duration
		kind              string // of the problem, of links and consents
		institutions      string // the same, empty where the answer has begun
	}{
		{"silence", "", "", 50 * time.Millisecond, "klavi-unreachable", "klavi-unreachable"},
		{"no body", head + "Content-Length: 10\r\n\r\n", "", 50 * time.Millisecond, "klavi-unreachable", "klavi-unreachable"},
		{"no end", head + "\r\n{", "", 50 * time.Millisecond, "klavi-unreachable", ""},
		{"a body", head + "\r\n", `{"a":"` + strings.Repeat("x", 1000) + `"},`, time.Minute, "klavi-nonsense", ""},
		{"chunks", head + "Transfer-Encoding: chunked\r\n\r\n", "100\r\n" + strings.Repeat("x", 0x100) + "\r\n", time.Minute, "klavi-nonsense", ""},
		{"a header", head, "X-Long: " + strings.Repeat("x", 1000) + "\r\n", time.Minute, "klavi-unreachable", "klavi-unreachable"},
		{"hints", "", "HTTP/1.1 103 Early Hints\r\nLink: </x>; rel=preload\r\n\r\n", time.Minute, "klavi-unreachable", "klavi-unreachable"},
		{"an error", "HTTP/1.1 400 Bad Request\r\n\r\n", "x", time.Minute, "klavi-refused", "klavi-refused"},
		{"a redirect", "HTTP/1.1 302 Found\r\nLocation: /\r\n\r\n", "x", time.Minute, "klavi-nonsense", "klavi-nonsense"},
	} {
		s := answeringSite(t, userSite())
		server := httptest.NewServer(s)
		address := strings.TrimPrefix(server.URL, "http://")
		ask(t, address, s.faces(t)["links"].request) // log in
		s.account.KlaviTimeout = caddy.Duration(test.timeout)
		for name, face := range s.faces(t) {
			t.Run(test.name+" "+name, func(t *testing.T) {
				left := s.klavi.writesOn(face.klavi, test.begin, test.more)
				res, body, whole := checkAnswer(t, ask(t, address, face.request))
				want := test.kind
				if name == "institutions" {
					want = test.institutions
				}
				if want == "" && whole {
					t.Errorf("got %d and %d bytes as if they were whole", res.StatusCode, len(body))
				}
				if want != "" && (!whole || !bytes.Contains(body, []byte(`"type":"`+want+`"`))) {
					t.Errorf("got %d %.200q, want the problem %s", res.StatusCode, body, want)
				}
				<-left // Klavi is rid of the connection
			})
		}
		server.Close()
	}
}
