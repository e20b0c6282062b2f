package conformance

import (
	"strings"
	"testing"
)

func target(t *testing.T, text string) *Target {
	t.Helper()
	parsed, err := ParseTarget(text)
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return parsed
}

func TestParseTarget(t *testing.T) {
	for _, test := range []struct{ text, want, host, address string }{
		{"https://app.example.com/klavi", "https://app.example.com/klavi", "app.example.com", "app.example.com:443"},
		{"https://app.example.com:443/klavi/", "https://app.example.com/klavi", "app.example.com", "app.example.com:443"},
		{"http://localhost:8080/a/b.c_d~e-f", "http://localhost:8080/a/b.c_d~e-f", "localhost:8080", "localhost:8080"},
		{"http://[::1]/klavi", "http://[::1]/klavi", "[::1]", "[::1]:80"},
		{"http://[::1]:443/klavi", "http://[::1]:443/klavi", "[::1]:443", "[::1]:443"},
	} {
		got := target(t, test.text)
		if got.String() != test.want || got.host() != test.host || got.address() != test.address {
			t.Errorf("%s: got %s, %s, %s, want %s, %s, %s", test.text, got, got.host(), got.address(), test.want, test.host, test.address)
		}
	}
}

func TestWrongTargets(t *testing.T) {
	for _, text := range []string{
		"", "app.example.com/klavi", "ftp://app.example.com/klavi", "https:///klavi", "https://app.example.com", "https://app.example.com/",
		"https://app.example.com/klavi/../x%2f", "https://app.example.com//klavi", "https://app.example.com/kl%61vi",
		"https://hunter2@app.example.com/klavi", "https://me:hunter2@app.example.com/klavi", "https://app.example.com/klavi?k=hunter2",
		"https://app.example.com/klavi#hunter2", "https://me:hunter2@app.example.com:x/klavi",
	} {
		_, err := ParseTarget(text)
		if err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%q: got %v, want an error that does not repeat it", text, err)
		}
	}
}

func TestParseHeader(t *testing.T) {
	if h, err := ParseHeader("Cookie:  a=b; c=d "); err != nil || h != (Header{"Cookie", "a=b; c=d"}) {
		t.Errorf("got %q (%v), want the cookie", h, err)
	}
	for _, text := range []string{
		"hunter2", ": hunter2", "X Y: hunter2", "X-User: hunter2\r\nHost: x", "X-User:", "X-User : hunter2",
		"Authorization: hunter2", "klavi-link-token: hunter2", "Klavi_Link_Token: hunter2", "Host: hunter2", "Content-Length: 2",
		"Transfer-Encoding: hunter2", "Origin: hunter2", "Sec-Fetch-Site: hunter2", "Connection: hunter2", "Expect: hunter2",
	} {
		_, err := ParseHeader(text)
		if err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%q: got %v, want an error that does not repeat the value", text, err)
		}
	}
}

func TestBelow(t *testing.T) {
	to := target(t, "http://gw.example/klavi")
	const host = " HTTP/1.1\r\nHost: gw.example\r\n\r\n"
	for raw, want := range map[string]bool{
		"GET /klavi" + host: true, "GET /klavi/x" + host: true, "POST /klavi/x?a=../.." + host: true, "GET /klavi/.x" + host: true,
		"GET /KLAVI/x" + host: false, "GET /klavix" + host: false, "GET /klavi;v=1/x" + host: false, "GET /x" + host: false,
		"GET http://gw.example/klavi/x" + host: false, "GET * HTTP/1.1\r\n\r\n": false, "": false,
		"GET /klavi/x/../../y" + host: false, "GET /klavi/%2e%2E/y" + host: false, "GET /klavi/.%252e/y" + host: false,
		"GET /klavi/x HTTP/1.1\r\nHost: other.example\r\n\r\n": false, "GET /klavi/x HTTP/1.1\r\nHost: gw.example.\r\n\r\n": false,
		"GET /klavi/x HTTP/1.1\r\n\r\n": false,
	} {
		if got := to.isBelow(raw); got != want {
			t.Errorf("%q: got %v, want %v", raw, got, want)
		}
	}
}
