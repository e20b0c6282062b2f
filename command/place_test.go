package command

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	_ "github.com/caddy-klavi/caddy-klavi/caddyfile"
	"github.com/caddy-klavi/caddy-klavi/inbox"
)

func writeFile(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// config writes a config in JSON with an inbox for the account "bank".
func config(t *testing.T, fields string) string {
	t.Helper()
	return writeFile(t, "caddy.json", `{"apps":{"klavi":{"accounts":{"bank":{"secret_key":"hunter2","inbox":{`+fields+`}},"other":{}}}}}`)
}

func TestFindInbox(t *testing.T) {
	data := t.TempDir()
	t.Setenv("XDG_DATA_HOME", data)
	t.Setenv("KLAVI_TEST_DIR", filepath.Join(data, "sealed"))
	t.Setenv("KLAVI_TEST_KEY", strings.Repeat("07", 32))
	byDefault := func(account string) string { return filepath.Join(caddy.AppDataDir(), "klavi", "inbox", account) }
	for dir, key := range map[string][]byte{
		byDefault("default"): nil, byDefault("other"): nil, filepath.Join(data, "sealed"): testKey,
	} {
		s := openInbox(t, dir, key)
		put(t, s, inbox.KindReport, "in-"+filepath.Base(dir), "pf_loans")
		_ = s.Close()
	}
	caddyfile := writeFile(t, "Caddyfile", "{\n\tklavi {\n\t\tenvironment sandbox\n\t\taccess_key a\n\t\tsecret_key b\n\t}\n}\n")
	t.Chdir(filepath.Dir(caddyfile))
	const dir = `"dir":"{env.KLAVI_TEST_DIR}"`
	inEnv := config(t, dir+`,"encryption_key":"{env.KLAVI_TEST_KEY}"`)
	keyFile := "--encryption-key-file=" + writeFile(t, "key", strings.Repeat("07", 32)+"\n")
	for _, test := range []struct {
		name string
		args []string
		want string
	}{
		{"the Caddyfile of this directory", nil, "in-default"},
		{"another Caddyfile", []string{"--config", caddyfile, "--adapter", "caddyfile"}, "in-default"},
		{"another account", []string{"--config", inEnv, "--account", "other"}, "in-other"},
		{"dir and key in the environment", []string{"-c", inEnv, "--account", "bank"}, "in-sealed"},
		{"the key in a file", []string{"--config", config(t, dir), "--account", "bank", keyFile}, "in-sealed"},
		{"a directory", []string{"--dir", filepath.Join(data, "sealed"), keyFile}, "in-sealed"},
		{"32 bytes as they are", []string{"--dir", filepath.Join(data, "sealed"), "--encryption-key-file", writeFile(t, "raw", string(testKey))}, "in-sealed"},
		{"a directory, and the key in a config", []string{"--dir", filepath.Join(data, "sealed"), "--config", inEnv, "--account", "bank"}, "in-sealed"},
		{"a directory, unencrypted", []string{"--dir", byDefault("other")}, "in-other"},
	} {
		out := must(t, append([]string{"reports", "list", "--json"}, test.args...)...)
		if !strings.Contains(out, `"report_id":"`+test.want+`"`) {
			t.Errorf("%s: got %s, want the inbox with %s", test.name, out, test.want)
		}
	}
}

func TestInboxNotFound(t *testing.T) {
	data := t.TempDir()
	t.Setenv("XDG_DATA_HOME", data)
	t.Chdir(data)
	sealed := filepath.Join(data, "sealed")
	_ = openInbox(t, sealed, testKey).Close()
	plain := filepath.Join(data, "plain")
	_ = openInbox(t, plain, nil).Close()
	t.Setenv("KLAVI_WRONG_KEY", strings.Repeat("08", 32))
	t.Setenv("KLAVI_SHORT_KEY", "hunter2")
	quote := func(field, value string) string { return strconv.Quote(field) + ":" + strconv.Quote(value) }
	inSealed := func(key string) string { return config(t, quote("dir", sealed)+","+quote("encryption_key", key)) }
	missing := filepath.Join(data, "mistyped")
	database := writeFile(t, "url", "postgres://klavi:hunter2@127.0.0.1:1/klavi\n")
	for _, test := range []struct {
		args []string
		want string
	}{
		{nil, "Give --dir or --config"},
		{[]string{"--dir", missing}, "there is no inbox in " + missing},
		{[]string{"--dir", data}, "there is no inbox in " + data + " (is its disk mounted?): give --dir the directory of one"},
		{[]string{"--dir", plain, "--account", "bank"}, "--account and --adapter are about a config"},
		{[]string{"--adapter", "caddyfile"}, "--config"},
		{[]string{"--config", missing}, "no such file"},
		{[]string{"--config", writeFile(t, "caddy.json", "{")}, "config is not valid JSON"},
		{[]string{"--config", writeFile(t, "caddy.json", `{"apps":{"klavi":{"accounts":[]}}}`)}, "the config is not one that Caddy would take"},
		{[]string{"--config", writeFile(t, "caddy.json", "{}")}, "the config has no account at Klavi"},
		{[]string{"--config", config(t, "")}, `no account "default": give --account; there is bank, other`},
		{[]string{"--config", config(t, ""), "--account", "bank"}, "do this as the user that Caddy runs as"},
		{[]string{"--config", config(t, quote("dir", missing)), "--account", "bank"}, "give --dir the directory of one"},
		{[]string{"--config", config(t, quote("dir", "bin/inbox")), "--account", "bank"}, "is relative to where Caddy was started"},
		{[]string{"--config", config(t, quote("dir", "{env.KLAVI_NOWHERE}")), "--account", "bank"}, "{env.KLAVI_NOWHERE}"},
		{[]string{"--dir", sealed}, "is encrypted, and no Caddy has this inbox open (is it stopped? else its log says why), so its key is needed: give --config, if"},
		{[]string{"--config", config(t, quote("dir", sealed)), "--account", "bank"}, "there is no encryption_key in the config: give --encryption-key-file"},
		{[]string{"--config", inSealed("{env.KLAVI_UNSET}"), "--account", "bank"}, "no Caddy has this inbox open (is it stopped? else its log says why), so the encryption key is needed, and it is not in the environment of this command"},
		{[]string{"--config", inSealed("{env.KLAVI_SHORT_KEY}"), "--account", "bank"}, "is not 32 bytes"},
		{[]string{"--config", inSealed("{env.KLAVI_WRONG_KEY}"), "--account", "bank"}, "(it was read from encryption_key of the config)"},
		{[]string{"--dir", sealed, "--encryption-key-file", writeFile(t, "key", strings.Repeat("08", 32))}, "(it was read from --encryption-key-file)"},
		{[]string{"--dir", sealed, "--encryption-key-file", writeFile(t, "key", "hunter2")}, "is not 32 bytes"},
		{[]string{"--dir", sealed, "--encryption-key-file", writeFile(t, "key", strings.Repeat("hunter2", 1000))}, "too large for a key"},
		{[]string{"--dir", sealed, "--encryption-key-file", missing}, "no such file"},
		{[]string{"--dir", plain, "--encryption-key-file", writeFile(t, "key", string(testKey))}, "stored unencrypted"},
		{[]string{"--dir", plain, "--postgres-url-file", database}, "--dir and --postgres-url-file are two inboxes"},
		{[]string{"--dir", plain, "--schema", "klavi"}, "--schema is for the database in --postgres-url-file"},
		{[]string{"--postgres-url-file", database, "--account", "bank"}, "--account and --adapter are about a config"},
		{[]string{"--postgres-url-file", missing}, "--postgres-url-file: stat " + missing},
		{[]string{"--postgres-url-file", writeFile(t, "url", "hunter2")}, "--postgres-url-file: the URL of the database is not one such as"},
		{[]string{"--postgres-url-file", writeFile(t, "url", "")}, "--postgres-url-file: url is missing"},
		{[]string{"--postgres-url-file", database, "--schema", "a.b"}, `--postgres-url-file: "a.b" is no name of a schema`},
		{
			[]string{"--config", config(t, `"postgres":{"url":"postgres://klavi:{env.KLAVI_UNSET}@db/klavi"}`), "--account", "bank"},
			"the inbox in the config: postgres: url: evaluated placeholder {env.KLAVI_UNSET} is empty (placeholders are resolved with the environment of this command): give --postgres-url-file",
		},
		{
			[]string{"--config", config(t, `"postgres":{"url":"postgres://db/klavi"},"encryption_key":"{env.KLAVI_UNSET}"`), "--account", "bank"},
			"this asks the database itself, and no Caddy, so the encryption key is needed",
		},
	} {
		refused(t, exitUsage, test.want, append([]string{"reports", "list"}, test.args...)...)
	}
	for _, name := range []string{missing, filepath.Join(data, "lock"), filepath.Join(data, "caddy")} {
		if _, err := os.Stat(name); !os.IsNotExist(err) {
			t.Errorf("got %v, want that nothing is made at %s", err, filepath.Base(name))
		}
	}
}

// A database is not asked through a directory, and not with a URL in an argument,
// which everybody can read who lists the processes.
func TestFindDatabase(t *testing.T) {
	t.Setenv("XDG_DATA_HOME", t.TempDir())
	t.Setenv("KLAVI_TEST_PASSWORD", "hunter2")
	const before, after = `"postgres":{"url":"postgres://klavi:{env.KLAVI_TEST_PASSWORD}@db/klavi"`, `},"erase_on":["consent_revoked"]`
	inConfig, inSchema := config(t, before+after), config(t, before+`,"schema":"reports"`+after)
	unset := config(t, `"postgres":{"url":"{env.KLAVI_UNSET}","schema":"reports"`+after)
	inDir := config(t, `"dir":"/var/lib/klavi"`)
	file := writeFile(t, "url", "postgres://klavi:hunter2@other/klavi?sslmode=require\n")
	for _, test := range []struct {
		name  string
		flags storeFlags
		want  string // empty for a directory
		url   string
		knows bool // the config
	}{
		{"the config", storeFlags{config: inConfig, account: "bank"}, "postgres://db/klavi schema klavi_bank", "postgres://klavi:hunter2@db/klavi", true},
		{"its schema", storeFlags{config: inSchema, account: "bank"}, "postgres://db/klavi schema reports", "postgres://klavi:hunter2@db/klavi", true},
		{"a file", storeFlags{urlFile: file}, "postgres://other/klavi schema klavi", "postgres://klavi:hunter2@other/klavi?sslmode=require", false},
		{"a file and a schema", storeFlags{urlFile: file, schema: "mine"}, "postgres://other/klavi schema mine", "postgres://klavi:hunter2@other/klavi?sslmode=require", false},
		{"a file and a config", storeFlags{urlFile: file, config: unset, account: "bank"}, "postgres://other/klavi schema reports", "postgres://klavi:hunter2@other/klavi?sslmode=require", true},
		{"a file, a schema and a config", storeFlags{urlFile: file, schema: "mine", config: inSchema, account: "bank"}, "postgres://other/klavi schema mine", "postgres://klavi:hunter2@other/klavi?sslmode=require", true},
		{"a file and a config with a directory", storeFlags{urlFile: file, config: inDir, account: "bank"}, "postgres://other/klavi schema klavi_bank", "postgres://klavi:hunter2@other/klavi?sslmode=require", true},
		{"a directory and a config", storeFlags{dir: "/srv/spool", config: inConfig, account: "bank"}, "", "", true},
	} {
		w, err := test.flags.find()
		if err != nil {
			t.Errorf("%s: got %v, want no error", test.name, err)
			continue
		}
		if (w.postgres != nil) != (test.want != "") || w.knowsConfig != test.knows {
			t.Errorf("%s: got %+v, want %q, and that the config was read: %v", test.name, w, test.want, test.knows)
			continue
		}
		if w.postgres == nil {
			if w.dir != "/srv/spool" || w.alone() != notOpen {
				t.Errorf("%s: got %s, want /srv/spool", test.name, w)
			}
			continue
		}
		if w.String() != test.want || w.postgres.URL != test.url || w.dir != "" || w.alone() != asksDatabase {
			t.Errorf("%s: got %s (%s), want %s (%s)", test.name, w, w.postgres.URL, test.want, test.url)
		}
	}
}

// A command that erases needs to know what must not be erased yet, as it does for
// a directory of a Caddy that is stopped.
func TestEraseInDatabaseNeedsConfig(t *testing.T) {
	file := writeFile(t, "url", "postgres://klavi:hunter2@127.0.0.1:1/klavi")
	refused(t, exitUsage, asksDatabase+": give --config, too", "reports", "erase", "--postgres-url-file", file, "--link", "link-1", "--why", "LGPD-1")
}

// What is said of an inbox that is not there, or has another key.
func TestExplainDatabase(t *testing.T) {
	w := &place{postgres: &inbox.Postgres{URL: "postgres://klavi:hunter2@db/klavi", Schema: "klavi"}, byDefault: true}
	for _, test := range []struct{ err, want error }{
		{inbox.ErrNotFound, errors.New(inbox.ErrNotFound.Error() + ": is this its database and schema? A Caddy makes it there when it is started")},
		{fs.ErrPermission, fs.ErrPermission},
	} {
		if got := w.explain(test.err); got.Error() != test.want.Error() {
			t.Errorf("got %v, want %v", got, test.want)
		}
	}
}

// What Caddy logs when it reads a config is not what was asked for.
func TestReadingConfigLogsNothing(t *testing.T) {
	ours, before, buffer := caddy.BufferedLog()
	defer caddy.UnbufferDefaultLogger(before)
	for _, path := range []string{
		writeFile(t, "Caddyfile", "{\n\tklavi {\n\t\tenvironment sandbox\n\t\taccess_key a\n\t\tsecret_key b\n\t}\n}\n"),
		filepath.Join(t.TempDir(), "missing"),
	} {
		_, _ = loadConfig(path, "")
		if caddy.Log() != ours {
			t.Fatal("got another logger after a config was read, want the one before")
		}
	}
	core, logs := observer.New(zap.DebugLevel)
	buffer.FlushTo(zap.New(core))
	if logs.Len() != 0 {
		t.Errorf("got %v, want nothing", logs.All())
	}
}

// What Caddy has open needs no key: Caddy has it.
func TestInboxThatIsOpen(t *testing.T) {
	dir := t.TempDir()
	s := openInbox(t, dir, testKey)
	put(t, s, inbox.KindReport, "a", "pf_loans")
	refused(t, exitUsage, "in use by process "+strconv.Itoa(os.Getpid()), "reports", "list", "--dir", dir, "--encryption-key-file", writeFile(t, "key", string(testKey)))
	serve(t, s)
	if out := must(t, "reports", "list", "--json", "--dir", dir); !strings.Contains(out, `"report_id":"a"`) {
		t.Errorf("got %s, want the report", out)
	}
}

// The inbox of another user: it can only be looked into through Caddy.
func TestInboxOfAnotherUser(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root can give files to others")
	}
	dir := t.TempDir()
	_ = openInbox(t, dir, nil).Close()
	for _, name := range []string{".", "inbox.db"} {
		if err := os.Chown(filepath.Join(dir, name), 12345, 12345); err != nil {
			t.Fatal(err)
		}
	}
	refused(t, exitUsage, "do this as uid 12345", "reports", "list", "--dir", dir)

	// Somebody who is neither that user nor root.
	if err := os.Chmod(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Seteuid(54321); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := syscall.Seteuid(0); err != nil {
			panic(err)
		}
	}()
	refused(t, exitUsage, "it is for the user that Caddy runs as, and for root", "reports", "list", "--dir", dir)
}
