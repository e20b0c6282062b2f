package frontend

import (
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-klavi/caddy-klavi/handler/problem"
)

// endpoint is one method and path that a browser may call.
type endpoint struct {
	method, path string
	serve        func(http.ResponseWriter, *http.Request) error
}

// openEndpoints returns what the config leaves open.
func (f *Frontend) openEndpoints() []endpoint {
	var open []endpoint
	if f.Flow != flowWhitelabel {
		open = append(open,
			endpoint{http.MethodGet, f.Prefix + "/institutions", f.serveInstitutions},
			endpoint{http.MethodPost, f.Prefix + "/consents", f.serveConsents})
	}
	if !f.LinksOff {
		open = append(open, endpoint{http.MethodPost, f.Prefix + "/links", f.serveLinks})
	}
	return open
}

// target is what a client asked for, as it wrote it.
type target struct {
	endpoint *endpoint // nil where there is none at that path
	method   string
	query    string
}

// target decides on the request line as the client sent it: below handle_path
// and rewrites, r.URL is no longer what other readers of the same request may
// take it for. What Caddy's own path matcher would fold into the prefix (other
// case, doubled slashes, dot segments, escapes) belongs to the prefix, and is not
// served. ours is false for all other paths.
func (f *Frontend) target(r *http.Request) (t target, ours bool, err error) {
	original, ok := r.Context().Value(caddyhttp.OriginalRequestCtxKey).(http.Request)
	if !ok {
		return target{}, false, errors.New("klavi_frontend was reached without Caddy's HTTP server before it")
	}
	path, query, _ := strings.Cut(original.RequestURI, "?")
	t = target{method: original.Method, query: query}
	for i := range f.endpoints {
		if f.endpoints[i].path == path {
			t.endpoint = &f.endpoints[i]
			return t, true, nil
		}
	}
	if rest, found := strings.CutPrefix(path, f.Prefix); found && (rest == "" || rest[0] == '/') {
		return t, true, nil
	}
	ours, err = f.folded.MatchWithError((&http.Request{URL: original.URL}).WithContext(r.Context()))
	return t, ours, err
}

// checkRequest refuses what a well-meant request never has, before anything of
// it is used.
func checkRequest(w http.ResponseWriter, r *http.Request, t target) error {
	for _, name := range []string{"Authorization", headerLinkToken} {
		if len(r.Header[name]) > 1 {
			return problem.New(problem.InvalidRequest, "There is more than one "+name+" header.")
		}
	}
	// The client could have a proxy before this one remove its credential.
	for _, value := range r.Header["Connection"] {
		for option := range strings.SplitSeq(value, ",") {
			option = strings.TrimSpace(option)
			if strings.EqualFold(option, "Authorization") || strings.EqualFold(option, headerLinkToken) {
				return problem.New(problem.InvalidRequest, "The Connection header names a credential.")
			}
		}
	}
	if t.query != "" && overridesMethod(t.query) {
		return problem.New(problem.InvalidRequest, "A parameter cannot change the method.")
	}
	if t.method == http.MethodGet && hasBody(w, r) {
		return problem.New(problem.InvalidRequest, "A GET request has no body.")
	}
	if t.method == http.MethodPost && isEarly(r) {
		return problem.New(problem.TooEarly, "It came as early data (0-RTT), which anybody could send again. Send it once more.")
	}
	return nil
}

// isEarly reports whether a request came before the handshake was over, to Caddy
// or to a proxy before it. Whoever recorded it can have it served again, without
// being able to read it (RFC 8470): links and consents are not created so. Any
// value of the header, and more than one, mean the same.
func isEarly(r *http.Request) bool {
	return r.TLS != nil && !r.TLS.HandshakeComplete || len(r.Header["Early-Data"]) > 0
}

// overridesMethod reports whether a query asks for another method than the
// request has. Any other query is dropped; this one would be answered with
// something else than its sender meant.
func overridesMethod(query string) bool {
	for pair := range strings.SplitSeq(query, "&") {
		name, _, _ := strings.Cut(pair, "=")
		if unescaped, err := url.QueryUnescape(name); err == nil && strings.EqualFold(unescaped, "_method") {
			return true
		}
	}
	return false
}

func hasBody(w http.ResponseWriter, r *http.Request) bool {
	switch {
	case r.ContentLength == 0 || r.Body == nil:
		return false
	case r.ContentLength > 0 || len(r.TransferEncoding) > 0:
		return true
	}
	// Over HTTP/2 and HTTP/3 a length may be missing from a request that has
	// no body either; only reading tells, and not for longer than a body may take.
	conn := http.NewResponseController(w)
	_ = conn.SetReadDeadline(time.Now().Add(bodyTime))
	if n, err := io.ReadFull(r.Body, make([]byte, 1)); n > 0 || !errors.Is(err, io.EOF) {
		return true
	}
	_ = conn.SetReadDeadline(time.Time{}) // or else it would end the call to Klavi
	return false
}
