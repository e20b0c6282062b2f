package command

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddy-klavi/caddy-klavi/inbox"
)

func TestExportOne(t *testing.T) {
	each(t, func(t *testing.T, dir string, uids map[string]string, _ bool) {
		path := filepath.Join(t.TempDir(), "report.json")
		args := []string{"reports", "export", "--dir", dir, "--report", "dead", "--who", "ann", "--why", "OPS-1", "--output"}
		if out := must(t, append(args, path)...); out != path+"\n" {
			t.Errorf("got %q, want the name of the file", out)
		}
		body, err := os.ReadFile(path)
		if err != nil || string(body) != `{"about":"dead"}` {
			t.Errorf("got %q and %v, want the body", body, err)
		}
		if info, err := os.Stat(path); err != nil || info.Mode() != 0o600 {
			t.Errorf("got %v and %v, want a file for its owner alone", info.Mode(), err)
		}
		if out := must(t, append(args, "-")...); out != `{"about":"dead"}` {
			t.Errorf("got %q, want the body", out)
		}
		refused(t, exitUsage, "is there already", append(args, path)...)
		actions := recordsOf(t, must(t, "reports", "show", "--json", "--dir", dir, "--report", "dead"))[0].Actions
		if len(actions) != 2 || actions[0].What != "export" || actions[0].Who != "ann" || actions[0].Why != "OPS-1" {
			t.Errorf("got %+v, want each export that was one on record", actions)
		}

		gone := filepath.Join(t.TempDir(), "gone.json")
		refused(t, exitFailed, "its body is not kept", "reports", "export", "--dir", dir, "--uid", uids["done"], "--output", gone, "--why", "OPS-1")
		refused(t, exitFailed, "no report is chosen", "reports", "export", "--dir", dir, "--uid", "nobody", "--output", gone, "--why", "OPS-1")
		refused(t, exitUsage, "more than one report", "reports", "export", "--dir", dir, "--link", "link-1", "--output", gone, "--why", "OPS-1")
		refused(t, exitUsage, "no such file", "reports", "export", "--dir", dir, "--report", "dead", "--output", filepath.Join(gone, "a"), "--why", "OPS-1")
		if _, err := os.Stat(gone); !os.IsNotExist(err) {
			t.Errorf("got %v, want no file without a body", err)
		}
	})
}

func TestExportAll(t *testing.T) {
	each(t, func(t *testing.T, dir string, uids map[string]string, _ bool) {
		to := filepath.Join(t.TempDir(), "bodies")
		args := []string{"reports", "export", "--dir", dir, "--link", "link-1", "--output-dir", to, "--why", "OPS-1"}
		code, stdout, stderr := klavi(t, args...)
		if code != exitFailed || strings.Count(stdout, "\n") != 3 || !strings.Contains(stderr, "3 reports exported") ||
			!strings.Contains(stderr, "1 report could not be exported") || !strings.Contains(stderr, "was delivered on") {
			t.Errorf("got %d, %q and %q, want three files, and why the fourth is none", code, stdout, stderr)
		}
		for _, name := range []string{"dead", "waits", "lost"} {
			body, err := os.ReadFile(filepath.Join(to, uids[name]+".json"))
			if err != nil || string(body) != `{"about":"`+name+`"}` {
				t.Errorf("%s: got %q and %v, want its body", name, body, err)
			}
		}
		if info, err := os.Stat(to); err != nil || info.Mode() != os.ModeDir|0o700 {
			t.Errorf("got %v and %v, want a directory for its owner alone", info.Mode(), err)
		}
		if entries, err := os.ReadDir(to); err != nil || len(entries) != 3 {
			t.Errorf("got %d files and %v, want 3", len(entries), err)
		}
		refused(t, exitUsage, "is there already", append(args, "--state", "dead")...)
		refused(t, exitFailed, "no report is chosen", append(args, "--type", "pf_loans")...)

		args[7] = filepath.Join(t.TempDir(), "more")
		var got exported
		out := must(t, append(args, "--json", "--state", "dead")...)
		if err := json.Unmarshal([]byte(out), &got); err != nil || got.UID != uids["dead"] || got.Size != 16 || len(got.Digest) != 64 || got.File == "" {
			t.Errorf("got %v and %s, want what was exported", err, out)
		}
	})
}

func TestExportToATerminal(t *testing.T) {
	dir := t.TempDir()
	s := openInbox(t, dir, nil)
	put(t, s, inbox.KindReport, "a", "pf_loans")
	serve(t, s)
	onTerminal(t)
	args := []string{"reports", "export", "--dir", dir, "--report", "a", "--output", "-", "--why", "OPS-1"}
	refused(t, exitUsage, "add --to-terminal", args...)
	if out := must(t, append(args, "--to-terminal")...); out != `{"about":"a"}` {
		t.Errorf("got %q, want the body", out)
	}
}

// A body that is damaged midway leaves no half of a file, and the others come out.
func TestExportOfWhatIsDamaged(t *testing.T) {
	dir := t.TempDir()
	s := openInbox(t, dir, nil)
	put(t, s, inbox.KindReport, "a", "pf_loans")
	putBody(t, s, inbox.KindReport, "b", bytes.Repeat([]byte("body"), 100_000), "pf_loans")
	put(t, s, inbox.KindReport, "c", "pf_loans")
	files, err := os.ReadDir(filepath.Join(dir, "bodies"))
	if err != nil || len(files) != 1 {
		t.Fatalf("got %d files and %v, want the one with the large body", len(files), err)
	}
	path := filepath.Join(dir, "bodies", files[0].Name())
	sealed, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	sealed[300_000] ^= 1
	if err := os.WriteFile(path, sealed, 0o600); err != nil {
		t.Fatal(err)
	}
	serve(t, s)
	for _, running := range []bool{true, false} {
		to := t.TempDir()
		code, stdout, stderr := klavi(t, "reports", "export", "--dir", dir, "--type", "pf_loans", "--output-dir", to, "--why", "OPS-1")
		if code != exitFailed || strings.Count(stdout, "\n") != 2 || !strings.Contains(stderr, "1 report could not be exported") || !strings.Contains(stderr, "damaged") {
			t.Errorf("running %v: got %d, %q and %q, want two files, and that one is damaged", running, code, stdout, stderr)
		}
		if entries, err := os.ReadDir(to); err != nil || len(entries) != 2 {
			t.Errorf("running %v: got %d files and %v, want 2", running, len(entries), err)
		}
		_ = s.Close()
	}
}
