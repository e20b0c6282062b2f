package reports

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddy-klavi/caddy-klavi/klavi"
)

// counting returns an upstream that counts, and accepts.
func counting(t *testing.T) (*httptest.Server, *atomic.Int32) {
	n := new(atomic.Int32)
	ts := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		n.Add(1)
	}))
	t.Cleanup(ts.Close)
	return ts, n
}

func TestAuthenticity(t *testing.T) {
	body := reportOf("pf_credit_card", "id-1", 500)
	right := klavi.Sign([]byte(secret), body)
	tests := []struct {
		name      string
		signature []string
		body      []byte
		want      int
		reason    string
	}{
		{"right", []string{right}, body, 200, ""},
		{"upper case", []string{strings.ToUpper(right)}, body, 200, ""},
		{"the older key", []string{klavi.Sign([]byte(oldSecret), body)}, body, 200, ""},
		{"another key", []string{klavi.Sign([]byte("other"), body)}, body, 401, "wrong_signature"},
		{"missing", nil, body, 401, "no_signature"},
		{"empty", []string{""}, body, 401, "malformed_signature"},
		{"63 digits", []string{right[:63]}, body, 401, "malformed_signature"},
		{"65 digits", []string{right + "0"}, body, 401, "malformed_signature"},
		{"prefix", []string{"sha256=" + right}, body, 401, "malformed_signature"},
		{"no digits", []string{strings.Repeat("g", 64)}, body, 401, "malformed_signature"},
		{"two headers, both right", []string{right, right}, body, 401, "malformed_signature"},
		{"two values in one", []string{right + "," + right}, body, 401, "malformed_signature"},
		{"trailing newline", []string{right}, append(bytes.Clone(body), '\n'), 401, "wrong_signature"},
		{"other spaces", []string{right}, bytes.Replace(body, []byte(`"code":200`), []byte(`"code": 200`), 1), 401, "wrong_signature"},
		{"other number", []string{right}, bytes.Replace(body, []byte(`"code":200`), []byte(`"code":200.0`), 1), 401, "wrong_signature"},
		{"escaped letter", []string{right}, bytes.Replace(body, []byte(`"OK"`), []byte(`"\u004fK"`), 1), 401, "wrong_signature"},
		{"cut", []string{right}, body[:len(body)-1], 401, "wrong_signature"},
		{"empty body, right", []string{klavi.Sign([]byte(secret), nil)}, nil, 404, ""},
		{"empty body, wrong", []string{right}, nil, 401, "wrong_signature"},
		{"empty body, malformed", []string{"x"}, nil, 401, "malformed_signature"},
		{"connectivity test", nil, nil, 200, "connectivity_test"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			upstream, n := counting(t)
			g := newGate(t, Reports{Routes: oneRoute(proxyTo(upstream))}).serve()
			r := g.unsigned(tt.body)
			for _, value := range tt.signature {
				r.Header.Add(klavi.SignatureHeader, value)
			}
			got := send(t, r)
			if got.status != tt.want {
				t.Errorf("got status %d, want %d: %s", got.status, tt.want, got.body)
			}
			delivered := int32(0)
			if tt.want == 200 && tt.reason == "" {
				delivered = 1
			}
			if n.Load() != delivered {
				t.Errorf("got %d deliveries, want %d", n.Load(), delivered)
			}
			if tt.reason != "" && g.counted("caddy_klavi_reports_refused_total", "reason="+tt.reason) != 1 {
				t.Errorf("got no refusal counted as %s", tt.reason)
			}
			if tt.want == 401 && got.problem() != "signature-invalid" {
				t.Errorf("got problem %q, want signature-invalid", got.problem())
			}
			if strings.Contains(g.logged(), "25872252137") || strings.Contains(g.logged(), "transactionName") {
				t.Errorf("got content in the log:\n%s", g.logged())
			}
		})
	}
}

func TestSignatureInTrailer(t *testing.T) {
	upstream, n := counting(t)
	g := newGate(t, Reports{Routes: oneRoute(proxyTo(upstream))}).serve()
	body := reportOf("pf_credit_card", "id-1", 500)
	r := g.unsigned(body)
	r.ContentLength = -1
	r.Trailer = http.Header{klavi.SignatureHeader: {klavi.Sign([]byte(secret), body)}}
	if got := send(t, r); got.status != 401 || n.Load() != 0 {
		t.Errorf("got status %d and %d deliveries, want 401 and none", got.status, n.Load())
	}
}

func TestOtherMethods(t *testing.T) {
	g := newGate(t, Reports{Routes: oneRoute(respond(200))}).serve()
	for _, method := range []string{"GET", "HEAD", "PUT", "DELETE", "OPTIONS", "post"} {
		r := g.signed([]byte("{}"))
		r.Method = method
		if got := send(t, r); got.status != 405 || got.header.Get("Allow") != "POST" {
			t.Errorf("%s: got status %d with Allow %q, want 405 with POST", method, got.status, got.header.Get("Allow"))
		}
	}
}

// A timestamp proves nothing, and so decides nothing.
func TestTimestampDecidesNothing(t *testing.T) {
	for _, value := range []string{"", "0", "99999999999", "yesterday"} {
		g := newGate(t, Reports{Routes: oneRoute(respond(204))}).serve()
		r := g.signed(reportOf("pf_loans", "at "+value, 300))
		if r.Header.Set(klavi.TimestampHeader, value); value == "" {
			r.Header.Del(klavi.TimestampHeader)
		}
		if got := send(t, r); got.status != 200 {
			t.Errorf("timestamp %q: got status %d, want 200", value, got.status)
		}
	}
}

func TestSizes(t *testing.T) {
	const limit = 3 << 20
	for _, size := range []int{300, maxInMemory - 1, maxInMemory, maxInMemory + 1, limit - 1, limit, limit + 1, limit + maxInMemory} {
		for _, announced := range []bool{true, false} {
			body := reportOf("pf_funds", fmt.Sprint("id-", announced), size)
			var got [sha256.Size]byte
			upstream := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				if r.ContentLength != int64(size) {
					t.Errorf("size %d: the upstream was announced %d bytes", size, r.ContentLength)
				}
				digest := sha256.New()
				_, _ = io.Copy(digest, r.Body)
				digest.Sum(got[:0])
			}))
			g := newGate(t, Reports{MaxBody: limit, Routes: oneRoute(proxyTo(upstream))}).serve()
			r := g.signed(body)
			if !announced {
				r.ContentLength = -1
			}
			want := 200
			if size > limit {
				want = 413
			}
			// The answer to a body that is too large may be lost: nobody reads the rest of it.
			a, err := trySend(r)
			if a.status != want && (want == 200 || err == nil) {
				t.Errorf("size %d, announced %t: got status %d (%v), want %d: %s", size, announced, a.status, err, want, a.body)
			}
			if refused := g.counted("caddy_klavi_reports_refused_total", "reason=too_large"); (refused == 1) != (want == 413) {
				t.Errorf("size %d: got %v refusals counted as too_large", size, refused)
			}
			if want == 200 && got != sha256.Sum256(body) {
				t.Errorf("size %d, announced %t: what the upstream got is not what was sent", size, announced)
			}
			upstream.Close()
			if g.reports.limits.memory.free != 64<<20 || g.reports.limits.spool.free != 2<<30 {
				t.Errorf("size %d: got room %d and %d after all, want all of it", size, g.reports.limits.memory.free, g.reports.limits.spool.free)
			}
		}
	}
}

// A refusal comes before the body does.
func TestRefusedBeforeBody(t *testing.T) {
	g := newGate(t, Reports{MaxBody: 100, Routes: oneRoute(respond(200))}).serve()
	tests := map[string]string{
		"POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 101\r\nExpect: 100-continue\r\nX-Klavi-Signature: " + strings.Repeat("a", 64) + "\r\n\r\n": "413",
		"POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\nExpect: 100-continue\r\n\r\n":                                                         "401",
		"POST /x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n":                                                "401",
		"PUT /x HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\nExpect: 100-continue\r\n\r\n":                                                          "405",
	}
	for request, want := range tests {
		if got := statusLine(t, g, request); !strings.HasPrefix(got, "HTTP/1.1 "+want) {
			t.Errorf("%q: got %q, want %s", request, got, want)
		}
	}
}

// statusLine sends raw bytes, and returns the first line that comes back.
func statusLine(t *testing.T, g *gate, request string) string {
	t.Helper()
	conn, err := net.Dial("tcp", strings.TrimSuffix(strings.TrimPrefix(g.url, "http://"), "/klavi/reports"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	if _, err := io.WriteString(conn, request); err != nil {
		t.Fatal(err)
	}
	line := make([]byte, 16)
	n, err := io.ReadFull(conn, line)
	if err != nil && n == 0 {
		t.Fatal(err)
	}
	return string(line[:n])
}

// Whoever hangs up in the middle of a body, or announces more than there is,
// has sent nothing.
func TestShortBody(t *testing.T) {
	upstream, n := counting(t)
	g := newGate(t, Reports{Routes: oneRoute(proxyTo(upstream))}).serve()
	body := reportOf("pf_loans", "id", 400)
	conn, err := net.Dial("tcp", strings.TrimSuffix(strings.TrimPrefix(g.url, "http://"), "/klavi/reports"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_, _ = io.WriteString(conn, "POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 401\r\nX-Klavi-Signature: "+klavi.Sign([]byte(secret), body)+"\r\n\r\n"+string(body))
	_ = conn.(*net.TCPConn).CloseWrite()
	got, _ := io.ReadAll(conn)
	if bytes.Contains(got, []byte(" 200 ")) || n.Load() != 0 {
		t.Errorf("got %q and %d deliveries, want no 200 and none", got, n.Load())
	}
	if g.counted("caddy_klavi_reports_refused_total", "reason=incomplete") != 1 {
		t.Error("got no refusal counted as incomplete")
	}
}

func TestUnsignedFrom(t *testing.T) {
	body := reportOf("pf_loans", "id", 300)
	tests := []struct {
		name, from, signature string
		want                  int
	}{
		{"from there", "203.0.113.7", "", 200},
		{"from a range", "198.51.100.200", "", 200},
		{"from elsewhere", "203.0.113.8", "", 401},
		{"without the proxy", "", "", 401},
		{"spoofed, then proxied", "203.0.113.8, 203.0.113.9", "", 401},
		{"a wrong one", "203.0.113.7", strings.Repeat("0", 64), 401},
		{"a malformed one", "203.0.113.7", "none", 401},
		{"a right one", "203.0.113.7", klavi.Sign([]byte(secret), body), 200},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			g := newGate(t, Reports{UnsignedFrom: []string{"203.0.113.7", "198.51.100.0/24"}, Routes: oneRoute(respond(200))}).serve()
			r := g.unsigned(body)
			if tt.from != "" {
				r.Header.Set("X-Forwarded-For", tt.from)
			}
			if tt.signature != "" {
				r.Header.Set(klavi.SignatureHeader, tt.signature)
			}
			if got := send(t, r); got.status != tt.want {
				t.Errorf("got status %d, want %d: %s", got.status, tt.want, got.body)
			}
		})
	}
}

func TestContentEncoding(t *testing.T) {
	plain := reportOf("pf_loans", "id", 300)
	var packed bytes.Buffer
	zip := gzip.NewWriter(&packed)
	_, _ = zip.Write(plain)
	_ = zip.Close()
	tests := []struct {
		encoding string
		body     []byte
		want     int
	}{
		{"gzip", packed.Bytes(), 404},
		{"br", plain, 404},
		{"", packed.Bytes(), 404},
		{"identity", plain, 200},
	}
	for _, tt := range tests {
		upstream, n := counting(t)
		g := newGate(t, Reports{Routes: oneRoute(proxyTo(upstream))}).serve()
		r := g.signed(tt.body)
		if tt.encoding != "" {
			r.Header.Set("Content-Encoding", tt.encoding)
		}
		if got := send(t, r); got.status != tt.want || (n.Load() == 1) != (tt.want == 200) {
			t.Errorf("%s: got status %d and %d deliveries, want %d", tt.encoding, got.status, n.Load(), tt.want)
		}
	}
}

// Refusals of what came from Klavi's own address are for people to see.
func TestRefusalFromKlaviIsLoud(t *testing.T) {
	for from, want := range map[string]string{"18.230.43.17": "error", "203.0.113.1": "debug"} {
		g := newGate(t, Reports{Routes: oneRoute(respond(200))}).serve()
		r := g.signed([]byte("{}"))
		r.Header.Set("X-Forwarded-For", from)
		r.Header.Set(klavi.SignatureHeader, strings.Repeat("0", 64))
		send(t, r)
		if entries := g.logs.All(); len(entries) != 1 || entries[0].Level.String() != want {
			t.Errorf("from %s: got %s, want one line of level %s", from, g.logged(), want)
		}
	}
}
