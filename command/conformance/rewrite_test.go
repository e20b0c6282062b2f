package conformance

import (
	"errors"
	"strings"
	"testing"
)

func TestRewrite(t *testing.T) {
	const head = " HTTP/1.1\r\nHost: gw.example\r\n\r\n"
	plain := target(t, "https://app.example.com/a/klavi2")
	ported := target(t, "http://localhost:8081/klavi")
	for _, test := range []struct {
		to        *Target
		raw, want string
	}{
		{plain, "GET /klavi/institutions" + head, "GET /a/klavi2/institutions HTTP/1.1\r\nHost: app.example.com\r\n\r\n"},
		{plain, "GET /%6Blavi/x" + head, "GET /%61/klavi2/x HTTP/1.1\r\nHost: app.example.com\r\n\r\n"},
		{plain, "GET /%256Blavi/x" + head, "GET /%2561/klavi2/x HTTP/1.1\r\nHost: app.example.com\r\n\r\n"},
		{plain, "GET /KLAVI/x" + head, "GET /A/KLAVI2/x HTTP/1.1\r\nHost: app.example.com\r\n\r\n"},
		{plain, "GET /kla%C2%ADvi/x" + head, "GET /a/klav%C2%ADi2/x HTTP/1.1\r\nHost: app.example.com\r\n\r\n"},
		{plain, "GET //klavi;v=1/klavi%2Fx" + head, "GET //a/klavi2;v=1/a/klavi2%2Fx HTTP/1.1\r\nHost: app.example.com\r\n\r\n"},
		{plain, "GET /klavi/data/v1/links" + head, "GET /a/klavi2/data/v1/links HTTP/1.1\r\nHost: app.example.com\r\n\r\n"},
		{plain, "CONNECT api.klavi.ai:443" + head, "CONNECT api.klavi.ai:443 HTTP/1.1\r\nHost: app.example.com\r\n\r\n"},
		{
			plain, "GET http://a:b@gw.example/klavi/x HTTP/1.1\r\nX-Original-URL: /klavi/links\r\nOrigin: http://gw.example\r\n\r\n",
			"GET https://a:b@app.example.com/a/klavi2/x HTTP/1.1\r\nX-Original-URL: /a/klavi2/links\r\nOrigin: https://app.example.com\r\n\r\n",
		},
		{
			ported, "GET http://a:b@gw.example/klavi/x HTTP/1.1\r\nHost: gw.example\r\nOrigin: http://gw.example\r\nOrigin: http://gw.example.\r\n\r\n",
			"GET http://a:b@localhost:8081/klavi/x HTTP/1.1\r\nHost: localhost:8081\r\nOrigin: http://localhost:8081\r\nOrigin: http://localhost.\r\n\r\n",
		},
		{
			ported, "GET /klavi HTTP/1.1\r\nOrigin: http://evil-gw.example\r\nOrigin: http://gw.example:81\r\nOrigin: http://gw.example@evil.example\r\n\r\n",
			"GET /klavi HTTP/1.1\r\nOrigin: http://evil-localhost:8081\r\nOrigin: http://localhost:81\r\nOrigin: http://localhost@evil.example\r\n\r\n",
		},
		{
			target(t, "http://localhost:81/klavi"), "GET /klavi HTTP/1.1\r\nOrigin: http://gw.example:81\r\n\r\n",
			"GET /klavi HTTP/1.1\r\nOrigin: http://localhost:82\r\n\r\n",
		},
		{ // where no request begins
			ported, "\r\nGET /klavi HTTP/1.1\r\n\r\n{}GET /klavi/x HTTP/1.1\r\nHost: gw.example?\r\n\r\n",
			"\r\nGET /klavi HTTP/1.1\r\n\r\n{}GET /klavi/x HTTP/1.1\r\nHost: localhost:8081?\r\n\r\n",
		},
		{ // a request as a body, with its length
			plain, "GET /klavi HTTP/1.1\r\nContent-Length: 41\r\n\r\nGET /klavi HTTP/1.1\r\nHost: gw.example\r\n\r\n",
			"GET /a/klavi2 HTTP/1.1\r\nContent-Length: 49\r\n\r\nGET /a/klavi2 HTTP/1.1\r\nHost: app.example.com\r\n\r\n",
		},
		{ // the default port is that of the scheme
			plain, "GET gw.example:80 HTTP/1.1\r\nOrigin: http://gw.example:80\r\n\r\n",
			"GET app.example.com:443 HTTP/1.1\r\nOrigin: https://app.example.com:443\r\n\r\n",
		},
		{ // a body stays
			plain, "POST /klavi/x HTTP/1.1\r\nContent-Length: 30\r\n\r\n{\"a\":\"http://gw.example/klavi\"}",
			"POST /a/klavi2/x HTTP/1.1\r\nContent-Length: 30\r\n\r\n{\"a\":\"http://gw.example/klavi\"}",
		},
	} {
		got, err := test.to.rewrite(test.raw, nil)
		if err != nil || got != test.want {
			t.Errorf("%q to %s: got %q (%v), want %q", test.raw, test.to, got, err, test.want)
		}
	}
}

func TestRewriteAddsHeadersToEachRequest(t *testing.T) {
	const raw = "POST /klavi/x HTTP/1.1\r\n folded: x\r\nHost: gw.example\r\n\r\n0\r\n\r\nGET /klavi/y HTTP/1.1\r\nHost: gw.example\r\n\r\n\r\n"
	const want = "POST /klavi/x HTTP/1.1\r\n folded: x\r\nHost: gw.example\r\nA: 1\r\nB: 2\r\n\r\n0\r\n\r\n" +
		"GET /klavi/y HTTP/1.1\r\nHost: gw.example\r\nA: 1\r\nB: 2\r\n\r\n\r\n"
	got, err := target(t, "http://gw.example/klavi").rewrite(raw, []Header{{"A", "1"}, {"B", "2"}})
	if err != nil || got != want {
		t.Errorf("got %q (%v), want %q", got, err, want)
	}
}

func TestUnwritable(t *testing.T) {
	for _, test := range []struct{ to, raw string }{
		{"http://gw.example/1/2", "GET /KLAVI/x HTTP/1.1\r\n\r\n"},           // no letters
		{"http://gw.example/other", "GET /%E2%84%AAlavi/x HTTP/1.1\r\n\r\n"}, // no k
		{"http://gw.example/other", "GET /kl%61vi/x HTTP/1.1\r\n\r\n"},       // a spelling that is not known
		{"http://other.example/klavi", "POST /klavi HTTP/1.1\r\nContent-Length: 30\r\n\r\nGET /klavi HTTP/1.1\r\nHost: gw.example\r\n\r\n"},
		{"http://gw.example/klavi", "GET /klavi HTTP/1.1\r\nx-user : a\r\n\r\n"}, // a header that stands there already
	} {
		got, err := target(t, test.to).rewrite(test.raw, []Header{{"X-User", "b"}})
		if _, ok := errors.AsType[unwritableError](err); !ok {
			t.Errorf("%q to %s: got %q (%v), want that it cannot be written", test.raw, test.to, got, err)
		}
	}
}

// For the host and prefix that it is written for, the corpus stays as it is, byte
// for byte.
func TestRewriteChangesNothingWithoutNeed(t *testing.T) {
	same := target(t, "http://gw.example/klavi")
	for _, l := range corpusLines(t) {
		raw, err := l.unshortened()
		if err != nil {
			t.Fatal(err)
		}
		if got, err := same.rewrite(raw, nil); err != nil || got != raw {
			t.Errorf("%s: got %.300q (%v), want it as it is: %.300q", l.ID, got, err, raw)
		}
	}
}

// For others, it names neither any more. A prefix with k and i can be spelt in
// all the ways of the corpus.
func TestRewriteOfTheCorpus(t *testing.T) {
	other := target(t, "https://app.test:8443/of/knit")
	for _, l := range corpusLines(t) {
		raw, err := l.unshortened()
		if err != nil {
			t.Fatal(err)
		}
		got, err := other.rewrite(raw, nil)
		if err != nil {
			t.Errorf("%s: %v", l.ID, err)
		}
		head, _, _ := strings.Cut(got, "\r\n\r\n")
		if strings.Contains(head, corpusHost) || strings.Contains(head, "/klavi/") {
			t.Errorf("%s: got %.300q, want another host and prefix", l.ID, head)
		}
		if wants := strings.Contains(raw, "Host: gw.example\r\n"); wants != strings.Contains(got, "Host: app.test:8443\r\n") {
			t.Errorf("%s: got %.300q, want the target's Host: %v", l.ID, got, wants)
		}
	}
}
