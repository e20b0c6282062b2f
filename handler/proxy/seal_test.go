package proxy

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/caddy-klavi/caddy-klavi/gateway"
)

const linkAnswer = `{"linkId":"4437b139","linkToken":"raw.link.token","linkURL":"https://conecte.example.com/?v=raw.link.token&x=1",` +
	`"expireIn":"1800","somethingNew":"raw.link.token"}`

func sealing(t *testing.T, config Transport) (*Transport, *fakeKlavi, *traces) {
	t.Helper()
	k := newKlavi(t)
	k.answer = func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Set-Cookie", "klavi=raw.link.token")
		_, _ = io.WriteString(w, linkAnswer)
	}
	config.LinkToken = linkTokenSealed
	tr, logs := provision(t, k.URL, config)
	return tr, k, logs
}

func linkRequest(body string) *http.Request {
	req := incoming(http.MethodPost, "/links", strings.NewReader(body))
	req.Header.Set("Klavi-User", "maria")
	req.Header.Set("Accept-Encoding", "br")
	return req
}

func TestSealedLink(t *testing.T) {
	tr, k, _ := sealing(t, Transport{ReportsURL: map[string]string{"all": "https://hooks.example.com/a"}})
	before := time.Now().Truncate(time.Second)
	a := roundTrip(t, tr, linkRequest(`{"personalTaxId":"529.982.247-25","businessTaxId":"11222333000181","institutionCode":"001","email":"m@example.com"}`))
	after := time.Now()

	if a.status != http.StatusOK {
		t.Fatalf("got %d %s, want 200", a.status, a.body)
	}
	var members map[string]json.RawMessage
	if err := json.Unmarshal([]byte(a.body), &members); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"linkId", "linkToken", "linkURL", "expireIn", "expiresAt"} {
		if members[name] == nil {
			t.Errorf("got no %s in %s", name, a.body)
		}
		delete(members, name)
	}
	if len(members) != 0 {
		t.Errorf("got %v too, want what is documented only", members)
	}
	var link struct {
		LinkID, LinkToken, LinkURL string
		ExpireIn                   int
		ExpiresAt                  time.Time
	}
	if err := json.Unmarshal([]byte(a.body), &link); err != nil {
		t.Fatal(err)
	}
	if link.LinkID != "4437b139" || link.LinkURL != "https://conecte.example.com/?v=raw.link.token&x=1" || link.ExpireIn != 1800 {
		t.Errorf("got %+v, want Klavi's values", link)
	}
	if link.ExpiresAt.Before(before.Add(30*time.Minute)) || link.ExpiresAt.After(after.Add(30*time.Minute)) {
		t.Errorf("got expiresAt %v, want half an hour after %v", link.ExpiresAt, before)
	}
	opened, err := tr.account.OpenLinkToken(link.LinkToken, after)
	if err != nil {
		t.Fatal(err)
	}
	want := gateway.LinkToken{
		Token: "raw.link.token", LinkID: "4437b139", User: "maria", Expires: opened.Expires,
		PersonalTaxID: "52998224725", BusinessTaxID: "11222333000181", InstitutionCode: "001",
	}
	if opened != want {
		t.Errorf("got %+v, want %+v", opened, want)
	}
	if !opened.Expires.Equal(link.ExpiresAt) {
		t.Errorf("the token expires at %v, want expiresAt %v", opened.Expires, link.ExpiresAt)
	}
	if got := a.header.Get("Cache-Control"); got != "no-store" {
		t.Errorf("got Cache-Control %q, want no-store", got)
	}
	if got := a.header.Get("Set-Cookie"); got != "" {
		t.Errorf("got Set-Cookie %q, want none", got)
	}

	sent := k.seen()[0]
	if _, ok := sent.header["Klavi-User"]; ok {
		t.Error("Klavi got the header Klavi-User, want it to go no further")
	}
	if got := sent.header.Get("Accept-Encoding"); got == "br" {
		t.Error("Klavi was asked for an encoding that is not understood here")
	}
	const body = `{"personalTaxId":"529.982.247-25","businessTaxId":"11222333000181","institutionCode":"001","email":"m@example.com",` +
		`"productsCallbackURL":{"all":"https://hooks.example.com/a"}}`
	if sent.body != body {
		t.Errorf("Klavi got %s, want %s", sent.body, body)
	}
}

func TestSealedLinkForNobodyInParticular(t *testing.T) {
	tr, _, _ := sealing(t, Transport{})
	for _, body := range []string{`{}`, `{"personalTaxId":null,"institutionCode":""}`} {
		a := roundTrip(t, tr, linkRequest(body))
		var link struct{ LinkToken string }
		if err := json.Unmarshal([]byte(a.body), &link); err != nil {
			t.Fatalf("%s: %v", a.body, err)
		}
		opened, err := tr.account.OpenLinkToken(link.LinkToken, time.Now())
		if err != nil || opened.PersonalTaxID+opened.BusinessTaxID+opened.InstitutionCode != "" {
			t.Errorf("%s: got %+v, %v, want a token without tax ids", body, opened, err)
		}
	}
}

func TestSealedLinkRefused(t *testing.T) {
	tr, k, _ := sealing(t, Transport{})
	for _, tt := range []struct {
		name, body  string
		users       []string
		kind, field string
	}{
		{"no user", `{}`, nil, "invalid-request", ""},
		{"empty user", `{}`, []string{""}, "invalid-request", ""},
		{"two users", `{}`, []string{"maria", "maria"}, "invalid-request", ""},
		{"long user", `{}`, []string{strings.Repeat("m", 257)}, "invalid-request", ""},
		{"control character", `{}`, []string{"maria\x01"}, "invalid-request", ""},
		{"invisible character", `{}`, []string{"maria\u200b"}, "invalid-request", ""},
		{"not UTF-8", `{}`, []string{"mar\xeda"}, "invalid-request", ""},
		{"no JSON", `personalTaxId=52998224725`, []string{"maria"}, "invalid-request", ""},
		{"no body", ``, []string{"maria"}, "invalid-request", ""},
		{"wrong CPF", `{"personalTaxId":"52998224726"}`, []string{"maria"}, "invalid-field", "personalTaxId"},
		{"CPF is a number", `{"personalTaxId":52998224725}`, []string{"maria"}, "invalid-field", "personalTaxId"},
		{"wrong CNPJ", `{"businessTaxId":"11222333000180"}`, []string{"maria"}, "invalid-field", "businessTaxId"},
		{"institution is a number", `{"institutionCode":1}`, []string{"maria"}, "invalid-field", "institutionCode"},
		{"institution with a point", `{"institutionCode":"0.1"}`, []string{"maria"}, "invalid-field", "institutionCode"},
		{"institution too long", `{"institutionCode":"` + strings.Repeat("1", 33) + `"}`, []string{"maria"}, "invalid-field", "institutionCode"},
		{"institution with a space", `{"institutionCode":"0 1"}`, []string{"maria"}, "invalid-field", "institutionCode"},
		{"near miss", `{"personalTaxID":"52998224725"}`, []string{"maria"}, "unknown-field", "personalTaxID"},
		{"snake case", `{"business_tax_id":"11222333000181"}`, []string{"maria"}, "unknown-field", "business_tax_id"},
	} {
		req := incoming(http.MethodPost, "/links", strings.NewReader(tt.body))
		if len(tt.users) > 0 {
			req.Header["Klavi-User"] = tt.users
		}
		a := roundTrip(t, tr, req)
		kind, field, _ := problemOf(t, a)
		if a.status != http.StatusBadRequest || kind != tt.kind || field != tt.field {
			t.Errorf("%s: got %d %s %q, want 400 %s %q", tt.name, a.status, kind, field, tt.kind, tt.field)
		}
		if strings.Contains(a.body, "5299822472") || strings.Contains(a.body, "1122233300018") {
			t.Errorf("%s: got %s, want no tax id in it", tt.name, a.body)
		}
		if len(tt.users) == 0 && !strings.Contains(a.body, "Klavi-User") {
			t.Errorf("%s: got %s, want it to name the header", tt.name, a.body)
		}
	}
	if calls := k.seen(); len(calls) != 0 {
		t.Errorf("Klavi got %d requests, want none", len(calls))
	}
}

func TestSealedLinkUser(t *testing.T) {
	tr, _, _ := sealing(t, Transport{})
	for _, user := range []string{"m", "Maria José", strings.Repeat("m", 256), "auth0|5299"} {
		req := linkRequest(`{}`)
		req.Header.Set("Klavi-User", user)
		var link struct{ LinkToken string }
		if err := json.Unmarshal([]byte(roundTrip(t, tr, req).body), &link); err != nil {
			t.Fatal(err)
		}
		if opened, err := tr.account.OpenLinkToken(link.LinkToken, time.Now()); err != nil || opened.User != user {
			t.Errorf("got user %q, %v, want %q", opened.User, err, user)
		}
	}
}

func TestSealedLinkAnswers(t *testing.T) {
	const refusal = `{"statusCode":4006,"error":"E","message":"raw"}`
	for _, tt := range []struct {
		name   string
		answer string
		code   int
		status int
		kind   string // of the problem; empty where Klavi's answer comes through
	}{
		{"refused", refusal, 416, 416, ""},
		{"unavailable", refusal, 503, 503, ""},
		{"redirect", "", 302, 302, ""},
		{"created", linkAnswer, 201, 201, ""},
		{"not JSON", `<html>raw.link.token`, 200, 502, "klavi-nonsense"},
		{"no token", `{"linkId":"1"}`, 200, 502, "klavi-nonsense"},
		{"no id", `{"linkToken":"raw.link.token"}`, 200, 502, "klavi-nonsense"},
		{"token too large to seal", `{"linkId":"1","linkToken":"` + strings.Repeat("a", 5000) + `"}`, 200, 502, "klavi-nonsense"},
		{"answer too large", `{"linkId":"` + strings.Repeat("a", 300<<10) + `"}`, 200, 502, "klavi-nonsense"},
		{"empty", ``, 200, 502, "klavi-nonsense"},
	} {
		tr, k, logs := sealing(t, Transport{})
		k.answer = func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(tt.code)
			_, _ = io.WriteString(w, tt.answer)
		}
		a := roundTrip(t, tr, linkRequest(`{}`))
		if a.status != tt.status {
			t.Errorf("%s: got %d, want %d", tt.name, a.status, tt.status)
		}
		if tt.kind != "" {
			if kind, _, _ := problemOf(t, a); kind != tt.kind {
				t.Errorf("%s: got %s, want %s", tt.name, kind, tt.kind)
			}
			if n := logs.FilterMessage("klavi's answer to POST /links cannot be used").Len(); n != 1 {
				t.Errorf("%s: got %d lines about it, want 1", tt.name, n)
			}
			for _, line := range logs.All() {
				if text, _ := line.ContextMap()["error"].(string); strings.Contains(text, "raw") {
					t.Errorf("%s: got %q in the log, want nothing of the answer", tt.name, text)
				}
			}
			continue
		}
		if tt.code != 201 && a.body != tt.answer {
			t.Errorf("%s: got %q, want it as it is", tt.name, a.body)
		}
		if tt.code == 201 && strings.Contains(a.body, `"linkToken":"raw`) {
			t.Errorf("%s: got Klavi's own token: %s", tt.name, a.body)
		}
	}
}

func TestSealedLinkBreaksOff(t *testing.T) {
	tr, k, _ := sealing(t, Transport{})
	k.answer = func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "500")
		_, _ = io.WriteString(w, `{"linkId":"1",`)
	}
	a := roundTrip(t, tr, linkRequest(`{}`))
	if kind, _, _ := problemOf(t, a); a.status != http.StatusBadGateway || kind != "klavi-unreachable" {
		t.Errorf("got %d %s, want 502 klavi-unreachable", a.status, kind)
	}
}

func TestOthersAreNotSealed(t *testing.T) {
	tr, k, _ := sealing(t, Transport{})
	k.answer = func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, linkAnswer) }
	for method, path := range map[string]string{"GET": "/consents", "POST": "/personal/user-data"} {
		a := roundTrip(t, tr, incoming(method, path, nil))
		if a.body != linkAnswer {
			t.Errorf("%s %s: got %q, want Klavi's answer", method, path, a.body)
		}
	}
	raw, _ := provision(t, k.URL, Transport{LinkToken: linkTokenRaw})
	if a := roundTrip(t, raw, linkRequest(`{}`)); a.body != linkAnswer {
		t.Errorf("raw: got %q, want Klavi's answer", a.body)
	}
}
