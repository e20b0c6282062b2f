package klavi

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/go-json-experiment/json"
)

func TestParseCallbackURL(t *testing.T) {
	tests := []struct{ in, want string }{
		{`{"all":"https://a.example/x"}`, `{"all":"https://a.example/x"}`},
		{` { "all" : "https://a.example:8443/x?y=1" } `, `{"all":"https://a.example:8443/x?y=1"}`},
		{`{"other":"https://a.example"}`, `{"other":"https://a.example"}`},
		{
			`{"other":"https://o.example/","pj_loans":"https://b.example/","pf_loans":"https://a.example/?a&b"}`,
			`{"pf_loans":"https://a.example/?a&b","pj_loans":"https://b.example/","other":"https://o.example/"}`,
		},
		{`{"pf_new_in_2030":"https://a.example/"}`, `{"pf_new_in_2030":"https://a.example/"}`},
		{`{"all":"http://localhost:8080/x"}`, `{"all":"http://localhost:8080/x"}`},
		{`{"all":"http://127.0.0.2/x"}`, `{"all":"http://127.0.0.2/x"}`},
		{`{"all":"http://[::1]:9/x"}`, `{"all":"http://[::1]:9/x"}`},
	}
	for _, test := range tests {
		c, err := ParseCallbackURL([]byte(test.in))
		if err != nil {
			t.Errorf("%s: %v", test.in, err)
			continue
		}
		got, err := json.Marshal(c)
		if err != nil || string(got) != test.want {
			t.Errorf("%s: got %s, %v, want %s", test.in, got, err, test.want)
		}
		var again CallbackURL
		if err := json.Unmarshal(got, &again); err != nil || !slices.Equal(again.URLs(), c.URLs()) {
			t.Errorf("%s: read again: got %q, %v, want %q", test.in, again.URLs(), err, c.URLs())
		}
	}
}

func TestParseCallbackURLRefuses(t *testing.T) {
	const u = `"https://secret.example/x"`
	tests := []struct {
		in   string
		want []string // what the error has to speak of
	}{
		{``, []string{"object"}},
		{`null`, []string{"object"}},
		{`[]`, []string{"object"}},
		{u, []string{"object", "all"}},
		{`{}`, []string{"at least one"}},
		{`{"all":` + u + `,"other":` + u + `}`, []string{`"all"`, `"other"`, "416", "4006"}},
		{`{"pf_loans":` + u + `,"all":` + u + `}`, []string{`"all"`, "416", "4006"}},
		{`{"pf_loan":` + u + `,"all":` + u + `}`, []string{`"all"`, "4006"}},
		{`{"pf_loans":` + u + `,"pf_loans":` + u + `}`, []string{"twice"}},
		{`{"pf_loans":` + u + `,"pf_l\u006fans":` + u + `}`, []string{"twice"}},
		{`{"All":` + u + `}`, []string{`"All"`, `"all"`}},
		{`{"others":` + u + `}`, []string{`"others"`, `"other"`}},
		{`{"pf-checking-acount":` + u + `}`, []string{`did you mean "pf_checking_account"`}},
		{`{"loans":` + u + `}`, []string{`"loans"`, "pf_"}},
		{`{"":` + u + `}`, []string{`""`, "pf_"}},
		{`{"52998224725":` + u + `}`, []string{hidden}},
		{`{"all":7}`, []string{`"all"`, "string"}},
		{`{"all":null}`, []string{`"all"`, "string"}},
		{`{"all":[` + u + `]}`, []string{`"all"`, "string"}},
		{`{"all":""}`, []string{`"all"`, "whole URL"}},
		{`{"other":""}`, []string{`"other"`, "whole URL"}},
		{`{"other":"","pf_loans":` + u + `}`, []string{`"other"`, "whole URL"}},
		{`{"all":"http://secret.example/x"}`, []string{`"all"`, "https://", "loopback"}},
		{`{"all":"http://localhost.secret.example/"}`, []string{"loopback"}},
		{`{"all":"http://127.0.0.1.secret.example/"}`, []string{"loopback"}},
		{`{"all":"//secret.example/x"}`, []string{"https://"}},
		{`{"all":"/secret"}`, []string{"whole URL"}},
		{`{"all":"https:/secret"}`, []string{"whole URL"}},
		{`{"all":"https:secret"}`, []string{"whole URL"}},
		{`{"all":"https://:443/secret"}`, []string{"whole URL"}},
		{`{"all":"https://secret.example:/"}`, []string{"whole URL"}},
		{`{"all":"https://secret.example:99999/"}`, []string{"whole URL"}},
		{`{"all":"https://secret.example:0/"}`, []string{"whole URL"}},
		{`{"all":"https://secret.example/%zz"}`, []string{"whole URL"}},
		{`{"all":"https://secret@a.example/"}`, []string{"user"}},
		{`{"all":"https://@secret.example/"}`, []string{"user"}},
		{`{"all":"https://secret.example/#x"}`, []string{"fragment"}},
		{`{"all":"https://secret.example/#"}`, []string{"fragment"}},
		{`{"all":"https://secret.example/a b"}`, []string{"spaces"}},
		{`{"all":"https://secret.example/\n"}`, []string{"spaces"}},
		{`{"all":"https://secret.example\\@a.example/"}`, []string{"backslashes"}},
		{`{"all":"https://sécret.example/"}`, []string{"escape"}},
		{`{"all":"javascript:secret"}`, []string{"whole URL"}},
		{`{"all":"file://secret/x"}`, []string{"https://"}},
		{`{"all":"https://secret.example/` + strings.Repeat("a", maxCallbackURL) + `"}`, []string{"longer than 2048"}},
		{`{"all":` + u + `} x`, []string{"follows"}},
		{`{"all":` + u + `}{}`, []string{"follows"}},
		{`{"all":` + u, []string{"not valid JSON"}},
		{`{"all":` + u + `,}`, []string{"not valid JSON"}},
		{"{\"all\":\"https://secret.example/\xff\"}", []string{"not valid JSON"}},
	}
	for _, test := range tests {
		c, err := ParseCallbackURL([]byte(test.in))
		if err == nil || !c.IsZero() {
			t.Errorf("%.80s: got %q, %v, want an error and nothing else", test.in, c.URLs(), err)
			continue
		}
		for _, want := range test.want {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%.80s: got %q, want it to speak of %q", test.in, err, want)
			}
		}
		if strings.Contains(err.Error(), "secret") {
			t.Errorf("%.80s: the error shows the address: %v", test.in, err)
		}
	}
	many := make([]string, maxCallbackKeys+1)
	for i := range many {
		many[i] = `"pf_` + strings.Repeat("a", i%100+1) + string(rune('b'+i/100)) + `":` + u
	}
	if _, err := ParseCallbackURL([]byte("{" + strings.Join(many, ",") + "}")); err == nil || !strings.Contains(err.Error(), "more than 256") {
		t.Errorf("257 names: got %v, want an error that says so", err)
	}
}

func TestCallbackSpecific(t *testing.T) {
	const u = "https://a.example/"
	given := map[string]string{"pf_loans": u}
	c, err := CallbackSpecific(given, "")
	if err != nil {
		t.Fatal(err)
	}
	given["all"] = u
	if got := c.URLs(); !slices.Equal(got, []string{u}) {
		t.Errorf("after the caller changed its map: got %q, want %q", got, u)
	}
	for name, specific := range map[string]map[string]string{
		"nothing": nil, "all": {"all": u}, "other": {"other": u}, "no type": {"x": u}, "empty": {"pf_loans": ""},
	} {
		if c, err := CallbackSpecific(specific, ""); err == nil {
			t.Errorf("%s: got %q, want an error", name, c.URLs())
		}
	}
	if _, err := CallbackSpecific(map[string]string{"pf_loans": u}, "http://a.example"); err == nil || !strings.Contains(err.Error(), `"other"`) {
		t.Errorf("a wrong other: got %v, want an error that names it", err)
	}
	many := maps.Collect(func(yield func(string, string) bool) {
		for i := range maxCallbackKeys + 1 {
			if !yield("pf_"+strings.Repeat("a", i%100+1)+string(rune('b'+i/100)), u) {
				return
			}
		}
	})
	if _, err := CallbackSpecific(many, ""); err == nil {
		t.Errorf("%d types: got no error", len(many))
	}
}

func TestCallbackURLWithin(t *testing.T) {
	parse := func(s string) CallbackURL {
		c, err := ParseCallbackURL([]byte(s))
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	allowed := parse(`{"pf_loans":"https://a.example/x","other":"https://b.example/y"}`)
	for in, want := range map[string]bool{
		`{"all":"https://a.example/x"}`:                                          true,
		`{"pj_loans":"https://b.example/y","pf_loans":"https://b.example/y"}`:    true,
		`{"pf_loans":"https://a.example/x","other":"https://evil.example/"}`:     false,
		`{"all":"https://a.example/x/"}`:                                         false,
		`{"all":"https://A.example/x"}`:                                          false,
		`{"all":"https://a.example:443/x"}`:                                      false,
		`{"all":"https://a.example/x?"}`:                                         false,
		`{"pf_loans":"https://a.example/x","pj_loans":"https://a.example/x/.."}`: false,
	} {
		if got := parse(in).Within(allowed); got != want {
			t.Errorf("%s: got %v, want %v", in, got, want)
		}
		if parse(in).Within(CallbackURL{}) {
			t.Errorf("%s: within nothing: got true, want false", in)
		}
	}
	if !(CallbackURL{}).Within(allowed) {
		t.Error("nothing within something: got false, want true")
	}
}

func TestZeroCallbackURL(t *testing.T) {
	var body struct {
		URL CallbackURL `json:"productsCallbackURL,omitzero"`
	}
	if got, err := json.Marshal(body); err != nil || string(got) != `{}` {
		t.Errorf("in a struct with omitzero: got %s, %v, want {}", got, err)
	}
	if got, err := json.Marshal(CallbackURL{}); err != nil || string(got) != `null` {
		t.Errorf("alone: got %s, %v, want null", got, err)
	}
	if err := json.Unmarshal([]byte(`{"productsCallbackURL":"https://a.example"}`), &body); err == nil {
		t.Error("a bare string: got no error")
	}
}
