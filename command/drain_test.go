package command

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/caddy-klavi/caddy-klavi/inbox"
)

func TestDrainInbox(t *testing.T) {
	dir := t.TempDir()
	s := openInbox(t, dir, nil)
	_, r := furnish(t, s)
	serve(t, s)
	r.up.Store(true)
	if err := s.Pause(t.Context(), "cards", "ann"); err != nil {
		t.Fatal(err)
	}
	put(t, s, inbox.KindReport, "paused", "pf_credit_card")
	must(t, "reports", "retry", "--dir", dir, "--report", "waits") // else in an hour
	code, stdout, stderr := klavi(t, "inbox", "drain", "--dir", dir)
	want := "1 waiting for cards, which is paused (ann)\n1 waiting without a route: pf_unheard_of\n1 dead\n" +
		"this stays in " + dir + "; no reports are taken until Caddy is restarted\n"
	if code != exitFailed || stdout != want || !strings.Contains(stderr, "no reports are taken any more") {
		t.Errorf("got %d, %q and %q, want %d and %q", code, stdout, stderr, exitFailed, want)
	}
	code, stdout, _ = klavi(t, "inbox", "drain", "--dir", dir, "--json")
	if code != exitFailed || !strings.Contains(stdout, `{"waiting":2,"dead":1,"damaged":0,`) {
		t.Errorf("got %d and %q, want what stays", code, stdout)
	}
	must(t, "reports", "drop", "--dir", dir, "--older-than", time.Nanosecond.String(), "--why", "OPS-1")
	if out := must(t, "inbox", "drain", "--dir", dir); out != "nothing is left in "+dir+"; no reports are taken until Caddy is restarted\n" {
		t.Errorf("got %q, want that nothing is left", out)
	}
	_ = s.Close()
	refused(t, exitUsage, "so nothing is delivered: start it, or move the inbox", "inbox", "drain", "--dir", dir)
	refused(t, exitUsage, "there is no inbox in", "inbox", "drain", "--dir", filepath.Join(dir, "mistyped"))
	inDatabase := config(t, `"postgres":{"url":"postgres://klavi:hunter2@127.0.0.1:1/klavi"}`)
	refused(t, exitUsage, "the inbox is in a database, where nothing waits for one machine: end its Caddy with SIGTERM", "inbox", "drain", "--config", inDatabase, "--account", "bank")
}
