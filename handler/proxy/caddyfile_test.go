package proxy

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
)

func TestUnmarshalCaddyfile(t *testing.T) {
	for _, tt := range []struct{ name, text, want string }{
		{"nothing", `klavi`, `{}`},
		{"empty block", "klavi {\n}", `{}`},
		{
			"everything", `klavi {
				account          second
				prefix           /klavi-api
				allow            GET /links/{id}
				allow            DELETE /consents/{id}
				reports_url      https://hooks.example.com/klavi
				external_info    service {http.request.header.X-Service}
				external_info    gateway here
				any_callback_url
				link_token       sealed
			}`,
			`{"account":"second","prefix":"/klavi-api","allow":[{"method":"GET","path":"/links/{id}"},{"method":"DELETE","path":"/consents/{id}"}],` +
				`"reports_url":{"all":"https://hooks.example.com/klavi"},` +
				`"external_info":{"gateway":"here","service":"{http.request.header.X-Service}"},"any_callback_url":true,"link_token":"sealed"}`,
		},
		{
			"block", `klavi {
				reports_url {
					specific pf_loans pf_balance https://hooks.example.com/1
					other    {env.HOOKS_URL}/2
				}
				link_token raw
			}`,
			`{"reports_url":{"other":"{env.HOOKS_URL}/2","pf_balance":"https://hooks.example.com/1","pf_loans":"https://hooks.example.com/1"},"link_token":"raw"}`,
		},
	} {
		tr := new(Transport)
		if err := tr.UnmarshalCaddyfile(caddyfile.NewTestDispenser(tt.text)); err != nil {
			t.Errorf("%s: %v", tt.name, err)
			continue
		}
		if got, err := json.Marshal(tr); err != nil || string(got) != tt.want {
			t.Errorf("%s: got %s, %v, want %s", tt.name, got, err, tt.want)
		}
	}
}

func TestUnmarshalCaddyfileErrors(t *testing.T) {
	for _, tt := range []struct{ lines, want string }{
		{"acount x", "did you mean 'account'?"},
		{"frobnicate", "unrecognized subdirective 'frobnicate'"},
		{"account", "account takes a name"},
		{"account a b", "account takes a name"},
		{"account a\naccount b", "account is there already"},
		{"prefix", "prefix takes a path"},
		{"prefix klavi", "must begin with a slash"},
		{"prefix /klavi/", "not end in one"},
		{"prefix /a/../b", "single slashes only"},
		{"prefix /a\nprefix /b", "prefix is there already"},
		{"allow GET", "allow takes a method and a path"},
		{"allow GET /x /y", "allow takes a method and a path"},
		{"allow get /x", "upper case"},
		{"allow GET /refresh", "cannot be opened"},
		{"allow GET /x\nallow GET /x", "is there already"},
		{"external_info x", "external_info takes a name and a value"},
		{"external_info x y\nexternal_info x z", "has a value for 'x' already"},
		{"any_callback_url yes", "takes no argument"},
		{"any_callback_url\nlink_token raw\nany_callback_url", "is there already"},
		{"link_token", "link_token takes raw or sealed"},
		{"link_token cooked", "it is raw or sealed"},
		{"link_token raw\nlink_token raw", "is there already"},
		{"reports_url http://example.com", "must start with https://"},
		{"reports_url https://a.example\nreports_url https://b.example", "reports_url is there already"},
	} {
		err := new(Transport).UnmarshalCaddyfile(caddyfile.NewTestDispenser("klavi {\n" + tt.lines + "\n}"))
		if err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), "Testfile:") {
			t.Errorf("%q: got %v, want an error with its line that says %q", tt.lines, err, tt.want)
		}
	}
	if err := new(Transport).UnmarshalCaddyfile(caddyfile.NewTestDispenser("klavi https://api.klavi.ai")); err == nil {
		t.Error("got no error for an argument")
	}
}

func TestUnmarshalOptionLeavesOthersAlone(t *testing.T) {
	d := caddyfile.NewTestDispenser("header_up X-A b")
	d.Next()
	known, err := new(Transport).UnmarshalOption(d)
	if known || err != nil || d.Val() != "header_up" {
		t.Errorf("got %v, %v and token %q, want an option that is not known and not read", known, err, d.Val())
	}
}

func TestProvisionErrors(t *testing.T) {
	for _, tt := range []struct {
		config Transport
		want   string
	}{
		{Transport{Account: "second"}, `account "second" is not configured; there is default`},
		{Transport{Prefix: "x/"}, "prefix: "},
		{Transport{Allow: []Endpoint{{"GET", "/refresh"}}}, "allow: GET /refresh cannot be opened"},
		{Transport{ReportsURL: map[string]string{"all": "https://a.example", "other": "https://b.example"}}, `reports_url: "all" stands alone`},
		{Transport{ReportsURL: map[string]string{"all": "{env.KLAVI_TEST_UNSET}"}}, "reports_url: "},
		{Transport{ExternalInfo: map[string]string{"x": ""}}, "external_info: "},
		{Transport{LinkToken: "cooked"}, `link_token is "cooked"`},
	} {
		if _, _, err := tryProvision(t, "http://127.0.0.1:1", tt.config); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%+v: got %v, want an error that says %q", tt.config, err, tt.want)
		}
	}
}
