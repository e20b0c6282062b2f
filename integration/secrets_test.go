package integration

import (
	"strings"
	"testing"
)

// The whole flow at debug level, with every log on, error routes that print what
// they can, and the admin API read out, shows no secret, token or tax id.
func TestSecretsAndTaxIDsStayInside(t *testing.T) {
	t.Setenv("TEST_SECRET_KEY", testSecret)
	g := start(t, site)
	var shown strings.Builder // what anybody gets to see, but the browser its own
	show := func(a answer) answer {
		shown.WriteString(a.body)
		return a
	}

	link := g.link()
	token := link.field("linkToken")
	g.want(g.institutions(token), 200, "")
	consent := g.do("POST", g.url("app", "/klavi/consents"), `{"institutionCode":"341","personalTaxId":"`+testCPF+`"}`,
		append(asMaria, "Authorization", "Bearer "+token)...)
	g.want(consent, 200, "")
	g.do("GET", g.url("services", "/consents?personalTaxId=529.982.247-25"), "")
	g.do("GET", g.url("services", "/consents?businessTaxId=12.ABC.345/01DE-35&personalTaxId="+testCPF), "")
	g.do("POST", g.url("klavi", "/_sandbox/consents/"+consent.field("consentId")+"/authorise"), "")
	g.want(g.do("POST", g.url("services", "/personal/institution-data"),
		`{"taxId":"`+testCPF+`","institutionCode":"341","products":["pf_checking_account"]}`), 200, "")
	g.eventually("the report", func() bool { return len(g.received()) >= 2 })

	// Refusals, from every face.
	show(g.do("POST", g.url("app", "/klavi/links"), `{"personalTaxId":"11144477735"}`, asMaria...))
	show(g.do("POST", g.url("app", "/klavi/links"), `{"personaltaxid":"`+testCPF+`"}`, asMaria...))
	show(g.do("GET", g.url("app", "/klavi/institutions"), "", "X-User", "eve", "X-Cpf", "11144477735", "Klavi-Link-Token", token))
	show(g.do("GET", g.url("app", "/klavi/consents?personalTaxId="+testCPF), "", "Authorization", "Bearer "+token))
	show(g.do("GET", g.url("services", "/refresh?personalTaxId="+testCPF), ""))
	show(g.do("POST", g.url("services", "/auth"), `{"accessKey":"a","secretKey":"b"}`))
	show(g.do("POST", g.url("hooks", "/klavi/reports"), `{"enquiryCpf":"`+testCPF+`"}`, "X-Klavi-Signature", strings.Repeat("0", 64)))
	for _, fault := range []string{`{"nonsense":true}`, `{"outage":true}`, `{"revoked_token":true,"refused_credentials":true}`} {
		g.fault(fault)
		show(g.link())
		show(g.institutions(token))
		show(g.do("GET", g.url("services", "/consents?personalTaxId="+testCPF), ""))
	}

	accessTokens := make(map[string]bool)
	for _, r := range g.atKlavi("GET", "/consents") {
		accessTokens[strings.TrimPrefix(r.Headers.Get("Authorization"), "Bearer ")] = true
	}
	rawLinkTokens := make(map[string]bool)
	for _, r := range g.atKlavi("GET", "/links/institutions") {
		rawLinkTokens[strings.TrimPrefix(r.Headers.Get("Authorization"), "Bearer ")] = true
	}
	if len(accessTokens) == 0 || len(rawLinkTokens) == 0 {
		t.Fatal("no token was seen at klavi: this test shows nothing")
	}
	secrets := []string{testSecret, "sandbox-access-key"}
	for token := range accessTokens {
		secrets = append(secrets, token)
	}
	taxIDs := []string{testCPF, "529.982.247-25", "11144477735", "12.ABC.345/01DE-35", "12ABC34501DE35"}

	config := g.do("GET", g.url("admin", "/config/"), "").body
	if !strings.Contains(config, "{env.TEST_SECRET_KEY}") {
		t.Error("the config does not keep the placeholder")
	}
	wantNowhere(t, "/config/", config, testSecret)
	for _, path := range []string{"/metrics", "/reverse_proxy/upstreams"} {
		text := g.do("GET", g.url("admin", path), "").body
		wantNowhere(t, path, text, append(append(secrets, taxIDs...), token)...)
	}
	wantNowhere(t, "what the browser got", link.body+consent.body, secrets...)
	wantNowhere(t, "the answers", shown.String(), append(append(secrets, taxIDs...), token)...)

	logs := readFile(t, g.logs)
	if !strings.Contains(logs, `"level":"debug"`) || !strings.Contains(logs, "http.log.access") {
		t.Fatal("the log has no debug lines or no access log: this test shows nothing")
	}
	wantNowhere(t, "the log", logs, append(append(secrets, taxIDs...), token)...)
	for token := range rawLinkTokens {
		wantNowhere(t, "the log", logs, token)
		wantNowhere(t, "the link token that the browser got", token+" ", link.field("linkToken"))
	}
}
