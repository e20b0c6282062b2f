package gateway

import (
	"maps"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
)

func unmarshalReportsURL(text string) (map[string]string, error) {
	d := caddyfile.NewTestDispenser(text)
	d.Next()
	return UnmarshalReportsURL(d)
}

func TestUnmarshalReportsURL(t *testing.T) {
	for _, tt := range []struct {
		text string
		want map[string]string
	}{
		{"reports_url https://a.example/x", map[string]string{"all": "https://a.example/x"}},
		{"reports_url {env.HOOKS}/x", map[string]string{"all": "{env.HOOKS}/x"}},
		{"reports_url {\n all https://a.example/x\n}", map[string]string{"all": "https://a.example/x"}},
		{"reports_url {\n other https://a.example/x\n}", map[string]string{"other": "https://a.example/x"}},
		{
			"reports_url {\n specific pf_loans pj_loans https://a.example/1\n specific pf_new_type http://127.0.0.1:8081/2\n other https://a.example/3\n}",
			map[string]string{
				"pf_loans": "https://a.example/1", "pj_loans": "https://a.example/1", "pf_new_type": "http://127.0.0.1:8081/2", "other": "https://a.example/3",
			},
		},
	} {
		got, err := unmarshalReportsURL(tt.text)
		if err != nil || !maps.Equal(got, tt.want) {
			t.Errorf("%q: got %v, %v, want %v", tt.text, got, err, tt.want)
		}
	}
}

func TestUnmarshalReportsURLErrors(t *testing.T) {
	for _, tt := range []struct{ text, want string }{
		{"reports_url", "needs a URL"},
		{"reports_url {\n}", "needs a URL"},
		{"reports_url https://a.example https://b.example", "takes one URL"},
		{"reports_url https://a.example {\n other https://b.example\n}", "not both"},
		{"reports_url http://a.example/secret", "must start with https://"},
		{"reports_url /path", "must be a whole URL"},
		{"reports_url {\n all https://a.example\n other https://b.example\n}", "stands alone"},
		{"reports_url {\n specific pf_loans https://a.example\n all https://b.example\n}", "stands alone"},
		{"reports_url {\n all https://a.example\n all https://b.example\n}", "'all' has a URL already"},
		{"reports_url {\n all\n}", "all takes one URL"},
		{"reports_url {\n other https://a.example https://b.example\n}", "other takes one URL"},
		{"reports_url {\n specific pf_loans\n}", "specific takes report types and their URL"},
		{"reports_url {\n specific pf_loans https://a.example\n specific pf_balance pf_loans https://a.example\n}", "'pf_loans' has a URL already"},
		{"reports_url {\n specific pf_* https://a.example\n}", "Klavi knows no '*'"},
		{"reports_url {\n specific pf-loans https://a.example\n}", `did you mean "pf_loans"?`},
		{"reports_url {\n specific frobnicate https://a.example\n}", "report types start with"},
		{"reports_url {\n specific pf-loans {env.HOOKS}\n}", `did you mean "pf_loans"?`},
		{"reports_url {\n spezific pf_loans https://a.example\n}", "did you mean 'specific'?"},
		{"reports_url {\n pf_loans https://a.example\n}", "specific pf_loans <url>"},
		{"reports_url {\n frobnicate https://a.example\n}", "there are specific, other and all"},
	} {
		got, err := unmarshalReportsURL(tt.text)
		if err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), "Testfile:") {
			t.Errorf("%q: got %v, %v, want an error with its line that says %q", tt.text, got, err, tt.want)
		}
		if err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("%q: got %v, want no address in it", tt.text, err)
		}
	}
}

func TestParseReportsURL(t *testing.T) {
	t.Setenv("KLAVI_TEST_HOOKS", "https://a.example")
	for _, tt := range []struct {
		name string
		m    map[string]string
		want string // JSON, or what the error says
		ok   bool
	}{
		{"nothing", nil, "null", true},
		{"all", map[string]string{"all": "{env.KLAVI_TEST_HOOKS}/x"}, `{"all":"https://a.example/x"}`, true},
		{"types and other", map[string]string{"pf_loans": "https://a.example/1", "other": "https://a.example/2"}, `{"pf_loans":"https://a.example/1","other":"https://a.example/2"}`, true},
		{"all and other", map[string]string{"all": "https://a.example", "other": "https://a.example"}, "stands alone", false},
		{"empty other", map[string]string{"other": ""}, `the URL of "other" is missing`, false},
		{"unset variable", map[string]string{"all": "{env.KLAVI_TEST_UNSET}"}, "is empty", false},
		{"http", map[string]string{"pf_loans": "http://a.example"}, "must start with https://", false},
		{"no type", map[string]string{"loans": "https://a.example"}, "unknown name", false},
	} {
		got, err := ParseReportsURL(tt.m)
		if !tt.ok {
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%s: got %v, want an error that says %q", tt.name, err, tt.want)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
			continue
		}
		if text, err := got.MarshalJSON(); err != nil || string(text) != tt.want {
			t.Errorf("%s: got %s, %v, want %s", tt.name, text, err, tt.want)
		}
	}
}

func TestWarnUnknownReportTypes(t *testing.T) {
	core, logs := observer.New(zapcore.WarnLevel)
	WarnUnknownReportTypes(zap.New(core), map[string]string{"pf_loan": "x", "pf_balance": "x", "other": "x"})
	if logs.Len() != 1 {
		t.Fatalf("got %d lines, want 1", logs.Len())
	}
	got := logs.All()[0].ContextMap()
	if got["report_type"] != "pf_loan" || got["did_you_mean"] != "pf_loans" {
		t.Errorf("got %v, want pf_loan and what it was meant to be", got)
	}
}
