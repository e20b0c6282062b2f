package proxy

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/caddy-klavi/caddy-klavi/gateway"
	"github.com/caddy-klavi/caddy-klavi/handler/problem"
	"github.com/caddy-klavi/caddy-klavi/klavi"
)

const ownAddress = "https://a.example/x"

// serviceBodies are bodies in which Klavi could find what was not seen here.
var serviceBodies = []string{
	`{}`, `[]`, `null`, `{"a":1}x`, `{} {}`, "\ufeff{}", `{"a":1,"a":2}`, `{"a":{"b":1,"b":2}}`,
	`{"productsCallbackURL":{"all":"https://a.example/x"}}`, `{"productsCallbackURL":null}`, `{"productsCallbackURL":{}}`, `{"productsCallbackURL":"https://a.example/x"}`,
	`{"productsCallbackUrl":{"all":"https://evil.example/"}}`, `{"PRODUCTSCALLBACKURL":{"all":"https://evil.example/"}}`, `{"productsCallbackURL ":{"all":"https://evil.example/"}}`,
	`{"product` + "\u017f" + `CallbackURL":{"all":"https://evil.example/"}}`, `{"productsCallbac` + "\u212a" + `URL":{"all":"https://evil.example/"}}`,
	`{"\u0070roductsCallbackURL":{"all":"https://evil.example/"}}`, `{"products_callback_url":"https://evil.example/"}`, `{"productsCallbackURL[all]":"https://evil.example/"}`,
	`{"productsCallbackURL.all":"https://evil.example/"}`, `{"productsCallbackURL\u0000":{"all":"https://evil.example/"}}`, `{"\ufeffproductsCallbackURL":{"all":"https://evil.example/"}}`,
	`{"productsCallbackURL":{"all":"https://a.example/x","all":"https://evil.example/"}}`, `{"productsCallbackURL":{"all":"https://a.example/x","ALL":"https://evil.example/"}}`,
	`{"productsCallbackURL":{"all":"https://a.example/x"},"productsCallbackURL":{"all":"https://evil.example/"}}`,
	`{"productsCallbackURL":{"all":"https://a.example\u002fx"}}`, `{"productsCallbackURL":{"pf_loans":"https://a.example/x","other":"https://a.example/x"}}`,
	`{"productsCallbackURL":{"all":"https://a.example/x/../y"}}`, `{"__proto__":{"productsCallbackURL":{"all":"https://evil.example/"}}}`,
	`{"a":{"productsCallbackURL":1},"b":[1,2,{"c":null}]}`, `{"externalInfo":{"a":1}}`, `{"externalInfo":null,"ExternalInfo":{"a":1}}`, `{"external_info":{"a":1}}`,
	`{"n":[9007199254740993,1e400,-0,1.0,1E2],"s":"\ud83d\ude00\u2028<&>"}`, `{"s":"\ud800"}`, "{\"s\":\"\xff\"}", "{\"\xff\":1}",
	`{"personalTaxId":"529.982.247-25","businessTaxId":"12.abc.345/01de-35","institutionCode":"341"}`, `{"personalTaxId":"52998224725","PersonalTaxId":"98765432100"}`,
	`{"personalTaxId":"52998224725","personal_tax_id":"98765432100"}`, `{"personalTaxId":null,"institutionCode":""}`, `{"personalTaxId":52998224725}`, `{"institutionCode":1}`,
	`{"personalTaxId":"5299822472\u0035"}`, `{"personalTaxId":"52998224725","personalTaxId":"98765432100"}`, `{"per` + "\u017f" + `onalTaxId":"98765432100"}`,
}

func allBodies(t testing.TB) []string {
	t.Helper()
	all := serviceBodies
	for _, raw := range corpusRequests(t) {
		if _, body, _ := bytes.Cut(raw, []byte("\r\n\r\n")); len(body) > 0 && len(body) < 32<<10 {
			all = append(all, string(body))
		}
	}
	return all
}

// klaviReads is what a body says to encoding/json, where the last of equal names
// counts, and so it does in any case.
type klaviReads struct {
	ProductsCallbackURL any `json:"productsCallbackURL"`
	ExternalInfo        any `json:"externalInfo"`
	PersonalTaxID       any `json:"personalTaxId"`
	BusinessTaxID       any `json:"businessTaxId"`
	InstitutionCode     any `json:"institutionCode"`
}

func readAs[T any](t *testing.T, body []byte) (v T) {
	t.Helper()
	decoder := json.NewDecoder(bytes.NewReader(body))
	decoder.UseNumber()
	if err := decoder.Decode(&v); err != nil {
		t.Fatalf("%q was taken, but encoding/json says: %v", body, err)
	}
	return v
}

// checkSent compares what is sent in place of a body with that body: nothing
// differs but what is filled in, and reports go nowhere but to the own address.
func checkSent(t *testing.T, body string, sent []byte, filled []string) {
	t.Helper()
	got, want := readAs[map[string]any](t, sent), readAs[map[string]any](t, []byte(body))
	folded := readAs[klaviReads](t, sent)
	urls, ok := folded.ProductsCallbackURL.(map[string]any)
	if !ok || len(urls) == 0 || !reflect.DeepEqual(folded.ProductsCallbackURL, got["productsCallbackURL"]) {
		t.Fatalf("%q became %q, in which the address depends on the reader", body, sent)
	}
	for name, u := range urls {
		if u != ownAddress {
			t.Errorf("%q lets the report %s go to %v", body, name, u)
		}
	}
	if !reflect.DeepEqual(folded.ExternalInfo, got["externalInfo"]) {
		t.Errorf("%q became %q, in which externalInfo depends on the reader", body, sent)
	}
	for _, name := range filled {
		if want[name] == nil {
			want[name] = got[name]
		}
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%q became %q", body, sent)
	}
	for name := range got {
		// A reader may take a[b], a.b and a_b for a and b.
		plain := strings.ToLower(strings.NewReplacer("_", "", "-", "", ".", "", "[", "", "]", "", " ", "").Replace(name))
		if strings.HasPrefix(plain, "productscallbackurl") && name != "productsCallbackURL" {
			t.Errorf("%q passes with the name %q", body, name)
		}
	}
	if !utf8.Valid(sent) {
		t.Errorf("%q became %q, which is not UTF-8", body, sent)
	}
	if bytes.Count(sent, []byte(`"productsCallbackURL":`)) > strings.Count(body, "productsCallbackURL")+1 {
		t.Errorf("%q became %q, with the name twice", body, sent)
	}
}

func filler(t testing.TB) *Transport {
	t.Helper()
	tr := &Transport{
		ReportsURL: map[string]string{"all": ownAddress}, ExternalInfo: map[string]string{"service": "ledger"}, external: []string{"service"},
	}
	if err := tr.parseReports(); err != nil {
		t.Fatal(err)
	}
	return tr
}

// fill does what the transport does with a body.
func (t *Transport) fill(body string) (sent []byte, token gateway.LinkToken, err error) {
	o, err := parseObject([]byte(body))
	if err != nil {
		return nil, token, err
	}
	if token, err = purpose(o); err != nil {
		return nil, token, err
	}
	if err := t.fillIn(&http.Request{}, o); err != nil {
		return nil, token, err
	}
	return o.encode(), token, nil
}

// checkPurpose compares what a link token says with what Klavi reads.
func checkPurpose(t *testing.T, sent []byte, token gateway.LinkToken) {
	t.Helper()
	folded, exact := readAs[klaviReads](t, sent), readAs[map[string]any](t, sent)
	for _, field := range []struct {
		name     string
		read     any
		sealed   string
		readings func(string) (string, bool)
	}{
		{"personalTaxId", folded.PersonalTaxID, token.PersonalTaxID, klavi.CPF},
		{"businessTaxId", folded.BusinessTaxID, token.BusinessTaxID, klavi.CNPJ},
		{"institutionCode", folded.InstitutionCode, token.InstitutionCode, func(s string) (string, bool) { return s, s != "" }},
	} {
		if !reflect.DeepEqual(field.read, exact[field.name]) {
			t.Errorf("%q: %s is %v, or %v if case does not matter", sent, field.name, exact[field.name], field.read)
		}
		text, ok := field.read.(string)
		if field.read != nil && !ok {
			t.Errorf("%q: %s is %v, and no text", sent, field.name, field.read)
		}
		if canonical, _ := field.readings(text); canonical != field.sealed || text != "" && field.sealed == "" {
			t.Errorf("%q: the link is for %s %q, want what is sent", sent, field.name, field.sealed)
		}
	}
}

func TestKlaviReadsWhatWasChecked(t *testing.T) {
	tr, taken := filler(t), 0
	for _, body := range allBodies(t) {
		if checkFill(t, tr, body) {
			taken++
		}
	}
	if taken < 15 {
		t.Errorf("got %d bodies taken, want some: nothing was compared", taken)
	}
}

// FuzzFillIn looks for a body in which Klavi would find another address, other
// data, or another person than were seen here.
func FuzzFillIn(f *testing.F) {
	for _, body := range allBodies(f) {
		f.Add(body)
	}
	tr := filler(f)
	f.Fuzz(func(t *testing.T, body string) { checkFill(t, tr, body) })
}

func checkFill(t *testing.T, tr *Transport, body string) (taken bool) {
	t.Helper()
	sent, token, err := tr.fill(body)
	if err != nil {
		var p *problem.Problem
		if !errors.As(err, &p) || p.HTTPStatus() != http.StatusBadRequest {
			t.Errorf("%q: got %v, want a problem", body, err)
		}
		return false
	}
	checkSent(t, body, sent, []string{"productsCallbackURL", "externalInfo"})
	checkPurpose(t, sent, token)
	return true
}
