package command

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/caddy-klavi/caddy-klavi/inbox"
	"github.com/caddy-klavi/caddy-klavi/inbox/postgrestest"
)

// configOf writes a config whose inbox is in dir, with testKey.
func configOf(t *testing.T, dir string) string {
	t.Helper()
	t.Setenv("KLAVI_TEST_KEY", strings.Repeat("07", 32))
	return config(t, `"dir":`+strconv.Quote(dir)+`,"encryption_key":"{env.KLAVI_TEST_KEY}"`)
}

func TestMoveInbox(t *testing.T) {
	dir := t.TempDir()
	from, to := filepath.Join(dir, "from"), filepath.Join(dir, "to")
	s := openInbox(t, from, testKey)
	uids, _ := furnish(t, s)
	_ = s.Close()
	args := []string{"inbox", "move", "--config", configOf(t, to), "--account", "bank"}
	code, stdout, stderr := klavi(t, append(args, "--from", from)...)
	if want := "moved from " + from + " to " + to + ": 4 reports\nnothing is left in " + from + ". It stays, empty: " +
		"remove it when no Caddy has it in its config any more\n"; code != exitOK || stdout != want {
		t.Errorf("got %d, %q and %q, want %q", code, stdout, stderr, want)
	}
	if !strings.Contains(stderr, "there was no inbox in "+to+": one is begun, which belongs to ") || !strings.Contains(stderr, ", encrypted with the key from encryption_key of the config\n") {
		t.Errorf("got %q, want that one is begun", stderr)
	}
	keyFile := "--encryption-key-file=" + writeFile(t, "key", string(testKey))
	if got := namesOf(recordsOf(t, must(t, "reports", "list", "--json", "--dir", to, keyFile))); got != "done dead waits lost" {
		t.Errorf("got %q, want all of them", got)
	}
	if out := must(t, "reports", "export", "--dir", to, keyFile, "--uid", uids["waits"], "--output", "-", "--why", "OPS-1"); out != `{"about":"waits"}` {
		t.Errorf("got %s, want the body", out)
	}
	if out := must(t, append(args, "--from", from, "--json")...); out != `{"reports":0,"known":0,"quarantined":0}`+"\n" {
		t.Errorf("got %s, want that there is nothing more", out)
	}

	// And back, with another key.
	other := writeFile(t, "other", strings.Repeat("08", 32))
	back := filepath.Join(dir, "back")
	var moved inbox.Moved
	if err := json.Unmarshal([]byte(must(t, append(args, "--to", back, "--to-key-file", other, "--json")...)), &moved); err != nil || moved.Reports != 4 {
		t.Errorf("got %+v and %v, want 4 reports", moved, err)
	}
	if got := namesOf(recordsOf(t, must(t, "reports", "list", "--json", "--dir", back, "--encryption-key-file", other))); got != "done dead waits lost" {
		t.Errorf("got %q, want all of them", got)
	}
	refused(t, exitUsage, "wrong encryption key", append(args, "--from", back)...)
	must(t, append(args, "--from", back, "--from-key-file", other)...)
}

// An inbox comes to be encrypted by being moved.
func TestMoveFromUnencrypted(t *testing.T) {
	dir := t.TempDir()
	from, to := filepath.Join(dir, "from"), filepath.Join(dir, "to")
	s := openInbox(t, from, nil)
	put(t, s, inbox.KindReport, "a", "pf_loans")
	_ = s.Close()
	args := []string{"inbox", "move", "--config", configOf(t, to), "--account", "bank", "--from", from}
	refused(t, exitUsage, "wrong encryption key", append(args, "--from-key-file", writeFile(t, "other", string(testKey)))...)
	if out := must(t, args...); !strings.Contains(out, ": 1 report\n") {
		t.Errorf("got %s, want it moved", out)
	}
	refused(t, exitUsage, "is encrypted", "reports", "list", "--dir", to)
}

func TestMoveIntoDatabase(t *testing.T) {
	url := postgrestest.Shared(t).Database(t)
	dir := t.TempDir()
	s := openInbox(t, dir, testKey)
	furnish(t, s)
	_ = s.Close()
	t.Setenv("KLAVI_TEST_KEY", strings.Repeat("07", 32))
	t.Setenv("KLAVI_TEST_URL", url)
	inDatabase := config(t, `"postgres":{"url":"{env.KLAVI_TEST_URL}"},"encryption_key":"{env.KLAVI_TEST_KEY}"`)
	args := []string{"inbox", "move", "--config", inDatabase, "--account", "bank"}
	if out := must(t, append(args, "--from", dir)...); !strings.Contains(out, "schema klavi_bank: 4 reports\n") {
		t.Errorf("got %s, want all moved", out)
	}
	list := []string{"reports", "list", "--json", "--config", inDatabase, "--account", "bank"}
	if got := namesOf(recordsOf(t, must(t, list...))); got != "done dead waits lost" {
		t.Errorf("got %q, want all of them", got)
	}
	refused(t, exitUsage, "is the same inbox as", append(args, "--to-postgres-url-file", writeFile(t, "url", strings.Replace(url, "127.0.0.1", "localhost", 1)))...)
	if got := namesOf(recordsOf(t, must(t, list...))); got != "done dead waits lost" {
		t.Errorf("got %q, want all of them still", got)
	}
	if out := must(t, append(args, "--to", dir)...); !strings.Contains(out, ": 4 reports\n") {
		t.Errorf("got %s, want all moved back", out)
	}
}

// What cannot be read stays, and is named. All else is moved.
func TestMoveLeavesWhatIsDamaged(t *testing.T) {
	dir := t.TempDir()
	from, to := filepath.Join(dir, "from"), filepath.Join(dir, "to")
	s := openInbox(t, from, testKey)
	put(t, s, inbox.KindReport, "small", "pf_loans")
	uid := putBody(t, s, inbox.KindReport, "large", make([]byte, 200<<10), "pf_loans")
	_ = s.Close()
	files, err := os.ReadDir(filepath.Join(from, "bodies"))
	if err != nil || len(files) != 1 {
		t.Fatalf("got %d files and %v, want that of the large one", len(files), err)
	}
	f, err := os.OpenFile(filepath.Join(from, "bodies", files[0].Name()), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte("spoilt"), 100<<10); err != nil {
		t.Fatal(err)
	}
	_ = f.Close()
	args := []string{"inbox", "move", "--config", configOf(t, to), "--account", "bank", "--from", from}
	code, stdout, stderr := klavi(t, args...)
	if want := ": 1 report\ncannot be read, and stays where it is: " + uid + "\n"; code != exitFailed || !strings.HasSuffix(stdout, want) {
		t.Errorf("got %d, %q and %q, want %d and %q", code, stdout, stderr, exitFailed, want)
	}
	if strings.Contains(stdout, "nothing is left") {
		t.Errorf("got %q, want nothing that is not so", stdout)
	}
}

func TestMoveRefuses(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	from, to := filepath.Join(dir, "from"), filepath.Join(dir, "to")
	s := openInbox(t, from, testKey)
	put(t, s, inbox.KindReport, "a", "pf_loans")
	inTo, missing := configOf(t, to), filepath.Join(dir, "missing")
	url := writeFile(t, "url", "postgres://klavi:hunter2@127.0.0.1:1/klavi")
	move := func(args ...string) []string { return append([]string{"inbox", "move"}, args...) }
	withConfig := func(args ...string) []string { return move(append(args, "--config", inTo, "--account", "bank")...) }
	for _, test := range []struct {
		args []string
		want string
	}{
		{withConfig(), "from where, or to where?"},
		{move("--from", from), "erase_on and encryption_key of a config are needed: give --config"},
		{withConfig("--from", from, "--from-postgres-url-file", url), "--from and --from-postgres-url-file are two inboxes"},
		{withConfig("--from", from, "--to-schema", "a"), "--to-schema is for the database in --to-postgres-url-file, which is not given"},
		{withConfig("--from", to), "it is the same inbox that it would be moved from and to: " + to},
		{withConfig("--from", missing), "there is no inbox in " + missing + " (is its disk mounted?): give --from the directory of one"},
		{withConfig("--from", from), "is in use by process " + strconv.Itoa(os.Getpid())},
		{withConfig("--from", from), "nobody else may have it open: stop that Caddy, or have it reload a config in which the inbox is another one"},
		{withConfig("--from", ""), "--from is empty"},
		{withConfig("--from-postgres-url-file", missing), "--from-postgres-url-file: stat " + missing},
	} {
		refused(t, exitUsage, test.want, test.args...)
	}
	_ = s.Close()
	other := writeFile(t, "other", strings.Repeat("08", 32))
	for _, test := range []struct {
		args []string
		want string
	}{
		{withConfig("--from", from, "--from-key-file", other), "(it was read from --from-key-file)"},
		{withConfig("--from", from, "--from-key-file", missing), "--from-key-file: stat " + missing},
		{withConfig("--from", from, "--to-postgres-url-file", url), "127.0.0.1:1"},
	} {
		refused(t, exitUsage, test.want, test.args...)
	}
	t.Setenv("KLAVI_TEST_KEY", "")
	refused(t, exitUsage, "this opens it itself, so the encryption key is needed, and it is not in the environment of this command: "+
		"evaluated placeholder {env.KLAVI_TEST_KEY} is empty; give --from-key-file", withConfig("--from", from)...)
	if _, err := os.Stat(to); !os.IsNotExist(err) {
		t.Errorf("got %v, want that nothing is begun", err)
	}
}
