package gateway

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// What is wrong with an inbox is an error when the config is loaded, also where no
// report is kept in it.
func TestInboxConfig(t *testing.T) {
	const key = "0123456789abcdef0123456789abcdef"
	t.Setenv("TEST_INBOX_KEY", key)
	t.Setenv("TEST_SHORT_KEY", "secret-but-short")
	t.Setenv("TEST_DATABASE", "postgres://klavi:hunter2@db/klavi")
	t.Setenv("TEST_NO_DATABASE", "db:hunter2")
	for _, tt := range []struct{ name, inbox, want string }{
		{"empty", `{}`, ""},
		{"complete", `{"dir":"/var/lib/klavi","encryption_key":"{env.TEST_INBOX_KEY}","max_size":1,"max_share":1,"retry_for":"72h","retry_max_interval":"1m",` +
			`"keep_dead":"30d","keep_record":"365d","erase_on":["consent_deleted_by_user"]}`, ""},
		{"negative size", `{"max_size":-1}`, "max_size cannot be negative"},
		{"share below zero", `{"max_size":1,"max_share":-0.5}`, "max_share is -0.5: it is a part of max_size, above 0 and up to 1"},
		{"share in percent", `{"max_size":1,"max_share":50}`, "max_share is 50: it is a part of max_size, above 0 and up to 1"},
		{"share of nothing", `{"max_share":0.5}`, "max_share is a part of max_size, which is not set"},
		{"negative time", `{"retry_for":-1}`, "cannot be negative"},
		{"negative interval", `{"retry_max_interval":-1}`, "cannot be negative"},
		{"negative dead", `{"keep_dead":-1}`, "cannot be negative"},
		{"negative record", `{"keep_record":-1}`, "cannot be negative"},
		{"key and none", `{"encryption_key":"{env.TEST_INBOX_KEY}","unencrypted":true}`, "encryption_key and unencrypted cannot both be there"},
		{"short key", `{"encryption_key":"{env.TEST_SHORT_KEY}"}`, "encryption_key is not 32 bytes, 64 hex digits or base64 of 32 bytes; `openssl rand -hex 32` makes one"},
		{"empty key", `{"encryption_key":"{env.TEST_UNSET}"}`, "encryption_key: evaluated placeholder {env.TEST_UNSET} is empty"},
		{"event with a star", `{"erase_on":["consent_*"]}`, `erase_on: "consent_*" is no name of an event, such as consent_deleted_by_user`},
		{"empty event", `{"erase_on":[""]}`, `erase_on: "" is no name of an event`},
		{"a database", `{"postgres":{"url":"{env.TEST_DATABASE}"}}`, ""},
		{"a database, complete", `{"postgres":{"url":"{env.TEST_DATABASE}","schema":"reports","pool_size":2},"spool":true,"dir":"/var/lib/klavi"}`, ""},
		{"a database without a URL", `{"postgres":{}}`, "postgres: url is missing"},
		{"an empty URL", `{"postgres":{"url":"{env.TEST_UNSET}"}}`, "postgres: url: evaluated placeholder {env.TEST_UNSET} is empty"},
		{"an empty password", `{"postgres":{"url":"postgres://klavi:{env.TEST_UNSET}@db/klavi"}}`, "postgres: url: evaluated placeholder {env.TEST_UNSET} is empty"},
		{"no URL", `{"postgres":{"url":"{env.TEST_NO_DATABASE}"}}`, "postgres: the URL of the database is not one such as postgres://"},
		{"an odd schema", `{"postgres":{"url":"{env.TEST_DATABASE}","schema":"a.b"}}`, `postgres: "a.b" is no name of a schema`},
		{"a pool of one", `{"postgres":{"url":"{env.TEST_DATABASE}","pool_size":1}}`, "postgres: the pool needs 2 connections or more"},
		{"spool of a directory", `{"dir":"/var/lib/klavi","spool":true}`, "spool is for an inbox in postgres, which is not there"},
		{"a directory and a database", `{"dir":"/var/lib/klavi","postgres":{"url":"{env.TEST_DATABASE}"}}`, "dir and postgres are there, and no spool: the dir is that of the spool"},
		{"unknown field of a database", `{"postgres":{"url":"{env.TEST_DATABASE}","password":"hunter2"}}`, "unknown field"},
		{"unknown field", `{"max_sise":1}`, "unknown field"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, _, err := provisionApp(t, accountsWith(map[string]string{"partner": tt.inbox}))
			if tt.want == "" {
				if err != nil {
					t.Errorf("got %v, want no error", err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("got %v, want an error with %q", err, tt.want)
			}
			if where := `account "partner": inbox: `; !strings.HasPrefix(tt.name, "unknown field") && !strings.Contains(err.Error(), where) {
				t.Errorf("got %v, want that it says where: %s", err, where)
			}
			for _, secret := range []string{key, "secret-but-short", "hunter2"} {
				if strings.Contains(err.Error(), secret) {
					t.Errorf("the error shows a secret: %v", err)
				}
			}
		})
	}
}

// accountsWith returns a config with accounts whose inboxes are these.
func accountsWith(inboxes map[string]string) string {
	var list []string
	for name, config := range inboxes {
		list = append(list, fmt.Sprintf(`%q:{"base_url":"http://127.0.0.1:1/data/v1","access_key":%[1]q,"secret_key":"s","inbox":%s}`, name, config))
	}
	return `{"accounts":{` + strings.Join(list, ",") + `}}`
}

// keepReports does what a klavi_reports without direct does for each account.
func keepReports(t *testing.T, app *App) error {
	t.Helper()
	t.Cleanup(func() {
		if err := app.Cleanup(); err != nil {
			t.Error(err)
		}
	})
	for _, name := range app.names() {
		if err := app.AddReportRoutes(app.Accounts[name], "a test", nil, &fakeReports{}); err != nil {
			return err
		}
	}
	return nil
}

// Two accounts in one directory would take each other's reports.
func TestInboxesOfTwoAccounts(t *testing.T) {
	base := t.TempDir()
	t.Setenv("TEST_BASE", base)
	if err := os.Symlink(base, filepath.Join(base, "link")); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name, a, b string
		same       bool
	}{
		{"two", filepath.Join(base, "a"), filepath.Join(base, "b"), false},
		{"one within the other", base, filepath.Join(base, "b"), false},
		{"one", filepath.Join(base, "a"), filepath.Join(base, "a"), true},
		{"one by a link", filepath.Join(base, "a"), filepath.Join(base, "link", "a"), true},
		{"one by a placeholder", filepath.Join(base, "a"), "{env.TEST_BASE}/a", true},
		{"one by a detour", filepath.Join(base, "a"), base + "/b/../a/", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			app, _, err := provisionApp(t, accountsWith(map[string]string{
				"a": fmt.Sprintf(`{"dir":%q}`, tt.a), "b": fmt.Sprintf(`{"dir":%q}`, tt.b),
			}))
			if err != nil {
				t.Fatal(err)
			}
			err = keepReports(t, app)
			if !tt.same {
				if err != nil {
					t.Errorf("got %v, want no error", err)
				}
				return
			}
			const want = `as that of the account "a" is: give one of them another dir`
			if err == nil || !strings.Contains(err.Error(), `account "b": its inbox is in `+realPath(tt.a)) || !strings.Contains(err.Error(), want) {
				t.Errorf("got %v, want an error with %q", err, want)
			}
		})
	}
}

// So would two accounts in one schema, or with one directory for what a database
// cannot take.
func TestDatabasesOfTwoAccounts(t *testing.T) {
	base := t.TempDir()
	in := func(url, more, beside string) string {
		return fmt.Sprintf(`{"postgres":{"url":%q%s}%s}`, url, more, beside)
	}
	const spool = `,"spool":true`
	spoolIn := spool + `,"dir":"` + base
	const db = "postgres://a:hunter2@db:5432/klavi"
	for _, tt := range []struct{ name, a, b, want string }{
		{"two schemas by default", in(db, ``, ``), in(db, ``, ``), ""},
		{"two schemas", in(db, `,"schema":"x"`, ``), in(db, `,"schema":"y"`, ``), ""},
		{"two databases", in(db, `,"schema":"x"`, ``), in("postgres://a:hunter2@db:5432/other", `,"schema":"x"`, ``), ""},
		{"two hosts", in(db, `,"schema":"x"`, ``), in("postgres://a:hunter2@db:5433/klavi", `,"schema":"x"`, ``), ""},
		{"one", in(db, `,"schema":"x"`, ``), in(db, `,"schema":"x"`, ``), "schema"},
		{"one, of two users", in(db, `,"schema":"x"`, ``), in("postgresql://b@DB/klavi?sslmode=require", `,"schema":"x","pool_size":2`, ``), "schema"},
		{"two spools by default", in(db, ``, spool), in(db, ``, spool), ""},
		{"one spool", in(db, ``, spoolIn+`"`), in(db, ``, spoolIn+`/x/.."`), "dir"},
		{"one for a spool and an inbox", in(db, ``, spoolIn+`"`), `{"dir":"` + base + `"}`, "dir"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			app, _, err := provisionApp(t, accountsWith(map[string]string{"a": tt.a, "b": tt.b}))
			if err != nil {
				t.Fatal(err)
			}
			switch err := keepReports(t, app); {
			case tt.want == "" && err != nil:
				t.Errorf("got %v, want no error", err)
			case tt.want != "" && (err == nil || !strings.Contains(err.Error(), `as that of the account "a" is: give one of them another `+tt.want)):
				t.Errorf("got %v, want an error with %s", err, tt.want)
			case err != nil && strings.Contains(err.Error(), "hunter2"):
				t.Errorf("the error shows a password: %v", err)
			}
		})
	}
}

// Production keeps no reports in the clear by default. Who keeps none needs no key.
func TestInboxInProduction(t *testing.T) {
	const production = `{"accounts":{"default":{"environment":%q,"access_key":"a","secret_key":"s","inbox":{"dir":%q%s}}}}`
	for _, tt := range []struct {
		environment, settings string
		want                  string
	}{
		{"production", ``, `account "default": inbox: production needs encryption_key: ` + "`openssl rand -hex 32` makes one"},
		{"production", `,"encryption_key":"0123456789abcdef0123456789abcdef"`, ""},
		{"production", `,"unencrypted":true`, ""},
		{"sandbox", ``, ""},
		{"testing", ``, ""},
	} {
		app, _, err := provisionApp(t, fmt.Sprintf(production, tt.environment, t.TempDir(), tt.settings))
		if err != nil {
			t.Errorf("%s, %s: got %v before a report is kept, want no error", tt.environment, tt.settings, err)
			continue
		}
		err = keepReports(t, app)
		if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s, %s: got %v, want %q", tt.environment, tt.settings, err, tt.want)
		}
	}
}

// One route has all of the room, for there is no other one to keep some for.
func TestInboxShare(t *testing.T) {
	for _, tt := range []struct {
		share  float64
		routes int
		want   float64
	}{
		{0, 1, 1}, {0, 2, 0.5}, {0.25, 1, 1}, {0.25, 2, 0.25}, {1, 2, 1},
	} {
		config := Inbox{MaxSize: 1000, MaxShare: tt.share}
		if got := config.settings(tt.routes); got.MaxShare != tt.want || got.MaxSize != 1000 {
			t.Errorf("max_share %v with %d routes: got %v, want %v", tt.share, tt.routes, got.MaxShare, tt.want)
		}
	}
}
