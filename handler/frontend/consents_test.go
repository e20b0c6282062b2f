package frontend

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/google/uuid"

	"github.com/caddy-klavi/caddy-klavi/gateway"
)

func TestConsentsFitTheirLink(t *testing.T) {
	person := gateway.LinkToken{PersonalTaxID: testCPF}
	business := gateway.LinkToken{BusinessTaxID: testCNPJ}
	both := gateway.LinkToken{PersonalTaxID: testCPF, BusinessTaxID: testCNPJ}
	neither := gateway.LinkToken{}
	preset := gateway.LinkToken{InstitutionCode: "341"}
	for _, test := range []struct {
		name    string
		link    gateway.LinkToken
		unbound bool
		body    string
		field   string // that does not fit
		sent    string // beside institutionCode 341, redirectURL and externalTrackId
	}{
		{"person: left out", person, false, `{"institutionCode":"341"}`, "", `"personalTaxId":"52998224725"`},
		{"person: the same", person, false, `{"institutionCode":"341","personalTaxId":"529.982.247-25"}`, "", `"personalTaxId":"52998224725"`},
		{"person: another", person, false, `{"institutionCode":"341","personalTaxId":"98765432100"}`, "personalTaxId", ""},
		{"person: a business", person, false, `{"institutionCode":"341","businessTaxId":"11222333000181"}`, "businessTaxId", ""},
		{"person: both", person, true, `{"institutionCode":"341","personalTaxId":"52998224725","businessTaxId":"11222333000181"}`, "businessTaxId", ""},

		{"business: left out", business, false, `{"institutionCode":"341"}`, "", `"businessTaxId":"11222333000181"`},
		{
			"business: with a person", business, false, `{"institutionCode":"341","businessTaxId":"11.222.333/0001-81","personalTaxId":"98765432100"}`,
			"", `"personalTaxId":"98765432100","businessTaxId":"11222333000181"`,
		},
		{"business: another", business, false, `{"institutionCode":"341","businessTaxId":"11444777000161"}`, "businessTaxId", ""},

		{"both: left out", both, false, `{"institutionCode":"341"}`, "", `"personalTaxId":"52998224725","businessTaxId":"11222333000181"`},
		{"both: another person", both, false, `{"institutionCode":"341","personalTaxId":"98765432100"}`, "personalTaxId", ""},
		{"both: another business", both, false, `{"institutionCode":"341","businessTaxId":"11444777000161"}`, "businessTaxId", ""},

		{"neither: none", neither, false, `{"institutionCode":"341"}`, "", ``},
		{"neither: a person", neither, false, `{"institutionCode":"341","personalTaxId":"52998224725"}`, "personalTaxId", ""},
		{"neither: a business", neither, false, `{"institutionCode":"341","businessTaxId":"11222333000181"}`, "businessTaxId", ""},
		{"neither: unbound", neither, true, `{"institutionCode":"341","personalTaxId":"52998224725"}`, "", `"personalTaxId":"52998224725"`},

		{"institution: left out", preset, false, `{}`, "", ``},
		{"institution: the same", preset, false, `{"institutionCode":"341"}`, "", ``},
		{"institution: another", preset, false, `{"institutionCode":"001"}`, "institutionCode", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := publicSite()
			f.UnboundConsents = test.unbound
			s := newSite(t, f)
			body := strings.Replace(strings.Replace(test.body, "{", `{"externalTrackId":"t-1",`, 1), ",}", "}", 1)
			w := s.post("/klavi/consents", body, "Authorization", s.seal(t, test.link))
			if test.field != "" {
				wantProblem(t, w, 403, "consent-mismatch", test.field)
				s.wantNothingSent(t)
				return
			}
			if w.Code != http.StatusOK || w.Body.String() != bankAnswer || w.Header().Get("Cache-Control") != "no-store" {
				t.Fatalf("got status %d with %v: %s", w.Code, w.Header(), w.Body)
			}
			want := `{"externalTrackId":"t-1",` + test.sent + `,"institutionCode":"341","redirectURL":"` + testRedirect + `"}`
			want = strings.Replace(want, ",,", ",", 1)
			if requests := s.klavi.take(); len(requests) != 1 || requests[0].body != want {
				t.Errorf("got %+v at klavi, want the body\n%s", requests, want)
			}
		})
	}
}

func TestConsentRequest(t *testing.T) {
	f := publicSite()
	f.SetConsent = map[string]string{"validityPeriod": "12", "phone": "{http.request.header.X-Phone}"}
	s := newSite(t, f)
	link := s.seal(t, gateway.LinkToken{})
	w := s.post("/klavi/consents",
		`{"institutionCode":"341","redirectURL":"`+otherRedirect+`","email":"a@b.example","clientMetadata":{"a":1},"validityPeriod":12}`,
		"Authorization", link, "X-Phone", "+5511987654321")
	if w.Code != http.StatusOK {
		t.Fatalf("got status %d: %s", w.Code, w.Body)
	}
	var sent map[string]any
	if err := json.Unmarshal([]byte(s.klavi.take()[0].body), &sent); err != nil {
		t.Fatal(err)
	}
	track, _ := sent["externalTrackId"].(string)
	if _, err := uuid.Parse(track); err != nil {
		t.Errorf("got externalTrackId %q, want a UUID", track)
	}
	for name, want := range map[string]any{
		"redirectURL": otherRedirect, "validityPeriod": 12.0, "phone": "+5511987654321", "email": "a@b.example", "institutionCode": "341",
	} {
		if sent[name] != want {
			t.Errorf("got %s %v, want %v", name, sent[name], want)
		}
	}

	for _, test := range []struct {
		name, body  string
		headers     []string
		status      int
		kind, field string
	}{
		{"another period", `{"institutionCode":"341","validityPeriod":0}`, []string{"X-Phone", "11987654321"}, 403, "not-yours", "validityPeriod"},
		{"another phone", `{"institutionCode":"341","phone":"11987654322"}`, []string{"X-Phone", "11987654321"}, 403, "not-yours", "phone"},
		{"no phone", `{"institutionCode":"341"}`, nil, 401, "login-required", ""},
		{"no institution", `{"externalTrackId":"x"}`, []string{"X-Phone", "11987654321"}, 400, "invalid-field", "institutionCode"},
		{"redirect", `{"institutionCode":"341","redirectURL":"https://evil.example"}`, []string{"X-Phone", "11987654321"}, 400, "redirect-not-listed", "redirectURL"},
		{"the link's field", `{"productsCallbackURL":{}}`, []string{"X-Phone", "11987654321"}, 400, "unknown-field", "productsCallbackURL"},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := s.post("/klavi/consents", test.body, append(test.headers, "Authorization", link)...)
			wantProblem(t, w, test.status, test.kind, test.field)
			s.wantNothingSent(t)
		})
	}
}

func TestRawConsents(t *testing.T) {
	f := publicSite()
	f.LinkToken = "raw"
	s := newSite(t, f)
	w := s.post("/klavi/consents", `{"institutionCode":"341","personalTaxId":"98765432100","externalTrackId":"x"}`, "Authorization", "Bearer "+rawLinkToken)
	if w.Code != http.StatusOK {
		t.Fatalf("got status %d: %s", w.Code, w.Body)
	}
	requests := s.klavi.take()
	if len(requests) != 1 || requests[0].header.Get("Authorization") != "Bearer "+rawLinkToken || !strings.Contains(requests[0].body, otherCPF) {
		t.Errorf("got %+v at klavi", requests)
	}
	w = s.post("/klavi/consents", `{"institutionCode":"341","redirectURL":"https://evil.example"}`, "Authorization", "Bearer "+rawLinkToken)
	wantProblem(t, w, 400, "redirect-not-listed", "redirectURL")
}

func TestLinkTokens(t *testing.T) {
	s := newSite(t, userSite())
	sealed := strings.TrimPrefix(s.seal(t, gateway.LinkToken{User: "ana"}), "Bearer ")
	expired := s.seal(t, gateway.LinkToken{User: "ana", Expires: s.clock.Add(-time.Second)})
	for _, test := range []struct {
		name    string
		headers []string
		status  int
		kind    string
	}{
		{"bearer", []string{"X-User", "ana", "Authorization", "Bearer " + sealed}, 200, ""},
		{"lower-case scheme", []string{"X-User", "ana", "Authorization", "bearer " + sealed}, 200, ""},
		{"own header", []string{"X-User", "ana", "Klavi-Link-Token", sealed}, 200, ""},
		{"own header beside a login", []string{"X-User", "ana", "Klavi-Link-Token", sealed, "Authorization", "Bearer site"}, 200, ""},
		{"missing", []string{"X-User", "ana"}, 401, "link-invalid"},
		{"empty", []string{"X-User", "ana", "Authorization", "Bearer "}, 401, "link-invalid"},
		{"empty own header", []string{"X-User", "ana", "Klavi-Link-Token", "", "Authorization", "Bearer " + sealed}, 401, "link-invalid"},
		{"basic", []string{"X-User", "ana", "Authorization", "Basic " + sealed}, 401, "link-invalid"},
		{"two spaces", []string{"X-User", "ana", "Authorization", "Bearer  " + sealed}, 401, "link-invalid"},
		{"two in one", []string{"X-User", "ana", "Authorization", "Bearer " + sealed + ", Bearer " + sealed}, 401, "link-invalid"},
		{"more behind", []string{"X-User", "ana", "Authorization", "Bearer " + sealed + "="}, 401, "link-invalid"},
		{"changed", []string{"X-User", "ana", "Authorization", "Bearer " + sealed[:len(sealed)-2] + "AA"}, 401, "link-invalid"},
		{"klavi's own", []string{"X-User", "ana", "Authorization", "Bearer " + rawLinkToken}, 401, "link-invalid"},
		{"the access token", []string{"X-User", "ana", "Authorization", "Bearer " + accessToken}, 401, "link-invalid"},
		{"expired", []string{"X-User", "ana", "Authorization", expired}, 401, "link-expired"},
		{"another user", []string{"X-User", "eve", "Authorization", "Bearer " + sealed}, 403, "not-yours"},
		{"nobody", []string{"Authorization", "Bearer " + sealed}, 401, "login-required"},
		{"nobody's link", []string{"X-User", "ana", "Authorization", s.seal(t, gateway.LinkToken{})}, 403, "not-yours"},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := s.get("/klavi/institutions", test.headers...)
			if test.kind != "" {
				wantProblem(t, w, test.status, test.kind, "")
				s.wantNothingSent(t)
			} else if w.Code != test.status {
				t.Errorf("got status %d (%s), want %d", w.Code, w.Body, test.status)
			}
			s.klavi.take()
		})
	}
	s.wantNoSecretsLogged(t)
}

// A link of a logged-in user is of no use on a site without logins.
func TestUsersLinkOnPublicSite(t *testing.T) {
	s := newSite(t, publicSite())
	wantProblem(t, s.get("/klavi/institutions", "Authorization", s.seal(t, gateway.LinkToken{User: "ana"})), 403, "not-yours", "")
}

func TestRawLinkTokens(t *testing.T) {
	f := publicSite()
	f.LinkToken = "raw"
	s := newSite(t, f)
	if w := s.post("/klavi/links", `{}`); w.Code != http.StatusOK { // logs in
		t.Fatalf("got status %d: %s", w.Code, w.Body)
	}
	s.klavi.take()
	for token, ok := range map[string]bool{
		rawLinkToken: true, "a+/~_-.=": true, "eyJhbGciOiJub25lIn0.e30.": true,
		accessToken: false, "a b": false, "=": false, "a=b": false, "a,b": false, "é": false, strings.Repeat("a", maxRawToken+1): false,
	} {
		w := s.get("/klavi/institutions", "Authorization", "Bearer "+token)
		if ok && w.Code != http.StatusOK {
			t.Errorf("%.20q: got status %d (%s), want 200", token, w.Code, w.Body)
		}
		if !ok {
			wantProblem(t, w, 401, "link-invalid", "")
			continue
		}
		if requests := s.klavi.take(); len(requests) != 1 || requests[0].header.Get("Authorization") != "Bearer "+token {
			t.Errorf("%.20q: got %+v at klavi", token, requests)
		}
	}
	s.wantNothingSent(t)
}
