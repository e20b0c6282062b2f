package command

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/caddy-klavi/caddy-klavi/inbox"
)

var (
	ages   = regexp.MustCompile(`\b\d+s\b`)
	delays = regexp.MustCompile(`\bin \d+m\b`)
)

// rowsOf returns the lines of a table without what differs from run to run.
func rowsOf(out string, uids map[string]string) string {
	for name, uid := range uids {
		out = strings.ReplaceAll(out, uid, name)
	}
	var lines []string
	for line := range strings.Lines(out) {
		lines = append(lines, strings.Join(strings.Fields(line), " "))
	}
	return delays.ReplaceAllString(ages.ReplaceAllString(strings.Join(lines, "\n"), "0s"), "in 60m")
}

// recordsOf reads what --json prints.
func recordsOf(t *testing.T, out string) (records []inbox.Record) {
	t.Helper()
	for line := range strings.Lines(out) {
		var r inbox.Record
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			t.Fatalf("%v in %s", err, line)
		}
		records = append(records, r)
	}
	return records
}

func namesOf(records []inbox.Record) string {
	var names []string
	for _, r := range records {
		names = append(names, r.ReportID)
	}
	return strings.Join(names, " ")
}

func TestListReports(t *testing.T) {
	each(t, func(t *testing.T, dir string, uids map[string]string, running bool) {
		code, stdout, stderr := klavi(t, "reports", "list", "--dir", dir)
		lost := "lost 0s undeliverable pf_unheard_of 0"
		if !running { // nobody knows the routes
			lost = "lost 0s waiting pf_unheard_of 0"
		}
		want := strings.Join([]string{
			"UID AGE STATE TYPE ROUTE TRIES NEXT LAST",
			"done 0s delivered pf_checking_account ledger 1 200",
			"dead 0s dead pf_credit_card cards 1 410: the upstream will never take it",
			"waits 0s waiting pf_checking_account ledger 1 in 60m 503",
			lost,
		}, "\n")
		if got := rowsOf(stdout, uids); code != exitOK || got != want {
			t.Errorf("got %d and\n%s\nwant\n%s", code, got, want)
		}
		for line := range strings.Lines(stdout) {
			if n := utf8.RuneCountInString(line); n > 140 {
				t.Errorf("got a line of %d characters, want it readable: %s", n, line)
			}
		}
		if !strings.Contains(stderr, "4 reports") {
			t.Errorf("got %q, want how many there are", stderr)
		}
		tests := []struct{ flags, want string }{
			{"", "done dead waits lost"},
			{"--state dead", "dead"},
			{"--state delivered", "done"},
			{"--state waiting", "waits lost"},
			{"--type pf_c*", "done dead waits"},
			{"--type pf_loans", ""},
			{"--route ledger", "done waits"},
			{"--route cards", "dead"},
			{"--older-than 1h", ""},
			{"--newer-than 1d --state dead", "dead"},
			{"--report waits", "waits"},
			{"--request request-done", "done"},
			{"--link link-1 --state dead", "dead"},
			{"--consent consent-lost", "lost"},
			{"--event event-dead", "dead"},
			{"--uid " + uids["waits"], "waits"},
		}
		if running {
			tests = append(tests, struct{ flags, want string }{"--state undeliverable", "lost"})
		}
		for _, test := range tests {
			args := append([]string{"reports", "list", "--json", "--dir", dir}, strings.Fields(test.flags)...)
			if got := namesOf(recordsOf(t, must(t, args...))); got != test.want {
				t.Errorf("%s: got %q, want %q", test.flags, got, test.want)
			}
		}
		refused(t, exitUsage, `"lost" is no state`, "reports", "list", "--dir", dir, "--state", "lost")
	})
}

func TestWrongReportFlags(t *testing.T) {
	for _, test := range []struct{ args, want string }{
		{"reports hunter2", "there is no such command; see caddy klavi reports --help"},
		{"report list --config hunter2", "there is no such command (is it reports?); see caddy klavi --help"},
		{"reports lst --dir hunter2", "there is no such command (is it list?); see caddy klavi reports --help"},
		{"hunter2 --config hunter2", "there is no such command; see caddy klavi --help"},
		{"--config hunter2", "there is no flag --config; see caddy klavi --help"},
		{"routes hunter2", "there is no such command; see caddy klavi routes --help"},
		{"reports list hunter2", "values without a flag; see caddy klavi reports list --help"},
		{"reports list --older-than hunter2", "--older-than takes a time, such as 90s, 10m, 36h or 7d; see"},
		{"reports list --newer-than -5m", "--newer-than takes a time, such as 90s"},
		{"reports list --encryption-key hunter2", "there is no flag --encryption-key"},
		{"reports show", "one of --uid and --report"},
		{"reports show --uid a --report b", "one of --uid and --report"},
		{"reports drop --why a", "everything would be dropped"},
		{"reports drop --uid a", "--why is needed"},
		{"reports erase --consent a", "--why is needed"},
		{"reports erase --why a", "one of --consent, --link and --report"},
		{"reports erase --why a --link a --report b", "one of --consent, --link and --report"},
		{"reports erase --state dead --why a", "there is no flag --state"},
		{"reports export --uid a --why a", "Give --output or --output-dir"},
		{"reports export --uid a --why a --output a --output-dir b", "Give --output or --output-dir"},
		{"reports export --why a --output a", "which reports?"},
		{"reports export --uid a --output a", "--why is needed"},
		{"reports export --uid a --output - --json --why a", "leave one of them out"},
		{"reports drop --uid a --why 529.982.247-25", "--why has what looks like a tax id"},
		{"reports retry --who 52998224725", "--who has what looks like a tax id"},
		{"reports retry --who " + strings.Repeat("a", 101), "--who has 101 characters"},
		{"routes pause", "--route is needed"},
		{"routes resume", "--route is needed"},
	} {
		refused(t, exitUsage, test.want, strings.Fields(test.args)...)
	}
	// A variable that a script has not set chooses nothing, rather than all.
	for _, test := range []struct{ args, flags string }{
		{"reports list", "state type route uid report request link consent event dir config adapter account encryption-key-file"},
		{"reports retry", "uid consent"},
		{"reports drop --why a", "uid consent"},
		{"reports drop --uid a", "why"},
		{"reports export --output a --why a", "uid consent"},
		{"reports show", "uid report"},
		{"reports audit", "consent"},
		{"reports erase --why a", "consent link report"},
		{"routes pause", "route who"},
		{"routes resume", "route"},
	} {
		for flag := range strings.FieldsSeq(test.flags) {
			refused(t, exitUsage, "--"+flag+" is empty; see caddy klavi", append(strings.Fields(test.args), "--"+flag, "")...)
		}
	}
	refused(t, exitUsage, "--why must be one line", "reports", "drop", "--uid", "a", "--why", "two\nlines")
}

func TestHelp(t *testing.T) {
	for _, command := range []string{"", "reports", "reports list", "routes pause", "conformance"} {
		out := must(t, append(strings.Fields(command), "--help")...)
		if !strings.Contains(out, "Usage:\n  caddy klavi") || !strings.HasSuffix(out, helpFooter) {
			t.Errorf("%s: got\n%s\nwant where to read more in its last lines", command, out)
		}
		for line := range strings.Lines(out) {
			if n := utf8.RuneCountInString(line); n > 150 {
				t.Errorf("%s: got a line of %d characters, want it readable: %s", command, n, line)
			}
		}
	}
}

func TestShowReport(t *testing.T) {
	each(t, func(t *testing.T, dir string, uids map[string]string, _ bool) {
		out := must(t, "reports", "show", "--dir", dir, "--uid", uids["waits"])
		for _, want := range []string{
			"uid waits", "state waiting", "type pf_checking_account", "report waits", "request request-waits", "link link-1",
			"consent consent-waits", "event event-waits", "size 17 bytes (17 B)", "sha256 ", " ago\n",
			"TYPE STATE ROUTE TRIES WAITING NEXT LAST", "pf_checking_account waiting ledger 1 0s in 60m 503\n", "failed at ledger, from node-1, after ", ": status 503",
		} {
			if !strings.Contains(rowsOf(out, uids), want) {
				t.Errorf("got\n%s\nwant %q in it", out, want)
			}
		}
		if strings.Contains(out, "about") {
			t.Errorf("got %s, want nothing of the body", out)
		}
		if !strings.HasPrefix(out, "uid  ") || strings.Contains(out, "\n\n\n") {
			t.Errorf("got %q, want the uid in the first line", out)
		}
		out = must(t, "reports", "show", "--dir", dir, "--uid", uids["done"])
		if ended := regexp.MustCompile(`\nstate     delivered, 20\S+Z, \d+s ago\n`); !ended.MatchString(out) {
			t.Errorf("got %s, want when it was delivered", out)
		}
		records := recordsOf(t, must(t, "reports", "show", "--json", "--dir", dir, "--report", "dead"))
		if len(records) != 1 || records[0].UID != uids["dead"] || len(records[0].Attempts) != 1 || records[0].Attempts[0].Status != 410 {
			t.Errorf("got %+v, want the report with its attempt", records)
		}
		refused(t, exitFailed, "no report is chosen", "reports", "show", "--dir", dir, "--uid", "nobody")
	})
}

func TestAuditReports(t *testing.T) {
	each(t, func(t *testing.T, dir string, uids map[string]string, _ bool) {
		must(t, "reports", "retry", "--dir", dir, "--report", "waits", "--who", "ann")
		must(t, "reports", "drop", "--dir", dir, "--report", "lost", "--who", "ben", "--why", "OPS-1")
		out := must(t, "reports", "audit", "--dir", dir, "--link", "link-1")
		for _, want := range []string{
			uids["done"] + " pf_checking_account: delivered\n  report done\n  request request-done\n  link link-1\n  consent consent-done\n  event event-done\n",
			"  received  17 bytes, sha256 ",
			"  accepted  by ledger, from node-1, after ",
			"  failed    at cards, from node-1, after ",
			": status 410: the upstream will never take it\n",
			"  retry     by ann\n",
			uids["lost"] + " pf_unheard_of: dropped\n",
			"  drop      by ben: OPS-1\n",
		} {
			if !strings.Contains(out, want) {
				t.Errorf("got\n%s\nwant %q in it", out, want)
			}
		}
		records := recordsOf(t, must(t, "reports", "audit", "--json", "--dir", dir, "--consent", "consent-lost"))
		if len(records) != 1 || len(records[0].Actions) != 1 || records[0].Actions[0].Who != "ben" || records[0].Actions[0].Why != "OPS-1" {
			t.Errorf("got %+v, want who has dropped it", records)
		}
	})
}

// Two thousand reports are more than one page, in every command that goes through them.
func TestManyReports(t *testing.T) {
	const n = 2000
	dir := t.TempDir()
	s := openInbox(t, dir, nil)
	var wg sync.WaitGroup
	for i := range 50 {
		wg.Go(func() {
			for j := range n / 50 {
				put(t, s, inbox.KindReport, fmt.Sprintf("report-%d-%d", i, j), "pf_loans")
			}
		})
	}
	wg.Wait()
	serve(t, s)
	seen := make(map[string]bool)
	for _, command := range []string{"list", "audit"} {
		clear(seen)
		for _, r := range recordsOf(t, must(t, "reports", command, "--json", "--dir", dir)) {
			seen[r.ReportID] = true
		}
		if len(seen) != n {
			t.Errorf("%s: got %d reports, want %d", command, len(seen), n)
		}
	}
	code, stdout, stderr := klavi(t, "reports", "list", "--dir", dir)
	if lines := strings.Count(stdout, "\n"); code != exitOK || lines != n+1 || !strings.Contains(stderr, "2000 reports") {
		t.Errorf("got %d, %d lines and %q, want a header and %d rows", code, lines, stderr, n)
	}
	column := strings.Index(stdout, "TYPE")
	for line := range strings.Lines(stdout) {
		if !strings.HasPrefix(line[column:], "TYPE") && !strings.HasPrefix(line[column:], "pf_loans") {
			t.Fatalf("got %q, want its type below that of the first page", line)
		}
	}
	if out := must(t, "reports", "drop", "--json", "--dir", dir, "--type", "pf_loans", "--why", "OPS-1"); out != `{"deliveries":2000}`+"\n" {
		t.Errorf("got %s, want 2000 dropped", out)
	}
}

func TestShortTimes(t *testing.T) {
	for d, want := range map[time.Duration]string{
		-time.Second: "0s", 59 * time.Second: "59s", 90 * time.Second: "1m", 119 * time.Minute: "119m",
		2 * time.Hour: "2h", 47 * time.Hour: "47h", 48 * time.Hour: "2d", 400 * 24 * time.Hour: "400d",
	} {
		if got := short(d); got != want {
			t.Errorf("%v: got %s, want %s", d, got, want)
		}
	}
}
