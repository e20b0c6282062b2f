package frontend

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/caddy-klavi/caddy-klavi/gateway"
)

func TestLinkRequestAtKlavi(t *testing.T) {
	full := userSite()
	full.Set = map[string]string{"personalTaxId": "{http.request.header.X-Cpf}", "institutionCode": "341"}
	full.ExternalInfo = map[string]string{"tenant": "{http.request.header.X-Tenant}-{http.request.host}"}
	full.ReportsURL = map[string]string{"pf_credit_card": "https://hooks.example/cards", "other": "https://hooks.example/rest"}
	full.AppLink = &AppLink{URL: "https://app.example/open", Parameter: "back"}
	full.Accept = []string{"externalInfo", "connectionKey"}
	for _, test := range []struct {
		name    string
		f       Frontend
		body    string
		headers []string
		want    string
	}{
		{"nothing", publicSite(), `{}`, nil, `{"redirectURL":"` + testRedirect + `"}`},
		{
			"what a browser may send", publicSite(),
			`{"personalTaxId":"529.982.247-25","businessTaxId":"11.222.333/0001-81","email":"a@b.example","phone":"+5511987654321","institutionCode":"001","redirectURL":"` + otherRedirect + `"}`,
			nil,
			`{"personalTaxId":"52998224725","businessTaxId":"11222333000181","email":"a@b.example","phone":"+5511987654321","institutionCode":"001","redirectURL":"` + otherRedirect + `"}`,
		},
		{
			"a user", userSite(), `{}`,
			[]string{"X-User", "ana"},
			`{"redirectURL":"` + testRedirect + `","externalInfo":{"user":"ana"}}`,
		},
		{
			"all the config can add", full, `{"externalInfo":{"user":"eve","n":[1]},"connectionKey":"k-1","personalTaxId":"529.982.247-25"}`,
			[]string{"X-User", "ana", "X-Cpf", testCPF, "X-Tenant", "t1"},
			`{"personalTaxId":"52998224725","institutionCode":"341","redirectURL":"` + testRedirect + `",` +
				`"productsCallbackURL":{"pf_credit_card":"https://hooks.example/cards","other":"https://hooks.example/rest"},` +
				`"externalInfo":{"client":{"user":"eve","n":[1]},"tenant":"t1-example.com","user":"ana"},"connectionKey":"k-1",` +
				`"appLink":"https://app.example/open","appRedirectURLKey":"back"}`,
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := newSite(t, test.f)
			if w := s.post("/klavi/links", test.body, test.headers...); w.Code != http.StatusOK {
				t.Fatalf("got status %d: %s", w.Code, w.Body)
			}
			requests := s.klavi.take()
			if len(requests) != 1 || requests[0].body != test.want {
				t.Fatalf("got %+v at klavi, want one request with the body\n%s", requests, test.want)
			}
			s.wantNoSecretsLogged(t)
		})
	}
}

func TestLinkAnswer(t *testing.T) {
	for _, test := range []struct {
		name                string
		change              func(*Frontend)
		linkToken, linkURL  bool
		sealed              bool
		expireIn, wantAfter string
	}{
		{"both", func(*Frontend) {}, true, true, true, `1800`, "2026-11-22T13:30:00Z"},
		{"api only", func(f *Frontend) { f.Flow = "api_only" }, true, false, true, `"600"`, "2026-11-22T13:10:00Z"},
		{"whitelabel", func(f *Frontend) { f.Flow = "whitelabel" }, false, true, false, `1800`, "2026-11-22T13:30:00Z"},
		{"raw", func(f *Frontend) { f.LinkToken = "raw" }, true, true, false, `60`, "2026-11-22T13:01:00Z"},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := userSite()
			test.change(&f)
			s := newSite(t, f)
			s.klavi.answer("POST /data/v1/links", 200, nil, strings.Replace(linkAnswer, "1800", test.expireIn, 1))
			w := s.post("/klavi/links", `{"personalTaxId":"`+testCPF+`","institutionCode":"341"}`, "X-User", "ana")
			if w.Code != http.StatusOK || w.Header().Get("Cache-Control") != "no-store" || w.Header().Get("Content-Type") != "application/json" {
				t.Fatalf("got status %d with headers %v: %s", w.Code, w.Header(), w.Body)
			}
			answer := decodeAnswer(t, w)
			want := 3
			for _, has := range []bool{test.linkToken, test.linkURL} {
				if has {
					want++
				}
			}
			if len(answer) != want || answer["linkId"] != "link-1" || answer["expiresAt"] != test.wantAfter {
				t.Errorf("got %v, want %d fields, link-1 and %s", answer, want, test.wantAfter)
			}
			if seconds, ok := answer["expireIn"].(float64); !ok || time.Duration(seconds)*time.Second != mustTime(t, test.wantAfter).Sub(s.clock) {
				t.Errorf("got expireIn %v, want the seconds until %s", answer["expireIn"], test.wantAfter)
			}
			token, _ := answer["linkToken"].(string)
			if !test.sealed {
				if (token == rawLinkToken) != test.linkToken {
					t.Errorf("got linkToken %q", token)
				}
				return
			}
			link, err := s.account.OpenLinkToken(token, s.clock)
			if err != nil {
				t.Fatalf("opening the linkToken: %v", err)
			}
			wantLink := gateway.LinkToken{
				Token: rawLinkToken, LinkID: "link-1", User: "ana", Expires: link.Expires, PersonalTaxID: testCPF, InstitutionCode: "341",
			}
			if link != wantLink || !link.Expires.Equal(mustTime(t, test.wantAfter)) {
				t.Errorf("got %+v in the linkToken, want %+v", link, wantLink)
			}
		})
	}
}

func mustTime(t *testing.T, text string) time.Time {
	t.Helper()
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		t.Fatal(err)
	}
	return at
}

func TestRefusedLinks(t *testing.T) {
	fixed := userSite()
	fixed.Set = map[string]string{"personalTaxId": "{http.request.header.X-Cpf}", "email": "{http.request.header.X-Mail}"}
	fixed.ExternalInfo = map[string]string{"tenant": "{http.request.header.X-Tenant}"}
	composed := userSite()
	composed.User = "{http.request.header.X-Realm}-{http.request.header.X-User}"
	unknown := userSite()
	unknown.User = "{nobody.knows.this}"
	good := []string{"X-User", "ana", "X-Cpf", testCPF, "X-Mail", "a@b.example", "X-Tenant", "t"}
	without := func(name string) []string {
		var rest []string
		for i := 0; i < len(good); i += 2 {
			if good[i] != name {
				rest = append(rest, good[i], good[i+1])
			}
		}
		return rest
	}
	for _, test := range []struct {
		name        string
		f           Frontend
		body        string
		headers     []string
		status      int
		kind, field string
		logged      string // part of the line that names the placeholder
	}{
		{"no user", fixed, `{}`, without("X-User"), 401, "login-required", "", "{http.request.header.X-User} is empty"},
		{"no CPF", fixed, `{}`, without("X-Cpf"), 401, "login-required", "", "{http.request.header.X-Cpf} is empty"},
		{"no CPF, but the browser's", fixed, `{"personalTaxId":"` + testCPF + `"}`, without("X-Cpf"), 401, "login-required", "", "X-Cpf"},
		{"no external info", fixed, `{}`, without("X-Tenant"), 401, "login-required", "", "X-Tenant"},
		{"a wrong CPF", fixed, `{}`, append(without("X-Cpf"), "X-Cpf", "52998224726"), 401, "login-required", "", "X-Cpf"},
		{"a wrong mail", fixed, `{}`, append(without("X-Mail"), "X-Mail", "nobody"), 401, "login-required", "", "X-Mail"},
		{"half of a user", composed, `{}`, []string{"X-User", "ana"}, 401, "login-required", "", "X-Realm} is empty"},
		{"an unknown placeholder", unknown, `{}`, good, 401, "login-required", "", "unrecognized placeholder {nobody.knows.this}"},
		{"a long user", userSite(), `{}`, []string{"X-User", strings.Repeat("a", 257)}, 401, "login-required", "", "longer than 256"},
		{"a user with a tab", userSite(), `{}`, []string{"X-User", "a\tb"}, 401, "login-required", "", "control characters"},
		{"a user of blanks", userSite(), `{}`, []string{"X-User", " "}, 401, "login-required", "", "blank"},
		{"a user in Latin-1", userSite(), `{}`, []string{"X-User", "jos\xe9"}, 401, "login-required", "", "UTF-8"},
		{"another CPF", fixed, `{"personalTaxId":"` + otherCPF + `"}`, good, 403, "not-yours", "personalTaxId", ""},
		{"another mail", fixed, `{"email":"x@b.example"}`, good, 403, "not-yours", "email", ""},
		{"another redirect", publicSite(), `{"redirectURL":"https://evil.example"}`, nil, 400, "redirect-not-listed", "redirectURL", ""},
		{"a redirect with more", publicSite(), `{"redirectURL":"` + testRedirect + `/"}`, nil, 400, "redirect-not-listed", "redirectURL", ""},
		{"a field that is closed", publicSite(), `{"connectionKey":"k"}`, nil, 400, "unknown-field", "connectionKey", ""},
		{"the server's field", publicSite(), `{"productsCallbackURL":{"all":"https://evil.example"}}`, nil, 400, "unknown-field", "productsCallbackURL", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := newSite(t, test.f)
			wantProblem(t, s.post("/klavi/links", test.body, test.headers...), test.status, test.kind, test.field)
			s.wantNothingSent(t)
			s.wantNoSecretsLogged(t)
			lines := s.logs.FilterMessage("request refused: a placeholder has no usable value").All()
			if (len(lines) == 1) != (test.logged != "") {
				t.Fatalf("got %d lines about placeholders", len(lines))
			}
			for _, line := range lines {
				fields := line.ContextMap()
				if text := fields["placeholder"].(string) + " " + fields["reason"].(string); !strings.Contains(text, test.logged) {
					t.Errorf("got the line %q, want %q in it", text, test.logged)
				}
			}
		})
	}
}

func TestLinkBodies(t *testing.T) {
	s := newSite(t, publicSite())
	for _, test := range []struct {
		name, contentType, body string
		headers                 []string
		status                  int
		kind                    string
	}{
		{"charset", "application/json; charset=UTF-8", `{}`, nil, 200, ""},
		{"other charset", "application/json; charset=latin1", `{}`, nil, 415, "unsupported-media-type"},
		{"other parameter", "application/json; v=1", `{}`, nil, 415, "unsupported-media-type"},
		{"form", "application/x-www-form-urlencoded", `{}`, nil, 415, "unsupported-media-type"},
		{"text", "text/plain", `{}`, nil, 415, "unsupported-media-type"},
		{"no type", "", `{}`, nil, 415, "unsupported-media-type"},
		{"two types", "application/json", `{}`, []string{"Content-Type", "application/json"}, 415, "unsupported-media-type"},
		{"encoded", "application/json", `{}`, []string{"Content-Encoding", "gzip"}, 415, "unsupported-media-type"},
		{"identity", "application/json", `{}`, []string{"Content-Encoding", "identity"}, 200, ""},
		{"large", "application/json", `{"email":"` + strings.Repeat("a", maxBody) + `"}`, nil, 413, "too-large"},
		{"empty", "application/json", ``, nil, 400, "invalid-request"},
	} {
		for _, chunked := range []bool{false, true} {
			r := newPost("/klavi/links", test.body, test.headers)
			if test.contentType == "" {
				r.Header.Del("Content-Type")
			} else {
				r.Header["Content-Type"][0] = test.contentType
			}
			if chunked {
				r.ContentLength = -1
			}
			w := s.do(r)
			if test.status == 200 {
				if w.Code != 200 {
					t.Errorf("%s: got status %d: %s", test.name, w.Code, w.Body)
				}
				continue
			}
			wantProblem(t, w, test.status, test.kind, "")
		}
	}
}

func TestKlaviFailsOnLinks(t *testing.T) {
	for _, test := range []struct {
		name         string
		status       int
		header       http.Header
		body         string
		want         int
		kind         string
		code         int
		message      string
		wantRequests int
	}{
		{"401", 401, nil, `{"statusCode":401,"message":"no"}`, 502, "klavi-refused", 401, "no", 2},
		{"400", 400, nil, `{"statusCode":400,"message":"Invalid phone"}`, 400, "klavi-refused", 400, "Invalid phone", 1},
		{"416", 416, nil, `{"statusCode":4004,"message":"outage"}`, 422, "institution-unavailable", 4004, "outage", 1},
		{"429", 429, http.Header{"Retry-After": {"7"}}, `{}`, 429, "rate-limited", 0, "", 1},
		{"500", 500, nil, `<html>`, 503, "klavi-unreachable", 0, "", 1},
		{"302", 302, http.Header{"Location": {"https://evil.example"}}, ``, 502, "klavi-nonsense", 0, "", 1},
		{"no JSON", 200, nil, `<html>`, 502, "klavi-nonsense", 0, "", 1},
		{"no token", 200, nil, `{"linkId":"x","linkURL":"https://x.example/"}`, 502, "klavi-nonsense", 0, "", 1},
		{"a linkURL that runs", 200, nil, strings.Replace(linkAnswer, "https://conecte", "javascript://conecte", 1), 502, "klavi-nonsense", 0, "", 1},
		{"a token too large", 200, nil, `{"linkId":"x","linkURL":"https://x.example/","linkToken":"` + strings.Repeat("a", 4096) + `"}`, 502, "klavi-nonsense", 0, "", 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := newSite(t, publicSite())
			s.klavi.answer("POST /data/v1/links", test.status, test.header, test.body)
			w := s.post("/klavi/links", `{"personalTaxId":"`+testCPF+`"}`)
			wantProblem(t, w, test.want, test.kind, "")
			answer := decodeAnswer(t, w)
			if code, _ := answer["statusCode"].(float64); int(code) != test.code {
				t.Errorf("got statusCode %v, want %d", answer["statusCode"], test.code)
			}
			if message, _ := answer["message"].(string); message != test.message {
				t.Errorf("got message %q, want %q", message, test.message)
			}
			if w.Header().Get("Location") != "" {
				t.Errorf("got Location %q, want none", w.Header().Get("Location"))
			}
			if test.status == 429 && w.Header().Get("Retry-After") != "7" {
				t.Errorf("got Retry-After %q, want klavi's", w.Header().Get("Retry-After"))
			}
			if got := len(s.klavi.take()); got != test.wantRequests {
				t.Errorf("got %d requests at klavi, want %d", got, test.wantRequests)
			}
			s.wantNoSecretsLogged(t)
		})
	}
}

func TestKlaviIsDown(t *testing.T) {
	s := newSite(t, publicSite())
	authorization := s.seal(t, gateway.LinkToken{InstitutionCode: "341"})
	s.klavi.Close()
	wantProblem(t, s.post("/klavi/links", `{}`), 503, "klavi-unreachable", "")
	wantProblem(t, s.get("/klavi/institutions", "Authorization", authorization), 503, "klavi-unreachable", "")
	w := s.post("/klavi/consents", `{}`, "Authorization", authorization)
	wantProblem(t, w, 503, "klavi-unreachable", "")
	if w.Header().Get("Retry-After") == "" {
		t.Error("got no Retry-After")
	}
}

// A body that breaks off is a broken connection, not nonsense.
func TestAnswersBreakOff(t *testing.T) {
	s := newSite(t, publicSite())
	authorization := s.seal(t, gateway.LinkToken{InstitutionCode: "341"})
	s.klavi.mu.Lock()
	for _, endpoint := range []string{"POST /data/v1/links", "POST /data/v1/consents", "GET /data/v1/links/institutions"} {
		s.klavi.answers[endpoint] = func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			w.Header().Set("Content-Length", "100")
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		}
	}
	s.klavi.mu.Unlock()
	wantProblem(t, s.post("/klavi/links", `{}`), 502, "klavi-unreachable", "")
	wantProblem(t, s.post("/klavi/consents", `{}`, "Authorization", authorization), 502, "klavi-unreachable", "")
	wantProblem(t, s.get("/klavi/institutions", "Authorization", authorization), 502, "klavi-unreachable", "")
}
