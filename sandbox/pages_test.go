package sandbox

import (
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"
)

// browser walks the hosted pages over HTTP and stops where they leave the sandbox.
type browser struct {
	*testing.T
	client *http.Client
	at     *url.URL
	status int
	html   string
}

func newBrowser(t *testing.T) *browser {
	jar, _ := cookiejar.New(nil)
	return &browser{T: t, client: &http.Client{Jar: jar, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}
}

func (b *browser) visit(target string) {
	b.Helper()
	b.follow(b.client.Get(target))
}

// press submits the page's form with its hidden fields.
func (b *browser) press(decision string, more url.Values) {
	b.Helper()
	form := url.Values{"decision": {decision}}
	for _, m := range regexp.MustCompile(`<input type="hidden" name="([^"]+)" value="([^"]+)">`).FindAllStringSubmatch(b.html, -1) {
		form.Set(m[1], m[2])
	}
	maps.Copy(form, more)
	action := regexp.MustCompile(`<form method="post" action="([^"]+)">`).FindStringSubmatch(b.html)
	if action == nil {
		b.Fatalf("got no form in %s", b.html)
	}
	to, err := b.at.Parse(action[1])
	if err != nil {
		b.Fatal(err)
	}
	b.follow(b.client.PostForm(to.String(), form))
}

func (b *browser) follow(resp *http.Response, err error) {
	b.Helper()
	for {
		if err != nil {
			b.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		b.at, b.status, b.html = resp.Request.URL, resp.StatusCode, string(body)
		to, locErr := resp.Location()
		if locErr != nil {
			if strings.HasPrefix(resp.Header.Get("Content-Type"), "text/html") && !strings.Contains(b.html, "Simulation:") {
				b.Errorf("%s: got a page that does not say that it is a simulation", b.at)
			}
			return
		}
		if !strings.HasPrefix(to.Host, "127.0.0.1") {
			b.at, b.html = to, ""
			return
		}
		resp, err = b.client.Get(to.String())
	}
}

// hosted serves a sandbox over HTTP and makes a link.
func hosted(t *testing.T, o Options, linkBody string) (*tester, string, map[string]any) {
	t.Helper()
	tt := newTester(t, o)
	server := httptest.NewServer(tt.s)
	t.Cleanup(server.Close)
	m := tt.call("POST", "/data/v1/links", tt.login(), linkBody, 200)
	m["linkURL"] = strings.Replace(m["linkURL"].(string), "http://klavi.test", server.URL, 1)
	return tt, server.URL, m
}

const hostedLink = `{"redirectURL":"https://app.example/back?keep=1","externalInfo":{"myTraceId":"a b&c"}}`

func TestHostedPageSuccess(t *testing.T) {
	tt, _, link := hosted(t, Options{Manual: true}, hostedLink)
	b := newBrowser(t)
	b.visit(link["linkURL"].(string))
	if !strings.Contains(b.html, `value="104"`) || !strings.Contains(b.html, "unstable") {
		t.Errorf("got no marked outage in %s", b.html)
	}
	b.press("continue", url.Values{"institutionCode": {"001"}})
	if b.status != 422 || !strings.Contains(b.html, "Fill in your CPF.") {
		t.Fatalf("got %d %s, want a word on the CPF", b.status, b.html)
	}
	b.press("continue", url.Values{"institutionCode": {"001"}, "personalTaxId": {"258.722.521-37"}})
	if b.at.Path != "/bank" || !strings.Contains(b.html, testCPF) {
		t.Fatalf("got %s %s, want the bank's page", b.at, b.html)
	}
	b.press("approve", nil)
	if b.at.Path != "/lgpd" {
		t.Fatalf("got %s, want the LGPD page", b.at)
	}
	if got := tt.list("/data/v1/consents", tt.login())[0]["status"]; got != "AWAITING_LGPD_AUTHORISATION" {
		t.Errorf("got %v, want AWAITING_LGPD_AUTHORISATION", got)
	}
	lgpd := b.at.String()
	b.press("approve", nil)
	want := url.Values{"keep": {"1"}, "link_id": {link["linkId"].(string)}, "external_info": {`{"myTraceId":"a b&c"}`}}
	if b.at.Host != "app.example" || fmt.Sprint(b.at.Query()) != fmt.Sprint(want) {
		t.Errorf("got %s, want app.example with %v", b.at, want)
	}
	if got := tt.list("/data/v1/consents", tt.login())[0]["status"]; got != "AUTHORISED" {
		t.Errorf("got %v, want AUTHORISED", got)
	}
	b.visit(lgpd)
	if b.status != 409 {
		t.Errorf("going back: got %d, want 409", b.status)
	}
}

func TestHostedPageFailures(t *testing.T) {
	for _, tc := range []struct {
		name, institution string
		presses           []string
		failure, status   string
	}{
		{"refused at the bank", "001", []string{"refuse"}, "access_denied", "REJECTED"},
		{"refused the LGPD page", "001", []string{"approve", "refuse"}, "access_denied", "REJECTED"},
		{"bank fails", "001", []string{"fail"}, "server_error", "ERROR"},
		{"bank always refuses", "033", nil, "access_denied", "REJECTED"},
		{"bank always authorises", "341", nil, "", "AUTHORISED"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tt, _, link := hosted(t, Options{}, hostedLink)
			b := newBrowser(t)
			b.visit(link["linkURL"].(string))
			b.press("continue", url.Values{"institutionCode": {tc.institution}, "personalTaxId": {testCPF}})
			for _, decision := range tc.presses {
				b.press(decision, nil)
			}
			q := b.at.Query()
			if b.at.Host != "app.example" || q.Get("error") != tc.failure || q.Get("link_id") != link["linkId"] || q.Has("consent_id") {
				t.Errorf("got %s, want error %q", b.at, tc.failure)
			}
			if q.Has("error") != q.Has("error_description") {
				t.Errorf("got %s, want error with its description", b.at)
			}
			if got := tt.list("/data/v1/consents", tt.login())[0]["status"]; got != tc.status {
				t.Errorf("got %v, want %s", got, tc.status)
			}
		})
	}
}

func TestHostedPageErrors(t *testing.T) {
	tt, base, link := hosted(t, Options{}, hostedLink)
	b := newBrowser(t)
	for code, want := range map[string]string{"": "Choose an institution", "104": "outage", "237": "exceeds the limit", "999": "institution"} {
		b.visit(link["linkURL"].(string))
		b.press("continue", url.Values{"institutionCode": {code}, "personalTaxId": {testCPF}})
		if b.status != 422 || !strings.Contains(b.html, want) {
			t.Errorf("%q: got %d, want 422 with %q", code, b.status, want)
		}
	}
	b.visit(link["linkURL"].(string))
	b.press("cancel", nil)
	if b.at.Host != "app.example" || b.at.Query().Get("error") != "access_denied" {
		t.Errorf("leaving: got %s", b.at)
	}
	for path, want := range map[string]int{"/path?v=x": 404, "/path": 404, "/bank?session=x": 404, "/lgpd": 404, "/authorise?ticket=x": 410, "/done?error=%3Cb%3E": 200} {
		b.visit(base + path)
		if b.status != want || strings.Contains(b.html, "<b>") {
			t.Errorf("%s: got %d, want %d", path, b.status, want)
		}
	}
	req, _ := http.NewRequest("PUT", base+"/path", nil)
	if resp, err := b.client.Do(req); err != nil || resp.StatusCode != 405 {
		t.Errorf("PUT: got %v %v, want 405", resp, err)
	} else {
		resp.Body.Close()
	}
	tt.call("POST", "/_sandbox/clock", "", `{"advance":"31m"}`, 200)
	b.visit(link["linkURL"].(string))
	if b.status != 410 {
		t.Errorf("an old link: got %d, want 410", b.status)
	}
}

func TestHostedPageWithPresets(t *testing.T) {
	_, _, link := hosted(t, Options{}, `{"personalTaxId":"`+testCPF+`","businessTaxId":"`+testCNPJ+`","institutionCode":"001","appLink":"https://app.example/open","appRedirectURLKey":"next"}`)
	b := newBrowser(t)
	b.visit(link["linkURL"].(string))
	if strings.Contains(b.html, "personalTaxId") || strings.Contains(b.html, `value="341"`) || !strings.Contains(b.html, testCNPJ) {
		t.Errorf("got %s, want the presets only", b.html)
	}
	b.press("continue", url.Values{"institutionCode": {"341"}, "personalTaxId": {"00000000000"}}) // the presets win
	if !strings.Contains(b.html, testCPF) || !strings.Contains(b.html, "Banco Exemplo") {
		t.Fatalf("got %s, want the presets", b.html)
	}
	b.press("approve", nil)
	if b.at.Host != "app.example" || !strings.Contains(b.at.Query().Get("next"), "/lgpd?session=") {
		t.Fatalf("got %s, want the app with the next page", b.at)
	}
	b.visit(b.at.Query().Get("next"))
	b.press("approve", nil)
	if b.at.Path != "/done" || !strings.Contains(b.html, "close this page") {
		t.Errorf("got %s %s, want the last page", b.at, b.html)
	}
}

func TestConsentRedirectURL(t *testing.T) {
	tt, base, link := hosted(t, Options{}, hostedLink)
	token := link["linkToken"].(string)
	local := func(target string) string { return strings.Replace(target, "http://klavi.test", base, 1) }
	b := newBrowser(t)

	id, at := tt.consent(token, "001", "")
	b.visit(local(at))
	bank := b.at.String()
	b.visit(local(at))
	if b.status != 410 {
		t.Errorf("second use: got %d, want 410", b.status)
	}
	b.visit(bank)
	b.press("approve", nil)
	b.press("approve", nil)
	q := b.at.Query()
	if b.at.Host != "app.example" || q.Get("consent_id") != id || q.Get("link_id") != link["linkId"] || q.Get("external_track_id") == "" ||
		q.Get("external_info") != `{"myTraceId":"a b&c"}` || q.Get("x") != "1" || q.Has("error") || len(q) != 5 {
		t.Errorf("got %s, want the four documented parameters", b.at)
	}

	_, at = tt.consent(token, "001", "")
	b.visit(local(at))
	b.press("refuse", nil)
	if q := b.at.Query(); q.Get("error") != "access_denied" || q.Get("error_description") == "" || q.Get("external_track_id") == "" {
		t.Errorf("got %s, want the failure parameters", b.at)
	}

	for institution, failure := range map[string]string{"341": "", "033": "access_denied"} {
		_, at = tt.consent(token, institution, "")
		b.visit(local(at))
		if b.at.Host != "app.example" || b.at.Query().Get("error") != failure {
			t.Errorf("%s: got %s, want error %q at once", institution, b.at, failure)
		}
	}

	_, at = tt.consent(token, "001", "")
	tt.call("POST", "/_sandbox/clock", "", `{"advance":"61s"}`, 200)
	b.visit(local(at))
	if b.status != 410 || !strings.Contains(b.html, "60 seconds") {
		t.Errorf("too late: got %d %s, want 410", b.status, b.html)
	}
}

// Every text is there in both languages, and every page uses only those.
func TestPageTexts(t *testing.T) {
	for key := range english {
		if _, ok := portuguese[key]; !ok {
			t.Errorf("got no Portuguese text for %s", key)
		}
	}
	for key := range portuguese {
		if _, ok := english[key]; !ok {
			t.Errorf("got no English text for %s", key)
		}
	}
	files, err := pageFiles.ReadDir("pages")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		page, err := pageFiles.ReadFile("pages/" + file.Name())
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(`\.T\.(\w+)`).FindAllStringSubmatch(string(page), -1) {
			if _, ok := english[m[1]]; !ok {
				t.Errorf("%s: got the unknown text %s", file.Name(), m[1])
			}
		}
	}
}

func TestPageLanguage(t *testing.T) {
	_, _, link := hosted(t, Options{}, hostedLink)
	for header, want := range map[string]string{
		"":                          "en",
		"pt-BR,pt;q=0.9,en;q=0.8":   "pt-BR",
		"de, PT-pt;q=0.9, en;q=0.8": "pt-BR",
		"en-US,en;q=0.9,pt;q=0.8":   "en",
		"ja":                        "en",
		"ptx":                       "en",
	} {
		req, _ := http.NewRequest("GET", link["linkURL"].(string), nil)
		req.Header.Set("Accept-Language", header)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if !strings.Contains(string(body), `<html lang="`+want+`">`) || resp.Header.Get("Vary") != "Accept-Language" {
			t.Errorf("%q: got %.60s, want %s", header, body, want)
		}
		if want == "pt-BR" && !strings.Contains(string(body), "Simulação:") {
			t.Errorf("%q: got a page that does not say that it is a simulation", header)
		}
	}
}

// What a person typed is still there when it was refused.
func TestHostedPageKeepsTheForm(t *testing.T) {
	_, _, link := hosted(t, Options{}, hostedLink)
	b := newBrowser(t)
	b.visit(link["linkURL"].(string))
	b.press("continue", url.Values{"institutionCode": {"104"}, "personalTaxId": {"258.722.521-37"}})
	if b.status != 422 || !strings.Contains(b.html, `value="104" checked`) || !strings.Contains(b.html, `value="258.722.521-37"`) {
		t.Errorf("got %d %s, want the form as it was sent", b.status, b.html)
	}
}
