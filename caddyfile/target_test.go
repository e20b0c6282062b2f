package caddyfile

import (
	"crypto/tls"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	_ "github.com/caddyserver/caddy/v2/modules/standard"
)

// deliver sends a request through the handlers of a target, as klavi_reports does.
func deliver(t *testing.T, url string) *httptest.ResponseRecorder {
	t.Helper()
	parsed, err := parseTarget(url)
	if err != nil {
		t.Fatalf("parsing %s: %v", url, err)
	}
	handlers, err := parsed.handlers()
	if err != nil {
		t.Fatalf("making handlers of %s: %v", url, err)
	}
	ctx, err := caddy.ProvisionContext(&caddy.Config{})
	if err != nil {
		t.Fatal(err)
	}
	list := caddyhttp.RouteList{{HandlersRaw: handlers}}
	if err := list.Provision(ctx); err != nil {
		t.Fatalf("provisioning the handlers of %s: %v", url, err)
	}
	r := httptest.NewRequest(http.MethodPost, "http://hooks.example.com/klavi/reports?from=klavi", strings.NewReader("{}"))
	w := httptest.NewRecorder()
	r = caddyhttp.PrepareRequest(r, caddy.NewReplacer(), w, new(caddyhttp.Server))
	nobody := caddyhttp.HandlerFunc(func(http.ResponseWriter, *http.Request) error { return nil })
	if err := list.Compile(nobody).ServeHTTP(w, r); err != nil {
		w.Code = http.StatusBadGateway
	}
	return w
}

func TestTargetIsLiteral(t *testing.T) {
	var gotURI, gotHost, gotMethod string
	upstream := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		gotURI, gotHost, gotMethod = r.RequestURI, r.Host, r.Method
	}))
	defer upstream.Close()

	tests := []struct{ path, want string }{
		{"", "/"},
		{"/", "/"},
		{"/?", "/"},
		{"?a=b", "/?a=b"},
		{"/klavi/reports", "/klavi/reports"},
		{"/klavi/reports?v=2&source=klavi", "/klavi/reports?v=2&source=klavi"},
		{"/a//b/", "/a//b/"},
		{"//a", "//a"},
		{"/a/../b/./c", "/a/../b/./c"},
		{"/a%2Fb", "/a%2Fb"},
		{"/a%3Fb%23c", "/a%3Fb%23c"},
		{"/100%25", "/100%25"},
		{"/%7Benv.HOME%7D", "/%7Benv.HOME%7D"},
		{"/%5C%7Bx%7D", "/%5C%7Bx%7D"},
		{"/a%20b+c", "/a%20b+c"},
		{"/%e4%b8%96", "/%e4%b8%96"},
		{"/$1$$", "/$1$$"},
		{"/x!(y)*;z=1,2", "/x!(y)*;z=1,2"},
		{"/*", "/*"},
		{"/a:b@c", "/a:b@c"},
		{"/r?q=%7Benv.HOME%7D", "/r?q=%7Benv.HOME%7D"},
		{"/r?sig=abc==&x", "/r?sig=abc==&x"},
		{"/r?a=b?c", "/r?a=b?c"},
		{"/r?a=%26b", "/r?a=%26b"},
	}
	for _, test := range tests {
		gotURI, gotHost = "", ""
		if w := deliver(t, upstream.URL+test.path); w.Code != http.StatusOK {
			t.Errorf("%s: got status %d, want 200", test.path, w.Code)
		}
		if gotURI != test.want {
			t.Errorf("%s: got the request target %s, want %s", test.path, gotURI, test.want)
		}
		if want := strings.TrimPrefix(upstream.URL, "http://"); gotHost != want {
			t.Errorf("%s: got the host %s, want %s", test.path, gotHost, want)
		}
		if gotMethod != http.MethodPost {
			t.Errorf("%s: got the method %s, want POST", test.path, gotMethod)
		}
	}
}

// The certificate is that of nobody, so that the handshake fails; what counts is
// that there is one, and for whom.
func TestTargetWithTLS(t *testing.T) {
	var name string
	upstream := httptest.NewUnstartedServer(http.NotFoundHandler())
	upstream.TLS = &tls.Config{GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		name = hello.ServerName
		return nil, nil
	}}
	upstream.StartTLS()
	defer upstream.Close()

	if w := deliver(t, strings.Replace(upstream.URL, "127.0.0.1", "localhost", 1)+"/r"); w.Code != http.StatusBadGateway {
		t.Errorf("got status %d from a server with an unknown certificate, want 502", w.Code)
	}
	if name != "localhost" {
		t.Errorf("got the server name %q in the handshake, want localhost", name)
	}
}

func TestTargetAddress(t *testing.T) {
	tests := []struct{ url, want string }{
		{"http://a.internal/x", "a.internal:80"},
		{"https://a.internal/x", "a.internal:443"},
		{"https://a.internal:8443/x", "a.internal:8443"},
		{"http://a.internal:443/x", "a.internal:443"},
		{"http://[::1]/x", "[::1]:80"},
		{"https://[2001:db8::1]:8443/x", "[2001:db8::1]:8443"},
		{"http://my_service/x", "my_service:80"},
	}
	for _, test := range tests {
		parsed, err := parseTarget(test.url)
		if err != nil {
			t.Errorf("%s: %v", test.url, err)
			continue
		}
		if got := parsed.dial(); got != test.want {
			t.Errorf("%s: got the address %s, want %s", test.url, got, test.want)
		}
	}
}

func TestTargetErrorsDoNotShowSecrets(t *testing.T) {
	for _, url := range []string{
		"https://user:s3cret@a.internal/x",
		"https://a.internal/s3cret#x",
		"https://a.internal/s3cret/%zz",
		"ftp://a.internal/s3cret",
		"https://a.internal:99999/s3cret",
		"https://a.internal/s3cret/{x}",
		"https://a.internal/?s3cret=",
		"https://[::1/s3cret",
	} {
		parsed, err := parseTarget(url)
		if err == nil {
			_, err = parsed.handlers()
		}
		if err == nil {
			t.Errorf("%s: got no error, want one", url)
		} else if strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%s: got an error that shows the URL: %v", url, err)
		}
	}
}

// What is accepted as a target arrives as it was written.
func FuzzTarget(f *testing.F) {
	for _, url := range []string{
		"https://a.internal/b?c=d", "http://127.0.0.1:1/%2F%7B", "http://[::1]?&&", "https://a/$1$$?=", "http://a//..", "http://a?x#", "https://ü/",
	} {
		f.Add(url)
	}
	f.Fuzz(func(t *testing.T, url string) {
		parsed, err := parseTarget(url)
		if err != nil {
			return
		}
		handlers, err := parsed.handlers()
		if err != nil {
			return
		}
		_, rest, _ := strings.Cut(url, "://")
		want := "/"
		if i := strings.IndexAny(rest, "/?"); i >= 0 {
			want = strings.TrimSuffix(rest[i:], "?")
		}
		if !strings.HasPrefix(want, "/") {
			want = "/" + want
		}
		config := make(map[string]any)
		if err := json.Unmarshal(handlers[0], &config); err != nil {
			t.Fatal(err)
		}
		delete(config, "handler")
		if got, err := rewritten(config); err != nil || got != want {
			t.Errorf("%q: got the request target %q and the error %v, want %q", url, got, err, want)
		}
		if _, err := caddy.ParseNetworkAddress(parsed.dial()); err != nil {
			t.Errorf("%q: %v", url, err)
		}
	})
}
