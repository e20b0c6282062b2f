package caddyfile_test

import (
	"encoding/json"
	"regexp"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
)

// credentials sets the variables that the fixtures take their keys from.
func credentials(t *testing.T) {
	t.Helper()
	for _, name := range []string{
		"KLAVI_ACCESS_KEY", "KLAVI_SECRET_KEY", "KLAVI_ACCESS_KEY_2", "KLAVI_SECRET_KEY_2", "KLAVI_OLD_KEY", "KLAVI_NEW_KEY",
	} {
		t.Setenv(name, "value-of-"+strings.ToLower(name))
	}
	t.Setenv("KLAVI_SEAL_KEY", strings.Repeat("5e", 32))
}

// validate does as `caddy validate`: it provisions everything and opens nothing.
func validate(t *testing.T, caddyfile string) error {
	t.Helper()
	result, _, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(caddyfile), nil)
	if err != nil {
		t.Fatalf("adapting: %v", err)
	}
	return validateJSON(t, result)
}

func validateJSON(t *testing.T, result []byte) error {
	t.Helper()
	config := &caddy.Config{Admin: &caddy.AdminConfig{Disabled: true}}
	if err := json.Unmarshal(result, config); err != nil {
		t.Fatal(err)
	}
	return caddy.Validate(config)
}

func TestFixturesLoad(t *testing.T) {
	credentials(t)
	for _, f := range fixtures(t) {
		if f.bad() {
			continue
		}
		t.Run(f.name, func(t *testing.T) {
			// The one secret of a fixture that is a file.
			if err := validate(t, strings.ReplaceAll(f.caddyfile, "{file./run/secrets/klavi}", "{env.KLAVI_SECRET_KEY}")); err != nil {
				t.Errorf("got the error %v, want a config that loads", err)
			}
		})
	}
}

func TestLoadErrors(t *testing.T) {
	credentials(t)
	t.Setenv("EMPTY", "")
	const account = `{
	klavi {
		environment sandbox
		access_key {env.KLAVI_ACCESS_KEY}
		secret_key {env.KLAVI_SECRET_KEY}
	}
}
`
	tests := []struct{ name, caddyfile, want string }{
		{
			"frontend without an account",
			"http://:8080 {\n\tklavi_frontend /klavi {\n\t\tpublic\n\t\tredirect_urls https://a.example.com/\n\t}\n}",
			"no account at Klavi is configured: add a klavi block",
		},
		{
			"proxy without an account",
			"http://:8080 {\n\tklavi_proxy\n}",
			"no account at Klavi is configured: add a klavi block",
		},
		{
			"reports without an account",
			"http://:8080 {\n\tklavi_reports /r {\n\t\tall https://a.internal/\n\t}\n}",
			"no account at Klavi is configured: add a klavi block",
		},
		{
			"frontend with an unknown account",
			account + "http://:8080 {\n\tklavi_frontend /klavi {\n\t\taccount partner\n\t\tpublic\n\t\tredirect_urls https://a.example.com/\n\t}\n}",
			`account "partner" is not configured; there is default`,
		},
		{
			"proxy with an unknown account",
			account + "http://:8080 {\n\tklavi_proxy {\n\t\taccount partner\n\t}\n}",
			`account "partner" is not configured; there is default`,
		},
		{
			"reports with an unknown account",
			account + "http://:8080 {\n\tklavi_reports /r {\n\t\taccount partner\n\t\tall https://a.internal/\n\t}\n}",
			`account "partner" is not configured; there is default`,
		},
		{
			"two tables of routes",
			account + "http://:8080 {\n\tklavi_reports /r {\n\t\tall https://a.internal/\n\t}\n}\nhttp://:8081 {\n\tklavi_reports /r {\n\t\tall https://b.internal/\n\t}\n}",
			`account "default" has two different tables of report routes`,
		},
		{
			"an empty key",
			strings.Replace(account, "KLAVI_SECRET_KEY", "EMPTY", 1) + "http://:8080 {\n\tklavi_proxy\n}",
			`account "default": secret_key: evaluated placeholder {env.EMPTY} is empty`,
		},
		{
			"an environment that is none",
			strings.Replace(account, "environment sandbox", "environment {env.KLAVI_ACCESS_KEY}", 1) + "http://:8080 {\n\tklavi_proxy\n}",
			"is unknown: it is one of sandbox, testing, production",
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			err := validate(t, test.caddyfile)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Fatalf("got the error %v, want one with %q", err, test.want)
			}
			if strings.Contains(err.Error(), "value-of-klavi_secret_key") {
				t.Errorf("got an error that shows a key: %v", err)
			}
		})
	}
}

// A key that {$NAME} puts in is part of the Caddyfile when it is read, and must
// not become part of an error about it.
func TestErrorsDoNotShowKeys(t *testing.T) {
	t.Setenv("KEY", "s3cret with a space")
	for _, option := range []string{"access_key", "secret_key", "seal_key"} {
		caddyfile := "{\n\tklavi {\n\t\t" + option + " {$KEY}\n\t}\n}\n"
		_, _, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(caddyfile), nil)
		if err == nil || !strings.Contains(err.Error(), "wrong arguments for "+option) {
			t.Errorf("%s: got the error %v, want one about its arguments", option, err)
		} else if strings.Contains(err.Error(), "space") || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%s: got an error that shows the key: %v", option, err)
		}
	}
}

// The URL of a short form is literal, but not before the Caddyfile is read.
func TestTargetFromEnvironment(t *testing.T) {
	t.Setenv("REPORTS_URL", "https://reports.internal:8443/klavi?v=2")
	result, _, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte("http://:8080 {\n\tklavi_reports /r {\n\t\tall {$REPORTS_URL}\n\t}\n}"), nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"uri":"/klavi?v=2"`, `"dial":"reports.internal:8443"`, `"name":"reports.internal:8443"`} {
		if !strings.Contains(string(result), want) {
			t.Errorf("got %s, want %s in it", result, want)
		}
	}
}

// The names of fields stand in two places, so that errors about them have a line.
func TestFieldsAreThoseOfTheHandler(t *testing.T) {
	credentials(t)
	const head = "{\n\tklavi {\n\t\tenvironment sandbox\n\t\taccess_key {env.KLAVI_ACCESS_KEY}\n\t\tsecret_key {env.KLAVI_SECRET_KEY}\n\t}\n}\n"
	list := regexp.MustCompile(`(?:it has|possible are) ([A-Za-z, ]+)`)
	fields := func(err error) string {
		if err == nil {
			t.Fatal("got no error, want one that lists the fields")
		}
		match := list.FindStringSubmatch(err.Error())
		if match == nil {
			t.Fatalf("got the error %v, want one that lists the fields", err)
		}
		return strings.TrimSuffix(match[1], ", at Caddyfile")
	}
	for option, json := range map[string]string{
		"set no-such-field x":         `"set":{"no-such-field":"x"}`,
		"set_consent no-such-field x": `"set_consent":{"no-such-field":"x"}`,
		"accept no-such-field":        `"accept":["no-such-field"]`,
	} {
		_, _, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(head+"http://:8080 {\n\tklavi_frontend /klavi {\n\t\t"+option+"\n\t}\n}"), nil)
		got := fields(err)

		result, _, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(head+"http://:8080 {\n\tklavi_frontend /klavi {\n\t\tpublic\n\t\tredirect_urls https://a.example.com/\n\t}\n}"), nil)
		if err != nil {
			t.Fatal(err)
		}
		want := fields(validateJSON(t, []byte(strings.Replace(string(result), `"prefix":"/klavi"`, `"prefix":"/klavi",`+json, 1))))
		if got != want {
			t.Errorf("%s: got the fields %s, want those of the handler: %s", option, got, want)
		}
	}
}
