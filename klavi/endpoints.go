package klavi

import (
	"slices"
	"strings"
)

// TokenKind is the credential that an endpoint of Klavi wants in its Authorization header.
type TokenKind int

const (
	// NoToken: the credentials stand in the body, or none are needed.
	NoToken TokenKind = iota
	// AccessToken acts for the partner, and sees all of the partner's users.
	AccessToken
	// LinkToken acts for one link of one user.
	LinkToken
)

// String returns the name that Klavi's documents use: "accessToken", "linkToken" or "none".
func (k TokenKind) String() string {
	switch k {
	case AccessToken:
		return "accessToken"
	case LinkToken:
		return "linkToken"
	default:
		return "none"
	}
}

// Endpoint is one row of Klavi's API reference.
type Endpoint struct {
	// Method is in upper case.
	Method string
	// Path is relative to the base URL and starts with a slash. "{id}" stands for one identifier; see [MatchPath].
	Path string
	// Token is the credential that goes with it.
	Token TokenKind
	// Unverified marks an endpoint that Klavi's reference does not show: working integrations call it, or its
	// existence follows from others.
	Unverified bool
}

var endpoints = []Endpoint{
	{Method: "POST", Path: "/auth", Token: NoToken},
	{Method: "GET", Path: "/refresh", Token: AccessToken},
	{Method: "POST", Path: "/links", Token: AccessToken},
	{Method: "GET", Path: "/links/institutions", Token: LinkToken},
	{Method: "GET", Path: "/links/institutions/status", Token: LinkToken},
	{Method: "GET", Path: "/links/{id}", Token: AccessToken, Unverified: true},
	{Method: "POST", Path: "/consents", Token: LinkToken},
	{Method: "GET", Path: "/consents", Token: AccessToken},
	{Method: "GET", Path: "/consents/{id}", Token: AccessToken},
	{Method: "DELETE", Path: "/consents/{id}/revoke", Token: AccessToken},
	{Method: "POST", Path: "/personal/institution-data", Token: AccessToken},
	{Method: "POST", Path: "/personal/user-data", Token: AccessToken},
	{Method: "POST", Path: "/business/institution-data", Token: AccessToken},
	{Method: "POST", Path: "/business/user-data", Token: AccessToken},
	{Method: "POST", Path: "/tasks", Token: LinkToken, Unverified: true},
	{Method: "GET", Path: "/tasks/{id}/status", Token: LinkToken},
	{Method: "POST", Path: "/tasks/{id}/mfa", Token: LinkToken},
}

// Endpoints returns every endpoint that is known, in the order of Klavi's reference (docs.klavi.ai/connect).
// /auth and /refresh are among them: who forwards requests leaves out those that answer with a credential.
func Endpoints() []Endpoint {
	return slices.Clone(endpoints)
}

// Find returns the endpoint that a request is for. path is the escaped path relative to the base URL, without a
// query. A literal path wins over one with "{id}", so that "GET /links/institutions", which takes a linkToken, is
// never mistaken for "GET /links/{id}", which takes the accessToken. Whoever matches patterns of their own has to ask
// Find first, and to go by its Token when it knows the request.
func Find(method, path string) (Endpoint, bool) {
	if e, ok := literals[[2]string{method, path}]; ok {
		return e, true
	}
	for _, e := range endpoints {
		if e.Method == method && MatchPath(e.Path, path) {
			return e, true
		}
	}
	return Endpoint{}, false
}

const wildcard = "{id}"

// literals are the endpoints without an id, by method and path: they are most of
// the calls, and Find is asked for each.
var literals = func() map[[2]string]Endpoint {
	found := make(map[[2]string]Endpoint)
	for _, e := range endpoints {
		if !strings.Contains(e.Path, wildcard) {
			found[[2]string{e.Method, e.Path}] = e
		}
	}
	return found
}()

// MatchPath reports whether path is one that pattern stands for. All is compared byte for byte, on the path as it is
// escaped in the request, except that each "{id}" of the pattern stands for one or more of [A-Za-z0-9_-], as many as
// there are. Nothing is cleaned, decoded or folded: a path that needs any of these does not match.
func MatchPath(pattern, path string) bool {
	for {
		literal, rest, found := strings.Cut(pattern, wildcard)
		if !found {
			return path == pattern
		}
		if !strings.HasPrefix(path, literal) {
			return false
		}
		path = path[len(literal):]
		n := 0
		for n < len(path) && isIDByte(path[n]) {
			n++
		}
		if n == 0 {
			return false
		}
		path, pattern = path[n:], rest
	}
}

func isIDByte(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '_' || c == '-'
}
