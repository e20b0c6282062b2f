package sandbox

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

func TestFaults(t *testing.T) {
	tt := newTester(t, Options{ReportsURL: "http://console.test/", Transport: newSink()})
	set := func(body string) { t.Helper(); tt.call("PUT", "/_sandbox/faults", "", body, 200) }
	login := `{"accessKey":"sandbox-access-key","secretKey":"sandbox-secret-key"}`

	older := tt.login()
	set(`{"outage":true}`)
	if got := tt.call("POST", "/data/v1/auth", "", login, 503)["statusCode"]; got != 503.0 {
		t.Errorf("outage: got %v, want 503", got)
	}
	set(`{"outage":500}`)
	tt.call("GET", "/data/v1/consents", older, "", 500)
	set(`{"nonsense":true}`)
	if resp, body := tt.do("POST", "/data/v1/auth", "", login); resp.StatusCode != 200 || !strings.HasPrefix(body, "<html>") {
		t.Errorf("nonsense: got %d %s", resp.StatusCode, body)
	}
	set(`{"refused_credentials":true}`)
	tt.call("POST", "/data/v1/auth", "", login, 401)
	set(`{"expire_in_string":true}`)
	if got := tt.call("POST", "/data/v1/auth", "", login, 200)["expireIn"]; got != "1800" {
		t.Errorf("expire_in_string: got %v, want the string 1800", got)
	}
	tt.call("GET", "/data/v1/consents", older, "", 200)
	set(`{"revoked_token":true}`)
	tt.call("GET", "/data/v1/consents", older, "", 401)
	newer := tt.login()
	tt.call("GET", "/data/v1/consents", newer, "", 200)
	set(`{"single_token":true}`)
	newest := tt.login()
	tt.call("GET", "/data/v1/consents", newer, "", 401)
	tt.call("GET", "/data/v1/consents", newest, "", 200)

	tt.call("DELETE", "/_sandbox/faults", "", "", 200)
	tt.login()
	tt.call("GET", "/data/v1/consents", newest, "", 200)
	for body, want := range map[string]string{
		`{"latecy":"1s"}`: "unknown fault latecy: want latency, outage", `{"latency":"soon"}`: "duration", `{"latency":"-1s"}`: "duration",
		`{"outage":200}`: "400 to 599", `{"outage":"yes"}`: "outage", `{"duplicates":1}`: "duplicates", `[]`: "JSON object", `{`: "JSON object",
	} {
		if got := tt.call("PUT", "/_sandbox/faults", "", body, 400)["error"]; !strings.Contains(fmt.Sprint(got), want) {
			t.Errorf("%s: got %v, want %s", body, got, want)
		}
	}
}

func TestLatency(t *testing.T) {
	inBubble(t, Options{}, func(tt *tester) {
		tt.call("PUT", "/_sandbox/faults", "", `{"latency":"3s"}`, 200)
		begin := time.Now()
		tt.login()
		if got := time.Since(begin); got != 3*time.Second {
			t.Errorf("got %v, want 3s", got)
		}
	})
}

func TestDeliveryFaults(t *testing.T) {
	for fault, want := range map[string]struct{ deliveries, signed int }{
		"unsigned_deliveries": {1, 0}, "wrong_signature": {1, 1}, "duplicates": {2, 2},
	} {
		sk := newSink()
		tt := newTester(t, Options{ReportsURL: "http://console.test/", Transport: sk})
		tt.call("PUT", "/_sandbox/faults", "", `{"`+fault+`":true}`, 200)
		tt.call("POST", "/_sandbox/trigger", "", `{"product":"pf_loans"}`, 202)
		if got := len(tt.settled()); got != want.deliveries {
			t.Errorf("%s: got %d deliveries, want %d", fault, got, want.deliveries)
		}
		signed := 0
		for len(sk.requests) > 0 {
			r, body := <-sk.requests, <-sk.bodies
			sig := r.Header.Get("X-Klavi-Signature")
			if sig != "" {
				signed++
			}
			if fault == "duplicates" {
				verify(t, r.Header, body, DefaultSecretKey)
			}
			if fault == "wrong_signature" {
				verify(t, r.Header, body, DefaultSecretKey+" (wrong)")
			}
		}
		if signed != want.signed {
			t.Errorf("%s: got %d signed, want %d", fault, signed, want.signed)
		}
	}
}

func TestTrigger(t *testing.T) {
	sk := newSink()
	tt := newTester(t, Options{EventsURL: "http://console.test/e", ReportsURL: "http://console.test/r", Transport: sk, Manual: true})
	linkID, consentID := tt.authorised(tt.login(), "260", `{"productsCallbackURL":{"all":"https://l.test/"}}`, "")
	tt.settled()
	for len(sk.requests) > 0 {
		<-sk.requests
		<-sk.bodies
	}
	for _, tc := range []struct{ body, url, want string }{
		{`{"product":"pf_new_kind"}`, "http://console.test/r", `"newKind":[`},
		{`{"product":"pf_loans","linkId":"` + linkID + `"}`, "https://l.test/", consentID},
		{`{"product":"pf_loans","consentId":"` + consentID + `","url":"http://x.test/","code":205}`, "http://x.test/", `{"code":205,`},
		{`{"product":"pj_loans","headerLast":true,"size":"20KB"}`, "http://console.test/r", `{"loans":[{`},
		{`{"event":"consent_revoked","consentId":"` + consentID + `"}`, "http://console.test/e", `"eventName":"consent_revoked"`},
		{`{"event":"product_generated_failed"}`, "http://console.test/e", `"code":5000`},
		{`{"body":"{\"odd\": 1 }","url":"http://x.test/"}`, "http://x.test/", `{"odd": 1 }`},
		{`{"body":"[{}]","event":"link_created"}`, "http://console.test/e", `[{}]`},
		{`{"body":"","url":"http://x.test/empty"}`, "http://x.test/empty", ""},
	} {
		tt.call("POST", "/_sandbox/trigger", "", tc.body, 202)
		tt.settled()
		r, body := <-sk.requests, string(<-sk.bodies)
		verify(t, r.Header, []byte(body), DefaultSecretKey)
		if r.URL.String() != tc.url || !strings.Contains(body, tc.want) {
			t.Errorf("%s: got %s %.200s, want %s %s", tc.body, r.URL, body, tc.url, tc.want)
		}
	}
	got := tt.call("POST", "/_sandbox/trigger", "", `{"product":"pf_loans","copies":3}`, 202)
	if n := len(got["deliveries"].([]any)); n != 3 {
		t.Errorf("got %d deliveries, want 3", n)
	}
	tt.settled()
	if a, b := string(<-sk.bodies), string(<-sk.bodies); a != b {
		t.Error("got different copies, want the same bytes")
	}
	for _, body := range []string{
		`{}`, `{"product":"x"}`, `{"event":"x"}`, `{"product":"pf_loans","event":"link_created"}`, `{"product":"pf_loans","size":"1GB"}`,
		`{"product":"pf_loans","linkId":"x"}`, `{"product":"pf_loans","consentId":"x"}`, `{"product":"pf_loans","copies":-1}`, `{"produkt":"pf_loans"}`,
		`{"product":"pf_loans","url":"ftp://x"}`, `{"product":"pf_loans","linkId":"x","consentId":"` + consentID + `"}`,
	} {
		if got := tt.call("POST", "/_sandbox/trigger", "", body, 400)["error"]; got == "" {
			t.Errorf("%s: got no error", body)
		}
	}
}

func TestTriggerNeedsATarget(t *testing.T) {
	tt := newTester(t, Options{})
	for _, body := range []string{`{"product":"pf_loans"}`, `{"event":"link_created"}`, `{"body":"x"}`} {
		got := fmt.Sprint(tt.call("POST", "/_sandbox/trigger", "", body, 400)["error"])
		if !strings.Contains(got, "url") {
			t.Errorf("%s: got %s, want a word on url", body, got)
		}
	}
}

func TestJournal(t *testing.T) {
	tt := newTester(t, Options{})
	access := tt.login()
	tt.do("GET", "/data/v1/../v1/consents?personalTaxId="+testCPF, access, "")
	tt.do("POST", "/data/v1/consents", "", strings.Repeat("x", 100_000))
	tt.do("GET", "/_sandbox/deliveries", "", "")
	got := tt.list("/_sandbox/requests", "")
	if len(got) != 3 {
		t.Fatalf("got %d entries, want 3", len(got))
	}
	for i, want := range []string{
		"POST http://klavi.test/data/v1/auth none 200", "GET http://klavi.test/data/v1/../v1/consents?personalTaxId=" + testCPF + " access 404",
		"POST http://klavi.test/data/v1/consents none 401",
	} {
		e := got[i]
		if s := fmt.Sprint(e["method"], " ", e["target"], " ", e["token"], " ", e["status"]); s != want {
			t.Errorf("got %s, want %s", s, want)
		}
	}
	if s := fmt.Sprint(got[1]["headers"]); s != "map[Authorization:[Bearer "+access+"]]" {
		t.Errorf("got headers %s", s)
	}
	if n := len(got[2]["body"].(string)); n != maxJournalBody {
		t.Errorf("got a body of %d, want %d", n, maxJournalBody)
	}
	if !strings.Contains(got[0]["body"].(string), "sandbox-secret-key") || got[0]["host"] != "klavi.test" || got[0]["proto"] != "HTTP/1.1" {
		t.Errorf("got %v, want it as it was sent", got[0])
	}
	for range maxRequests + 10 {
		tt.do("GET", "/data/v1/x", "", "")
	}
	if n := len(tt.list("/_sandbox/requests", "")); n != maxRequests {
		t.Errorf("got %d entries, want %d", n, maxRequests)
	}
}

func TestResetForgets(t *testing.T) {
	tt := newTester(t, Options{})
	access := tt.login()
	_, id := tt.authorised(access, "001", "{}", "")
	tt.call("PUT", "/_sandbox/faults", "", `{"outage":true}`, 200)
	tt.call("POST", "/_sandbox/clock", "", `{"advance":"100h"}`, 200)
	tt.call("POST", "/_sandbox/reset", "", "", 200)
	if n := len(tt.list("/_sandbox/requests", "")); n != 0 {
		t.Errorf("got %d requests, want none", n)
	}
	tt.call("GET", "/data/v1/consents", access, "", 401)
	tt.call("GET", "/data/v1/consents/"+id, tt.login(), "", 404)
	if d := time.Until(tt.s.clock.now()); d > time.Minute {
		t.Errorf("got a clock %v ahead, want it back", d)
	}
}

func TestOddControls(t *testing.T) {
	tt := newTester(t, Options{})
	_, token := tt.link(tt.login(), "{}")
	id, _ := tt.consent(token, "001", "")
	for target, want := range map[string]int{
		"GET /_sandbox/": 404, "GET /_sandbox/reset": 404, "POST /_sandbox/consents/x": 404, "POST /_sandbox/consents/x/authorise": 404,
		"POST /_sandbox/consents/" + id + "/bless": 404, "POST /_sandbox/consents/" + id + "/revoke": 409, "POST /_sandbox/clock": 400,
	} {
		method, path, _ := strings.Cut(target, " ")
		if got := tt.call(method, path, "", "", want)["error"]; got == "" {
			t.Errorf("%s: got no error text", target)
		}
	}
	for _, body := range []string{`{"advance":"-1m"}`, `{"advance":31}`, `{"move":"1m"}`, `{"advance":""}`} {
		tt.call("POST", "/_sandbox/clock", "", body, 400)
	}
}
