package proxy

import (
	"fmt"
	"net/http"
	"net/url"
	"path"
	"strings"

	"github.com/caddy-klavi/caddy-klavi/handler/problem"
	"github.com/caddy-klavi/caddy-klavi/klavi"
)

const (
	apiPath   = "/data/v1"
	idSegment = "{id}"
	pathChars = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_."
)

// Endpoint is an endpoint of Klavi's that is added to the allow-list.
type Endpoint struct {
	// Method is in upper case, such as GET. Required.
	Method string `json:"method,omitempty"`

	// Path is Klavi's, such as `/consents/{id}`: a segment `{id}` stands for
	// one or more letters, digits, dashes and underscores. Required.
	Path string `json:"path,omitempty"`
}

// allowList is the endpoints that are open.
type allowList []Endpoint

// newAllowList returns Klavi's documented accessToken endpoints and extra.
func newAllowList(extra []Endpoint) (allowList, error) {
	var list allowList
	for _, e := range klavi.Endpoints() {
		if e.Token == klavi.AccessToken && !e.Unverified && !handsOut(e) {
			list = append(list, Endpoint{e.Method, e.Path})
		}
	}
	for _, e := range extra {
		if rest, ok := strings.CutPrefix(e.Path, apiPath+"/"); ok {
			e.Path = "/" + rest
		}
		if err := e.check(); err != nil {
			return nil, err
		}
		list = append(list, e)
	}
	return list, nil
}

// literals returns those of l without an id: what they stand for is one path
// each, which newAllowList has looked at.
func (l allowList) literals() map[Endpoint]struct{} {
	literals := make(map[Endpoint]struct{})
	for _, e := range l {
		if !strings.Contains(e.Path, idSegment) {
			literals[e] = struct{}{}
		}
	}
	return literals
}

// contains reports whether method and the escaped path are an endpoint on the
// list, byte for byte.
func (l allowList) contains(method, path string) bool {
	for _, e := range l {
		if e.Method == method && klavi.MatchPath(e.Path, path) {
			return true
		}
	}
	return false
}

// check reports why e cannot be added to the list.
func (e Endpoint) check() error {
	if e.Method == "" || strings.Trim(e.Method, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") != "" {
		return fmt.Errorf("%q is not a method in upper case, such as GET", e.Method)
	}
	if e.Method == http.MethodConnect || e.Method == http.MethodTrace {
		return fmt.Errorf("%s cannot be opened", e.Method)
	}
	if !strings.HasPrefix(e.Path, "/") {
		return fmt.Errorf("the path %q must begin with a slash, such as /consents/{id}", e.Path)
	}
	for segment := range strings.SplitSeq(e.Path[1:], "/") {
		if segment == idSegment {
			continue
		}
		if segment == "" || segment == "." || segment == ".." || strings.Trim(segment, pathChars) != "" {
			return fmt.Errorf("the path %q may hold letters, digits, '-', '_', '.', single slashes and whole segments {id} only", e.Path)
		}
	}
	if known, ok := findExact(e); ok && known.Token == klavi.AccessToken && !handsOut(known) {
		return nil // GET /links/{id}: what it has in common with others is refused when it comes
	}
	plain := simplify(e.Path)
	for _, r := range reservedEndpoints {
		if (r.anyMethod || r.Method == e.Method) && intersect(plain, r.Path) {
			return fmt.Errorf("%s %s cannot be opened: it is, or its pattern covers, %s, which %s", e.Method, e.Path, r.Path, r.why())
		}
	}
	return nil
}

func findExact(e Endpoint) (klavi.Endpoint, bool) {
	for _, known := range klavi.Endpoints() {
		if known.Method == e.Method && known.Path == e.Path {
			return known, true
		}
	}
	return klavi.Endpoint{}, false
}

// handsOut reports whether Klavi answers e with a credential of the gateway's own.
func handsOut(e klavi.Endpoint) bool { return e.Path == "/auth" || e.Path == "/refresh" }

// reserved is an endpoint that is never open.
type reserved struct {
	klavi.Endpoint
	anyMethod bool
}

func (r reserved) why() string {
	if handsOut(r.Endpoint) {
		return "answers with the gateway's own credential"
	}
	return "takes a linkToken: browsers reach it through klavi_frontend"
}

var reservedEndpoints = func() []reserved {
	// A path on which the access token is at home for one method is reserved
	// for the others only where Klavi says so: /consents.
	shared := make(map[string]bool)
	for _, e := range klavi.Endpoints() {
		if e.Token == klavi.AccessToken && !handsOut(e) {
			shared[e.Path] = true
		}
	}
	var list []reserved
	for _, e := range klavi.Endpoints() {
		if handsOut(e) || e.Token == klavi.LinkToken {
			list = append(list, reserved{e, !shared[e.Path]})
		}
	}
	return list
}()

// findReserved returns the reserved endpoint that Klavi, or whatever stands
// before it, could take a request for, however its path is spelt.
func findReserved(method, escaped string) (reserved, bool) {
	plain := simplify(escaped)
	for _, r := range reservedEndpoints {
		if (r.anyMethod || strings.EqualFold(r.Method, method)) && intersect(r.Path, plain) {
			return r, true
		}
	}
	return reserved{}, false
}

// simplify undoes what servers are known to undo before they look at a path.
func simplify(escaped string) string {
	p := escaped
	for range 4 {
		decoded, err := url.PathUnescape(p)
		if err != nil || decoded == p {
			break
		}
		p = decoded
	}
	if strings.ContainsAny(p, `\;`) {
		segments := strings.Split(strings.ReplaceAll(p, `\`, "/"), "/")
		for i, segment := range segments {
			segments[i], _, _ = strings.Cut(segment, ";")
		}
		p = strings.Join(segments, "/")
	}
	if !strings.HasPrefix(p, "/") {
		p = "/" + p
	}
	p = path.Clean(p)
	for len(p) > len(apiPath) && strings.EqualFold(p[:len(apiPath)+1], apiPath+"/") {
		p = p[len(apiPath):]
	}
	return p
}

// intersect reports whether there is a path that both patterns stand for,
// upper and lower case being the same.
func intersect(a, b string) bool {
	for {
		headA, restA, moreA := strings.Cut(strings.TrimPrefix(a, "/"), "/")
		headB, restB, moreB := strings.Cut(strings.TrimPrefix(b, "/"), "/")
		if headA != idSegment && headB != idSegment && !strings.EqualFold(headA, headB) {
			return false
		}
		if !moreA || !moreB {
			return moreA == moreB
		}
		a, b = restA, restB
	}
}

// admit returns Klavi's path for req, relative to the base URL and escaped. An
// error is the problem that refuses the request.
func (t *Transport) admit(req *http.Request) (string, error) {
	for _, mark := range []string{"Origin", "Sec-Fetch-Site"} {
		if _, ok := req.Header[mark]; ok {
			return "", problem.New(problem.Origin, "This address is for services; browsers use klavi_frontend.")
		}
	}
	// reverse_proxy marks what came before the handshake was over (RFC 8470).
	if _, early := req.Header["Early-Data"]; early && req.Method != http.MethodGet {
		return "", problem.New(problem.TooEarly, "It came as early data (0-RTT), which anybody could send again. Send it once more.")
	}
	path, ok := strings.CutPrefix(req.URL.EscapedPath(), t.Prefix)
	if !ok {
		return "", problem.New(problem.NotAllowed, "The path does not begin with the prefix that is configured here.")
	}
	path = strings.TrimPrefix(path, apiPath)
	if _, ok := t.literals[Endpoint{req.Method, path}]; !ok {
		if err := t.admitPattern(req.Method, path); err != nil {
			return "", err
		}
	}
	if strings.ContainsFunc(req.URL.RawQuery, func(r rune) bool { return r <= ' ' || r == 0x7f || r == '#' }) {
		return "", problem.New(problem.InvalidRequest, "The query holds spaces or control characters that are not escaped.")
	}
	return path, nil
}

// admitPattern looks for the endpoint among those with an id, which could stand
// for more than was meant.
func (t *Transport) admitPattern(method, path string) error {
	if r, ok := findReserved(method, path); ok {
		return problem.New(problem.NotAllowed, "This endpoint is never open here: it "+r.why()+".")
	}
	if !t.open.contains(method, path) {
		return problem.New(problem.NotAllowed, "This method and path are not an endpoint that is open here. "+
			"Paths are Klavi's, such as /consents, and compared byte for byte; allow <method> <path> opens more.")
	}
	return nil
}
