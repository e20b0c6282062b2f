package command

import (
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
	} {
		refused(t, exitUsage, test.want, append([]string{"reports", "list"}, test.args...)...)
	}
	for _, name := range []string{missing, filepath.Join(data, "lock"), filepath.Join(data, "caddy")} {
		if _, err := os.Stat(name); !os.IsNotExist(err) {
			t.Errorf("got %v, want that nothing is made at %s", err, filepath.Base(name))
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
