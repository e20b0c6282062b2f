package integration

import (
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"
)

// callProxy has programs call klavi_proxy, as services do.
func (g *clientsGateway) callProxy(t *testing.T) {
	services, guarded, prefixed := place{base: g.url("services", "")}, place{base: g.url("guarded", "")}, place{base: g.url("prefixed", "/bank")}
	for _, v := range []visitor{
		{"curl", services, g.curl("1.1")},
		{"curl with HTTP/1.0", services, g.curl("1", "--http1.0", "--expect100-timeout", "0.1")},
		{"curl that offers h2c, as Java does", services, g.curl("1.1", "--http2")},
		{"curl with h2c", services, g.curl("2", "--http2-prior-knowledge")},
		{"curl with a login", guarded, g.curl("1.1", "--user", "ledger:open-sesame")},
		{"Go", services, g.goClient("HTTP/1.1", overHTTP1)},
		{"Go with h2c", services, g.goClient("HTTP/2.0", overH2C)},
		{"Node's fetch", services, g.script("node", "fetch.mjs")},
		{"node:http", services, g.script("node", "http.mjs")},
		{"urllib.request", services, g.script("python3", "urllib_request.py")},
		{"http.client", services, g.script("python3", "http_client.py")},
	} {
		t.Run(v.name, func(t *testing.T) { g.visit(t, v, slices.Concat(g.proxyWalk(""), largeReports())) })
	}
	fill := `,"productsCallbackURL":{"all":"` + g.url("hooks", "/klavi/reports") + `"},"externalInfo":{"service":"ledger"}}`
	for _, v := range []visitor{
		{"curl", prefixed, g.curl("1.1", "--compressed")},
		{"Go", prefixed, g.goClient("HTTP/1.1", overHTTP1)},
		{"Node's fetch", prefixed, g.script("node", "fetch.mjs")},
		{"urllib.request", prefixed, g.script("python3", "urllib_request.py")},
	} {
		t.Run("where it fills in/"+v.name, func(t *testing.T) { g.visit(t, v, g.proxyWalk(fill)) })
	}
}

// proxyWalk is what services ask for. fill is the end that the gateway gives to
// the bodies of links and report requests, empty where it leaves them alone.
func (g *clientsGateway) proxyWalk(fill string) []walkStep {
	link := `{"personalTaxId":"52998224725","phone":"+5511987654321"}`
	report := `{"taxId":"52998224725","institutionCode":"001","products":["pf_checking_account"]}`
	post := func(name, path, body string, check func(answer) error) walkStep {
		klavi := body
		if fill != "" {
			klavi = strings.TrimSuffix(body, "}") + fill
		}
		return serviceStep(name, "POST", path, &body, klavi, check, "X-Service", "ledger")
	}
	list := func(name, query string, headers ...string) walkStep {
		return serviceStep(name, "GET", "/consents?"+query, nil, "", func(a answer) error {
			if a.status != 200 || !strings.Contains(a.body, `"consentId"`) {
				return errors.New("want 200 and consents")
			}
			return nil
		}, headers...)
	}
	made := members("linkId", "linkToken", "linkURL", "expireIn")
	first, second, third, empty := g.consent(), g.consent(), g.consent(), ""
	return []walkStep{
		post("a link", "/links", link, made),
		post("a link without a length", "/links", link, made).streamed(),
		post("a link at Klavi's whole path", "/data/v1/links", link, made),
		list("the consents of a person", "personalTaxId=52998224725"),
		list("the consents of a person with punctuation", "personalTaxId=529.982.247-25&businessTaxId="),
		list("the consents through proxies", "personalTaxId=52998224725", slices.Concat(byProxies, []string{
			"Cookie", "session=1", "Referer", "https://app.example.com/", "Sec-Fetch-Mode", "cors", "Accept-Language", "*",
		})...).lowLevel(),
		serviceStep("a consent", "GET", "/consents/"+first, nil, "", members("consentId", "status"), "Content-Type", "application/json"),
		post("a report request", "/personal/institution-data", report, members("requestId")),
		serviceStep("the end of a consent", "DELETE", "/consents/"+first+"/revoke", nil, "", members("message")),
		serviceStep("the end of a consent with a type", "DELETE", "/consents/"+second+"/revoke", nil, "", members("message"),
			"Content-Type", "application/json"),
		serviceStep("the end of a consent with an empty body", "DELETE", "/consents/"+third+"/revoke", &empty, "", members("message")),
	}
}

// largeReports are for where the gateway does not look at bodies, which has a limit.
func largeReports() []walkStep {
	body := `{"taxId":"52998224725","externalInfo":{"note":"` + strings.Repeat("0123456789abcdef", 96<<10) + `"}}`
	s := newStep("a large report request", "POST", "/personal/user-data", &body, nil, nil)
	s.check = func(a answer) error {
		if a.status != 200 || a.field("requestId") != sha256Of(body) {
			return errors.New("want 200, and all of the body at Klavi")
		}
		return nil
	}
	return []walkStep{s, s.streamed()}
}

// consent returns the id of a new one, which its bank has authorised.
func (g *clientsGateway) consent() string {
	g.t.Helper()
	link := g.do("POST", g.url("api", "/klavi/links"), `{"personalTaxId":"52998224725"}`)
	id := g.do("POST", g.url("api", "/klavi/consents"), `{"institutionCode":"001"}`, "Klavi-Link-Token", link.field("linkToken")).field("consentId")
	g.want(g.do("POST", g.url("klavi", "/_sandbox/consents/"+id+"/authorise"), ""), 200, "")
	return id
}

// serviceStep is one that reaches Klavi with that body. Some headers travel as the
// program sends them.
func serviceStep(name, method, path string, body *string, klavi string, check func(answer) error, headers ...string) walkStep {
	s := newStep(name, method, path, body, &request{
		Method: method, Target: "/data/v1" + strings.TrimPrefix(path, "/data/v1"), Token: "access", Body: klavi,
		Headers: http.Header{
			"User-Agent": {"caddy-klavi"}, "Accept": nil, "Accept-Encoding": nil, "Content-Type": nil, "Content-Length": nil,
		},
	}, headers)
	s.check = check
	return s
}
