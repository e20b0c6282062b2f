package klavi

import (
	"strings"
	"testing"
)

func TestFind(t *testing.T) {
	tests := []struct {
		method, path string
		want         string // the endpoint's path; "" for none
		token        TokenKind
	}{
		{"POST", "/auth", "/auth", NoToken},
		{"GET", "/refresh", "/refresh", AccessToken},
		{"POST", "/links", "/links", AccessToken},
		{"GET", "/links/gPuKXrCJU05J4k", "/links/{id}", AccessToken},
		{"GET", "/links/institutions", "/links/institutions", LinkToken},
		{"GET", "/links/institutions/status", "/links/institutions/status", LinkToken},
		{"GET", "/links/Institutions", "/links/{id}", AccessToken},
		{"POST", "/consents", "/consents", LinkToken},
		{"GET", "/consents", "/consents", AccessToken},
		{"GET", "/consents/f55c899f-11eb-231f-97c4-4b2c16484587", "/consents/{id}", AccessToken},
		{"DELETE", "/consents/a_B-9/revoke", "/consents/{id}/revoke", AccessToken},
		{"POST", "/personal/institution-data", "/personal/institution-data", AccessToken},
		{"POST", "/personal/user-data", "/personal/user-data", AccessToken},
		{"POST", "/business/institution-data", "/business/institution-data", AccessToken},
		{"POST", "/business/user-data", "/business/user-data", AccessToken},
		{"GET", "/tasks/17/status", "/tasks/{id}/status", LinkToken},
		{"POST", "/tasks/17/mfa", "/tasks/{id}/mfa", LinkToken},

		{"get", "/consents", "", 0},
		{"DELETE", "/consents/1", "", 0},
		{"DELETE", "/consents//revoke", "", 0},
		{"DELETE", "/consents/{id}/revoke", "", 0},
		{"GET", "/links/{id}", "", 0},
		{"GET", "/links/", "", 0},
		{"GET", "/links/a/b", "", 0},
		{"GET", "/links/../refresh", "", 0},
		{"GET", "/links/%2e%2e", "", 0},
		{"GET", "/links/a;b", "", 0},
		{"GET", "/links/a.b", "", 0},
		{"GET", "/links/institutions/", "", 0},
		{"GET", "//links/institutions", "", 0},
		{"GET", "/links/institutions?x", "", 0},
		{"GET", "/links/instituti\u00f3ns", "", 0},
		{"GET", "links/institutions", "", 0},
		{"GET", "", "", 0},
	}
	for _, test := range tests {
		got, ok := Find(test.method, test.path)
		if ok != (test.want != "") || got.Path != test.want || got.Token != test.token {
			t.Errorf("Find(%q, %q): got %q with %v, want %q with %v", test.method, test.path, got.Path, got.Token, test.want, test.token)
		}
	}
}

func TestFindKnowsEveryEndpoint(t *testing.T) {
	for _, e := range Endpoints() {
		path := strings.ReplaceAll(e.Path, "{id}", "4437b139-8a16-11ee-b636-487b6bad036a")
		if got, ok := Find(e.Method, path); !ok || got != e {
			t.Errorf("Find(%q, %q): got %+v, want %+v", e.Method, path, got, e)
		}
	}
	first := Endpoints()
	first[0].Path = "/changed"
	if got := Endpoints()[0].Path; got != "/auth" {
		t.Errorf("after a caller changed its copy: got %q, want %q", got, "/auth")
	}
}

func TestMatchPath(t *testing.T) {
	tests := []struct {
		pattern, path string
		want          bool
	}{
		{"/a", "/a", true},
		{"/a", "/A", false},
		{"/a", "/a/", false},
		{"/a/{id}", "/a/x", true},
		{"/a/{id}", "/a/", false},
		{"/a/{id}", "/a", false},
		{"/a/{id}", "/a/x/", false},
		{"/a/{id}/b", "/a/x/b", true},
		{"/a/{id}/b", "/a/x/c", false},
		{"/a/{id}/b/{id}", "/a/x/b/y", true},
		{"/a/{id}/b/{id}", "/a/x/b/", false},
		{"", "", true},
		{"{id}", "x", true},
		{"/a/{name}", "/a/x", false},
	}
	for _, test := range tests {
		if got := MatchPath(test.pattern, test.path); got != test.want {
			t.Errorf("MatchPath(%q, %q): got %v, want %v", test.pattern, test.path, got, test.want)
		}
	}
	if n := testing.AllocsPerRun(100, func() { MatchPath("/consents/{id}/revoke", "/consents/f55c899f/revoke") }); n != 0 {
		t.Errorf("MatchPath: got %v allocations, want 0", n)
	}
}

func TestTokenKindString(t *testing.T) {
	for kind, want := range map[TokenKind]string{NoToken: "none", AccessToken: "accessToken", LinkToken: "linkToken"} {
		if got := kind.String(); got != want {
			t.Errorf("TokenKind(%d): got %q, want %q", kind, got, want)
		}
	}
}
