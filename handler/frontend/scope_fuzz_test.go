package frontend

import (
	"bytes"
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/caddy-klavi/caddy-klavi/gateway"
)

// served is what a request has to be, byte for byte, for one to go to Klavi.
var served = map[string]string{
	"GET /data/v1/links/institutions": "GET /klavi/institutions",
	"POST /data/v1/consents":          "POST /klavi/consents",
	"POST /data/v1/links":             "POST /klavi/links",
}

// fuzzedSite serves each request for a user of its own, whom no limit meets.
type fuzzedSite struct {
	*site
	users atomic.Int64
}

func newFuzzedSite(f *testing.F) *fuzzedSite {
	return &fuzzedSite{site: newSite(f, userSite())}
}

// next returns a user, and a link token of theirs.
func (s *fuzzedSite) next(t *testing.T) (user, token string) {
	user = "user-" + strconv.FormatInt(s.users.Add(1), 10)
	return user, strings.TrimPrefix(s.seal(t, gateway.LinkToken{User: user, InstitutionCode: "341"}), "Bearer ")
}

// FuzzTarget looks for a way to write a target that is not one of the three, but
// is served as one.
func FuzzTarget(f *testing.F) {
	for _, request := range corpusRequests(f, "token") {
		line, _, _ := bytes.Cut(request, []byte("\r\n"))
		method, uri, _ := strings.Cut(string(line), " ")
		f.Add(method, strings.TrimSuffix(uri, " HTTP/1.1"))
	}
	for _, uri := range []string{"http://h/klavi/links", "*", "h:443", "/%6b%6c%61%76%69/links"} {
		f.Add("GET", uri)
		f.Add("POST", uri)
	}
	s := newFuzzedSite(f)
	f.Fuzz(func(t *testing.T, method, uri string) {
		user, token := s.next(t)
		raw := method + " " + uri + " HTTP/1.1\r\nHost: gw.example\r\nAuthorization: Bearer " + token + "\r\nX-User: " + user +
			"\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
		r, err := http.ReadRequest(newReader(raw))
		if err != nil {
			return
		}
		if method == http.MethodGet {
			r.Body, r.ContentLength = http.NoBody, 0
		}
		s.do(r)
		path, _, _ := strings.Cut(r.RequestURI, "?")
		for _, request := range s.klavi.take() {
			if got, want := r.Method+" "+path, served[request.method+" "+request.uri]; got != want {
				t.Errorf("%q became %s %s at klavi", got, request.method, request.uri)
			}
		}
	})
}

// tokenMark stands for a link token in a request that is fuzzed.
const tokenMark = "LINKTOKEN"

// FuzzRequest looks for a request that reaches Klavi without the link token of who
// sent it, with more than the constant form, or for something else than the link
// is for.
func FuzzRequest(f *testing.F) {
	for _, request := range corpusRequests(f, tokenMark) {
		if len(request) <= 4<<10 {
			f.Add(request)
		}
	}
	for _, body := range oddBodies {
		f.Add([]byte("POST /klavi/consents HTTP/1.1\r\nHost: gw.example\r\nKlavi-Link-Token: " + tokenMark +
			"\r\nContent-Type: application/json\r\nContent-Length: " + strconv.Itoa(len(body)) + "\r\n\r\n" + body))
	}
	s := newFuzzedSite(f)
	f.Fuzz(func(t *testing.T, raw []byte) {
		user, token := s.next(t)
		r, err := http.ReadRequest(newReader(strings.ReplaceAll(string(raw), tokenMark, token)))
		if err != nil {
			return
		}
		r.Header["X-User"] = []string{user}
		sent := r.Header.Clone()
		w := s.do(r)
		checkRecorded(t, w.Code, w.Result())
		path, _, _ := strings.Cut(r.RequestURI, "?")
		for _, request := range s.klavi.take() {
			if got, want := r.Method+" "+path, served[request.method+" "+request.uri]; got != want {
				t.Errorf("%q became %s %s at klavi", got, request.method, request.uri)
			}
			authorization := "Bearer " + rawLinkToken
			if request.uri == "/data/v1/links" {
				authorization = "Bearer " + accessToken
			} else if !carries(sent, token) {
				t.Errorf("%q was served without the link token", raw)
			}
			wantConstant(t, request, authorization)
			if request.uri != "/data/v1/consents" {
				continue
			}
			var consent map[string]any
			if err := json.Unmarshal([]byte(request.body), &consent); err != nil {
				t.Errorf("got %q at klavi: %v", request.body, err)
			}
			to := consent["redirectURL"]
			if consent["institutionCode"] != "341" || consent["personalTaxId"] != nil || to != testRedirect && to != otherRedirect {
				t.Errorf("got the consent %s, want one for the link", request.body)
			}
		}
	})
}

// carries reports whether a request has the link token where it belongs, and no
// other in its place.
func carries(h http.Header, token string) bool {
	if own, ok := h["Klavi-Link-Token"]; ok {
		return len(own) == 1 && own[0] == token
	}
	authorization := h["Authorization"]
	return len(authorization) == 1 && len(authorization[0]) > 7 &&
		strings.EqualFold(authorization[0][:7], "Bearer ") && authorization[0][7:] == token
}

// wantConstant checks the headers of a request at Klavi: no other, and no other value.
func wantConstant(t *testing.T, request seen, authorization string) {
	t.Helper()
	want := map[string]string{
		"Accept": "application/json", "Accept-Encoding": "gzip", "User-Agent": "caddy-klavi", "Authorization": authorization,
	}
	if request.method == http.MethodPost {
		want["Content-Type"], want["Content-Length"] = "application/json", strconv.Itoa(len(request.body))
	} else if request.body != "" {
		t.Errorf("got the body %q at klavi, want none", request.body)
	}
	if len(request.header) != len(want) {
		t.Errorf("got %v at klavi, want %v", request.header, want)
	}
	for name, value := range want {
		if got := request.header[name]; len(got) != 1 || got[0] != value {
			t.Errorf("got %s %q at klavi, want %q", name, got, value)
		}
	}
}

// checkRecorded checks what holds for each answer of the handler's.
func checkRecorded(t *testing.T, status int, res *http.Response) {
	t.Helper()
	if status == passed || status == statusClientGone {
		return // another handler's, or nobody's
	}
	defer res.Body.Close()
	if status >= 500 || status/100 == 3 || status < 200 {
		t.Errorf("got status %d, want one for a request of a client's", status)
	}
	for name, want := range map[string]string{"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"} {
		if got := res.Header[name]; len(got) != 1 || got[0] != want {
			t.Errorf("got %d with %s %q, want %q", status, name, got, want)
		}
	}
	for name := range res.Header {
		if _, known := allowedHeaders[name]; !known && name != "Allow" {
			t.Errorf("got %d with the header %s, want none but %v", status, name, allowedHeaders)
		}
	}
}
