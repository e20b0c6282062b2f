package frontend

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	_ "github.com/caddyserver/caddy/v2/modules/logging"
)

func TestConfig(t *testing.T) {
	k := newFakeKlavi(t)
	t.Setenv("KLAVI_TEST_REDIRECT", "https://env.example/connected")
	for _, test := range []struct {
		name   string
		change func(*Frontend)
		want   string // part of the error, empty where the config is good
	}{
		{"least", func(*Frontend) {}, ""},
		{"prefix with a slash", func(f *Frontend) { f.Prefix = "/klavi/" }, ""},
		{"prefix with a star", func(f *Frontend) { f.Prefix = "/a/klavi/*" }, ""},
		{"no prefix", func(f *Frontend) { f.Prefix = "" }, "a path such as /klavi is needed"},
		{"root", func(f *Frontend) { f.Prefix = "/" }, "a path such as /klavi is needed"},
		{"root with a star", func(f *Frontend) { f.Prefix = "/*" }, "a path such as /klavi is needed"},
		{"no slash", func(f *Frontend) { f.Prefix = "klavi" }, "plain path"},
		{"a star within", func(f *Frontend) { f.Prefix = "/k*" }, "plain path"},
		{"a user that is the same for all", func(f *Frontend) { f.User, f.Public = "{env.HOME}-{time.now.unix}", false }, "the same for every request"},
		{"a placeholder", func(f *Frontend) { f.Prefix = "/{env.X}" }, "plain path"},
		{"an escape", func(f *Frontend) { f.Prefix = "/kl%61vi" }, "plain path"},
		{"a query", func(f *Frontend) { f.Prefix = "/klavi?x" }, "plain path"},
		{"two slashes", func(f *Frontend) { f.Prefix = "/a//b" }, "plain path"},
		{"dots", func(f *Frontend) { f.Prefix = "/a/../b" }, `cannot have ".."`},

		{"neither user nor public", func(f *Frontend) { f.Public = false }, "exactly one of user and public"},
		{"both", func(f *Frontend) { f.User = "{http.request.header.X-User}" }, "exactly one of user and public"},
		{"a user for all", func(f *Frontend) { f.Public, f.User = false, "ana" }, "no placeholder"},
		{"a user whose brace is open", func(f *Frontend) { f.Public, f.User = false, "{http.request.header.X-User" }, "user: it has a { that no } closes"},
		{"a user whose brace is escaped", func(f *Frontend) { f.Public, f.User = false, `\{http.request.header.X-User\}` }, "no placeholder"},
		{"a user with half a placeholder", func(f *Frontend) { f.Public, f.User = false, "{http.request.header.X-User}-{x" }, "that no } closes"},
		{"another account", func(f *Frontend) { f.Account = "mx" }, `account "mx" is not configured; there is default`},

		{"set", func(f *Frontend) { f.Set = map[string]string{"personalTaxId": "{x}", "institutionCode": "341"} }, ""},
		{"set misspelt", func(f *Frontend) { f.Set = map[string]string{"personalTaxID": "{x}"} }, "did you mean personalTaxId?"},
		{"set too much", func(f *Frontend) { f.Set = map[string]string{"redirectURL": "{x}"} }, "possible are personalTaxId"},
		{"set wrong", func(f *Frontend) { f.Set = map[string]string{"personalTaxId": "1"} }, "must be a CPF"},
		{"set nothing", func(f *Frontend) { f.Set = map[string]string{"phone": ""} }, "phone has no value"},
		{"set with an open brace", func(f *Frontend) { f.Set = map[string]string{"connectionKey": "{x"} }, "set: connectionKey: it has a {"},
		{"set with an escaped brace", func(f *Frontend) { f.Set = map[string]string{"connectionKey": `\{x\}`} }, ""},
		{"set_consent with an open brace", func(f *Frontend) { f.SetConsent = map[string]string{"email": "ana{@x"} }, "set_consent: email: it has a {"},
		{"set_consent", func(f *Frontend) { f.SetConsent = map[string]string{"validityPeriod": "0"} }, ""},
		{"set_consent wrong", func(f *Frontend) { f.SetConsent = map[string]string{"validityPeriod": "6"} }, "must be the number 12"},
		{"set_consent misspelt", func(f *Frontend) { f.SetConsent = map[string]string{"validity": "6"} }, "set_consent: there is no field"},
		{"accept", func(f *Frontend) { f.Accept = []string{"connectionKey", "externalInfo"} }, ""},
		{"accept wrong", func(f *Frontend) { f.Accept = []string{"externalinfo"} }, "did you mean externalInfo?"},
		{"external_info", func(f *Frontend) { f.ExternalInfo = map[string]string{"tenant": "{x}"} }, ""},
		{"external_info taken", func(f *Frontend) { f.ExternalInfo = map[string]string{"user": "{x}"} }, "taken"},
		{"external_info with an open brace", func(f *Frontend) { f.ExternalInfo = map[string]string{"tenant": "{x"} }, `external_info: "tenant": it has a {`},
		{"external_info blank", func(f *Frontend) { f.ExternalInfo = map[string]string{"tenant": " "} }, "the value is blank"},
		{"external_info empty", func(f *Frontend) { f.ExternalInfo = map[string]string{"tenant": ""} }, "no value"},

		{"flow", func(f *Frontend) { f.Flow = "api-only" }, "whitelabel or api_only"},
		{"link_token", func(f *Frontend) { f.LinkToken = "plain" }, "sealed or raw"},
		{"nothing open", func(f *Frontend) { f.LinksOff, f.Flow = true, "whitelabel" }, "nothing would be open"},
		{"no links on a public site", func(f *Frontend) { f.LinksOff = true }, "names a user, and a public site knows none"},
		{"no links on a public site, raw", func(f *Frontend) { f.LinksOff, f.LinkToken = true, "raw" }, ""},
		{"no links, set", noLinks(func(f *Frontend) { f.Set = map[string]string{"phone": "{x}"} }), "set does nothing beside links_off"},
		{"no links, set_consent", noLinks(func(f *Frontend) { f.SetConsent = map[string]string{"phone": "{x}"} }), ""},
		{"no links, accept", noLinks(func(f *Frontend) { f.Accept = []string{"connectionKey"} }), "accept does nothing"},
		{"no links, external_info", noLinks(func(f *Frontend) { f.ExternalInfo = map[string]string{"a": "{x}"} }), "external_info does nothing"},
		{"no links, reports", noLinks(func(f *Frontend) { f.ReportsURL = map[string]string{"all": "https://h.example/"} }), "reports_url does nothing"},
		{"no links, app link", noLinks(func(f *Frontend) { f.AppLink = &AppLink{"https://app.example/open", "back"} }), "app_link does nothing"},

		{"no redirect", func(f *Frontend) { f.RedirectURLs = nil }, "redirect_urls is missing"},
		{"an environment's redirect", func(f *Frontend) { f.RedirectURLs = []string{"{env.KLAVI_TEST_REDIRECT}"} }, ""},
		{"an unset one", func(f *Frontend) { f.RedirectURLs = []string{"{env.KLAVI_TEST_NOTHING}"} }, "is empty"},
		{"redirect on loopback", func(f *Frontend) { f.RedirectURLs = []string{"http://localhost:8080/"} }, ""},
		{"redirect into an app", func(f *Frontend) { f.RedirectURLs = []string{"com.example.app:/connected"} }, ""},
		{"redirect over http", func(f *Frontend) { f.RedirectURLs = []string{"http://app.example/"} }, "must be https"},
		{"redirect to a path", func(f *Frontend) { f.RedirectURLs = []string{"/connected"} }, "not a whole URL"},
		{"redirect to a script", func(f *Frontend) { f.RedirectURLs = []string{"javascript:alert(1)"} }, "has the scheme javascript"},
		{"redirect with a user", func(f *Frontend) { f.RedirectURLs = []string{"https://a@app.example/"} }, "no user"},
		{"redirect with an open brace", func(f *Frontend) { f.RedirectURLs = []string{"https://app.example/{env.X"} }, "redirect_urls: it has a {"},
		{"redirect with a space", func(f *Frontend) { f.RedirectURLs = []string{"https://app.example/a b"} }, "escape"},

		{"reports", func(f *Frontend) { f.ReportsURL = map[string]string{"all": "https://h.example/"} }, ""},
		{"an environment's reports", func(f *Frontend) { f.ReportsURL = map[string]string{"all": "{env.KLAVI_TEST_REDIRECT}"} }, ""},
		{"reports mixed", func(f *Frontend) {
			f.ReportsURL = map[string]string{"all": "https://h.example/", "other": "https://h.example/"}
		}, "stands alone"},
		{"reports over http", func(f *Frontend) { f.ReportsURL = map[string]string{"all": "http://h.example/"} }, "must start with https://"},

		{"app link", func(f *Frontend) { f.AppLink = &AppLink{"https://app.example/open", "back"} }, ""},
		{"half an app link", func(f *Frontend) { f.AppLink = &AppLink{URL: "https://app.example/open"} }, "both url and parameter"},
		{"app link parameter", func(f *Frontend) { f.AppLink = &AppLink{"https://app.example/open", "a&b"} }, "parameter"},

		{"origins", func(f *Frontend) { f.AllowOrigins = []string{"https://a.example", "http://localhost:3000"} }, ""},
		{"origins of apps", func(f *Frontend) {
			f.AllowOrigins = []string{"capacitor://localhost", "ionic://localhost", "tauri://localhost", "chrome-extension://abcdefgh"}
		}, ""},
		{"an app's origin with a path", func(f *Frontend) { f.AllowOrigins = []string{"capacitor://localhost/"} }, `that is "capacitor://localhost"`},
		{"an app's scheme alone", func(f *Frontend) { f.AllowOrigins = []string{"capacitor://"} }, "not an origin"},
		{"a misspelt scheme", func(f *Frontend) { f.AllowOrigins = []string{"htps://a.example"} }, "did you mean https?"},
		{"a file's origin", func(f *Frontend) { f.AllowOrigins = []string{"file://localhost"} }, "null, which cannot be listed"},
		{"all origins", func(f *Frontend) { f.AllowOrigins = []string{"*"} }, "has a *"},
		{"many origins", func(f *Frontend) { f.AllowOrigins = []string{"https://*.example"} }, "has a *"},
		{"origin with a path", func(f *Frontend) { f.AllowOrigins = []string{"https://a.example/"} }, `that is "https://a.example"`},
		{"origin with a port", func(f *Frontend) { f.AllowOrigins = []string{"https://a.example:443"} }, `that is "https://a.example"`},
		{"origin in upper case", func(f *Frontend) { f.AllowOrigins = []string{"https://A.example"} }, `that is "https://a.example"`},
		{"origin with a password", func(f *Frontend) { f.AllowOrigins = []string{"https://a:b@a.example"} }, `"https://a:xxxxx@a.example" has a user`},
		{"no origin", func(f *Frontend) { f.AllowOrigins = []string{"a.example"} }, "not an origin"},
		{"null", func(f *Frontend) { f.AllowOrigins = []string{"null"} }, "not an origin"},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := publicSite()
			test.change(&f)
			s, err := load(t, k, f)
			if test.want == "" {
				if err != nil {
					t.Fatalf("got %v, want no error", err)
				}
				if s.account.Name() != "default" {
					t.Errorf("got account %q, want default", s.account.Name())
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got error %v, want %q in it", err, test.want)
			}
		})
	}
}

// noLinks changes a site whose backend creates the links.
func noLinks(change func(*Frontend)) func(*Frontend) {
	return func(f *Frontend) {
		f.LinksOff, f.Public, f.User = true, false, "{http.request.header.X-User}"
		change(f)
	}
}

// What is warned about at the start says which account it is about.
func TestLogHasAccount(t *testing.T) {
	logs := filepath.Join(t.TempDir(), "log")
	config := &caddy.Config{
		Logging: &caddy.Logging{Logs: map[string]*caddy.CustomLog{"default": {BaseLog: caddy.BaseLog{
			WriterRaw: json.RawMessage(`{"output":"file","filename":` + strconv.Quote(logs) + `}`),
		}}}},
		AppsRaw: caddy.ModuleMap{"klavi": klaviConfig(newFakeKlavi(t))},
	}
	ctx, err := caddy.ProvisionContext(config)
	if err != nil {
		t.Fatal(err)
	}
	_, err = ctx.LoadModuleByID("http.handlers.klavi_frontend", []byte(`{"prefix":"/klavi","public":true,"redirect_urls":["com.example.app:/x"],`+
		`"reports_url":{"pf_saving_acount":"https://h.example/"}}`))
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(logs)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"redirect_urls has a private scheme", "reports_url has a report type that is not known"} {
		found := false
		for line := range strings.Lines(string(text)) {
			found = found || strings.Contains(line, want) && strings.Contains(line, `"account":"default"`)
		}
		if !found {
			t.Errorf("got %s, want a line with %q and the account", text, want)
		}
	}
}

func TestPrefixes(t *testing.T) {
	for _, prefix := range []string{"/a/klavi", "/a/klavi/", "/a/klavi/*"} {
		f := publicSite()
		f.Prefix = prefix
		s := newSite(t, f)
		if w := s.post("/a/klavi/links", `{}`); w.Code != 200 {
			t.Errorf("%s: got status %d: %s", prefix, w.Code, w.Body)
		}
	}
}
