package integration

import (
	"encoding/json"
	"net/url"
	"strings"
	"testing"
)

// quickstart runs the example as it is, on other ports.
func quickstart(t *testing.T) *gateway {
	t.Helper()
	g := &gateway{t: t, ports: make(map[string]string)}
	for _, name := range []string{"ADMIN", "APP", "HOOKS", "SERVICES", "SANDBOX", "UPSTREAM"} {
		t.Setenv("KLAVI_"+name+"_PORT", g.port(strings.ToLower(name)))
	}
	t.Chdir("..")
	run := start(t, readFile(t, "examples/quickstart/Caddyfile"))
	run.ports = g.ports
	return run
}

type arrival struct {
	Path       string `json:"path"`
	ReportType string `json:"report_type"`
	ReportID   string `json:"report_id"`
	Events     string `json:"events"`
	SHA256     string `json:"sha256"`
	Attempt    int    `json:"attempt"`
}

func (g *gateway) received() []arrival {
	g.t.Helper()
	var list []arrival
	text := g.do("GET", g.url("upstream", "/received"), "").body
	if err := json.Unmarshal([]byte(text), &list); err != nil {
		g.t.Fatalf("%v in %s", err, text)
	}
	return list
}

// The walk of the README: a link, its institutions, a consent, the bank, a
// report request, and the report at the upstream of its type.
func TestQuickstartWalk(t *testing.T) {
	g := quickstart(t)
	if page := g.do("GET", g.url("app", "/"), ""); page.status != 200 || !strings.Contains(page.body, "/klavi/links") {
		t.Fatalf("got %d %.200s, want the page", page.status, page.body)
	}

	link := g.do("POST", g.url("app", "/klavi/links"), `{"personalTaxId":"529.982.247-25"}`)
	g.want(link, 200, "")
	for _, field := range []string{"linkId", "linkToken", "linkURL", "expireIn", "expiresAt"} {
		if link.field(field) == "" {
			t.Errorf("the link has no %s: %s", field, link.body)
		}
	}
	token := link.field("linkToken")

	institutions := g.do("GET", g.url("app", "/klavi/institutions"), "", "Klavi-Link-Token", token)
	if institutions.status != 200 || !strings.Contains(institutions.body, `"institutionCode":"341"`) {
		t.Fatalf("got %d %.300s, want the institutions", institutions.status, institutions.body)
	}

	consent := g.do("POST", g.url("app", "/klavi/consents"), `{"institutionCode":"341"}`, "Authorization", "Bearer "+token)
	g.want(consent, 200, "")
	id := consent.field("consentId")
	if id == "" || consent.field("consentRedirectURL") == "" {
		t.Fatalf("got %s, want a consentId and a consentRedirectURL", consent.body)
	}

	// The person at the bank says yes.
	if a := g.do("POST", g.url("sandbox", "/_sandbox/consents/"+id+"/authorise"), ""); a.status/100 != 2 {
		t.Fatalf("authorising: got %d %s", a.status, a.body)
	}
	consents := g.do("GET", g.url("services", "/consents?"+url.Values{"personalTaxId": {"52998224725"}}.Encode()), "")
	if consents.status != 200 || !strings.Contains(consents.body, "AUTHORISED") {
		t.Fatalf("got %d %s, want an AUTHORISED consent", consents.status, consents.body)
	}

	request := g.do("POST", g.url("services", "/personal/institution-data"),
		`{"taxId":"52998224725","institutionCode":"341","products":["pf_checking_account","pf_credit_card"]}`)
	g.want(request, 200, "")
	g.eventually("the reports by type, and the events", func() bool {
		got := make(map[string]bool)
		for _, a := range g.received() {
			got[a.Path+" "+a.ReportType] = true
		}
		return got["/checking pf_checking_account"] && got["/cards pf_credit_card"] && got["/events "]
	})
	for _, a := range g.received() {
		if len(a.SHA256) != 64 || a.Attempt != 1 || (a.ReportType == "") == (a.Events == "") {
			t.Errorf("got %+v, want a digest, attempt 1, and a report type or events", a)
		}
	}
}
