package proxy

import (
	"io"
	"net/http"
	"strings"
	"testing"
)

var callbackEndpoints = []string{
	"/links", "/personal/institution-data", "/personal/user-data", "/business/institution-data", "/business/user-data",
}

func TestFillIn(t *testing.T) {
	all := map[string]string{"all": "https://hooks.example.com/a"}
	types := map[string]string{
		"pf_loans": "https://hooks.example.com/loans", "pf_balance": "https://hooks.example.com/balance", "other": "https://hooks.example.com/o",
	}
	info := map[string]string{"service": "{http.request.header.X-Service}", "gateway": "a \"quoted\" one"}
	const allJSON = `{"all":"https://hooks.example.com/a"}`
	tests := []struct {
		name   string
		config Transport
		body   string
		want   string // what Klavi gets; empty where the request is refused
		status int
		kind   string
		field  string
	}{
		{name: "reports_url", config: Transport{ReportsURL: all}, body: `{}`, want: `{"productsCallbackURL":` + allJSON + `}`},
		{
			name: "order and values stay", config: Transport{ReportsURL: all},
			body: ` { "z" : 1.50e3 , "a" : [ 1,2 ] , "\u0061b" : "\u00e7" , "n":12345678901234567890} `,
			want: `{"z":1.50e3,"a":[ 1,2 ],"ab":"\u00e7","n":12345678901234567890,"productsCallbackURL":` + allJSON + `}`,
		},
		{name: "null is absent", config: Transport{ReportsURL: all}, body: `{"productsCallbackURL":null,"a":1}`, want: `{"productsCallbackURL":` + allJSON + `,"a":1}`},
		{
			name: "types", config: Transport{ReportsURL: types}, body: `{}`,
			want: `{"productsCallbackURL":{"pf_balance":"https://hooks.example.com/balance","pf_loans":"https://hooks.example.com/loans","other":"https://hooks.example.com/o"}}`,
		},
		{name: "the same is sent", config: Transport{ReportsURL: all}, body: `{"productsCallbackURL":` + allJSON + `}`, want: `{"productsCallbackURL":` + allJSON + `}`},
		{
			name: "its URLs in another form", config: Transport{ReportsURL: types},
			body: `{"productsCallbackURL":{"all":"https://hooks.example.com/loans"}}`,
			want: `{"productsCallbackURL":{"all":"https://hooks.example.com/loans"}}`,
		},
		{
			name: "another URL", config: Transport{ReportsURL: all}, body: `{"productsCallbackURL":{"all":"https://evil.example.com/a"}}`,
			status: 400, kind: "invalid-field", field: "productsCallbackURL",
		},
		{
			name: "one of two is another", config: Transport{ReportsURL: types},
			body:   `{"productsCallbackURL":{"pf_loans":"https://hooks.example.com/loans","other":"https://evil.example.com/o"}}`,
			status: 400, kind: "invalid-field", field: "productsCallbackURL",
		},
		{
			name: "an escaped name", config: Transport{ReportsURL: all}, body: `{"products\u0043allbackURL":{"all":"https://evil.example.com/a"}}`,
			status: 400, kind: "invalid-field", field: "productsCallbackURL",
		},
		{
			name: "any_callback_url", config: Transport{ReportsURL: all, AnyCallbackURL: true},
			body: `{"productsCallbackURL":{"all":"https://elsewhere.example.com/a"}}`,
			want: `{"productsCallbackURL":{"all":"https://elsewhere.example.com/a"}}`,
		},
		{
			name: "any_callback_url fills in", config: Transport{ReportsURL: all, AnyCallbackURL: true}, body: `{}`,
			want: `{"productsCallbackURL":` + allJSON + `}`,
		},
		{name: "a string", config: Transport{ReportsURL: all}, body: `{"productsCallbackURL":"https://hooks.example.com/a"}`, status: 400, kind: "invalid-field", field: "productsCallbackURL"},
		{
			name: "a mix", config: Transport{ReportsURL: all}, status: 400, kind: "invalid-field", field: "productsCallbackURL",
			body: `{"productsCallbackURL":{"all":"https://hooks.example.com/a","other":"https://hooks.example.com/a"}}`,
		},
		{name: "Url", config: Transport{ReportsURL: all}, body: `{"productsCallbackUrl":` + allJSON + `}`, status: 400, kind: "unknown-field", field: "productsCallbackUrl"},
		{name: "upper case", config: Transport{ReportsURL: all}, body: `{"PRODUCTSCALLBACKURL":1}`, status: 400, kind: "unknown-field", field: "PRODUCTSCALLBACKURL"},
		{name: "snake case", config: Transport{ReportsURL: all}, body: `{"products_callback_url":1}`, status: 400, kind: "unknown-field", field: "products_callback_url"},
		{name: "a letter that folds", config: Transport{ReportsURL: all}, body: `{"product\u017fCallbackURL":1}`, status: 400, kind: "unknown-field", field: "productſCallbackURL"},
		{
			name: "right and wrong spelling", config: Transport{ReportsURL: all}, status: 400, kind: "unknown-field", field: "productsCallbackurl",
			body: `{"productsCallbackURL":` + allJSON + `,"productsCallbackurl":{"all":"https://evil.example.com"}}`,
		},
		{name: "twice", config: Transport{ReportsURL: all}, body: `{"productsCallbackURL":` + allJSON + `,"productsCallbackURL":{}}`, status: 400, kind: "invalid-field"},
		{name: "twice, escaped", config: Transport{ReportsURL: all}, body: `{"productsCallbackURL":` + allJSON + `,"products\u0043allbackURL":{}}`, status: 400, kind: "invalid-field"},
		{name: "twice inside", config: Transport{ReportsURL: all}, body: `{"a":{"b":1,"b":2}}`, status: 400, kind: "invalid-field"},
		{name: "an array", config: Transport{ReportsURL: all}, body: `[{}]`, status: 400, kind: "invalid-request"},
		{name: "two objects", config: Transport{ReportsURL: all}, body: `{}{}`, status: 400, kind: "invalid-request"},
		{name: "cut off", config: Transport{ReportsURL: all}, body: `{"a":`, status: 400, kind: "invalid-request"},
		{name: "not UTF-8", config: Transport{ReportsURL: all}, body: "{\"a\":\"\xff\"}", status: 400, kind: "invalid-request"},
		{name: "a byte order mark", config: Transport{ReportsURL: all}, body: "\ufeff{}", status: 400, kind: "invalid-request"},
		{name: "nothing", config: Transport{ReportsURL: all}, body: ``, status: 400, kind: "invalid-request"},
		{name: "too large", config: Transport{ReportsURL: all}, body: `{"a":"` + strings.Repeat("x", maxBuffered) + `"}`, status: 413, kind: "too-large"},

		{name: "external_info", config: Transport{ExternalInfo: info}, body: `{"a":1}`, want: `{"a":1,"externalInfo":{"gateway":"a \"quoted\" one","service":"ledger"}}`},
		{name: "external_info is there", config: Transport{ExternalInfo: info}, body: `{"externalInfo":{"own":1}}`, want: `{"externalInfo":{"own":1}}`},
		{name: "externalInfo[x]", config: Transport{ExternalInfo: info}, body: `{"externalInfo[x]":1}`, status: 400, kind: "unknown-field", field: "externalInfo[x]"},
		{name: "externalinfo", config: Transport{ExternalInfo: info}, body: `{"externalinfo":{}}`, status: 400, kind: "unknown-field", field: "externalinfo"},
		{
			name: "both", config: Transport{ExternalInfo: info, ReportsURL: all}, body: `{}`,
			want: `{"productsCallbackURL":` + allJSON + `,"externalInfo":{"gateway":"a \"quoted\" one","service":"ledger"}}`,
		},
		{
			name: "empty placeholder", config: Transport{ExternalInfo: map[string]string{"x": "{http.request.header.X-Missing}"}},
			body: `{}`, status: 400, kind: "invalid-request", field: "externalInfo",
		},
		{
			name: "unknown placeholder", config: Transport{ExternalInfo: map[string]string{"x": "{http.nothing}"}},
			body: `{}`, status: 400, kind: "invalid-request", field: "externalInfo",
		},
		{
			name: "empty placeholder that is not needed", config: Transport{ExternalInfo: map[string]string{"x": "{http.nothing}"}},
			body: `{"externalInfo":{}}`, want: `{"externalInfo":{}}`,
		},
		{name: "no configuration", body: `{"productsCallbackUrl":1,"productsCallbackUrl":2`, want: `{"productsCallbackUrl":1,"productsCallbackUrl":2`},
	}
	k := newKlavi(t)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tr, _ := provision(t, k.URL, tt.config)
			for _, path := range callbackEndpoints {
				before := len(k.seen())
				req := incoming(http.MethodPost, "/data/v1"+path, strings.NewReader(tt.body))
				req.Header.Set("Content-Type", "application/json; charset=utf-8")
				req.Header.Set("X-Service", "ledger")
				a := roundTrip(t, tr, req)
				calls := k.seen()[before:]
				if tt.want == "" {
					kind, field, detail := problemOf(t, a)
					if a.status != tt.status || kind != tt.kind || field != tt.field || len(calls) != 0 {
						t.Errorf("%s: got %d %s %q and %d calls, want %d %s %q and none", path, a.status, kind, field, len(calls), tt.status, tt.kind, tt.field)
					}
					if strings.Contains(a.body, "example.com") || detail == "" {
						t.Errorf("%s: got %q, want a detail without an address", path, a.body)
					}
					continue
				}
				if a.status != http.StatusOK || len(calls) != 1 {
					t.Fatalf("%s: got %d %s and %d calls, want 200 and one", path, a.status, a.body, len(calls))
				}
				if calls[0].body != tt.want || calls[0].length != int64(len(tt.want)) {
					t.Errorf("%s: Klavi got\n%s, want\n%s", path, calls[0].body, tt.want)
				}
			}
		})
	}
}

func TestCheckSpelling(t *testing.T) {
	for name, refused := range map[string]bool{
		"productsCallbackURL":           false,
		"productsCallbackURL[all]":      true,
		"productsCallbackURL.all":       true,
		"productsCallbackURL[]":         true,
		"[productsCallbackURL]":         true,
		"products.callback.url":         true,
		"productsCallbackURL\t":         true,
		"productsCallbackURL\x00":       true,
		"\u200bproductsCallbackURL":     true,
		"products\u00adCallbackURL":     true,
		"productsCallbackURL\u0301":     true,
		" productsCallbackURL":          true,
		"products-callback_url":         true,
		"productsCallbackURLs":          true,
		"product\u017fcallbac\u212aurl": true,
		"productsCallback":              false,
		"myProductsCallbackURL":         false,
		"products":                      false,
		"":                              false,
	} {
		err := (&object{members: []member{{name: name}}}).checkSpelling(fieldCallbackURL)
		if got := err != nil; got != refused {
			t.Errorf("%q: got refused %t, want %t", name, got, refused)
		}
	}
}

func TestFilledInRequestHasNoQuery(t *testing.T) {
	const query = "?productsCallbackURL[all]=https://evil.example.com/&personalTaxId=1"
	k := newKlavi(t)
	for name, tt := range map[string]struct {
		config Transport
		want   string
	}{
		"reports_url":   {Transport{ReportsURL: map[string]string{"all": "https://hooks.example.com/a"}}, ""},
		"external_info": {Transport{ExternalInfo: map[string]string{"a": "b"}}, ""},
		"nothing":       {Transport{}, query},
	} {
		tr, _ := provision(t, k.URL, tt.config)
		for _, path := range callbackEndpoints {
			roundTrip(t, tr, incoming(http.MethodPost, path+query, strings.NewReader(`{}`)))
			calls := k.seen()
			if got, want := calls[len(calls)-1].uri, "/data/v1"+path+tt.want; got != want {
				t.Errorf("%s: Klavi got %s, want %s", name, got, want)
			}
		}
	}
	tr, sealing, _ := sealing(t, Transport{})
	req := linkRequest(`{}`)
	req.URL.RawQuery = query[1:]
	roundTrip(t, tr, req)
	if got, want := sealing.seen()[0].uri, "/data/v1/links"; got != want {
		t.Errorf("sealed: Klavi got %s, want %s", got, want)
	}
}

func TestPlaceholderIsNamedInTheLog(t *testing.T) {
	k := newKlavi(t)
	tr, logs := provision(t, k.URL, Transport{ExternalInfo: map[string]string{"x": "{http.request.header.X-Missing}"}})
	a := roundTrip(t, tr, incoming(http.MethodPost, "/links", strings.NewReader("{}")))
	if strings.Contains(a.body, "X-Missing") {
		t.Errorf("got %q, want no name of the configuration's", a.body)
	}
	lines := logs.FilterMessage("external_info cannot be filled in").All()
	if len(lines) != 1 || !strings.Contains(lines[0].ContextMap()["error"].(string), "X-Missing") {
		t.Errorf("got %v, want a line that names the placeholder", logs.All())
	}
}

func TestOtherRequestsAreNotRead(t *testing.T) {
	k := newKlavi(t)
	tr, _ := provision(t, k.URL, Transport{
		ReportsURL: map[string]string{"all": "https://hooks.example.com/a"},
		Allow:      []Endpoint{{"POST", "/other"}, {"POST", "/Personal/user-data"}},
	})
	if a := roundTrip(t, tr, incoming(http.MethodPost, "/other", strings.NewReader("not JSON"))); a.status != 200 || k.seen()[0].body != "not JSON" {
		t.Errorf("got %d, want the body as it is", a.status)
	}
	a := roundTrip(t, tr, incoming(http.MethodPost, "/Personal/user-data", strings.NewReader(`{"productsCallbackURL":{"all":"https://evil.example.com/a"}}`)))
	if a.status != 400 {
		t.Errorf("got %d for an endpoint in another spelling, want 400", a.status)
	}
}

func TestFilledInBodyIsJSON(t *testing.T) {
	k := newKlavi(t)
	tr, _ := provision(t, k.URL, Transport{ReportsURL: map[string]string{"all": "https://hooks.example.com/a"}})
	for media, want := range map[string]int{
		"":                                  200,
		"application/json":                  200,
		"Application/JSON; charset=utf-16":  200,
		"application/x-www-form-urlencoded": 415,
		"text/plain":                        415,
		"application/json; =":               415,
	} {
		before := len(k.seen())
		req := incoming(http.MethodPost, "/links", strings.NewReader(`{}`))
		if media != "" {
			req.Header.Set("Content-Type", media)
		}
		if a := roundTrip(t, tr, req); a.status != want {
			t.Errorf("%q: got %d, want %d", media, a.status, want)
		}
		for _, c := range k.seen()[before:] {
			if got := c.header.Get("Content-Type"); got != "application/json" {
				t.Errorf("%q: Klavi got Content-Type %q, want application/json", media, got)
			}
		}
	}
}

func TestFilledInBodyIsSentAgain(t *testing.T) {
	k := newKlavi(t)
	tr, _ := provision(t, k.URL, Transport{ReportsURL: map[string]string{"all": "https://hooks.example.com/a"}})
	k.answer = func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") == "Bearer secret-token-1" {
			w.WriteHeader(http.StatusUnauthorized)
		}
	}
	roundTrip(t, tr, incoming(http.MethodPost, "/links", chunked{strings.NewReader(`{"a":1}`)}))
	calls := k.seen()
	if len(calls) != 2 || calls[0].body != calls[1].body || !strings.HasPrefix(calls[1].body, `{"a":1,"productsCallbackURL"`) {
		t.Errorf("got %v, want the same filled-in body twice", calls)
	}
}

func BenchmarkRoundTripDecision(b *testing.B) {
	list, err := newAllowList(nil)
	if err != nil {
		b.Fatal(err)
	}
	tr := &Transport{open: list}
	req := incoming(http.MethodPost, "/data/v1/business/user-data", io.NopCloser(strings.NewReader("{}")))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := tr.admit(req); err != nil {
			b.Fatal(err)
		}
	}
}
