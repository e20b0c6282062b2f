package frontend

import (
	"bufio"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/caddy-klavi/caddy-klavi/handler/problem"
)

func newReader(text string) *bufio.Reader { return bufio.NewReader(strings.NewReader(text)) }

func newPost(path, body string, header []string) *http.Request {
	r := httptest.NewRequest(http.MethodPost, path, strings.NewReader(body))
	r.Header.Set("Content-Type", "application/json")
	return withHeader(r, header)
}

func TestDecode(t *testing.T) {
	open := (&Frontend{Accept: []string{"externalInfo", "connectionKey"}}).openLinkFields()
	closed := (&Frontend{}).openLinkFields()
	deep := strings.Repeat(`{"a":`, 17) + "1" + strings.Repeat("}", 17)
	for _, test := range []struct {
		name, body  string
		fields      fieldSet
		kind, field string
		detail      string // part of what is said
	}{
		{"nothing", `{}`, closed, "", "", ""},
		{"space around", " {\"phone\" :\n\"(11) 98765-4321\"} \n", closed, "", "", ""},
		{"an alphanumeric CNPJ", `{"businessTaxId":"12.abc.345/01de-35"}`, closed, "", "", ""},
		{"an object", `{"externalInfo":{"a":{"b":[1,2.50,"\u00e9"]}}}`, open, "", "", ""},
		{"an escaped name", `{"\u0070hone":"11987654321"}`, closed, "", "", ""},

		{"no object", `[]`, closed, "invalid-request", "", "one JSON object"},
		{"no JSON", `personalTaxId=1`, closed, "invalid-request", "", ""},
		{"nothing at all", ``, closed, "invalid-request", "", ""},
		{"a byte order mark", "\ufeff{}", closed, "invalid-request", "", "byte order mark"},
		{"more behind", `{}{}`, closed, "invalid-request", "", "follows"},
		{"text behind", `{} x`, closed, "invalid-request", "", "follows"},
		{"a comment", `{/* */}`, closed, "invalid-request", "", ""},
		{"cut off", `{"phone":"11`, closed, "invalid-field", "phone", ""},
		{"a comma too many", `{"phone":"11987654321",}`, closed, "invalid-request", "", ""},

		{"another case", `{"redirectUrl":"x"}`, closed, "unknown-field", "redirectUrl", `mean "redirectURL"`},
		{"upper case", `{"REDIRECTURL":"x"}`, closed, "unknown-field", "REDIRECTURL", `mean "redirectURL"`},
		{"misspelt", `{"institutonCode":"x"}`, closed, "unknown-field", "institutonCode", `mean "institutionCode"`},
		{"the server's field", `{"productsCallbackURL":{}}`, closed, "unknown-field", "productsCallbackURL", "server's config"},
		{"nearly the server's field", `{"productsCallbackUrl":"https://x"}`, closed, "unknown-field", "productsCallbackUrl", "productsCallbackURL: only the server's config"},
		{"the app link", `{"applink":"x"}`, closed, "unknown-field", "applink", "server's config"},
		{"not accepted", `{"externalInfo":{}}`, closed, "unknown-field", "externalInfo", "accept opens it"},
		{"nothing like it", `{"banana":1}`, closed, "unknown-field", "banana", "Possible are personalTaxId"},
		{"a consent's field", `{"validityPeriod":12}`, closed, "unknown-field", "validityPeriod", "Possible are"},
		{"a tax id as name", `{"52998224725":1}`, closed, "unknown-field", "***", ""},
		{"a name not to be shown", `{"<script>":1}`, closed, "unknown-field", "", "Possible are"},

		{"twice", `{"phone":"11987654321","phone":"11987654321"}`, closed, "invalid-field", "phone", "twice"},
		{"twice, escaped", `{"phone":"11987654321","\u0070hone":"11987654321"}`, closed, "invalid-field", "phone", "twice"},
		{"twice within", `{"externalInfo":{"a":1,"a":2}}`, open, "invalid-field", "externalInfo", "twice"},
		{"null", `{"phone":null}`, closed, "invalid-field", "phone", "null: leave the field out, or send a phone number"},
		{"a number", `{"personalTaxId":52998224725}`, closed, "invalid-field", "personalTaxId", "a number and must be a CPF"},
		{"an array", `{"email":["a@b.c"]}`, closed, "invalid-field", "email", "an array"},
		{"a string for an object", `{"externalInfo":"x"}`, open, "invalid-field", "externalInfo", "a string"},
		{"a boolean", `{"email":true}`, closed, "invalid-field", "email", "a boolean"},
		{"empty", `{"phone":""}`, closed, "invalid-field", "phone", ""},
		{"not UTF-8", "{\"email\":\"a\xff@b.c\"}", closed, "invalid-field", "email", ""},
		{"half a character", `{"email":"\ud800@b.c"}`, closed, "invalid-field", "email", ""},
		{"a control character", "{\"email\":\"a\n@b.c\"}", closed, "invalid-field", "email", ""},
		{"an escaped one", `{"email":"a\u0000@b.c"}`, closed, "invalid-field", "email", ""},
		{"wrong check digits", `{"personalTaxId":"52998224726"}`, closed, "invalid-field", "personalTaxId", "check digits"},
		{"a CPF as CNPJ", `{"businessTaxId":"52998224725"}`, closed, "invalid-field", "businessTaxId", "CNPJ"},
		{"full-width digits", `{"personalTaxId":"５2998224725"}`, closed, "invalid-field", "personalTaxId", ""},
		{"a long mail", `{"email":"a@` + strings.Repeat("b", 253) + `"}`, closed, "invalid-field", "email", ""},
		{"a phone of blanks", `{"phone":"          "}`, closed, "invalid-field", "phone", ""},
		{"a code with a slash", `{"institutionCode":"../341"}`, closed, "invalid-field", "institutionCode", ""},
		{"a large object", `{"externalInfo":{"a":"` + strings.Repeat("x", 4096) + `"}}`, open, "invalid-field", "externalInfo", "4 KiB"},
		{"a deep object", `{"externalInfo":` + deep + `}`, open, "invalid-field", "externalInfo", "16 levels"},
		{"a number beyond all others", `{"externalInfo":{"a":[1e400]}}`, open, "invalid-field", "externalInfo", "floating point"},
		{"one below them", `{"clientMetadata":{"a":-1E+400}}`, consentFields, "invalid-field", "clientMetadata", "floating point"},
		{"one of many digits", `{"externalInfo":{"a":` + strings.Repeat("9", 400) + `}}`, open, "invalid-field", "externalInfo", "floating point"},
		{"numbers that all can hold", `{"externalInfo":{"a":[1e308,-1.5e-400,9007199254740993,0]}}`, open, "", "", ""},
		{"a text of digits", `{"externalInfo":{"a":"1e400"}}`, open, "", "", ""},
		{"a long key", `{"connectionKey":"` + strings.Repeat("x", 513) + `"}`, open, "invalid-field", "connectionKey", "512"},
		{"months as text", `{"validityPeriod":"12"}`, consentFields, "invalid-field", "validityPeriod", "a string and must be the number"},
		{"other months", `{"validityPeriod":6}`, consentFields, "invalid-field", "validityPeriod", ""},
		{"odd months", `{"validityPeriod":12.0}`, consentFields, "invalid-field", "validityPeriod", ""},
		{"negative zero", `{"validityPeriod":-0}`, consentFields, "invalid-field", "validityPeriod", ""},
		{"months", `{"validityPeriod":0,"clientMetadata":{}}`, consentFields, "", "", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			values, err := test.fields.decode([]byte(test.body))
			if test.kind == "" {
				if err != nil {
					t.Fatalf("got %v, want %v", err, values)
				}
				return
			}
			var p *problem.Problem
			if !errors.As(err, &p) {
				t.Fatalf("got %v and %v, want a problem", values, err)
			}
			if p.Type.Name != test.kind || p.Field != test.field || !strings.Contains(p.Detail, test.detail) {
				t.Errorf("got %s of %q: %s\nwant %s of %q with %q", p.Type.Name, p.Field, p.Detail, test.kind, test.field, test.detail)
			}
		})
	}
}

func TestCanonicalValues(t *testing.T) {
	fields := (&Frontend{Accept: []string{"externalInfo"}}).openLinkFields()
	values, err := fields.decode([]byte(
		`{"personalTaxId":"529.982.247-25","businessTaxId":"12.abc.345/01de-35","externalInfo": { "a" : [ 1, 2.50 ] }}`))
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"personalTaxId": "52998224725", "businessTaxId": "12ABC34501DE35", "externalInfo": `{"a":[1,2.50]}`,
	} {
		if values[name] != want {
			t.Errorf("got %s %q, want %q", name, values[name], want)
		}
	}
}
