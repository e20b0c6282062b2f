package conformance

import (
	"context"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// start serves a gateway and returns a run against it with the first lines of the
// corpus.
func start(t *testing.T, g *gateway) *run {
	t.Helper()
	server := httptest.NewServer(g)
	t.Cleanup(server.Close)
	return newRun(t, server.URL)
}

func newRun(t *testing.T, url string) *run {
	t.Helper()
	to := target(t, url+"/klavi")
	return &run{
		lines:   corpusLines(t)[:60],
		Options: Options{Target: to, LinkToken: testToken, Log: func(string) {}},
		wire:    wire{target: to, timeout: timeout},
		wait:    func(context.Context, time.Duration) error { return errors.New("nothing is to be waited for") },
	}
}

func (r *run) results(t *testing.T) map[string]Result {
	t.Helper()
	list, err := r.all(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	results := make(map[string]Result)
	for _, result := range list {
		results[result.ID] = result
	}
	return results
}

// Each gateway fails at what it does wrong, and at nothing else.
func TestVerdictsOnGateways(t *testing.T) {
	for _, test := range []struct {
		what string
		g    *gateway
		fail []string // lines that fail, among others
		in   []string // the categories in which lines may fail
	}{
		{"right", &gateway{}, nil, nil},
		{"right, with a link for an institution", &gateway{fixed: true}, nil, nil},
		{"cleans paths", &gateway{cleansPaths: true}, []string{"P01", "P03", "P05", "XP02", "XP04", "XP06", "XP61"}, []string{"path"}},
		{"takes any method", &gateway{anyMethod: true}, []string{"M03", "XM01", "XM07"}, []string{"method", "origin"}},
		{"takes any origin", &gateway{anyOrigin: true}, []string{"XO01", "XO03", "XO10", "XO49"}, []string{"origin"}},
		{"takes any token", &gateway{anyToken: true}, []string{"H07", "T02", "XT01", "XT02", "XT03", "XT18", "XT51"}, []string{"token", "header", "framing"}},
		{"takes any JSON", &gateway{lenientJSON: true}, []string{"B01", "XJ20", "XJ24", "XR01"}, []string{"body", "json", "redirect", "header", "method", "framing", "content type", "path"}},
		{"takes a GET with a body", &gateway{keepsBody: true}, []string{"M11", "XW67", "XW70"}, []string{"method", "framing"}},
		{"forwards all", &gateway{plainProxy: true}, []string{"P43", "P45", "P47", "M01", "M05", "H05", "B01", "XJ01", "XT15", "XO01", "XP12"}, categories(t)},
	} {
		t.Run(test.what, func(t *testing.T) {
			r := start(t, test.g)
			r.lines = nil
			for i, l := range corpusLines(t) {
				if l.Category == "control" || i%4 == 0 || test.in == nil || slices.Contains(test.in, l.Category) {
					r.lines = append(r.lines, l)
				}
			}
			results := r.results(t)
			for _, id := range test.fail {
				if got := results[id]; got.Verdict != Fail {
					t.Errorf("%s %s: got %s %v, want FAIL", id, got.What, got.Verdict, got.Got)
				}
			}
			for _, got := range results {
				if got.Verdict == Fail && !slices.Contains(test.in, got.Category) {
					t.Errorf("%s %s: got FAIL (%s) %v", got.ID, got.What, got.Note, got.Got)
				}
			}
			if n := test.g.consents.Load(); n != 0 {
				t.Errorf("got %d consents, want none", n)
			}
		})
	}
}

func categories(t *testing.T) []string {
	var all []string
	for _, l := range corpusLines(t) {
		all = append(all, l.Category)
	}
	return all
}

// Where the link fixes an institution, a gateway that lets bodies through would
// create consents: these lines are not sent, unless one says so.
func TestConsentsAreNotCreatedByChance(t *testing.T) {
	g := &gateway{fixed: true, lenientJSON: true}
	r := start(t, g)
	r.lines = corpusLines(t)
	if got := r.results(t)["XJ20"]; got.Verdict != Skipped || g.consents.Load() != 0 {
		t.Errorf("got %s and %d consents, want it skipped, and none", got.Verdict, g.consents.Load())
	}
	r.CreateConsents = true
	results := r.results(t)
	if got := results["XJ20"]; got.Verdict != Fail || g.consents.Load() == 0 {
		t.Errorf("got %s and %d consents, want FAIL, and some", got.Verdict, g.consents.Load())
	}
	if got := results["A2"]; got.Verdict != OK || len(got.Got) != 1 {
		t.Errorf("got %+v, want a consent", got)
	}
}

// A gateway that answers the probe with a consent fails, and gets no other.
func TestProbeThatCreates(t *testing.T) {
	g := &gateway{overrides: true}
	results := start(t, g).results(t)
	if got := results["A0"]; got.Verdict != Fail || g.consents.Load() != 1 {
		t.Errorf("got %s and %d consents, want FAIL and the one of the probe", got.Verdict, g.consents.Load())
	}
}

// The probe does not see a gateway that puts an institution in where none is
// named. It creates one consent, and gets no request for another.
func TestLineThatCreates(t *testing.T) {
	g := &gateway{fills: true, lenientJSON: true}
	r := start(t, g)
	r.lines = corpusLines(t)
	results := r.results(t)
	if got := results["B01"]; got.Verdict != Fail || g.consents.Load() != 1 || results["XJ20"].Verdict != Skipped {
		t.Errorf("got B01 %s, XJ20 %s and %d consents, want FAIL, skipped and one", got.Verdict, results["XJ20"].Verdict, g.consents.Load())
	}
}

func TestControlThatIsNotServed(t *testing.T) {
	for _, test := range []struct {
		what   string
		before func(http.ResponseWriter)
		want   string
	}{
		{"a login", func(w http.ResponseWriter) { refuse(w, 401, "login-required", "") }, "--header"},
		{"a token of another site", func(w http.ResponseWriter) { refuse(w, 401, "link-invalid", "") }, "not accepted"},
		{"an old token", func(w http.ResponseWriter) { refuse(w, 401, "link-expired", "") }, "has run out"},
		{"another user's token", func(w http.ResponseWriter) { refuse(w, 403, "not-yours", "") }, "not of the user"},
		{"a closed endpoint", func(w http.ResponseWriter) { refuse(w, 404, "not-found", "") }, "whitelabel"},
		{"klavi is away", func(w http.ResponseWriter) { refuse(w, 503, "klavi-unreachable", "") }, "Klavi cannot be asked"},
		{"a redirect", func(w http.ResponseWriter) { w.WriteHeader(308) }, "308"},
		{"another login", func(w http.ResponseWriter) { w.WriteHeader(401) }, "--header"},
		{"a page", func(w http.ResponseWriter) { w.Header().Set("Content-Type", "text/html") }, "200 text/html"},
		{"nothing", func(http.ResponseWriter) { panic(http.ErrAbortHandler) }, "closed"},
	} {
		r := start(t, &gateway{before: func(w http.ResponseWriter, _ *http.Request) bool { test.before(w); return true }})
		results, err := r.all(t.Context())
		if err == nil || len(results) != 0 || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), testToken) {
			t.Errorf("%s: got %d results, %v, want none, and an error with %q", test.what, len(results), err, test.want)
		}
	}
}

// limited is a gateway that answers 429 to the requests with these numbers.
func limited(retryAfter string, numbers ...int64) *gateway {
	var n atomic.Int64
	return &gateway{before: func(w http.ResponseWriter, _ *http.Request) bool {
		if !slices.Contains(numbers, n.Add(1)) {
			return false
		}
		w.Header().Set("Retry-After", retryAfter)
		w.WriteHeader(429)
		return true
	}}
}

func TestRateLimit(t *testing.T) {
	for _, test := range []struct {
		what  string
		g     *gateway
		waits []time.Duration
		err   string
	}{
		{"patience helps", limited("3", 7, 20), []time.Duration{3 * time.Second, 3 * time.Second}, ""},
		{"without a time", limited("", 7), []time.Duration{defaultWait}, ""},
		{"patience does not help", limited("3", 7, 8), []time.Duration{3 * time.Second}, "429"},
		{"too long", limited("3600", 7), nil, "1h0m0s"},
		{"at once", limited("3", 1, 2), []time.Duration{3 * time.Second}, "429"},
	} {
		r := start(t, test.g)
		var waits []time.Duration
		r.wait = func(_ context.Context, d time.Duration) error { waits = append(waits, d); return nil }
		results, err := r.all(t.Context())
		if !slices.Equal(waits, test.waits) {
			t.Errorf("%s: got %v, want to wait %v", test.what, waits, test.waits)
		}
		if test.err == "" && (err != nil || len(results) < 60) || test.err != "" && (err == nil || !strings.Contains(err.Error(), test.err)) {
			t.Errorf("%s: got %d results, %v, want %q", test.what, len(results), err, test.err)
		}
	}
}

// A link that runs out ends the run: what is refused then shows nothing. With a
// link that is good, the same answer is Klavi's, to what it should not have seen.
func TestLinkThatRunsOut(t *testing.T) {
	var n atomic.Int64
	r := start(t, &gateway{before: func(w http.ResponseWriter, _ *http.Request) bool {
		if n.Add(1) < 20 {
			return false
		}
		refuse(w, 401, "link-expired", "")
		return true
	}})
	results, err := r.all(t.Context())
	if err == nil || !strings.Contains(err.Error(), "has run out") || len(results) < 10 || len(results) > 20 {
		t.Errorf("got %d results, %v, want those until it ran out", len(results), err)
	}

	r = start(t, &gateway{before: func(w http.ResponseWriter, r *http.Request) bool {
		if bearer(r) != "SERVERTOKEN" {
			return false
		}
		refuse(w, 401, "link-expired", "")
		return true
	}})
	if got := r.results(t)["T02"]; got.Verdict != Fail {
		t.Errorf("got %+v, want FAIL", got)
	}
}

// What a target says appears nowhere.
func TestResultsHoldNoSecret(t *testing.T) {
	var logged strings.Builder
	r := start(t, &gateway{before: func(w http.ResponseWriter, r *http.Request) bool {
		if r.Header.Get("X-Session") != "hunter2" {
			refuse(w, 401, "login-required", "")
			return true
		}
		if r.Method == "GET" && r.RequestURI == "/klavi/institutions" {
			return false
		}
		echo := testToken + " hunter2"
		w.Header().Set("Content-Type", "application/"+testToken)
		w.Header().Set("Location", echo)
		w.WriteHeader(400)
		fmt.Fprintf(w, `{"type":%q,"field":%q,"message":%q}`, echo, echo, echo)
		return true
	}})
	r.Headers = []Header{{"X-Session", "hunter2"}}
	r.Log = func(text string) { logged.WriteString(text) }
	results, err := r.all(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(results)
	if err != nil {
		t.Fatal(err)
	}
	if shown := logged.String() + fmt.Sprint(results) + string(text); strings.Contains(strings.ToLower(shown), strings.ToLower(testToken)) || strings.Contains(shown, "hunter2") {
		t.Error("the results show the token or a header's value")
	}
	if logged.Len() == 0 {
		t.Error("nothing was said on the way")
	}
}

func TestTLS(t *testing.T) {
	server := httptest.NewUnstartedServer(&gateway{})
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	t.Cleanup(server.Close)
	r := newRun(t, server.URL)
	r.lines = corpusLines(t)
	_, err := r.all(t.Context())
	if _, ok := errors.AsType[unreachableError](err); !ok || !strings.Contains(err.Error(), "--ca") {
		t.Errorf("got %v, want the certificate not trusted, and what helps", err)
	}
	r.wire.roots, err = Roots(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}))
	if err != nil {
		t.Fatal(err)
	}
	for _, got := range r.results(t) {
		if got.Verdict == Fail {
			t.Errorf("%s %s: got FAIL (%s) %v", got.ID, got.What, got.Note, got.Got)
		}
	}
	if _, err := Roots([]byte("hunter2")); err == nil {
		t.Error("got roots from a file without any")
	}
}

func TestUnreachable(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := newRun(t, "http://"+listener.Addr().String())
	_ = listener.Close()
	if _, err = r.all(t.Context()); err == nil || !strings.Contains(err.Error(), "refused") {
		t.Errorf("got %v, want that the connection is refused", err)
	}
}

func TestCheckLinkToken(t *testing.T) {
	for token, want := range map[string]bool{
		testToken: true, "eyJhbGciOiJub25lIn0.e30.x_-y~+/==": true, "": false, "short": false, "hunter2 and more": false,
		"hunter2hunter2\r\nHost: x": false, "Bearer hunter2hunter2": false, "hunter2=hunter2": false, "hunter2\x00hunter2": false,
	} {
		err := CheckLinkToken(token)
		if (err == nil) != want || err != nil && strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%q: got %v, want right %v, and no word of it", token, err, want)
		}
	}
}
