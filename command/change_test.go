package command

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"strings"
	"testing"

	"github.com/caddy-klavi/caddy-klavi/inbox"
)

func TestRetryReports(t *testing.T) {
	dir := t.TempDir()
	s := openInbox(t, dir, nil)
	uids, r := furnish(t, s)
	serve(t, s)
	r.up.Store(true)
	if out := must(t, "reports", "retry", "--dir", dir, "--uid", uids["waits"]); out != "1 delivery is tried again\n" {
		t.Errorf("got %q, want what happens", out)
	}
	eventually(t, "it is delivered", func() bool {
		record, err := s.Show(context.Background(), uids["waits"])
		return err == nil && record.State == inbox.Delivered
	})
	refused(t, exitFailed, "Klavi can send it again", "reports", "retry", "--dir", dir, "--uid", uids["done"])
	refused(t, exitFailed, "there is no such report", "reports", "retry", "--dir", dir, "--report", "nobody")
	if out := must(t, "reports", "retry", "--dir", dir, "--state", "damaged"); out != "0 deliveries are tried again\n" {
		t.Errorf("got %q, want none", out)
	}

	for _, filter := range []string{"--state=delivered", "--type=pf_checking_account", "--consent=consent-done"} {
		if out := must(t, "reports", "retry", "--dir", dir, filter); out != "0 deliveries are tried again\n" {
			t.Errorf("%s: got %q, want that there is nothing to do", filter, out)
		}
		if out := must(t, "reports", "drop", "--dir", dir, filter, "--why", "OPS-1"); out != "0 deliveries are dropped\n" {
			t.Errorf("%s: got %q, want that there is nothing to do", filter, out)
		}
	}

	// What was put back while Caddy is stopped is not said to be tried.
	_ = s.Close()
	if out := must(t, "reports", "retry", "--dir", dir, "--report", "lost"); out != "1 delivery is tried again once Caddy runs\n" {
		t.Errorf("got %q, want that it takes Caddy", out)
	}

	// What was put back while Caddy is stopped is delivered when it runs.
	if out := must(t, "reports", "retry", "--json", "--dir", dir, "--state", "dead"); out != `{"deliveries":1}`+"\n" {
		t.Errorf("got %q, want 1", out)
	}
	records := recordsOf(t, must(t, "reports", "list", "--json", "--dir", dir, "--report", "dead"))
	if len(records) != 1 || records[0].State != inbox.Waiting {
		t.Errorf("got %+v, want it waiting", records)
	}
}

func TestDropReports(t *testing.T) {
	each(t, func(t *testing.T, dir string, uids map[string]string, _ bool) {
		if out := must(t, "reports", "drop", "--dir", dir, "--type", "pf_c*", "--who", "ann", "--why", "OPS-1"); out != "2 deliveries are dropped\n" {
			t.Errorf("got %q, want 2 dropped", out)
		}
		records := recordsOf(t, must(t, "reports", "audit", "--json", "--dir", dir, "--state", "dropped"))
		if got := namesOf(records); got != "dead waits" || records[0].Actions[0].Why != "OPS-1" {
			t.Errorf("got %q, want what was dropped with the reason", got)
		}
		refused(t, exitFailed, "was delivered on", "reports", "drop", "--dir", dir, "--uid", uids["done"], "--why", "OPS-1")
	})
}

func TestEraseReports(t *testing.T) {
	each(t, func(t *testing.T, dir string, uids map[string]string, running bool) {
		args := []string{"reports", "erase", "--dir", dir}
		if !running {
			refused(t, exitUsage, notOpen+": give --config, too", "reports", "erase", "--dir", dir, "--link", "link-1", "--why", "LGPD-1")
			args = append(args, "--config", config(t, ""), "--account", "bank")
		}
		out := must(t, append(args, "--consent", "consent-waits", "--who", "ann", "--why", "LGPD-1")...)
		for _, want := range []string{
			"erased: consent consent-waits\non 20", "Z by ann\n",
			"UID REPORT WAS BODY", " waiting destroyed",
			"1 report, 1 body destroyed; what still comes is not kept",
		} {
			if !strings.Contains(rowsOf(out, uids), want) && !strings.Contains(out, want) {
				t.Errorf("got\n%s\nwant %q in it", out, want)
			}
		}
		var receipt inbox.EraseReceipt
		out = must(t, append(args, "--json", "--link", "link-1", "--why", "LGPD-1")...)
		if err := json.Unmarshal([]byte(out), &receipt); err != nil || receipt.Kind != "link" || len(receipt.Reports) != 4 || receipt.Reports[1].State != "dead" {
			t.Errorf("got %v and %s, want the receipt", err, out)
		}
		refused(t, exitFailed, "erased", "reports", "export", "--dir", dir, "--uid", uids["dead"], "--output", "-", "--why", "OPS-1")
		if out := rowsOf(must(t, "reports", "list", "--dir", dir, "--report", "waits"), nil); !strings.HasSuffix(out, " erased pf_checking_account ledger 1 503") {
			t.Errorf("got %s, want how its last attempt ended", out)
		}
		out = must(t, append(args, "--consent", "mistyped", "--why", "LGPD-1")...)
		if !strings.Contains(out, "\nnothing destroyed, since no report has this id (is it right?); what still comes is not kept\n") {
			t.Errorf("got %s, want a doubt", out)
		}
	})
}

// Events of erase_on wait for their service, also while Caddy is stopped.
func TestEraseSparesItsEvents(t *testing.T) {
	dir := t.TempDir()
	s := openInbox(t, dir, nil)
	put(t, s, inbox.KindEvent, "revoked", "consent_revoked")
	put(t, s, inbox.KindEvent, "created", "consent_created")
	_ = s.Close()
	out := must(t, "reports", "erase", "--dir", dir, "--link", "link-1", "--why", "LGPD-1", "--json",
		"--config", config(t, `"erase_on":["consent_revoked"]`), "--account", "bank")
	if !strings.Contains(out, `"report_id":"created"`) || strings.Contains(out, `"report_id":"revoked"`) {
		t.Errorf("got %s, want the event that asks for it left alone", out)
	}
}

func TestRoutes(t *testing.T) {
	each(t, func(t *testing.T, dir string, _ map[string]string, running bool) {
		must(t, "routes", "pause", "--dir", dir, "--route", "cards", "--who", "ann")
		out := must(t, "routes", "list", "--dir", dir)
		want := "ROUTE STATE WAITING OLDEST DEAD BUSY LAST\n" +
			"ledger ok 1 0s 0 0 503\n" +
			"cards paused 0s (ann) 0 1 0 410: the upstream will never take it\n" +
			"(none) 1 0s 0 0\n" +
			"without a route: pf_unheard_of\n"
		if !running {
			want = "ROUTE STATE WAITING OLDEST DEAD BUSY LAST\n" +
				"cards paused 0s (ann) 0 1 0\n" +
				"(unknown) 2 0s 0 0\n" +
				notOpen + ", so the routes are not known for: pf_checking_account, pf_unheard_of\n"
		}
		got := rowsOf(out, nil)
		if got = got[:max(strings.LastIndex(got, "\n")+1, 0)]; got != want {
			t.Errorf("got\n%s\nwant\n%s", got, want)
		}
		if !strings.Contains(out, ", 2 waiting, 1 dead, 0 damaged; 0 quarantined\n") {
			t.Errorf("got %s, want what there is in all", out)
		}
		found := false
		for line := range strings.Lines(must(t, "routes", "list", "--dir", dir, "--json")) {
			var r inbox.RouteStatus
			if err := json.Unmarshal([]byte(line), &r); err != nil {
				t.Errorf("%v in %s", err, line)
			}
			found = found || r.Name == "cards" && r.PausedBy == "ann" && r.Dead == 1
		}
		if !found {
			t.Error("got no object for cards, want one")
		}
		if out := must(t, "routes", "resume", "--dir", dir, "--route", "cards"); out != "cards is resumed\n" {
			t.Errorf("got %q, want what happened", out)
		}
		if out := must(t, "routes", "list", "--dir", dir); strings.Contains(out, "paused") {
			t.Errorf("got %s, want no route paused", out)
		}
		if running {
			refused(t, exitFailed, "there are ledger, cards", "routes", "pause", "--dir", dir, "--route", "crads")
		}
	})
}

// What came after its consent was erased is listed with its type, and found by it.
func TestErasedOnArrival(t *testing.T) {
	dir := t.TempDir()
	s := openInbox(t, dir, nil)
	if _, err := s.Erase(t.Context(), inbox.EraseConsent, "consent-a", "ann", "LGPD-1"); err != nil {
		t.Fatal(err)
	}
	put(t, s, inbox.KindReport, "a", "pf_loans")
	serve(t, s)
	out := rowsOf(must(t, "reports", "list", "--dir", dir, "--type", "pf_loans"), nil)
	if !strings.HasSuffix(out, " 0s erased pf_loans 0") {
		t.Errorf("got %s, want it with its type", out)
	}
	if routes := must(t, "routes", "list", "--dir", dir); !strings.Contains(routes, "0 B, 0 waiting, 0 dead") {
		t.Errorf("got %s, want that nothing waits", routes)
	}
}

// While nobody knows the routes, that is said, also where nothing waits.
func TestRoutesThatAreNotKnown(t *testing.T) {
	dir := t.TempDir()
	s := openInbox(t, dir, nil)
	_ = s.Close()
	if out := must(t, "routes", "list", "--dir", dir); !strings.Contains(out, "\n"+notOpen+", so the routes are not known\n0 B, 0 waiting") {
		t.Errorf("got %s, want why there is none", out)
	}
	for _, name := range []string{"pause", "resume"} {
		code, stdout, stderr := klavi(t, "routes", name, "--dir", dir, "--route", "nope")
		if code != exitOK || stdout != "nope is "+name+"d\n" || !strings.Contains(stderr, "so it is not known whether there is such a route") {
			t.Errorf("got %d, %q and %q, want a doubt", code, stdout, stderr)
		}
	}
}

func TestOSUser(t *testing.T) {
	dir := t.TempDir()
	s := openInbox(t, dir, nil)
	put(t, s, inbox.KindReport, "a", "pf_loans")
	serve(t, s)
	t.Setenv("SUDO_USER", "ann")
	must(t, "reports", "retry", "--dir", dir)
	t.Setenv("SUDO_USER", "")
	must(t, "reports", "retry", "--dir", dir)
	records := recordsOf(t, must(t, "reports", "show", "--json", "--dir", dir, "--report", "a"))
	if a := records[0].Actions; len(a) != 2 || a[0].Who != "ann" || a[1].Who == "" || a[1].Who == "ann" {
		t.Errorf("got %+v, want the user before sudo, and the user", a)
	}
}

// onTerminal has everything that is printed go to a terminal.
func onTerminal(t *testing.T) {
	t.Helper()
	before := isTerminal
	isTerminal = func(io.Writer) bool { return true }
	t.Cleanup(func() { isTerminal = before })
}

func TestProgressOnATerminal(t *testing.T) {
	var out bytes.Buffer
	run := func(steps ...int) string {
		out.Reset()
		progress, end := progressOn(&out, "dropped")
		if progress == nil {
			end()
			return "nothing to call"
		}
		for _, done := range steps {
			progress(done, 450)
		}
		end()
		return out.String()
	}
	if got := run(0, 200, 450); got != "nothing to call" {
		t.Errorf("got %q without a terminal, want nothing", got)
	}
	onTerminal(t)
	if got, want := run(0, 200, 400, 450), "\r200 of 450 dropped\r400 of 450 dropped\r450 of 450 dropped\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := run(0, 450); got != "" {
		t.Errorf("got %q for what takes one step, want nothing", got)
	}
}
