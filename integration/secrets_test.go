package integration

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
)

const (
	accessKey = "sandbox-access-key"
	sealKey   = "5ea1ed5ea1ed5ea1ed5ea1ed5ea1ed00"
)

// everything is all that can be asked of an error answer.
const everything = `{err.message} {err.status_code} {err.status_text} {err.trace} {err.id} {http.error} {http.error.message} {http.error.trace} ` +
	`{http.request.uri} {http.request.orig_uri} {http.request.body} {http.request.header.Authorization} {http.request.header.Klavi-Link-Token} ` +
	`{http.request.header.Cookie} {http.request.cookie.session} {http.request.header.X-Cpf} {http.request.header.Klavi-User} ` +
	`{http.reverse_proxy.status_code} {http.reverse_proxy.header.Authorization} {http.reverse_proxy.header.Set-Cookie} ` +
	`{http.reverse_proxy.upstream.address} {http.vars.klavi} {http.vars.token} {http.vars.client_ip} {http.auth.user.id} {vars.root} ` +
	`{http.response.header.Authorization} {rp.header.Authorization} {env.NONE}`

// loud is a gateway that tells all it can: at debug level, to every sort of log
// that Caddy has, with credentials in the access log and traces of the handlers.
const loud = `
{
	admin 127.0.0.1:{{admin}}
	auto_https off
	debug
	metrics {
		per_host
	}
	log {
		output file {{log}}
		format klavi {
			wrap json
		}
	}
	log console {
		output file {{log}}.console
		format klavi {
			wrap console
		}
	}
	log access {
		include http.log.access http.log.error http.handlers
		output file {{log}}.access
		format filter {
			wrap klavi {
				wrap json
			}
			fields {
				request>remote_port delete
			}
		}
	}
	log rest {
		exclude http.log.access
		output file {{log}}.rest
		format klavi {
			wrap filter {
				wrap console
				fields {
					request>remote_port delete
				}
			}
		}
	}
	log appended {
		output file {{log}}.appended
		format append {
			wrap klavi
			fields {
				support {env.TEST_SUPPORT}
			}
		}
	}
	servers {
		protocols h1
		trace
		log_credentials
	}
	klavi {
		base_url http://127.0.0.1:{{klavi}}/data/v1
		access_key {env.TEST_ACCESS_KEY}
		secret_key {env.TEST_SECRET_KEY}
		accept_secret_keys {env.TEST_OLD_KEY}
		seal_key {env.TEST_SEAL_KEY}
		klavi_timeout 2s
	}
}
(loud) {
	bind 127.0.0.1
	log
	log_append cpf {http.request.header.X-Cpf}
	log_append klavi_link_token {http.request.header.Klavi-Link-Token}
	log_append login {http.request.header.Authorization}
	log_append cookie {http.request.header.Cookie}
	log_append sent {http.request.body}
	log_append answer {http.response.body}
	log_append query {http.request.uri.query}
	handle_errors {
		respond "` + everything + `"
	}
}
http://:{{app}} {
	import loud
	log_append <early {http.request.orig_uri}
	@around header X-Around *
	route {
		test_panic @around {
			after
		}
		klavi_frontend /klavi {
			user {http.request.header.X-User}
			set personalTaxId {http.request.header.X-Cpf}
			external_info document {http.request.header.X-Cpf}
			redirect_urls https://app.example.com/connected
			reports_url http://127.0.0.1:{{hooks}}/klavi/reports
		}
		test_panic /below/*
		error /error/* "no {http.request.header.Klavi-Link-Token} for {http.request.header.X-Cpf}" 500
		reverse_proxy /down/* 127.0.0.1:{{nobody}}
		respond "the app"
	}
}
http://:{{hooks}} {
	import loud
	klavi_reports /klavi/reports {
		specific pf_checking_account http://127.0.0.1:{{upstream}}/checking
		specific pf_loans {
			test_panic
		}
		specific pf_funds {
			test_panic {
				abort
			}
		}
		specific pf_treasure_titles {
			error "cannot keep {http.request.body}" 500
		}
		specific pf_balance http://127.0.0.1:{{nobody}}/balance
		other http://127.0.0.1:{{upstream}}/other
		event * http://127.0.0.1:{{upstream}}/events
	}
}
http://:{{services}} {
	import loud
	klavi_proxy {
		reports_url http://127.0.0.1:{{hooks}}/klavi/reports
		link_token sealed
		header_up X-Copy {http.request.header.Authorization}
		handle_response {
			vars token {http.reverse_proxy.header.Authorization}
			copy_response
		}
	}
}
`

// witness makes requests, and keeps what each of them got to see.
type witness struct {
	*gateway
	hidden
	seen []sight

	link, linkURL, consentID string
	mariasToken              []string // headers
}

// sight is one request and its answer.
type sight struct {
	name, sent string
	answer     answer
	owner      bool // what was sent belongs to the one who gets the answer
}

func (w *witness) do(method, url, body string, headers ...string) answer {
	w.t.Helper()
	a, err := try(method, url, body, headers...)
	if err != nil { // a handler panicked: the connection just ends
		a.body = err.Error()
	}
	w.seen = append(w.seen, sight{
		name: fmt.Sprintf("the answer to %s %.60s", method, url), sent: strings.Join(append(headers, url, body), "\n"), answer: a,
	})
	return a
}

// owned marks the last answer as that of the person whose data are in it.
func (w *witness) owned(a answer) answer {
	w.seen[len(w.seen)-1].owner = true
	return a
}

// wantSeenNothing fails the test if an answer has more than its request, unless
// that is for the owner; and if a problem has even that.
func (w *witness) wantSeenNothing() {
	w.t.Helper()
	for _, s := range w.seen {
		text := s.answer.body + fmt.Sprint(s.answer.header)
		sent := w.find(s.sent)
		problem := strings.HasPrefix(s.answer.header.Get("Content-Type"), "application/problem+json")
		for _, f := range w.find(text) {
			if s.owner && f.what != whatNobodyGets || !problem && slices.ContainsFunc(sent, func(g finding) bool { return g.word == f.word }) {
				continue
			}
			w.t.Errorf("%s shows %s, %.20q: …%s…", s.name, f.what, f.word, f.where)
		}
	}
}

const whatNobodyGets = "a credential of the gateway's"

const (
	session = "session=cookie-of-maria"
	login   = "Basic bWFyaWE6cGFzc3dvcmQtb2YtbWFyaWE="

	// Klavi does not say that its tokens are JWTs, which are known by their look.
	opaque = "9k.Q-x_7-a-token-of-no-known-look"
)

// maria are the headers of a person with a login of her own at the site.
var maria = append(slices.Clone(asMaria), "Cookie", session, "Authorization", login)

// walk goes through everything that the three faces do, well and badly.
func (w *witness) walk() {
	w.t.Helper()
	w.work()
	w.fail()
	w.learnTokens()
}

// work is what goes well: links, consents, calls of services, reports.
func (w *witness) work() {
	w.t.Helper()
	w.add("the login of a person", "cookie-of-maria", "password-of-maria", strings.TrimPrefix(login, "Basic "))
	w.add("a link token", opaque)
	w.add(whatNobodyGets, testSecret, accessKey, sealKey, "the-old-key-of-this-test")
	w.taxIDs = []string{testCPF, "11144477735", "11222333000181", "12ABC34501DE35"}

	link := w.owned(w.do("POST", w.url("app", "/klavi/links"), `{"personalTaxId":"529.982.247-25"}`, maria...))
	w.want(link, 200, "")
	token := link.field("linkToken")
	linkURL, err := url.Parse(link.field("linkURL"))
	if err != nil || linkURL.Query().Get("v") == "" || token == "" {
		w.t.Fatalf("got %s, %v, want a link", link.body, err)
	}
	w.add("a link token", token, linkURL.Query().Get("v"))
	w.link, w.linkURL = token, linkURL.String()
	w.mariasToken = append(slices.Clone(maria), "Klavi-Link-Token", token)
	w.want(w.owned(w.do("GET", w.url("app", "/klavi/institutions"), "", w.mariasToken...)), 200, "")
	consent := w.owned(w.do("POST", w.url("app", "/klavi/consents"), `{"institutionCode":"341","personalTaxId":"`+testCPF+`"}`, w.mariasToken...))
	w.want(consent, 200, "")
	w.consentID = consent.field("consentId")
	backend := w.owned(w.do("POST", w.url("services", "/links"), `{"personalTaxId":"11144477735","businessTaxId":"11.222.333/0001-81"}`, "Klavi-User", "joao"))
	w.want(backend, 200, "")
	backendURL, err := url.Parse(backend.field("linkURL"))
	if err != nil {
		w.t.Fatal(err)
	}
	w.add("a link token", backend.field("linkToken"), backendURL.Query().Get("v"))

	for _, query := range w.queries() {
		w.owned(w.do("GET", w.url("services", "/consents?"+query), ""))
		w.do("GET", w.url("app", "/klavi/institutions?"+query), "", "Referer", w.linkURL)
	}
	w.gateway.do("POST", w.url("klavi", "/_sandbox/consents/"+w.consentID+"/authorise"), "")
	w.want(w.owned(w.do("GET", w.url("services", "/consents/"+w.consentID), "")), 200, "")
	w.want(w.do("POST", w.url("services", "/personal/institution-data"),
		`{"taxId":"`+testCPF+`","institutionCode":"341","products":["pf_checking_account"]}`), 200, "")
	for _, product := range []string{"pf_loans", "pf_funds", "pf_treasure_titles", "pf_balance", "pf_credit_card"} {
		w.gateway.do("POST", w.url("klavi", "/_sandbox/trigger"), `{"product":"`+product+`","url":"`+w.url("hooks", "/klavi/reports")+`"}`)
	}
	w.eventually("the reports", func() bool {
		metrics := w.gateway.do("GET", w.url("admin", "/metrics"), "").body
		for _, route := range []string{"pf_loans", "pf_funds", "pf_treasure_titles", "127.0.0.1:" + w.port("nobody")} {
			if !strings.Contains(metrics, `result="failed",route="`+route+`"`) {
				return false
			}
		}
		return len(w.received()) >= 2
	})
}

// queries are tax ids and tokens as they stand in queries.
func (w *witness) queries() []string {
	return []string{
		"v=" + opaque, "a=b&linkToken=" + opaque, "u=" + url.QueryEscape("https://conecte.klavi.ai/path?v="+opaque),
		"personalTaxId=" + testCPF, "personalTaxId=529.982.247-25", "personalTaxId=529%2E982%2E247%2D25&businessTaxId=11.222.333%2F0001-81",
		"personalTaxId=529%252E982%252E247%252D25", "personalTaxId=529+982+247+25", "personalTaxId=%35%32%39%39%38%32%32%34%37%32%35",
		"businessTaxId=12.ABC.345/01DE-35", "businessTaxId=12abc34501de35", "x=%7B%22taxId%22%3A%22529.982.247-25%22%7D",
		"accessToken=" + w.link, "v=" + w.link, "u=" + url.QueryEscape(w.linkURL),
	}
}

// fail is what goes wrong: refusals of every face, errors, panics, and a Klavi in
// trouble.
func (w *witness) fail() {
	w.t.Helper()
	token := w.link
	for _, query := range w.queries() {
		w.do("GET", w.url("app", "/error/a&"+query+"?"+query), "", "Referer", w.linkURL)
	}
	for _, body := range []string{
		`{"personalTaxId":"11144477735"}`, `{"personaltaxid":"` + testCPF + `"}`, `{"` + testCPF + `":1}`, `{"personalTaxId":` + testCPF + `}`, `{"personalTaxId":"529.982.247-25"`,
		`{"linkToken":"` + token + `"}`, `{"productsCallbackURL":{"all":"https://evil.example/?v=` + token + `"}}`, `"` + token + `"`,
	} {
		w.do("POST", w.url("app", "/klavi/links"), body, w.mariasToken...)
		w.do("POST", w.url("app", "/klavi/consents"), body, w.mariasToken...)
		w.do("POST", w.url("services", "/links"), body, "Klavi-User", testCPF, "Authorization", "Bearer "+token)
		w.do("POST", w.url("services", "/personal/user-data"), body)
		w.do("POST", w.url("hooks", "/klavi/reports"), body, "X-Klavi-Signature", strings.Repeat("0", 64))
	}
	w.do("GET", w.url("app", "/klavi/institutions"), "", "X-User", "eve", "X-Cpf", "11144477735", "Klavi-Link-Token", token)
	w.do("GET", w.url("app", "/klavi/institutions"), "", "X-User", "eve", "X-Cpf", "529.982.247-2", "Klavi-Link-Token", token+"A")
	w.do("GET", w.url("app", "/klavi/consents?personalTaxId="+testCPF), "", w.mariasToken...)
	w.do("GET", w.url("app", "/klavi/"+testCPF+"/"+token), "", w.mariasToken...)
	w.do("GET", w.url("services", "/refresh?personalTaxId="+testCPF), "", w.mariasToken...)
	w.do("POST", w.url("services", "/auth"), `{"accessKey":"`+accessKey+`","secretKey":"a"}`)
	w.do("GET", w.url("app", "/klavi/institutions"), "", append(w.mariasToken, "X-Around", "1")...)
	w.do("POST", w.url("app", "/below/"), `{"linkToken":"`+opaque+`"}`, "Klavi-Link-Token", opaque, "Authorization", "Bearer "+opaque)
	for _, path := range []string{"/below/", "/error/", "/down/"} {
		w.do("POST", w.url("app", path+testCPF+"?linkToken="+token), `{"personalTaxId":"529.982.247-25"}`, w.mariasToken...)
	}
	for _, fault := range []string{`{"nonsense":true}`, `{"outage":true}`, `{"outage":429}`, `{"revoked_token":true,"refused_credentials":true}`} {
		w.fault(fault)
		w.owned(w.do("POST", w.url("app", "/klavi/links"), "{}", maria...))
		w.owned(w.do("GET", w.url("app", "/klavi/institutions"), "", w.mariasToken...))
		w.owned(w.do("GET", w.url("services", "/consents?personalTaxId="+testCPF), ""))
		w.fault("")
	}
}

// learnTokens adds the tokens that reached Klavi.
func (w *witness) learnTokens() {
	w.t.Helper()
	count := make(map[string]int)
	for what, target := range map[string]string{whatNobodyGets: "/consents", "a link token": "/links/institutions"} {
		for _, r := range w.atKlavi("GET", target) {
			if token := strings.TrimPrefix(r.Headers.Get("Authorization"), "Bearer "); token != "" {
				w.add(what, token)
				count[what]++
			}
		}
	}
	if len(count) != 2 {
		w.t.Fatal("no tokens were seen at klavi: this test shows nothing")
	}
}

// setSecrets sets the environment of the loud gateway.
func setSecrets(t *testing.T) {
	t.Helper()
	for name, value := range map[string]string{
		"TEST_ACCESS_KEY": accessKey, "TEST_SECRET_KEY": testSecret, "TEST_SEAL_KEY": sealKey, "TEST_OLD_KEY": "the-old-key-of-this-test",
		"TEST_SUPPORT": "529.982.247-25",
	} {
		t.Setenv(name, value)
	}
}

// The whole flow at debug level, with every log on, error routes that print what
// they can, panics, and the admin API read out, shows no secret, token or tax id to
// anybody but its owner.
func TestSecretsAndTaxIDsStayInside(t *testing.T) {
	setSecrets(t)
	w := &witness{gateway: start(t, loud+outside)}
	w.walk()
	w.wantSeenNothing()

	for name, mustHave := range map[string][]string{
		"":          {`"level":"debug"`, "panic serving", "admin.api"},
		".console":  {"DEBUG", "http.log.access", "http.log.error", "panic serving"},
		".access":   {`"logger":"http.log.access`, `"Authorization":["***"]`, `"cookie":"***"`, `"answer":"{\"linkId\"`, "no *** for ***"},
		".rest":     {"report was not accepted", "a handler panicked", "upstream roundtrip"},
		".appended": {`"support":"***"`},
	} {
		log := readFile(t, w.logs+name)
		for _, text := range mustHave {
			if !strings.Contains(log, text) {
				t.Errorf("the log%s has no %s: this test shows less than it says", name, text)
			}
		}
		w.wantNone(t, "the log"+name, log)
	}

	for _, path := range []string{
		"/config/", "/config/apps/klavi", "/id/none", "/metrics", "/reverse_proxy/upstreams", "/pki/ca/local", "/debug/vars",
		"/debug/pprof/goroutine?debug=2", "/debug/pprof/heap?debug=1", "/debug/pprof/cmdline", "/nothing",
	} {
		w.wantNone(t, path, w.gateway.do("GET", w.url("admin", path), "").body)
	}
	for _, saved := range []string{w.gateway.do("GET", w.url("admin", "/config/"), "").body, readFile(t, caddy.ConfigAutosavePath)} {
		if !strings.Contains(saved, "{env.TEST_SECRET_KEY}") {
			t.Error("the config does not keep the placeholder")
		}
		w.wantNone(t, "the saved config", saved)
	}
}
