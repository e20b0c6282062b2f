package frontend

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-klavi/caddy-klavi/gateway"
)

// hold has Klavi answer an endpoint only when it is told to. Each request that has
// come is sent on begun.
func (k *fakeKlavi) hold(endpoint, answer string) (begun <-chan struct{}, goOn func()) {
	came, over := make(chan struct{}, 1000), make(chan struct{})
	k.mu.Lock()
	defer k.mu.Unlock()
	k.answers[endpoint] = func(w http.ResponseWriter, r *http.Request) {
		came <- struct{}{}
		<-over
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte(answer))
	}
	return came, sync.OnceFunc(func() { close(over) })
}

// wantLimit checks a refusal that tells when to come again.
func wantLimit(t *testing.T, w *httptest.ResponseRecorder) {
	t.Helper()
	wantProblem(t, w, 429, "rate-limited", "")
	if after, err := strconv.Atoi(w.Header().Get("Retry-After")); err != nil || after < 1 || after > 60 {
		t.Errorf("got Retry-After %q, want some seconds", w.Header().Get("Retry-After"))
	}
}

// A slow Klavi is not asked by one caller for more than some at once. The next
// request is refused while the others wait, and other callers are served.
func TestTooManyAtOnce(t *testing.T) {
	from := func(address string) []string { return []string{"From", address} }
	for _, tt := range []struct {
		name, endpoint, answer string
		f                      Frontend
		one, other             []string
		method, path, body     string
		atOnce                 int
	}{
		{
			"links of a user", "POST /data/v1/links", linkAnswer, userSite(),
			[]string{"X-User", "ana"},
			[]string{"X-User", "eve"},
			"POST", "/klavi/links", `{}`, 20,
		},
		{
			"consents of a user", "POST /data/v1/consents", bankAnswer, userSite(),
			[]string{"X-User", "ana"},
			[]string{"X-User", "eve"},
			"POST", "/klavi/consents", `{"institutionCode":"341"}`, 20,
		},
		{
			"lists of a user", "GET /data/v1/links/institutions", listAnswer, userSite(),
			[]string{"X-User", "ana"},
			[]string{"X-User", "eve"},
			"GET", "/klavi/institutions", ``, 20,
		},
		{
			"links of an address", "POST /data/v1/links", linkAnswer, publicSite(),
			from("192.0.2.1:1000"), from("192.0.2.2:1000"), "POST", "/klavi/links", `{}`, 100,
		},
		{
			"lists of a network", "GET /data/v1/links/institutions", listAnswer, publicSite(),
			from("[2001:db8::1]:1000"), from("[2001:db8:0:1::1]:1000"), "GET", "/klavi/institutions", ``, 100,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newSite(t, tt.f)
			begun, goOn := s.klavi.hold(tt.endpoint, tt.answer)
			defer goOn()
			do := func(who []string) *httptest.ResponseRecorder {
				r := httptest.NewRequest(tt.method, tt.path, strings.NewReader(tt.body))
				user := ""
				switch who[0] {
				case "From":
					r.RemoteAddr = who[1]
				default:
					r.Header.Set(who[0], who[1])
					user = who[1]
				}
				r.Header.Set("Content-Type", "application/json")
				r.Header.Set("Authorization", s.seal(t, gateway.LinkToken{User: user}))
				return s.do(r)
			}
			var wg sync.WaitGroup
			served := func(who []string) {
				answered := make(chan struct{}, 1)
				wg.Go(func() {
					if w := do(who); w.Code != http.StatusOK {
						t.Errorf("%s: got status %d: %s", who[1], w.Code, w.Body)
					}
					answered <- struct{}{}
				})
				select {
				case <-begun:
				case <-answered:
					t.Fatalf("%s: got an answer, want the request at klavi", who[1])
				}
			}
			for range tt.atOnce {
				served(tt.one)
			}
			wantLimit(t, do(tt.one))
			served(tt.other)
			goOn()
			wg.Wait()
			if got := len(s.klavi.take()); got != tt.atOnce+1 {
				t.Errorf("got %d requests at klavi, want %d", got, tt.atOnce+1)
			}
			if w := do(tt.one); w.Code != http.StatusOK {
				t.Errorf("got status %d (%s) once they are over, want 200", w.Code, w.Body)
			}
		})
	}
}

// A caller may create many links and consents, and not any number of them.
func TestTooManyCreations(t *testing.T) {
	for _, tt := range []struct {
		name  string
		f     Frontend
		who   []string
		other func(*http.Request)
		burst int
	}{
		{"a user", userSite(), []string{"X-User", "ana"}, func(r *http.Request) { r.Header.Set("X-User", "eve") }, 60},
		{"an address", publicSite(), nil, func(r *http.Request) { r.RemoteAddr = "198.51.100.1:1" }, 300},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newSite(t, tt.f)
			user := ""
			if tt.who != nil {
				user = tt.who[1]
			}
			consent := append([]string{"Authorization", s.seal(t, gateway.LinkToken{User: user})}, tt.who...)
			made := 0
			next := func() *httptest.ResponseRecorder {
				if made%2 == 0 {
					return s.post("/klavi/links", `{}`, tt.who...)
				}
				return s.post("/klavi/consents", `{"institutionCode":"341"}`, consent...)
			}
			// Some more than the burst pass on a slow machine: time goes on.
			w := next()
			for ; w.Code == http.StatusOK && made < 10*tt.burst; w = next() {
				made++
			}
			wantLimit(t, w)
			if made < tt.burst {
				t.Errorf("got %d creations, want %d or more", made, tt.burst)
			}
			if got := len(s.klavi.take()); got != made {
				t.Errorf("got %d requests at klavi, want %d", got, made)
			}
			if w := s.get("/klavi/institutions", consent...); w.Code != http.StatusOK {
				t.Errorf("the list: got status %d (%s), want 200: reading is not creating", w.Code, w.Body)
			}
			r := newPost("/klavi/links", `{}`, nil)
			tt.other(r)
			if w := s.do(r); w.Code != http.StatusOK {
				t.Errorf("somebody else: got status %d (%s), want 200", w.Code, w.Body)
			}
			s.wantNoSecretsLogged(t)
		})
	}
}

// What is refused before Klavi is asked does not count.
func TestRefusalsAreNotCreations(t *testing.T) {
	s := newSite(t, userSite())
	for range 200 {
		wantProblem(t, s.post("/klavi/links", `{"banana":1}`, "X-User", "ana"), 400, "unknown-field", "banana")
	}
	for range 200 {
		if w := s.post("/klavi/links", `{}`, "X-User", "ana", "Idempotency-Key", "k"); w.Code != http.StatusOK {
			t.Fatalf("got status %d: %s", w.Code, w.Body)
		}
	}
	if w := s.post("/klavi/links", `{}`, "X-User", "ana"); w.Code != http.StatusOK {
		t.Errorf("got status %d (%s), want 200", w.Code, w.Body)
	}
}

// An answer that is kept for a repeated request does not outlive its link.
func TestLinkAnswersAreKeptAsLongAsTheLink(t *testing.T) {
	s := newSite(t, publicSite())
	for expireIn, want := range map[string]time.Duration{"60": time.Minute, `"600"`: 10 * time.Minute, "1800": 30 * time.Minute} {
		s.klavi.answer("POST /data/v1/links", 200, nil, strings.Replace(linkAnswer, "1800", expireIn, 1))
		answer, err := s.createLink(t.Context(), "", nil, []byte(`{}`))
		if err != nil {
			t.Fatal(err)
		}
		if answer.Kept != want {
			t.Errorf("expireIn %s: got an answer that is kept for %s, want %s", expireIn, answer.Kept, want)
		}
	}
}

// What a client can make up does not give it limits of its own.
func TestCaller(t *testing.T) {
	f := &Frontend{Prefix: "/klavi", Public: true}
	caller := func(host, address string) gateway.Caller {
		r := httptest.NewRequest(http.MethodPost, "http://"+host+"/klavi/links", nil)
		vars := map[string]any{caddyhttp.ClientIPVarKey: address}
		return f.caller(r.WithContext(context.WithValue(r.Context(), caddyhttp.VarsCtxKey, vars)), "")
	}
	one := caller("a.example", "2001:db8::1")
	for _, tt := range []struct {
		name, host, address string
		same                bool
	}{
		{"another host", "b.example", "2001:db8::1", true},
		{"another address of the same network", "a.example", "2001:db8::ffff:1:2:3", true},
		{"another network", "a.example", "2001:db8:0:1::1", false},
		{"an IPv4 address", "a.example", "192.0.2.1", false},
	} {
		if same := caller(tt.host, tt.address) == one; same != tt.same {
			t.Errorf("%s: got the same caller: %v, want %v", tt.name, same, tt.same)
		}
	}
	if caller("a.example", "192.0.2.1") == caller("a.example", "192.0.2.2") {
		t.Error("two IPv4 addresses are one caller")
	}
	if caller("a.example", "192.0.2.1") != caller("a.example", "::ffff:192.0.2.1") {
		t.Error("one IPv4 address, written in two ways, is two callers")
	}
	if !one.Crowd {
		t.Error("an address counts as one user")
	}
	f.Public = false
	r := httptest.NewRequest(http.MethodPost, "/klavi/links", nil)
	if ana := f.caller(r, "ana"); ana.Crowd || ana == f.caller(r, "eve") {
		t.Errorf("got %+v for ana, want a caller of her own", ana)
	}
}

// The longest body that is right, with every character escaped, has room.
func TestLongestBody(t *testing.T) {
	long := testRedirect + "?" + strings.Repeat("x", maxFieldText-len(testRedirect)-1)
	f := publicSite()
	f.RedirectURLs = []string{long}
	f.Accept = []string{"connectionKey", "externalInfo"}
	s := newSite(t, f)
	escaped := func(text string) string {
		var b strings.Builder
		for _, c := range []byte(text) {
			b.WriteString(`\u00` + strconv.FormatInt(int64(c), 16))
		}
		return b.String()
	}
	body := `{"redirectURL":"` + escaped(long) + `","connectionKey":"` + escaped(strings.Repeat("k", 512)) +
		`","email":"` + escaped(strings.Repeat("a", 63)+"@"+strings.Repeat("b", 190)) + `","phone":"` + escaped("+55 (11) 98765-4321") +
		`","personalTaxId":"` + escaped("529.982.247-25") + `","businessTaxId":"` + escaped("11.222.333/0001-81") +
		`","institutionCode":"` + escaped("341") + `","externalInfo":{"a":"` + strings.Repeat("x", maxFieldObject-8) + `"}}`
	if w := s.post("/klavi/links", body); w.Code != http.StatusOK {
		t.Errorf("got status %d for %d bytes: %s", w.Code, len(body), w.Body)
	}
}

// A body that is shorter than announced is no whole request, also where the
// server does not say so.
func TestShortBody(t *testing.T) {
	s := newSite(t, publicSite())
	r := httptest.NewRequest(http.MethodPost, "/klavi/links", strings.NewReader("{}"))
	r.Header.Set("Content-Type", "application/json")
	r.ContentLength = 3
	wantProblem(t, s.do(r), 400, "invalid-request", "")
	s.wantNothingSent(t)
}
