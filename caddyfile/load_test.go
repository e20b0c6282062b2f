package caddyfile_test

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
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
	t.Setenv("KLAVI_INBOX_KEY", strings.Repeat("1b", 32))
	t.Setenv("KLAVI_DB_PASSWORD", "value-of-klavi_db_password")
	t.Setenv("KLAVI_DATABASE_URL", "postgres://klavi:value-of-klavi_db_password@db.internal/klavi")
	t.Setenv("STATE_DIRECTORY", t.TempDir())
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

// The Caddyfiles of README.md and of the pages load, but for those that need a plugin.
func TestDocumentedCaddyfilesLoad(t *testing.T) {
	credentials(t)
	key := strings.Repeat("5e", 32)
	for _, name := range []string{"KLAVI_INBOX_KEY", "KLAVI_OLD_SECRET_KEY", "PARTNER_ACCESS_KEY", "PARTNER_SECRET_KEY", "LEDGER_PASSWORD_HASH"} {
		t.Setenv(name, key)
	}
	pages, err := filepath.Glob("../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	inFile, databaseInFile := regexp.MustCompile(`\{file\.(\{[^}]*\}|[^}])*\}`), regexp.MustCompile(`\{file\.[^}]*database_url\}`)
	loaded := 0
	for _, page := range append(pages, "../README.md") {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, block := range regexp.MustCompile("(?s)\n```caddyfile\n(.*?)```\n").FindAllStringSubmatch(string(text), -1) {
			config := databaseInFile.ReplaceAllString(block[1], "{env.KLAVI_DATABASE_URL}")
			config = inFile.ReplaceAllString(config, "{env.KLAVI_INBOX_KEY}")
			if strings.Contains(config, "rate_limit") || filepath.Base(page) == "sandbox.md" {
				continue
			}
			if !strings.HasPrefix(config, "{") {
				config = strings.Replace(account, "\tklavi {", "\tklavi partner {\n\t\tenvironment sandbox\n\t\taccess_key a\n\t\tsecret_key b\n\t}\n\tklavi {", 1) + config
			}
			if err := validate(t, config); err != nil {
				t.Errorf("%s has a Caddyfile that does not load: %v\n%s", page, err, block[1])
			}
			loaded++
		}
	}
	if loaded < 15 {
		t.Errorf("found %d Caddyfiles on the pages, want those of the reference", loaded)
	}
}

// account stands before the sites of tests.
const account = `{
	klavi {
		environment sandbox
		access_key {env.KLAVI_ACCESS_KEY}
		secret_key {env.KLAVI_SECRET_KEY}
	}
}
`

// withInbox is account with options of its inbox.
func withInbox(options string) string {
	return strings.Replace(account, "environment", "inbox {\n"+options+"\n}\nenvironment", 1)
}

func TestLoadErrors(t *testing.T) {
	credentials(t)
	t.Setenv("EMPTY", "")
	tests := []struct{ name, caddyfile, want string }{
		{
			"a transport without an account",
			"http://:8080 {\n\treverse_proxy klavi:443 {\n\t\ttransport klavi\n\t}\n}",
			"no account at Klavi is configured: add a klavi block",
		},
		{
			"a transport with an unknown account",
			account + "http://:8080 {\n\treverse_proxy klavi:443 {\n\t\ttransport klavi {\n\t\t\taccount partner\n\t\t}\n\t}\n}",
			`account "partner" is not configured; there is default`,
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
		{
			"an inbox too small for one route",
			withInbox("max_size 1MiB") + "http://:8080 {\n\tklavi_reports /r {\n\t\tall https://a.internal/\n\t}\n}",
			`inbox: max_size is 1048576 bytes, in which a report of max_body (67108864 bytes) never fits: make max_size larger, or max_body smaller`,
		},
		{
			"an inbox too small for each of two routes",
			withInbox("max_size 1MiB") + "http://:8080 {\n\tklavi_reports /r {\n\t\tall https://a.internal/\n\t\tevent * https://b.internal/\n\t}\n}",
			`inbox: max_size with max_share leaves 524288 bytes for the reports of one route`,
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

// What the Caddyfile refuses with a line is refused in JSON, too.
func TestInboxLoadErrorsOfJSON(t *testing.T) {
	credentials(t)
	for _, test := range []struct{ options, json, otherwise, want string }{
		{"erase_on consent_revoked", `"consent_revoked"`, `"pf_loans"`, `erase_on: "pf_loans" is a type of reports`},
		{"erase_on consent_revoked", `"consent_revoked"`, `"pj_new"`, `erase_on: "pj_new" is a type of reports`},
		{"retry_for 1h\nretry_max_interval 1h", `"retry_for":3600000000000`, `"retry_for":3599999999999`, "retry_max_interval is longer than retry_for"},
		{"retry_max_interval 72h", `259200000000000`, `259200000000001`, "retry_max_interval is longer than retry_for"},
	} {
		result, _, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(withInbox(test.options)), nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := validateJSON(t, result); err != nil {
			t.Errorf("%s: got the error %v, want none", test.options, err)
		}
		other := strings.Replace(string(result), test.json, test.otherwise, 1)
		if err := validateJSON(t, []byte(other)); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: got the error %v, want one with %q", other, err, test.want)
		}
	}
}

// Klavi adds events, so that one that is not known is no error, but may be misspelt.
func TestUnknownEventOfEraseOnIsAWarning(t *testing.T) {
	credentials(t)
	for name, want := range map[string]bool{"consent_deletd": true, "consent_deleted_by_user": false} {
		file := filepath.Join(t.TempDir(), "log")
		config := strings.Replace(withInbox("erase_on "+name), "klavi {", "log {\noutput file "+file+"\n}\nklavi {", 1)
		if err := validate(t, config); err != nil {
			t.Fatal(err)
		}
		log, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Contains(string(log), "erase_on has events that are not known") && strings.Contains(string(log), name); got != want {
			t.Errorf("%s: got the log %s, want a warning: %v", name, log, want)
		}
	}
}

// A key that {$NAME} puts in is part of the Caddyfile when it is read, and must
// not become part of an error about it.
func TestErrorsDoNotShowKeys(t *testing.T) {
	t.Setenv("KEY", "s3cret with a space")
	for _, option := range []string{"access_key", "secret_key", "seal_key", "encryption_key"} {
		line := option + " {$KEY}"
		if option == "encryption_key" {
			line = "inbox {\n\t\t\t" + line + "\n\t\t}"
		}
		caddyfile := "{\n\tklavi {\n\t\t" + line + "\n\t}\n}\n"
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
	result, _, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(account+"http://:8080 {\n\tklavi_reports /r {\n\t\tall {$REPORTS_URL}\n\t}\n}"), nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"uri":"/klavi?v=2"`, `"dial":"reports.internal:8443"`, `"name":"reports.internal:8443"`} {
		if !strings.Contains(string(result), want) {
			t.Errorf("got %s, want %s in it", result, want)
		}
	}
}

// What a seal_key can be is checked in two places, of which this one knows the
// line.
func TestSealKeysAreThoseOfTheAccount(t *testing.T) {
	credentials(t)
	raw, high := strings.Repeat("k", 32), []byte(strings.Repeat("\xff", 32))
	for key, want := range map[string]bool{
		raw:                                                  true,
		hex.EncodeToString([]byte(raw)):                      true,
		hex.EncodeToString([]byte(raw)) + "00":               false,
		hex.EncodeToString([]byte(raw)) + "zz":               false,
		base64.StdEncoding.EncodeToString(high):              true,
		base64.RawURLEncoding.EncodeToString(high):           true,
		base64.StdEncoding.EncodeToString([]byte(raw + "k")): false,
		raw[:31]: false,
		"abc":    false,
	} {
		site := strings.Replace(account, "environment", "seal_key "+key+"\n\t\tenvironment", 1) + "http://:8080 {\n\tklavi_proxy\n}"
		_, _, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(site), nil)
		if (err == nil) != want {
			t.Errorf("adapting with seal_key %q: got the error %v", key, err)
		}
		t.Setenv("TEST_SEAL_KEY", key)
		if err := validate(t, strings.Replace(site, key, "{env.TEST_SEAL_KEY}", 1)); (err == nil) != want {
			t.Errorf("loading with seal_key %q: got the error %v", key, err)
		}
	}
}
