package proxy

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
)

var documented = []Endpoint{
	{"POST", "/links"},
	{"GET", "/consents"},
	{"GET", "/consents/0b5b1a2e-8a16-11ee-b636-487b6bad036a"},
	{"DELETE", "/consents/A_b-9/revoke"},
	{"POST", "/personal/institution-data"},
	{"POST", "/personal/user-data"},
	{"POST", "/business/institution-data"},
	{"POST", "/business/user-data"},
}

func TestDocumentedEndpointsAreOpen(t *testing.T) {
	k := newKlavi(t)
	for _, prefix := range []string{"", "/klavi-api"} {
		tr, _ := provision(t, k.URL, Transport{Prefix: prefix})
		for _, e := range documented {
			for _, version := range []string{"", "/data/v1"} {
				a := roundTrip(t, tr, incoming(e.Method, prefix+version+e.Path+"?personalTaxId=x%2e", nil))
				if a.status != http.StatusOK || a.body != `{"ok":true}` {
					t.Errorf("%s %s: got %d %s, want Klavi's answer", e.Method, prefix+version+e.Path, a.status, a.body)
					continue
				}
				calls := k.seen()
				last := calls[len(calls)-1]
				if want := "/data/v1" + e.Path + "?personalTaxId=x%2e"; last.uri != want || last.method != e.Method {
					t.Errorf("Klavi got %s %s, want %s %s", last.method, last.uri, e.Method, want)
				}
			}
		}
	}
}

func TestAllowListIsTheTable(t *testing.T) {
	list, err := newAllowList(nil)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := len(list), len(documented); got != want {
		t.Errorf("got %d open endpoints, want %d: %v", got, want, list)
	}
}

// What is refused without any allow.
var closed = []Endpoint{
	{"GET", "/"},
	{"GET", "/links/4437b139"},
	{"HEAD", "/consents"},
	{"PUT", "/consents"},
	{"get", "/consents"},
	{"DELETE", "/consents/1"},
	{"GET", "/consents/"},
	{"GET", "//consents"},
	{"GET", "/consents//1"},
	{"GET", "/Consents"},
	{"GET", "/CONSENTS/1"},
	{"GET", "/%63onsents"},
	{"GET", "/consents%2f1"},
	{"GET", "/consents/%31"},
	{"GET", "/consents/1%2e"},
	{"GET", "/consents/1/"},
	{"GET", "/consents/1/2"},
	{"GET", "/consents/.."},
	{"GET", "/consents/../refresh"},
	{"GET", "/consents/%2e%2e/refresh"},
	{"GET", "/consents/..%2frefresh"},
	{"GET", "/consents/..;/refresh"},
	{"GET", "/consents;a=b"},
	{"GET", "/consents/1;a"},
	{"GET", "/consents/1%00"},
	{"GET", "/consents/1%0a"},
	{"GET", "/consents/ção"},
	{"GET", "/consents/1.json"},
	{"GET", "/data/v1/data/v1/consents"},
	{"GET", "/data/v1//consents"},
	{"GET", "/data/v1consents"},
	{"GET", "/data/v2/consents"},
	{"GET", "/data/analysis/v1/events"},
	{"GET", "/DATA/V1/consents"},
	{"GET", "/data/v1/../v1/consents"},
	{"POST", "/links/"},
	{"POST", "/links%20"},
	{"POST", "/personal/institution-data/"},
	{"POST", "/personal/../business/user-data"},
}

// What no allow can open.
var never = []Endpoint{
	{"POST", "/auth"},
	{"GET", "/auth"},
	{"GET", "/refresh"},
	{"POST", "/refresh"},
	{"GET", "/REFRESH"},
	{"GET", "/Refresh/"},
	{"GET", "/ref%72esh"},
	{"GET", "/ref%2572esh"},
	{"GET", "//refresh"},
	{"GET", "/./refresh"},
	{"GET", "/x/../refresh"},
	{"GET", "/refresh;x"},
	{"GET", "/data/v1/refresh"},
	{"GET", "/data/v1/data/v1/refresh"},
	{"POST", "/Auth"},
	{"GET", "/links/institutions"},
	{"GET", "/links/Institutions"},
	{"GET", "/links/institutions/"},
	{"GET", "/links/institutions/status"},
	{"POST", "/links/institutions"},
	{"POST", "/consents"},
	{"POST", "/Consents"},
	{"POST", "/consents/"},
	{"POST", "/tasks"},
	{"GET", "/tasks"},
	{"GET", "/tasks/1/status"},
	{"POST", "/tasks/1/mfa"},
}

func TestClosedPaths(t *testing.T) {
	k := newKlavi(t)
	tr, _ := provision(t, k.URL, Transport{})
	wide, _ := provision(t, k.URL, Transport{})
	for _, method := range []string{"GET", "POST"} { // past what Provision refuses
		for _, pattern := range []string{"/{id}", "/links/{id}", "/{id}/{id}", "/links/{id}/status", "/tasks/{id}/{id}", "/REFRESH", "/refresh", "/consents"} {
			wide.open = append(wide.open, Endpoint{method, pattern})
		}
	}
	check := func(name string, tr *Transport, e Endpoint) {
		req := incoming(http.MethodGet, "/", nil)
		req.Method = e.Method
		u, err := url.Parse("http://127.0.0.1" + e.Path)
		if err != nil {
			t.Fatal(err)
		}
		req.URL = u
		a := roundTrip(t, tr, req)
		if kind, _, _ := problemOf(t, a); a.status != http.StatusForbidden || kind != "not-allowed" {
			t.Errorf("%s: %s %s: got %d %s, want 403 not-allowed", name, e.Method, e.Path, a.status, kind)
		}
	}
	for _, e := range append(closed, never...) {
		check("without allow", tr, e)
	}
	for _, e := range never {
		check("with patterns for all", wide, e)
	}
	if calls := k.seen(); len(calls) != 0 {
		t.Errorf("Klavi got %d requests, want none: %v", len(calls), calls)
	}
	if n := k.loggedIn(); n != 0 {
		t.Errorf("got %d logins for refused requests, want none", n)
	}
}

// A path that is not escaped in its own way is compared as it would be sent.
func TestRawPaths(t *testing.T) {
	k := newKlavi(t)
	tr, _ := provision(t, k.URL, Transport{})
	for _, u := range []*url.URL{
		{Path: "/consents/..", RawPath: "/consents/x"}, // RawPath is not that of Path
		{Path: "/consents/a b"},
		{Path: "/consents/a/b", RawPath: "/consents/a%2Fb"},
		{Path: "consents"},
		{Path: ""},
		{Opaque: "/consents"},
		{Path: "*"},
	} {
		req := incoming(http.MethodGet, "/", nil)
		req.URL = u
		if a := roundTrip(t, tr, req); a.status != http.StatusForbidden {
			t.Errorf("%#v: got %d, want 403", u, a.status)
		}
	}
	if calls := k.seen(); len(calls) != 0 {
		t.Errorf("Klavi got %v, want nothing", calls)
	}
}

func TestPrefixIsRequired(t *testing.T) {
	k := newKlavi(t)
	tr, _ := provision(t, k.URL, Transport{Prefix: "/klavi-api"})
	for _, target := range []string{"/consents", "/klavi-apiconsents", "/klavi-api", "/klavi-api//consents", "/KLAVI-API/consents", "/data/v1/klavi-api/consents"} {
		if a := roundTrip(t, tr, incoming(http.MethodGet, target, nil)); a.status != http.StatusForbidden {
			t.Errorf("%s: got %d, want 403", target, a.status)
		}
	}
}

func TestAllowOpens(t *testing.T) {
	k := newKlavi(t)
	tr, _ := provision(t, k.URL, Transport{Allow: []Endpoint{
		{"GET", "/links/{id}"},
		{"PATCH", "/data/v1/partners/{id}/limits.json"},
		{"DELETE", "/consents/{id}"},
	}})
	for _, e := range []Endpoint{
		{"GET", "/links/4437b139-8a16"},
		{"PATCH", "/partners/a_1/limits.json"},
		{"PATCH", "/data/v1/partners/a_1/limits.json"},
		{"DELETE", "/consents/1"},
		{"GET", "/consents"},
	} {
		if a := roundTrip(t, tr, incoming(e.Method, e.Path, nil)); a.status != http.StatusOK {
			t.Errorf("%s %s: got %d %s, want 200", e.Method, e.Path, a.status, a.body)
		}
	}
	for _, e := range []Endpoint{
		{"GET", "/links/institutions"},
		{"GET", "/links/INSTITUTIONS"},
		{"PATCH", "/partners/a/b/limits.json"},
		{"PATCH", "/partners/a/limitsXjson"},
		{"PATCH", "/partners//limits.json"},
	} {
		if a := roundTrip(t, tr, incoming(e.Method, e.Path, nil)); a.status != http.StatusForbidden {
			t.Errorf("%s %s: got %d, want 403", e.Method, e.Path, a.status)
		}
	}
}

func TestAllowRefused(t *testing.T) {
	for _, e := range append([]Endpoint{
		{"", "/x"},
		{"get", "/x"},
		{"G T", "/x"},
		{"CONNECT", "/x"},
		{"TRACE", "/x"},
		{"GET", ""},
		{"GET", "x"},
		{"GET", "/"},
		{"GET", "/x/"},
		{"GET", "/x//y"},
		{"GET", "/x/../y"},
		{"GET", "/./x"},
		{"GET", "/x%20"},
		{"GET", "/x?y"},
		{"GET", "/x y"},
		{"GET", "/x*"},
		{"GET", "/x{id}"},
		{"GET", "/{name}"},
		{"GET", "/ção"},
		{"GET", "/{id}"},
		{"DELETE", "/{id}"},
		{"POST", "/{id}"},
		{"GET", "/data/v1/{id}"},
		{"GET", "/data/v1/refresh"},
		{"GET", "/{id}/institutions"},
		{"POST", "/links/{id}"},
		{"GET", "/links/{id}/status"},
		{"GET", "/links/{id}/{id}"},
		{"GET", "/tasks/{id}/status"},
		{"GET", "/tasks/7/status"},
		{"POST", "/tasks/{id}/{id}"},
		{"POST", "/{id}/{id}/mfa"},
	}, never...) {
		if list, err := newAllowList([]Endpoint{e}); err == nil {
			t.Errorf("%s %s: got a list of %d, want an error", e.Method, e.Path, len(list))
		}
	}
}

func TestRefusalTellsLinkTokenEndpointsApart(t *testing.T) {
	k := newKlavi(t)
	tr, _ := provision(t, k.URL, Transport{})
	for target, want := range map[string]string{
		"/links/institutions": "klavi_frontend",
		"/refresh":            "credential",
		"/nothing":            "allow <method> <path>",
	} {
		if _, _, detail := problemOf(t, roundTrip(t, tr, incoming(http.MethodGet, target, nil))); !strings.Contains(detail, want) {
			t.Errorf("%s: got %q, want it to say %q", target, detail, want)
		}
	}
}

func TestQueryIsChecked(t *testing.T) {
	k := newKlavi(t)
	tr, _ := provision(t, k.URL, Transport{})
	for _, query := range []string{"a b", "a\r\nX: y", "a\x00", "a\x7f", "a#b"} {
		req := incoming(http.MethodGet, "/consents", nil)
		req.URL.RawQuery = query
		if kind, _, _ := problemOf(t, roundTrip(t, tr, req)); kind != "invalid-request" {
			t.Errorf("query %q: got %s, want invalid-request", query, kind)
		}
	}
	if calls := k.seen(); len(calls) != 0 {
		t.Errorf("Klavi got %v, want nothing", calls)
	}
}

// Early data can be recorded and sent again by anybody on the way.
func TestEarlyDataCreatesNothing(t *testing.T) {
	k := newKlavi(t)
	tr, _ := provision(t, k.URL, Transport{})
	for _, method := range []string{http.MethodPost, http.MethodDelete} {
		path := map[string]string{http.MethodPost: "/links", http.MethodDelete: "/consents/c1/revoke"}[method]
		req := incoming(method, path, nil)
		req.Header.Set("Early-Data", "1")
		a := roundTrip(t, tr, req)
		if kind, _, _ := problemOf(t, a); a.status != http.StatusTooEarly || kind != "too-early" {
			t.Errorf("%s: got %d %s, want 425 too-early", method, a.status, kind)
		}
	}
	if calls := k.seen(); len(calls) != 0 {
		t.Errorf("Klavi got %v, want nothing", calls)
	}
	req := incoming(http.MethodGet, "/consents", nil)
	req.Header.Set("Early-Data", "1")
	if a := roundTrip(t, tr, req); a.status != http.StatusOK {
		t.Errorf("GET: got %d, want 200", a.status)
	}
}

func TestBrowsersAreRefused(t *testing.T) {
	k := newKlavi(t)
	tr, _ := provision(t, k.URL, Transport{})
	for name, value := range map[string]string{"Origin": "https://app.example.com", "Sec-Fetch-Site": "none"} {
		for _, value := range []string{value, ""} {
			req := incoming(http.MethodGet, "/consents", nil)
			req.Header.Set(name, value)
			a := roundTrip(t, tr, req)
			if kind, _, _ := problemOf(t, a); a.status != http.StatusForbidden || kind != "origin" {
				t.Errorf("%s %q: got %d %s, want 403 origin", name, value, a.status, kind)
			}
		}
	}
	if calls := k.seen(); len(calls) != 0 {
		t.Errorf("Klavi got %v, want nothing", calls)
	}
}
