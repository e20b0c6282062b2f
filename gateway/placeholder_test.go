package gateway

import (
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
)

var placeholderTexts = []struct {
	text  string
	has   bool
	error string // part of it, empty where there is none
}{
	{"", false, ""},
	{"ana", false, ""},
	{"{x}", true, ""},
	{"{http.request.header.X-User}", true, ""},
	{"a-{x}-b{y}", true, ""},
	{`{file.C:\keys\klavi}`, true, ""},
	{`\{x\}`, false, ""},
	{`\{{x}\}`, true, ""},
	{`C:\keys`, false, ""},

	{"{http.request.header.X-User", false, "no } closes"},
	{"{", false, "no } closes"},
	{`{x\}y`, false, "something else between"},
	{"{x}{y", true, "no } closes"},
	{"x}", false, "without a {"},
	{"{x}}", true, "without a {"},
	{`\{x}`, false, "without a {"},
	{`{x\}`, true, "something else between"},
	{`{x\}y}`, true, "something else between"},
	{"{{x}}", true, "something else between"},
	{"{a {b} c}", true, "something else between"},
	{"{}", true, "something else between"},
	{"{ }", true, "something else between"},
}

func TestPlaceholders(t *testing.T) {
	for _, test := range placeholderTexts {
		if got := HasPlaceholder(test.text); got != test.has {
			t.Errorf("%s: got %t, want %t for whether it has a placeholder", test.text, got, test.has)
		}
		err := CheckPlaceholders(test.text)
		if got := err != nil; got != (test.error != "") || got && !strings.Contains(err.Error(), test.error) {
			t.Errorf("%s: got the error %v, want one with %q", test.text, err, test.error)
		}
	}
}

// What is found right is replaced by Caddy brace by brace: nothing of it is
// left over but what was escaped.
func FuzzCheckPlaceholders(f *testing.F) {
	for _, test := range placeholderTexts {
		f.Add(test.text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if CheckPlaceholders(text) != nil {
			return
		}
		escaped := strings.Count(text, `\{`) + strings.Count(text, `\}`)
		got := caddy.NewEmptyReplacer().ReplaceAll(text, "")
		if left := strings.Count(got, "{") + strings.Count(got, "}"); left > escaped {
			t.Errorf("%q becomes %q: got %d braces, want at most the %d escaped", text, got, left, escaped)
		}
		if plain := strings.NewReplacer(`\{`, "", `\}`, "").Replace(text); HasPlaceholder(text) != strings.Contains(plain, "{") {
			t.Errorf("%q: got %t for whether it has a placeholder", text, HasPlaceholder(text))
		}
	})
}
