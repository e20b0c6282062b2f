package proxy

import (
	"net/http"
	"net/url"
	"path"
	"strings"
	"testing"

	"github.com/caddy-klavi/caddy-klavi/command/conformance" //nolint:depguard // it has the corpus, and imports nothing of this module
	"github.com/caddy-klavi/caddy-klavi/klavi"
)

// corpusRequests returns the requests of the corpus.
func corpusRequests(t testing.TB) [][]byte {
	t.Helper()
	lines, err := conformance.Corpus()
	if err != nil || len(lines) < 190 {
		t.Fatalf("got %d lines (%v), want the whole corpus", len(lines), err)
	}
	requests := make([][]byte, len(lines))
	for i := range lines {
		if requests[i], err = lines[i].Bytes("token"); err != nil {
			t.Fatal(err)
		}
	}
	return requests
}

// FuzzAllowed looks for a path that is open, but that a server which decodes
// and cleans paths would take for another than the one it was matched as.
func FuzzAllowed(f *testing.F) {
	for _, list := range [][]Endpoint{documented, closed, never} {
		for _, e := range list {
			f.Add(e.Method, e.Path)
			f.Add(e.Method, "/data/v1"+e.Path)
		}
	}
	for _, raw := range corpusRequests(f) {
		line, _, _ := strings.Cut(string(raw), "\r\n")
		method, target, _ := strings.Cut(strings.TrimSuffix(line, " HTTP/1.1"), " ")
		f.Add(method, target)
		f.Add(method, strings.Replace(target, "/klavi/", "/", 1)) // the frontend's prefix
	}
	list, err := newAllowList([]Endpoint{{"GET", "/links/{id}"}, {"PATCH", "/{id}/limits.json"}, {"POST", "/x/{id}"}})
	if err != nil {
		f.Fatal(err)
	}
	tr := &Transport{open: list}
	f.Fuzz(func(t *testing.T, method, target string) {
		u, err := url.ParseRequestURI(target)
		if err != nil {
			return
		}
		got, err := tr.admit(&http.Request{Method: method, URL: u, Header: http.Header{}})
		if err != nil {
			return
		}
		// What a lenient server makes of what is sent.
		sent := "/data/v1" + got
		plain := sent
		for range 10 {
			decoded, err := url.PathUnescape(plain)
			if err != nil {
				t.Fatalf("%q is sent, which cannot be decoded", sent)
			}
			plain = decoded
		}
		plain = path.Clean(strings.ReplaceAll(plain, `\`, "/"))
		if plain != sent {
			t.Fatalf("%q is sent, which is %q to a lenient server", sent, plain)
		}
		folded := strings.ToLower(strings.TrimPrefix(plain, "/data/v1"))
		if folded == "/auth" || folded == "/refresh" {
			t.Fatalf("%s %q is open", method, target)
		}
		if e, ok := klavi.Find(strings.ToUpper(method), folded); ok && e.Token != klavi.AccessToken {
			t.Fatalf("%s %q is open, but is %s %s", method, target, e.Method, e.Path)
		}
		for _, e := range list {
			if e.Method == method && klavi.MatchPath(e.Path, plain[len("/data/v1"):]) {
				return
			}
		}
		t.Fatalf("%s %q is open, but not on the list", method, target)
	})
}
