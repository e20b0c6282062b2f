package frontend

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/caddy-klavi/caddy-klavi/command/conformance" //nolint:depguard // it has the corpus, and imports nothing of this module
	"github.com/caddy-klavi/caddy-klavi/gateway"
	"github.com/caddy-klavi/caddy-klavi/handler/problem"
)

// corpusRequests returns the requests of the corpus with token as the link token.
func corpusRequests(t testing.TB, token string) [][]byte {
	t.Helper()
	lines, err := conformance.Corpus()
	if err != nil || len(lines) < 190 {
		t.Fatalf("got %d lines (%v), want the whole corpus", len(lines), err)
	}
	requests := make([][]byte, len(lines))
	for i := range lines {
		if requests[i], err = lines[i].Bytes(token); err != nil {
			t.Fatal(err)
		}
	}
	return requests
}

// corpusBodies returns what follows the head of each request of the corpus.
func corpusBodies(t testing.TB) [][]byte {
	t.Helper()
	var bodies [][]byte
	for _, request := range corpusRequests(t, "token") {
		if _, body, _ := bytes.Cut(request, []byte("\r\n\r\n")); len(body) > 0 && len(body) <= maxBody {
			bodies = append(bodies, body)
		}
	}
	return bodies
}

// oddBodies are texts in which two readers of JSON are known to see two things.
var oddBodies = []string{
	`{}`, `{"institutionCode":"001"}`,
	`{"personalTaxId":"529.982.247-25","phone":"+5511987654321","email":"a@b.c","institutionCode":"341"}`,
	`{"businessTaxId":"11.222.333/0001-81","institutionCode":"341"}`, `{"businessTaxId":"12.abc.345/01de-35","connectionKey":"k-1"}`,
	`{"personalTaxId":"529 982 247 25","businessTaxId":"11222333000181","institutionCode":"001","externalTrackId":"t-1"}`,
	`{"redirectURL":"` + testRedirect + `","externalInfo":{"a":{"b":[1,true,null]}}}`,
	`{"redirectURL":"` + otherRedirect + `","institutionCode":"341","validityPeriod":12,"clientMetadata":{"a":"\ud83d\ude00"}}`,
	`{"institutionCode":"341","institutioncode":"001"}`, `{"institutionCode":"341","inſtitutionCode":"001"}`,
	`{"personalTaxId":"52998224725","personalTaxId":"98765432100"}`, `{"personalTaxId":"52998224725","\u0070ersonalTaxId":"98765432100"}`,
	`{"personalTaxId":"52998224725","personalTaxID":"98765432100"}`, `{"personalTaxId":"52998224725","PERSONALTAXID":null}`,
	`{"email":"\ud800@b.c"}`, `{"email":"\udc00\ud800@b.c"}`, "{\"email\":\"a\xff@b.c\"}", "{\"email\":\"a\xed\xa0\x80@b.c\"}",
	"{\"email\":\"a\u2028@b.c\"}", `{"email":"a\u2028\u2029@b.c"}`, `{"email":"\u0000@b.c"}`, `{"email":"<a>&@b.c"}`, `{"email":"é@e\u0301.c"}`,
	`{"externalInfo":{"n":[9007199254740993,18446744073709551616,-0,-0.0,1e400,1E-400,1.0,0.1e1,1e+2]}}`,
	`{"externalInfo":{"__proto__":{"a":1},"constructor":{},"":1," ":2}}`, `{"externalInfo":{"a":1,"A":2,"a ":3}}`, `{"externalInfo":{"a":1,"a":2}}`,
	"{\"clientMetadata\":{\"\u2028\":\"\u2029\",\"\\u0061\":\"\\u0000\\u001f\\/\"}}", `{"clientMetadata":{"a":"` + "\xc0\xaf" + `"}}`,
	`{"validityPeriod":12.0}`, `{"validityPeriod":1.2e1}`, `{"validityPeriod":-0}`, `{"validityPeriod":12e0}`, `{"validityPeriod":012}`,
	"\ufeff{}", `{} {}`, `{"phone":null}`, "{}\x00", `{"a":1,"a":2}`, `{"productsCallbackUrl":"x"}`, `[{}]`, `{"phone":"\u002b5511987654321"}`,
}

// reading is what encoding/json makes of a body: last name wins, as in most
// readers, once exactly and once in any case.
type reading struct {
	exact  map[string]any
	folded struct {
		PersonalTaxID   any `json:"personalTaxId"`
		BusinessTaxID   any `json:"businessTaxId"`
		Email           any `json:"email"`
		Phone           any `json:"phone"`
		InstitutionCode any `json:"institutionCode"`
		RedirectURL     any `json:"redirectURL"`
		ConnectionKey   any `json:"connectionKey"`
		ExternalInfo    any `json:"externalInfo"`
		ExternalTrackID any `json:"externalTrackId"`
		ClientMetadata  any `json:"clientMetadata"`
		ValidityPeriod  any `json:"validityPeriod"`
	}
}

// read fails if encoding/json cannot read a body that was taken, or if it depends
// on the reader what stands in it.
func read(t *testing.T, what string, body []byte) reading {
	t.Helper()
	var r reading
	for _, to := range []any{&r.exact, &r.folded} {
		decoder := json.NewDecoder(bytes.NewReader(body))
		decoder.UseNumber()
		if err := decoder.Decode(to); err != nil {
			t.Fatalf("%s %q was taken, but encoding/json says: %v", what, body, err)
		}
	}
	folded := reflect.ValueOf(r.folded)
	for i := range folded.NumField() {
		name := folded.Type().Field(i).Tag.Get("json")
		if value := folded.Field(i).Interface(); !reflect.DeepEqual(value, r.exact[name]) {
			t.Errorf("%s %q: got %s %v if case does not matter, and %v if it does", what, body, name, value, r.exact[name])
		}
	}
	if !utf8.Valid(body) {
		t.Errorf("%s %q is not UTF-8", what, body)
	}
	wantNamesOnce(t, what, body)
	return r
}

// wantNamesOnce fails if a name stands in an object twice, whatever its case.
func wantNamesOnce(t *testing.T, what string, body []byte) {
	t.Helper()
	decoder := json.NewDecoder(bytes.NewReader(body))
	type level struct {
		names map[string]bool // nil in an array
		value bool            // a value comes next
	}
	levels := []level{{}}
	for {
		token, err := decoder.Token()
		if err != nil {
			return
		}
		at := &levels[len(levels)-1]
		if delim, ok := token.(json.Delim); ok && (delim == '}' || delim == ']') {
			levels = levels[:len(levels)-1]
			continue
		}
		if at.names != nil && !at.value {
			name := token.(string)
			if len(levels) == 2 { // of the body itself
				name = strings.ToLower(name)
			}
			if at.names[name] {
				t.Errorf("%s %q has the name %q twice", what, body, name)
			}
			at.names[name], at.value = true, true
			continue
		}
		at.value = false
		if delim, ok := token.(json.Delim); ok {
			next := level{}
			if delim == '{' {
				next.names = make(map[string]bool)
			}
			levels = append(levels, next)
		}
	}
}

// plainTaxID is a tax id without its punctuation, read as simply as can be.
func plainTaxID(value any) any {
	text, ok := value.(string)
	if !ok {
		return value
	}
	return strings.ToUpper(strings.NewReplacer(".", "", "-", "", "/", "", " ", "").Replace(text))
}

// wantFields compares what was sent with what should have been, member by member.
func wantFields(t *testing.T, sent []byte, want map[string]any) {
	t.Helper()
	got := read(t, "what was sent", sent).exact
	for name := range want {
		if want[name] == nil {
			delete(want, name)
		}
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %s at klavi, which is\n%v, want\n%v", sent, got, want)
	}
}

// checkLink compares what was sent to POST /links, and what the link is taken to be
// for, with what the client's body says.
func checkLink(t *testing.T, body []byte, user string, sent []byte, link gateway.LinkToken) {
	t.Helper()
	client := read(t, "the body", body).exact
	info := map[string]any{"user": user}
	if client["externalInfo"] != nil {
		info["client"] = client["externalInfo"]
	}
	want := map[string]any{
		"personalTaxId": plainTaxID(client["personalTaxId"]), "businessTaxId": plainTaxID(client["businessTaxId"]),
		"email": client["email"], "phone": client["phone"], "institutionCode": client["institutionCode"],
		"redirectURL": orElse(client["redirectURL"], testRedirect), "connectionKey": client["connectionKey"], "externalInfo": info,
	}
	wantFields(t, sent, want)
	text := func(name string) string { return fmt.Sprint(orElse(want[name], "")) }
	if link.PersonalTaxID != text("personalTaxId") || link.BusinessTaxID != text("businessTaxId") || link.InstitutionCode != text("institutionCode") {
		t.Errorf("%q: got the link %+v, want it to be for what was sent: %v", body, link, want)
	}
}

// checkConsent compares what was sent to POST /consents with what the client's
// body says, and what the link allows.
func checkConsent(t *testing.T, body, sent []byte, link gateway.LinkToken) {
	t.Helper()
	client, got := read(t, "the body", body).exact, read(t, "what was sent", sent).exact
	wantFields(t, sent, map[string]any{
		"externalTrackId": orElse(client["externalTrackId"], got["externalTrackId"]),
		"personalTaxId":   orElse(plainTaxID(client["personalTaxId"]), orNil(link.PersonalTaxID)),
		"businessTaxId":   orElse(plainTaxID(client["businessTaxId"]), orNil(link.BusinessTaxID)),
		"institutionCode": orElse(client["institutionCode"], orNil(link.InstitutionCode)),
		"redirectURL":     orElse(client["redirectURL"], testRedirect),
		"phone":           client["phone"], "email": client["email"],
		"clientMetadata": client["clientMetadata"], "validityPeriod": client["validityPeriod"],
	})
	// The link decides, whatever the body was.
	if person := got["personalTaxId"]; link.PersonalTaxID != "" && person != link.PersonalTaxID ||
		link.PersonalTaxID == "" && link.BusinessTaxID == "" && person != nil {
		t.Errorf("%q: got a consent of %v under a link of %q", body, person, link.PersonalTaxID)
	}
	if business := got["businessTaxId"]; link.BusinessTaxID != "" && business != link.BusinessTaxID ||
		link.BusinessTaxID == "" && business != nil {
		t.Errorf("%q: got a consent of %v under a link of %q", body, business, link.BusinessTaxID)
	}
	if bank := got["institutionCode"]; bank == nil || link.InstitutionCode != "" && bank != link.InstitutionCode {
		t.Errorf("%q: got a consent at %v under a link for %q", body, bank, link.InstitutionCode)
	}
	if to := got["redirectURL"]; to != testRedirect && to != otherRedirect {
		t.Errorf("%q: got a redirect to %v, want one on the list", body, to)
	}
}

// differentLinks are links of all that a consent is compared with.
var differentLinks = []gateway.LinkToken{
	{},
	{PersonalTaxID: testCPF},
	{BusinessTaxID: testCNPJ},
	{PersonalTaxID: testCPF, BusinessTaxID: testCNPJ},
	{InstitutionCode: "341"},
	{PersonalTaxID: testCPF, InstitutionCode: "341"},
}

// What reaches Klavi says what the client's body says to encoding/json, and the
// link token says it too.
func TestKlaviReadsWhatWasUnderstood(t *testing.T) {
	config := userSite()
	config.Accept = acceptFields
	s := newSite(t, config)
	bodies := corpusBodies(t)
	for _, body := range oddBodies {
		bodies = append(bodies, []byte(body))
	}
	links, consents := 0, 0
	for i, body := range bodies {
		user := "user-" + strconv.Itoa(i) // one that no limit meets
		w := s.post("/klavi/links", string(body), "X-User", user)
		if requests := s.klavi.take(); w.Code != http.StatusOK {
			wantRefusal(t, w, requests)
		} else {
			links++
			var answer struct {
				LinkToken string `json:"linkToken"`
			}
			if err := json.Unmarshal(w.Body.Bytes(), &answer); err != nil {
				t.Fatal(err)
			}
			link, err := s.account.OpenLinkToken(answer.LinkToken, s.clock)
			if err != nil || link.User != user || link.Token != rawLinkToken {
				t.Fatalf("%q: got the link %+v, %v, want one of %s", body, link, err, user)
			}
			checkLink(t, body, user, []byte(requests[0].body), link)
		}
		for _, link := range differentLinks {
			link.User = user
			w := s.post("/klavi/consents", string(body), "X-User", user, "Authorization", s.seal(t, link))
			if requests := s.klavi.take(); w.Code != http.StatusOK {
				wantRefusal(t, w, requests)
			} else {
				consents++
				checkConsent(t, body, []byte(requests[0].body), link)
			}
		}
	}
	if links < 5 || consents < 10 {
		t.Errorf("got %d links and %d consents, want some: nothing was compared", links, consents)
	}
}

// FuzzLinkRequest looks for a body that Klavi would read otherwise than it was
// read here.
func FuzzLinkRequest(f *testing.F) {
	for _, body := range corpusBodies(f) {
		f.Add(body)
	}
	for _, body := range oddBodies {
		f.Add([]byte(body))
	}
	config := userSite()
	config.Accept = acceptFields
	s := newSite(f, config)
	f.Fuzz(func(t *testing.T, body []byte) {
		fields, sent, err := s.understandLink(body)
		if err != nil {
			wantProblemOfClient(t, err)
			return
		}
		checkLink(t, body, "ana", sent, gateway.LinkToken{
			PersonalTaxID: fields[personalTaxID], BusinessTaxID: fields[businessTaxID], InstitutionCode: fields[institutionCode],
		})
	})
}

// understandLink does what serveLinks does with a body.
func (s *site) understandLink(body []byte) (fields map[string]string, sent []byte, err error) {
	if fields, err = s.linkFields.decode(body); err != nil {
		return nil, nil, err
	}
	if err := s.fill(fields, nil); err != nil {
		return nil, nil, err
	}
	info, err := s.externalInfo(nil, "ana", fields[externalInfo])
	if err != nil {
		return nil, nil, err
	}
	sent, err = s.linkRequest(fields, info)
	return fields, sent, err
}

// FuzzConsentRequest looks for a body with which Klavi would create a consent for
// somebody or something else than the link.
func FuzzConsentRequest(f *testing.F) {
	bodies := corpusBodies(f)
	for _, body := range oddBodies {
		bodies = append(bodies, []byte(body))
	}
	for i, body := range bodies {
		f.Add(body, uint8(i%len(differentLinks)))
	}
	s := newSite(f, userSite())
	f.Fuzz(func(t *testing.T, body []byte, which uint8) {
		link := differentLinks[int(which)%len(differentLinks)]
		sent, err := s.understandConsent(body, link)
		if err != nil {
			wantProblemOfClient(t, err)
			return
		}
		if bytes.Contains(sent, []byte(`"institutionCode"`)) { // without one it is refused
			checkConsent(t, body, sent, link)
		}
	})
}

// understandConsent does what serveConsents does with a body.
func (s *site) understandConsent(body []byte, link gateway.LinkToken) (sent []byte, err error) {
	fields, err := consentFields.decode(body)
	if err != nil {
		return nil, err
	}
	if err := s.fill(fields, nil); err != nil {
		return nil, err
	}
	if err := s.fitLink(fields, link); err != nil {
		return nil, err
	}
	return consentRequest(fields)
}

func wantProblemOfClient(t *testing.T, err error) {
	t.Helper()
	var p *problem.Problem
	if !errors.As(err, &p) || p.HTTPStatus() < 400 || p.HTTPStatus() >= 500 {
		t.Errorf("got %v, want a problem of the client's", err)
	}
}

// wantRefusal checks that what was not served is a client's mistake, and went
// nowhere.
func wantRefusal(t *testing.T, w *httptest.ResponseRecorder, requests []seen) {
	t.Helper()
	status, answer := w.Code, w.Body.Bytes()
	if len(requests) > 0 {
		t.Errorf("got status %d and %d requests at klavi, want none", status, len(requests))
	}
	if status < 400 || status >= 500 || !json.Valid(answer) {
		t.Errorf("got status %d: %q, want a problem of the client's", status, answer)
	}
	for _, secret := range []string{accessToken, rawLinkToken} {
		if bytes.Contains(answer, []byte(secret)) {
			t.Errorf("the problem repeats %s: %q", secret, answer)
		}
	}
}

// orElse returns value, or what stands for it where there is none.
func orElse(value, other any) any {
	if value == nil {
		return other
	}
	return value
}

func orNil(text string) any {
	if text == "" {
		return nil
	}
	return text
}
