package sandbox

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	testCPF  = "25872252137"
	testCNPJ = "11222333000181"
)

// tester talks to a sandbox without a network.
type tester struct {
	*testing.T
	s *Sandbox
}

func newTester(t *testing.T, o Options) *tester {
	t.Helper()
	s, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return &tester{t, s}
}

// do sends a request and returns the answer with its body read.
func (t *tester) do(method, target, token, body string) (*http.Response, string) {
	t.Helper()
	r := httptest.NewRequest(method, "http://klavi.test"+target, strings.NewReader(body))
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	w := httptest.NewRecorder()
	t.s.ServeHTTP(w, r)
	resp := w.Result()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(b)
}

// call sends JSON and wants a status.
func (t *tester) call(method, target, token, body string, want int) map[string]any {
	t.Helper()
	resp, got := t.do(method, target, token, body)
	if resp.StatusCode != want {
		t.Fatalf("%s %s: got %d %s, want %d", method, target, resp.StatusCode, got, want)
	}
	m := map[string]any{}
	if strings.HasPrefix(got, "{") {
		if err := json.Unmarshal([]byte(got), &m); err != nil {
			t.Fatalf("%s %s: %v in %s", method, target, err, got)
		}
	}
	return m
}

// list fetches a JSON array.
func (t *tester) list(target, token string) []map[string]any {
	t.Helper()
	resp, got := t.do("GET", target, token, "")
	var l []map[string]any
	if err := json.Unmarshal([]byte(got), &l); err != nil || resp.StatusCode != 200 {
		t.Fatalf("GET %s: got %d %s, want an array", target, resp.StatusCode, got)
	}
	return l
}

func (t *tester) login() string {
	t.Helper()
	m := t.call("POST", "/data/v1/auth", "", `{"accessKey":"sandbox-access-key","secretKey":"sandbox-secret-key"}`, 200)
	return m["accessToken"].(string)
}

// link makes a link and returns its id and token.
func (t *tester) link(access, body string) (string, string) {
	t.Helper()
	m := t.call("POST", "/data/v1/links", access, body, 200)
	return m["linkId"].(string), m["linkToken"].(string)
}

// consent makes a consent at an institution and returns its id and consentRedirectURL.
func (t *tester) consent(token, institution, extra string) (string, string) {
	t.Helper()
	body := `{"externalTrackId":"` + randomHex(8) + `","personalTaxId":"` + testCPF + `","institutionCode":"` + institution +
		`","redirectURL":"https://app.example/back?x=1"` + extra + `}`
	m := t.call("POST", "/data/v1/consents", token, body, 200)
	return m["consentId"].(string), m["consentRedirectURL"].(string)
}

// authorised makes an authorised consent of a new link.
func (t *tester) authorised(access, institution, linkBody, extra string) (linkID, consentID string) {
	t.Helper()
	linkID, token := t.link(access, linkBody)
	consentID, _ = t.consent(token, institution, extra)
	t.call("POST", "/_sandbox/consents/"+consentID+"/authorise", "", "", 200)
	return linkID, consentID
}

// settled waits for the deliveries under way.
func (t *tester) settled() []delivery {
	t.Helper()
	t.s.mu.Lock()
	r := t.s.round
	t.s.mu.Unlock()
	r.wg.Wait()
	return t.s.listDeliveries()
}

// sink takes deliveries without a network.
type sink struct {
	requests chan *http.Request
	bodies   chan []byte
	answer   func(*http.Request) *http.Response
}

func newSink() *sink {
	return &sink{requests: make(chan *http.Request, 1000), bodies: make(chan []byte, 1000)}
}

func (s *sink) RoundTrip(r *http.Request) (*http.Response, error) {
	var body []byte
	if r.Body != nil {
		var err error
		if body, err = io.ReadAll(r.Body); err != nil {
			return nil, err
		}
		r.Body.Close()
	}
	s.requests <- r
	s.bodies <- body
	if s.answer != nil {
		return s.answer(r), nil
	}
	return respond(200), nil
}

func respond(status int) *http.Response {
	return &http.Response{StatusCode: status, Header: http.Header{}, Body: io.NopCloser(bytes.NewReader(nil))}
}
