package sandbox

import (
	"context"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
)

func TestCaddyfile(t *testing.T) {
	for _, tc := range []struct {
		name, text string
		want       Handler
	}{
		{"bare", "klavi_sandbox", Handler{}},
		{"empty block", "klavi_sandbox {\n}", Handler{}},
		{
			"everything", `klavi_sandbox {
				access_key {env.A}
				secret_key s
				events_url http://127.0.0.1:8081/e
				reports_url https://hooks.example/r
				delivery manual
				products pf_loans pj_loans
				report_size 20MB
				seed 7
				fixtures /tmp/reports
			}`,
			Handler{
				AccessKey: "{env.A}", SecretKey: "s", EventsURL: "http://127.0.0.1:8081/e", ReportsURL: "https://hooks.example/r",
				Delivery: "manual", Products: []string{"pf_loans", "pj_loans"}, ReportSize: 20_000_000, Seed: 7, Fixtures: "/tmp/reports",
			},
		},
	} {
		var h Handler
		if err := h.UnmarshalCaddyfile(caddyfile.NewTestDispenser(tc.text)); err != nil {
			t.Errorf("%s: %v", tc.name, err)
		}
		if !reflect.DeepEqual(h, tc.want) {
			t.Errorf("%s: got %+v, want %+v", tc.name, h, tc.want)
		}
	}
}

func TestCaddyfileErrors(t *testing.T) {
	for text, want := range map[string]string{
		"klavi_sandbox key":                                      "stand in a block",
		"klavi_sandbox {\n acces_key a\n}":                       "unrecognized option \"acces_key\": want access_key",
		"klavi_sandbox {\n access_key\n}":                        "access_key: want one argument",
		"klavi_sandbox {\n access_key a b\n}":                    "access_key: want one argument",
		"klavi_sandbox {\n access_key \"\"\n}":                   "access_key: must not be empty",
		"klavi_sandbox {\n access_key a\n access_key b\n}":       "access_key is given twice",
		"klavi_sandbox {\n events_url /e\n}":                     "events_url: \"/e\": want an absolute",
		"klavi_sandbox {\n reports_url ftp://x\n}":               "reports_url:",
		"klavi_sandbox {\n delivery auto\n}":                     "want automatic or manual",
		"klavi_sandbox {\n products\n}":                          "products: want at least one",
		"klavi_sandbox {\n products loans\n}":                    "\"loans\" is not a report type",
		"klavi_sandbox {\n products pf_loans pf_x pf_loans\n}":   "listed twice",
		"klavi_sandbox {\n report_size big\n}":                   "report_size: \"big\"",
		"klavi_sandbox {\n report_size 65MiB\n}":                 "up to 64MiB",
		"klavi_sandbox {\n report_size 0\n}":                     "report_size",
		"klavi_sandbox {\n seed -1\n}":                           "seed: \"-1\"",
		"klavi_sandbox {\n fixtures\n}":                          "fixtures: want one argument",
		"klavi_sandbox {\n products pf_loans\n products pf_x\n}": "products is given twice",
	} {
		var h Handler
		err := h.UnmarshalCaddyfile(caddyfile.NewTestDispenser(text))
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "Testfile:") {
			t.Errorf("%q: got %v, want %s with file and line", text, err, want)
		}
	}
}

func provision(t *testing.T, h *Handler) error {
	t.Helper()
	ctx, cancel := caddy.NewContext(caddy.Context{Context: context.Background()})
	t.Cleanup(cancel)
	return h.Provision(ctx)
}

func TestProvisionErrors(t *testing.T) {
	for name, tc := range map[string]struct {
		h    Handler
		want string
	}{
		"placeholder": {Handler{SecretKey: "{env.KLAVI_SANDBOX_NOT_SET}"}, "secret_key"},
		"unknown":     {Handler{AccessKey: "{no.such.thing}"}, "access_key"},
		"delivery":    {Handler{Delivery: "x"}, "delivery"},
		"size":        {Handler{ReportSize: -1}, "report_size"},
		"url":         {Handler{EventsURL: "x"}, "events_url"},
		"products":    {Handler{Products: []string{"x"}}, "products"},
		"twice":       {Handler{Products: []string{"pf_x", "pf_x"}}, "products"},
		"fixtures":    {Handler{Fixtures: filepath.Join(t.TempDir(), "missing")}, "fixtures"},
	} {
		err := provision(t, &tc.h)
		if err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: got %v, want %s in it", name, err, tc.want)
		}
		if err := tc.h.Cleanup(); err != nil {
			t.Errorf("%s: cleanup: %v", name, err)
		}
	}
	pool.Range(func(key, _ any) bool { t.Errorf("got %v left in the pool", key); return true })
}

func TestStateSurvivesReload(t *testing.T) {
	key := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(key, []byte("from-a-file"), 0o600); err != nil {
		t.Fatal(err)
	}
	first := &Handler{AccessKey: "{file." + key + "}", ReportsURL: "http://old.test/"}
	if err := provision(t, first); err != nil {
		t.Fatal(err)
	}
	tt := &tester{t, first.sandbox.Sandbox}
	access := tt.call("POST", "/data/v1/auth", "", `{"accessKey":"from-a-file","secretKey":"sandbox-secret-key"}`, 200)["accessToken"].(string)
	id, _ := tt.link(access, "{}")

	second := &Handler{AccessKey: "from-a-file", ReportsURL: "http://new.test/"}
	if err := provision(t, second); err != nil {
		t.Fatal(err)
	}
	if got := tt.s.opts.ReportsURL; got != "http://new.test/" {
		t.Errorf("got %s, want the newest options", got)
	}
	failed := &Handler{AccessKey: "from-a-file", ReportsURL: "http://failed.test/"}
	if err := provision(t, failed); err != nil {
		t.Fatal(err)
	}
	if err := failed.Cleanup(); err != nil {
		t.Fatal(err)
	}
	if got := tt.s.opts.ReportsURL; got != "http://new.test/" {
		t.Errorf("after a config that failed to load: got %s, want that of the running one", got)
	}
	if err := first.Cleanup(); err != nil {
		t.Fatal(err)
	}
	w := httptest.NewRecorder()
	r := httptest.NewRequest("GET", "/data/v1/links/"+id, nil)
	r.Header.Set("Authorization", "Bearer "+access)
	if err := second.ServeHTTP(w, r, nil); err != nil || w.Code != 200 {
		t.Errorf("got %d (%v), want the link after the reload", w.Code, err)
	}
	if refs, ok := pool.References(second.key); !ok || refs != 1 {
		t.Errorf("got %d references, want 1", refs)
	}
	if err := second.Cleanup(); err != nil {
		t.Fatal(err)
	}
	if _, ok := pool.References(second.key); ok {
		t.Error("got the sandbox still in the pool")
	}
}

func TestDirectiveComesBeforeRespond(t *testing.T) {
	adapter := caddyfile.Adapter{ServerType: httpcaddyfile.ServerType{}}
	config, _, err := adapter.Adapt([]byte("http://a.test {\n\trespond hello\n\tklavi_sandbox /data/* {\n\t\tseed 7\n\t}\n}\n"), nil)
	if err != nil {
		t.Fatal(err)
	}
	text := string(config)
	ours, respond := strings.Index(text, `{"handler":"klavi_sandbox","seed":7}`), strings.Index(text, `"static_response"`)
	if ours < 0 || respond < ours {
		t.Errorf("got %s, want klavi_sandbox before respond", text)
	}
}
