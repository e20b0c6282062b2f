package frontend

import (
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/caddy-klavi/caddy-klavi/gateway"
)

func TestIdempotentLinks(t *testing.T) {
	s := newSite(t, userSite())
	first := s.post("/klavi/links", `{"institutionCode":"341"}`, "X-User", "ana", "Idempotency-Key", "k1")
	if first.Code != http.StatusOK {
		t.Fatalf("got status %d: %s", first.Code, first.Body)
	}
	for _, test := range []struct {
		name, path, body, user, key string
		host                        string
		status                      int
		repeats                     bool
	}{
		{"the same", "/klavi/links", `{ "institutionCode" : "341" }`, "ana", "k1", "example.com", 200, true},
		{"the same on the same host", "/klavi/links", `{"institutionCode":"341"}`, "ana", "k1", "EXAMPLE.com", 200, true},
		{"the same, with a port and a dot", "/klavi/links", `{"institutionCode":"341"}`, "ana", "k1", "example.com.:8443", 200, true},
		{"another body", "/klavi/links", `{"institutionCode":"001"}`, "ana", "k1", "example.com", 422, false},
		{"another user", "/klavi/links", `{"institutionCode":"341"}`, "eve", "k1", "example.com", 200, false},
		{"another host", "/klavi/links", `{"institutionCode":"341"}`, "ana", "k1", "other.example", 200, false},
		{"another key", "/klavi/links", `{"institutionCode":"341"}`, "ana", "k2", "example.com", 200, false},
	} {
		s.klavi.take()
		r := newPost(test.path, test.body, []string{"X-User", test.user, "Idempotency-Key", test.key})
		r.Host = test.host
		w := s.do(r)
		if test.status == http.StatusUnprocessableEntity {
			wantProblem(t, w, 422, "idempotency-conflict", "")
			s.wantNothingSent(t)
			continue
		}
		if w.Code != test.status {
			t.Fatalf("%s: got status %d: %s", test.name, w.Code, w.Body)
		}
		if repeats := w.Body.String() == first.Body.String(); repeats != test.repeats || (len(s.klavi.take()) == 0) != test.repeats {
			t.Errorf("%s: got the first answer again: %v, want %v", test.name, repeats, test.repeats)
		}
	}
}

func TestIdempotentConsents(t *testing.T) {
	s := newSite(t, publicSite())
	ours, theirs := s.seal(t, gateway.LinkToken{}), s.seal(t, gateway.LinkToken{LinkID: "link-2"})
	post := func(authorization, address string) int {
		r := newPost("/klavi/consents", `{"institutionCode":"341"}`, []string{"Authorization", authorization, "Idempotency-Key", "k"})
		r.RemoteAddr = address
		return s.do(r).Code
	}
	for _, test := range []struct {
		name, authorization, address string
		status, calls                int
	}{
		{"first", ours, "192.0.2.1:1000", 200, 1},
		{"again, without an externalTrackId", ours, "192.0.2.1:2000", 200, 0},
		{"another link", theirs, "192.0.2.1:1000", 422, 0},
		{"another client", theirs, "192.0.2.2:1000", 200, 1},
	} {
		if got := post(test.authorization, test.address); got != test.status {
			t.Errorf("%s: got status %d, want %d", test.name, got, test.status)
		}
		if got := len(s.klavi.take()); got != test.calls {
			t.Errorf("%s: got %d calls, want %d", test.name, got, test.calls)
		}
	}
}

// Failures are not kept: the next try with the key is a new one.
func TestIdempotencyKeepsSuccessOnly(t *testing.T) {
	s := newSite(t, publicSite())
	s.klavi.answer("POST /data/v1/links", 500, nil, `{}`)
	wantProblem(t, s.post("/klavi/links", `{}`, "Idempotency-Key", "k"), 503, "klavi-unreachable", "")
	s.klavi.answer("POST /data/v1/links", 200, nil, linkAnswer)
	if w := s.post("/klavi/links", `{}`, "Idempotency-Key", "k"); w.Code != http.StatusOK {
		t.Errorf("got status %d: %s", w.Code, w.Body)
	}
}

func TestTwoAtOnceMakeOneCall(t *testing.T) {
	s := newSite(t, publicSite())
	begun, goOn := make(chan struct{}), make(chan struct{})
	s.klavi.mu.Lock()
	s.klavi.answers["POST /data/v1/links"] = func(w http.ResponseWriter, _ *http.Request) {
		begun <- struct{}{}
		<-goOn
		_, _ = w.Write([]byte(linkAnswer))
	}
	s.klavi.mu.Unlock()
	var wg sync.WaitGroup
	bodies := make([]string, 4)
	for i := range bodies {
		wg.Go(func() { bodies[i] = s.post("/klavi/links", `{}`, "Idempotency-Key", "k").Body.String() })
	}
	<-begun
	close(goOn)
	wg.Wait()
	for _, body := range bodies {
		if body != bodies[0] || !strings.Contains(body, "link-1") {
			t.Errorf("got %s and %s, want one answer", bodies[0], body)
		}
	}
	if got := len(s.klavi.take()); got != 1 {
		t.Errorf("got %d calls, want 1", got)
	}
}

func TestIdempotencyKeys(t *testing.T) {
	s := newSite(t, publicSite())
	for _, keys := range [][]string{{""}, {"a", "a"}, {strings.Repeat("a", 256)}, {"caf\u00e9"}, {"a\tb"}} {
		r := newPost("/klavi/links", `{}`, nil)
		r.Header["Idempotency-Key"] = keys
		wantProblem(t, s.do(r), 400, "invalid-request", "")
	}
	s.wantNothingSent(t)
	if w := s.post("/klavi/links", `{}`, "Idempotency-Key", strings.Repeat("a", 255)); w.Code != http.StatusOK {
		t.Errorf("got status %d: %s", w.Code, w.Body)
	}
}

// The same key may be used once for the link and once for the consent.
func TestKeysPerEndpoint(t *testing.T) {
	s := newSite(t, publicSite())
	if w := s.post("/klavi/links", `{}`, "Idempotency-Key", "k"); w.Code != http.StatusOK {
		t.Fatalf("links: got status %d: %s", w.Code, w.Body)
	}
	authorization := s.seal(t, gateway.LinkToken{InstitutionCode: "341"})
	if w := s.post("/klavi/consents", `{}`, "Idempotency-Key", "k", "Authorization", authorization); w.Code != http.StatusOK || w.Body.String() != bankAnswer {
		t.Errorf("consents: got status %d: %s", w.Code, w.Body)
	}
}
