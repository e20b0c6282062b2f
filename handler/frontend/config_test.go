package frontend

import (
	"strings"
	"testing"
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
		{"a placeholder", func(f *Frontend) { f.Prefix = "/{env.X}" }, "plain path"},
		{"an escape", func(f *Frontend) { f.Prefix = "/kl%61vi" }, "plain path"},
		{"a query", func(f *Frontend) { f.Prefix = "/klavi?x" }, "plain path"},
		{"two slashes", func(f *Frontend) { f.Prefix = "/a//b" }, "plain path"},
		{"dots", func(f *Frontend) { f.Prefix = "/a/../b" }, `cannot have ".."`},

		{"neither user nor public", func(f *Frontend) { f.Public = false }, "exactly one of user and public"},
		{"both", func(f *Frontend) { f.User = "{http.request.header.X-User}" }, "exactly one of user and public"},
		{"a user for all", func(f *Frontend) { f.Public, f.User = false, "ana" }, "no placeholder"},
		{"another account", func(f *Frontend) { f.Account = "mx" }, `account "mx" is not configured; there is default`},

		{"set", func(f *Frontend) { f.Set = map[string]string{"personalTaxId": "{x}", "institutionCode": "341"} }, ""},
		{"set misspelt", func(f *Frontend) { f.Set = map[string]string{"personalTaxID": "{x}"} }, `did you mean "personalTaxId"?`},
		{"set too much", func(f *Frontend) { f.Set = map[string]string{"redirectURL": "{x}"} }, "possible are personalTaxId"},
		{"set wrong", func(f *Frontend) { f.Set = map[string]string{"personalTaxId": "1"} }, "must be a CPF"},
		{"set nothing", func(f *Frontend) { f.Set = map[string]string{"phone": ""} }, "phone has no value"},
		{"set_consent", func(f *Frontend) { f.SetConsent = map[string]string{"validityPeriod": "0"} }, ""},
		{"set_consent wrong", func(f *Frontend) { f.SetConsent = map[string]string{"validityPeriod": "6"} }, "must be the number 12"},
		{"set_consent misspelt", func(f *Frontend) { f.SetConsent = map[string]string{"validity": "6"} }, "set_consent: field"},
		{"accept", func(f *Frontend) { f.Accept = []string{"connectionKey", "externalInfo"} }, ""},
		{"accept wrong", func(f *Frontend) { f.Accept = []string{"externalinfo"} }, `did you mean "externalInfo"?`},
		{"external_info", func(f *Frontend) { f.ExternalInfo = map[string]string{"tenant": "{x}"} }, ""},
		{"external_info taken", func(f *Frontend) { f.ExternalInfo = map[string]string{"user": "{x}"} }, "taken"},
		{"external_info empty", func(f *Frontend) { f.ExternalInfo = map[string]string{"tenant": ""} }, "no value"},

		{"flow", func(f *Frontend) { f.Flow = "api-only" }, "whitelabel or api_only"},
		{"link_token", func(f *Frontend) { f.LinkToken = "plain" }, "sealed or raw"},
		{"nothing open", func(f *Frontend) { f.LinksOff, f.Flow = true, "whitelabel" }, "nothing would be open"},

		{"no redirect", func(f *Frontend) { f.RedirectURLs = nil }, "redirect_urls is missing"},
		{"an environment's redirect", func(f *Frontend) { f.RedirectURLs = []string{"{env.KLAVI_TEST_REDIRECT}"} }, ""},
		{"an unset one", func(f *Frontend) { f.RedirectURLs = []string{"{env.KLAVI_TEST_NOTHING}"} }, "is empty"},
		{"redirect on loopback", func(f *Frontend) { f.RedirectURLs = []string{"http://localhost:8080/"} }, ""},
		{"redirect into an app", func(f *Frontend) { f.RedirectURLs = []string{"com.example.app:/connected"} }, ""},
		{"redirect over http", func(f *Frontend) { f.RedirectURLs = []string{"http://app.example/"} }, "must be https"},
		{"redirect to a path", func(f *Frontend) { f.RedirectURLs = []string{"/connected"} }, "not a whole URL"},
		{"redirect to a script", func(f *Frontend) { f.RedirectURLs = []string{"javascript:alert(1)"} }, "has the scheme javascript"},
		{"redirect with a user", func(f *Frontend) { f.RedirectURLs = []string{"https://a@app.example/"} }, "no user"},
		{"redirect with a space", func(f *Frontend) { f.RedirectURLs = []string{"https://app.example/a b"} }, "escape"},

		{"reports", func(f *Frontend) { f.ReportsURL = map[string]string{"all": "https://h.example/"} }, ""},
		{"reports mixed", func(f *Frontend) {
			f.ReportsURL = map[string]string{"all": "https://h.example/", "other": "https://h.example/"}
		}, "cannot be combined"},
		{"reports over http", func(f *Frontend) { f.ReportsURL = map[string]string{"all": "http://h.example/"} }, "must start with https://"},

		{"app link", func(f *Frontend) { f.AppLink = &AppLink{"https://app.example/open", "back"} }, ""},
		{"half an app link", func(f *Frontend) { f.AppLink = &AppLink{URL: "https://app.example/open"} }, "both url and parameter"},
		{"app link parameter", func(f *Frontend) { f.AppLink = &AppLink{"https://app.example/open", "a&b"} }, "parameter"},

		{"origins", func(f *Frontend) { f.AllowOrigins = []string{"https://a.example", "http://localhost:3000"} }, ""},
		{"all origins", func(f *Frontend) { f.AllowOrigins = []string{"*"} }, "has a *"},
		{"many origins", func(f *Frontend) { f.AllowOrigins = []string{"https://*.example"} }, "has a *"},
		{"origin with a path", func(f *Frontend) { f.AllowOrigins = []string{"https://a.example/"} }, `that is "https://a.example"`},
		{"origin with a port", func(f *Frontend) { f.AllowOrigins = []string{"https://a.example:443"} }, `that is "https://a.example"`},
		{"origin in upper case", func(f *Frontend) { f.AllowOrigins = []string{"https://A.example"} }, `that is "https://a.example"`},
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
