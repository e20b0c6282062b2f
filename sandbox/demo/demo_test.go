package demo

import (
	"encoding/json"
	"net"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
)

func TestPorts(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, busy, _ := net.SplitHostPort(l.Addr().String())
	ours, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ours.Close()
	_, seen, _ := net.SplitHostPort(ours.Addr().String())
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, open, _ := net.SplitHostPort(free.Addr().String())
	free.Close()

	for _, tt := range []struct {
		name    string
		running bool
		ports   []port
		want    string
	}{
		{"free", true, []port{{open, "A", "the app"}}, ""},
		{"taken, but looked at before", true, []port{{seen, "B", "the hooks"}}, ""},
		{"taken", true, []port{{busy, "B", "the hooks"}}, "port " + busy + " (the hooks) is taken by another process: end that, or choose another port with B=<port>"},
		{"taken, but nothing is opened", false, []port{{busy, "B", "the hooks"}}, ""},
		{"wanted twice", true, []port{{open, "A", "the app"}, {open, "B", "the hooks"}}, "set A or B"},
		{"no number", true, []port{{"http", "A", "the app"}}, "set A to a number"},
		{"out of range", true, []port{{"70000", "A", "the app"}}, "set A to a number"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := checkPorts(tt.ports, &lookout{running: tt.running, seen: map[string]bool{seen: true}})
			if (err == nil) != (tt.want == "") || (err != nil && !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}

func TestParseDemo(t *testing.T) {
	for _, tt := range []struct{ name, text, want string }{
		{"complete", "klavi_demo {\n port 8080 A app\n banner hello\n}", ""},
		{"unknown", "klavi_demo {\n prot 8080 A app\n}", "unrecognized option 'prot'"},
		{"too few", "klavi_demo {\n port 8080 A\n}", "port takes a number"},
		{"argument", "klavi_demo x", "wrong argument count"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := parseDemo(caddyfile.NewTestDispenser(tt.text), nil)
			if (err == nil) != (tt.want == "") || (err != nil && !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}

func TestUpstream(t *testing.T) {
	received = newArrivals()
	post := httptest.NewRequest("POST", "/checking", strings.NewReader("{}"))
	post.Header.Set("Klavi-Report-Type", "pf_checking_account")
	post.Header.Set("Klavi-Report-Id", "id-1")
	post.Header.Set("Klavi-Delivery-Attempt", "1")
	if err := (Upstream{}).ServeHTTP(httptest.NewRecorder(), post, nil); err != nil {
		t.Fatal(err)
	}
	rec := httptest.NewRecorder()
	if err := (Upstream{}).ServeHTTP(rec, httptest.NewRequest("GET", "/received", nil), nil); err != nil {
		t.Fatal(err)
	}
	var got []Arrival
	if err := json.Unmarshal(rec.Body.Bytes(), &got); err != nil {
		t.Fatalf("%v in %s", err, rec.Body)
	}
	const sum = "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a" // of {}
	if len(got) != 1 || got[0].Path != "/checking" || got[0].ReportType != "pf_checking_account" || got[0].ReportID != "id-1" ||
		got[0].SHA256 != sum || got[0].Attempt != 1 || got[0].Size != 2 {
		t.Errorf("got %+v, want the report", got)
	}
	if err := (Upstream{}).ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("DELETE", "/received", nil), nil); err == nil {
		t.Error("got no error for DELETE, want 405")
	}
}
