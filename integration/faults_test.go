package integration

import (
	"slices"
	"strings"
	"testing"
	"time"
)

// With Klavi slow, down, refusing or answering nonsense, each face answers as
// documented, and recovers alone.
func TestKlaviInTrouble(t *testing.T) {
	t.Setenv("TEST_SECRET_KEY", testSecret)
	type want struct {
		status  int
		problem string
	}
	for _, tt := range []struct {
		name, fault                  string
		links, institutions, consent want
		services                     want
	}{
		{
			"refuses every token", `{"revoked_token":true,"refused_credentials":true}`,
			want{502, "klavi-refused"},
			want{200, ""},
			want{200, ""},
			want{502, "klavi-refused"},
		},
		{
			"has an outage", `{"outage":true}`,
			want{503, "klavi-unreachable"},
			want{503, "klavi-unreachable"},
			want{503, "klavi-unreachable"},
			want{503, ""},
		},
		{
			"limits the rate", `{"outage":429}`,
			want{429, "rate-limited"},
			want{429, "rate-limited"},
			want{429, "rate-limited"},
			want{429, ""},
		},
		{
			"answers nonsense", `{"nonsense":true}`,
			want{502, "klavi-nonsense"},
			want{502, "klavi-nonsense"},
			want{502, "klavi-nonsense"},
			want{200, ""},
		},
		{
			"is slow", `{"latency":"1m"}`,
			want{504, "klavi-unreachable"},
			want{504, "klavi-unreachable"},
			want{504, "klavi-unreachable"},
			want{504, "klavi-unreachable"},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			g := start(t, strings.Replace(site, "klavi_timeout 2s", "klavi_timeout 300ms", 1))
			token := g.link().field("linkToken")
			g.fault(tt.fault)
			check := func(face string, a answer, w want) {
				t.Helper()
				if problem := a.field("type"); a.status != w.status || problem != w.problem {
					t.Errorf("%s: got %d %.200s, want %d %s", face, a.status, a.body, w.status, w.problem)
				}
				if (a.status == 503 || a.status == 429) && w.problem != "" && a.header.Get("Retry-After") == "" {
					t.Errorf("%s: got no Retry-After with %d", face, a.status)
				}
			}
			check("links", g.link(), tt.links)
			check("institutions", g.institutions(token), tt.institutions)
			check("consents", g.do("POST", g.url("app", "/klavi/consents"), `{"institutionCode":"001"}`,
				append(asMaria, "Klavi-Link-Token", token)...), tt.consent)
			check("services", g.do("GET", g.url("services", "/consents?personalTaxId="+testCPF), ""), tt.services)

			g.fault("")
			g.eventually("the gateway to recover", func() bool {
				a, err := try("POST", g.url("app", "/klavi/links"), "{}", asMaria...)
				return err == nil && a.status == 200
			})
			g.want(g.do("GET", g.url("services", "/consents?personalTaxId="+testCPF), ""), 200, "")
		})
	}
}

// A Klavi that is not there does not keep Caddy from starting.
func TestKlaviIsNotThere(t *testing.T) {
	t.Setenv("TEST_SECRET_KEY", testSecret)
	g := start(t, strings.Replace(site, "http://127.0.0.1:{{klavi}}/data/v1", "http://127.0.0.1:{{nobody}}/data/v1", 1))
	for range 3 {
		a := g.link()
		g.want(a, 503, "klavi-unreachable")
		if a.header.Get("Retry-After") == "" {
			t.Error("got no Retry-After")
		}
		g.want(g.do("GET", g.url("services", "/consents"), ""), 503, "klavi-unreachable")
	}
}

// The token runs out at Klavi before the gateway expects it.
func TestTokenEndsEarly(t *testing.T) {
	t.Setenv("TEST_SECRET_KEY", testSecret)
	g := start(t, site)
	g.want(g.link(), 200, "")
	g.do("POST", g.url("klavi", "/_sandbox/clock"), `{"advance":"31m"}`)
	g.want(g.link(), 200, "")
	g.wantLogins(2)
	g.want(g.do("POST", g.url("services", "/personal/user-data"), `{"taxId":"`+testCPF+`","products":["all"]}`), 416, "")
}

// A link that has run out at Klavi is told from one that has run out here.
func TestLinkEndsEarly(t *testing.T) {
	t.Setenv("TEST_SECRET_KEY", testSecret)
	g := start(t, site)
	link := g.link()
	expires, err := time.Parse(time.RFC3339, link.field("expiresAt"))
	if err != nil || time.Until(expires) > 30*time.Minute {
		t.Errorf("got expiresAt %q, %v, want half an hour from now", link.field("expiresAt"), err)
	}
	g.do("POST", g.url("klavi", "/_sandbox/clock"), `{"advance":"31m"}`)
	g.want(g.institutions(link.field("linkToken")), 401, "link-expired")
}

// Every byte of every report that was answered 200 was accepted by its upstream.
func TestReportsArriveUnchanged(t *testing.T) {
	t.Setenv("TEST_SECRET_KEY", testSecret)
	g := start(t, site)
	hooks := g.url("hooks", "/klavi/reports")
	triggers := []string{
		`{"product":"pf_checking_account","url":"` + hooks + `"}`,
		`{"product":"pf_checking_account","size":"20MB","url":"` + hooks + `"}`,
		`{"product":"pf_loans","size":"3MB","headerLast":true,"url":"` + hooks + `"}`,
		`{"product":"pf_credit_card","code":5000,"url":"` + hooks + `"}`,
		`{"event":"consent_revoked"}`,
	}
	for _, trigger := range triggers {
		if a := g.do("POST", g.url("klavi", "/_sandbox/trigger"), trigger); a.status != 202 {
			t.Fatalf("%s: got %d %s", trigger, a.status, a.body)
		}
	}
	sent := g.delivered(len(triggers))
	got := make(map[string]arrival)
	g.eventually("all that was answered 200 at its service, byte for byte", func() bool {
		for _, a := range g.received() {
			got[a.SHA256] = a
		}
		return !slices.ContainsFunc(sent, func(d delivery) bool { _, ok := got[d.SHA256]; return !ok })
	})
	for _, d := range sent {
		a := got[d.SHA256]
		wantPath := map[string]string{"pf_checking_account": "/checking", "consent_revoked": "/events"}[d.Name]
		if wantPath == "" {
			wantPath = "/other"
		}
		if a.Path != wantPath {
			t.Errorf("%s arrived at %s, want %s", d.Name, a.Path, wantPath)
		}
	}
}

// Nothing that is not signed by Klavi reaches an upstream.
func TestUnsignedReportsAreRefused(t *testing.T) {
	t.Setenv("TEST_SECRET_KEY", testSecret)
	g := start(t, site)
	before := len(g.received())
	for _, fault := range []string{`{"unsigned_deliveries":true}`, `{"wrong_signature":true}`} {
		g.do("POST", g.url("klavi", "/_sandbox/reset"), "")
		g.fault(fault)
		g.do("POST", g.url("klavi", "/_sandbox/trigger"), `{"product":"pf_checking_account","url":"`+g.url("hooks", "/klavi/reports")+`"}`)
		g.eventually("a refusal", func() bool {
			return strings.Contains(g.do("GET", g.url("klavi", "/_sandbox/deliveries"), "").body, `"status":401`)
		})
	}
	if got := len(g.received()); got != before {
		t.Errorf("got %d reports at the upstream, want none", got-before)
	}
	g.want(g.do("POST", g.url("hooks", "/klavi/reports"), ""), 200, "") // Klavi's connectivity test
}
