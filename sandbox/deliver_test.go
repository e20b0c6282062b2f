package sandbox

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

// inBubble runs a test on a clock of its own.
func inBubble(t *testing.T, o Options, f func(*tester)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s, err := New(o)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		f(&tester{t, s})
	})
}

// verify computes the signature as Klavi's documents say.
func verify(t *testing.T, h http.Header, body []byte, secret string) {
	t.Helper()
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write(body)
	if got, want := h.Get("X-Klavi-Signature"), hex.EncodeToString(mac.Sum(nil)); got != want {
		t.Errorf("got signature %q, want %q", got, want)
	}
	if ts := h.Get("X-Klavi-Timestamp"); len(ts) != 10 {
		t.Errorf("got timestamp %q, want 10 digits", ts)
	}
	if ct := h.Get("Content-Type"); ct != "application/json" {
		t.Errorf("got content type %q, want application/json", ct)
	}
}

func TestEventsAreSignedArrays(t *testing.T) {
	sk := newSink()
	tt := newTester(t, Options{EventsURL: "http://console.test/events", Transport: sk, Manual: true})
	access := tt.login()
	linkID, token := tt.link(access, `{"personalTaxId":"`+testCPF+`","externalInfo":{"b":1,"a":"<é>"}}`)
	ids := map[string]string{}
	for _, verb := range []string{"authorise", "reject", "error"} {
		ids[verb], _ = tt.consent(token, "001", "")
		tt.call("POST", "/_sandbox/consents/"+ids[verb]+"/"+verb, "", "", 200)
		tt.call("POST", "/_sandbox/consents/"+ids[verb]+"/"+verb, "", "", 200) // no second event
	}
	for _, verb := range []string{"expire", "revoke", "delete_by_user"} {
		_, id := tt.authorised(access, "001", "{}", "")
		tt.call("POST", "/_sandbox/consents/"+id+"/"+verb, "", "", 200)
	}
	tt.authorised(access, "001", "{}", "")
	tt.call("POST", "/data/v1/personal/user-data", access, `{"taxId":"`+testCPF+`","products":["pf_loans"]}`, 200)
	tt.authorised(access, "077", "{}", "")
	tt.call("POST", "/data/v1/personal/user-data", access, `{"taxId":"`+testCPF+`","products":["pf_loans"]}`, 200)
	tt.settled()

	seen := map[string]bool{}
	for len(sk.requests) > 0 {
		r, body := <-sk.requests, <-sk.bodies
		verify(t, r.Header, body, DefaultSecretKey)
		var events []struct {
			PartnerAppID, EventID, EventType, EventName, EventTime string
			Payload                                                map[string]any
			ExternalInfo                                           json.RawMessage
		}
		if err := json.Unmarshal(body, &events); err != nil || len(events) != 1 {
			t.Fatalf("got %s (%v), want an array of one event", body, err)
		}
		e := events[0]
		seen[e.EventName] = true
		if e.PartnerAppID != AppID || e.EventType != "api" || e.EventID == "" {
			t.Errorf("got %+v, want the wrapper's fields", e)
		}
		if _, err := time.Parse("2006-01-02T15:04:05.000Z", e.EventTime); err != nil {
			t.Error(err)
		}
		if e.Payload["linkId"] != linkID {
			continue
		}
		if string(e.ExternalInfo) != `{"b":1,"a":"<é>"}` {
			t.Errorf("got externalInfo %s, want it as it was sent", e.ExternalInfo)
		}
		if e.EventName == "consent_authorised" {
			c := e.Payload["consents"].(map[string]any)
			if c["consentId"] != ids["authorise"] || c["institutionCode"] != "001" || c["externalTrackId"] == "" {
				t.Errorf("got %v, want the consent", c)
			}
		}
	}
	for _, name := range eventNames {
		if !seen[name] {
			t.Errorf("got no %s", name)
		}
	}
}

func TestReportsComeByPersona(t *testing.T) {
	for _, tc := range []struct {
		institution string
		reports     int
		code        float64
		size        int64
	}{
		{"001", 2, 200, 4000}, {"260", 2, 204, 4000}, {"077", 2, 5000, 100}, {"336", 0, 0, 0}, {"208", 2, 200, 20_000_000},
	} {
		t.Run(tc.institution, func(t *testing.T) {
			sk := newSink()
			tt := newTester(t, Options{ReportsURL: "http://console.test/r", Transport: sk, ReportSize: 4000, Products: []string{"pf_checking_account", "pf_loans", "pj_loans"}})
			linkID, consentID := tt.authorised(tt.login(), tc.institution, `{"externalInfo":{"k":"v"}}`, "")
			done := tt.settled()
			if len(done) != tc.reports {
				t.Fatalf("got %d deliveries, want %d", len(done), tc.reports)
			}
			for range done {
				r, body := <-sk.requests, <-sk.bodies
				verify(t, r.Header, body, DefaultSecretKey)
				var m map[string]any
				if err := json.Unmarshal(body, &m); err != nil {
					t.Fatal(err)
				}
				if m["code"] != tc.code || m["enquiryCpf"] != testCPF {
					t.Errorf("got code %v and enquiryCpf %v, want %v and %v", m["code"], m["enquiryCpf"], tc.code, testCPF)
				}
				l := m["links"].([]any)[0].(map[string]any)
				if l["linkId"] != linkID || l["institutionCode"] != tc.institution || l["consents"].([]any)[0].(map[string]any)["consentId"] != consentID {
					t.Errorf("got links %v", l)
				}
				if !strings.HasSuffix(string(body), `,"externalInfo":{"k":"v"}}`) || !strings.HasPrefix(string(body), `{"code":`) {
					t.Errorf("got %.40s ... %s, want the header first and externalInfo last", body, body[len(body)-60:])
				}
				at := slices.IndexFunc(done, func(d delivery) bool { return d.ReportID == m["productReportId"] })
				if at < 0 {
					t.Fatalf("got no record of %v", m["productReportId"])
				}
				sum := sha256.Sum256(body)
				if d := done[at]; d.SHA256 != hex.EncodeToString(sum[:]) || d.Size != int64(len(body)) || !d.Done || !d.Delivered || d.Name != m["productName"] {
					t.Errorf("got record %+v, want that of the body", d)
				}
				if m["productName"] == "pf_checking_account" && (int64(len(body)) < tc.size || int64(len(body)) > tc.size+2000) {
					t.Errorf("got %d bytes, want about %d", len(body), tc.size)
				}
			}
		})
	}
}

func TestWhichURLGetsAReport(t *testing.T) {
	for _, tc := range []struct{ name, request, link, console, want string }{
		{"console", ``, ``, "http://console.test/", "http://console.test/"},
		{"link before console", ``, `{"all":"https://l.test/"}`, "http://console.test/", "https://l.test/"},
		{"request before link", `{"all":"https://r.test/"}`, `{"all":"https://l.test/"}`, "http://console.test/", "https://r.test/"},
		{"specific before other", `{"pf_loans":"https://r.test/s","other":"https://r.test/o"}`, ``, "", "https://r.test/s"},
		{"other", `{"pf_funds":"https://r.test/s","other":"https://r.test/o"}`, ``, "", "https://r.test/o"},
		{"not named: link", `{"pf_funds":"https://r.test/s"}`, `{"other":"https://l.test/o"}`, "", "https://l.test/o"},
		{"not named: console", `{"pf_funds":"https://r.test/s"}`, `{"pf_funds":"https://l.test/"}`, "http://console.test/", "http://console.test/"},
		{"nowhere", `{"pf_funds":"https://r.test/s"}`, ``, "", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tt := newTester(t, Options{ReportsURL: tc.console, Transport: newSink(), Manual: true})
			access := tt.login()
			with := func(callbacks string) string {
				if callbacks == "" {
					return ""
				}
				return `,"productsCallbackURL":` + callbacks
			}
			tt.authorised(access, "001", `{"email":"a@b.c"`+with(tc.link)+`}`, "")
			tt.call("POST", "/data/v1/personal/user-data", access, `{"taxId":"`+testCPF+`","products":["pf_loans"]`+with(tc.request)+`}`, 200)
			done := tt.settled()
			if len(done) != 1 || done[0].URL != tc.want {
				t.Fatalf("got %+v, want one delivery to %q", done, tc.want)
			}
			if (done[0].Error != "") != (tc.want == "") {
				t.Errorf("got error %q", done[0].Error)
			}
		})
	}
}

func TestRequestInfoWinsOverLinkInfo(t *testing.T) {
	sk := newSink()
	tt := newTester(t, Options{ReportsURL: "http://console.test/", Transport: sk, Manual: true})
	access := tt.login()
	tt.authorised(access, "001", `{"externalInfo":{"from":"link"}}`, "")
	for body, want := range map[string]string{
		`{"taxId":"` + testCPF + `","products":["pf_loans"],"externalInfo":{"from":"request"}}`: `"externalInfo":{"from":"request"}}`,
		`{"taxId":"` + testCPF + `","products":["pf_loans"]}`:                                   `"externalInfo":{"from":"link"}}`,
	} {
		tt.call("POST", "/data/v1/personal/user-data", access, body, 200)
		tt.settled()
		if got := string(<-sk.bodies); !strings.HasSuffix(got, want) {
			t.Errorf("got ...%s, want %s", got[len(got)-60:], want)
		}
	}
}

func TestRetries(t *testing.T) {
	sk := newSink()
	sk.answer = func(*http.Request) *http.Response { return respond(202) }
	inBubble(t, Options{ReportsURL: "http://console.test/", Transport: sk, Manual: true}, func(tt *tester) {
		begin := time.Now()
		tt.call("POST", "/_sandbox/trigger", "", `{"product":"pf_loans"}`, 202)
		d := tt.settled()[0]
		if got, want := time.Since(begin), 7750*time.Millisecond; got != want {
			t.Errorf("got %v of waiting, want %v", got, want)
		}
		if len(d.Attempts) != 6 || !d.Done || d.Delivered || d.Attempts[0].Status != 202 {
			t.Errorf("got %+v, want 6 attempts in vain", d)
		}
		var gaps []time.Duration
		for i := 1; i < len(d.Attempts); i++ {
			a, _ := time.Parse(time.RFC3339Nano, d.Attempts[i-1].Time)
			b, _ := time.Parse(time.RFC3339Nano, d.Attempts[i].Time)
			gaps = append(gaps, b.Sub(a))
		}
		if got := fmt.Sprint(gaps); got != "[250ms 500ms 1s 2s 4s]" {
			t.Errorf("got %s", got)
		}
		first := <-sk.bodies
		for len(sk.bodies) > 0 {
			if body := <-sk.bodies; string(body) != string(first) {
				t.Error("got other bytes on a retry")
			}
		}
	})
}

func TestSuccessEndsRetries(t *testing.T) {
	sk := newSink()
	left := 2
	sk.answer = func(*http.Request) *http.Response {
		if left--; left >= 0 {
			return respond(503)
		}
		return respond(200)
	}
	inBubble(t, Options{ReportsURL: "http://console.test/", Transport: sk}, func(tt *tester) {
		tt.call("POST", "/_sandbox/trigger", "", `{"product":"pf_loans"}`, 202)
		if d := tt.settled()[0]; len(d.Attempts) != 3 || !d.Delivered {
			t.Errorf("got %+v, want success at the third attempt", d)
		}
	})
}

// deaf never answers.
type deaf struct{}

func (deaf) RoundTrip(r *http.Request) (*http.Response, error) {
	r.Body.Close()
	<-r.Context().Done()
	return nil, r.Context().Err()
}

func TestAttemptTimesOut(t *testing.T) {
	inBubble(t, Options{ReportsURL: "http://console.test/", Transport: deaf{}}, func(tt *tester) {
		begin := time.Now()
		tt.call("POST", "/_sandbox/trigger", "", `{"product":"pf_loans"}`, 202)
		d := tt.settled()[0]
		if got, want := time.Since(begin), 67750*time.Millisecond; got != want {
			t.Errorf("got %v, want %v", got, want)
		}
		if len(d.Attempts) != 6 || d.Attempts[5].Status != 0 || !strings.Contains(d.Attempts[5].Error, "deadline") {
			t.Errorf("got %+v, want 6 time-outs", d.Attempts)
		}
	})
}

func TestResetAndCloseEndDeliveries(t *testing.T) {
	inBubble(t, Options{ReportsURL: "http://console.test/", Transport: deaf{}}, func(tt *tester) {
		begin := time.Now()
		tt.call("POST", "/_sandbox/trigger", "", `{"product":"pf_loans","copies":3}`, 202)
		synctest.Wait()
		tt.call("POST", "/_sandbox/reset", "", "", 200)
		if got := tt.s.listDeliveries(); len(got) != 0 {
			t.Errorf("got %d deliveries after the reset, want none", len(got))
		}
		tt.call("POST", "/_sandbox/trigger", "", `{"product":"pf_loans"}`, 202)
		tt.s.Close()
		tt.call("POST", "/_sandbox/trigger", "", `{"product":"pf_loans"}`, 202)
		if d := tt.s.listDeliveries(); len(d) != 2 || !d[1].Done || d[1].Error == "" {
			t.Errorf("got %+v, want a refusal after Close", d)
		}
		if time.Since(begin) != 0 {
			t.Errorf("got %v of waiting, want none", time.Since(begin))
		}
	})
}

func TestDeliveryOverHTTP(t *testing.T) {
	var mu sync.Mutex
	got := map[string]int{}
	mux := http.NewServeMux()
	mux.HandleFunc("/ok", func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		verify(t, r.Header, body, DefaultSecretKey)
		if int64(len(body)) != r.ContentLength {
			t.Errorf("got length %d of %d bytes", r.ContentLength, len(body))
		}
		mu.Lock()
		defer mu.Unlock()
		got[r.URL.RawQuery] = len(body)
	})
	mux.HandleFunc("/hop/{n}", func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		n, _ := strconv.Atoi(r.PathValue("n"))
		to := "/hop/" + strconv.Itoa(n-1)
		if n == 1 {
			to = "/ok?" + r.URL.RawQuery
		} else {
			to += "?" + r.URL.RawQuery
		}
		http.Redirect(w, r, to, http.StatusTemporaryRedirect)
	})
	receiver := httptest.NewServer(mux)
	defer receiver.Close()
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	tt := newTester(t, Options{})
	for _, target := range []string{"/ok?plain", "/hop/3?hops3"} {
		tt.call("POST", "/_sandbox/trigger", "", `{"product":"pf_categorized_checking_l3","size":"3MB","url":"`+receiver.URL+target+`"}`, 202)
	}
	for _, d := range tt.settled() {
		if !d.Delivered || len(d.Attempts) != 1 {
			t.Errorf("got %+v, want success at once", d)
		}
	}
	if got["plain"] < 3_000_000 || got["hops3"] < 3_000_000 {
		t.Errorf("got %v, want two reports of 3 MB", got)
	}
	r, err := http.NewRequest("POST", receiver.URL+"/hop/4", nil)
	if err != nil {
		t.Fatal(err)
	}
	if resp, err := tt.s.client.Do(r); err == nil {
		resp.Body.Close()
		t.Error("got an answer after 4 redirects, want an error")
	}
	tt.s.Close()
}
