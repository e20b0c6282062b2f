package integration

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/caddyserver/caddy/v2"
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/spf13/cobra"
)

// withInbox is a gateway without an admin API, whose inbox is encrypted.
const withInbox = `
{
	admin off
	auto_https off
	log {
		output file {{log}}
		format klavi
	}
	klavi {
		base_url http://127.0.0.1:{{klavi}}/data/v1
		access_key sandbox-access-key
		secret_key {env.TEST_SECRET_KEY}
		inbox {
			dir {env.TEST_INBOX}
			encryption_key {env.TEST_INBOX_KEY}
			erase_on consent_deleted_by_user
		}
	}
}
http://:{{hooks}} {
	bind 127.0.0.1
	klavi_reports /klavi/reports {
		specific pf_credit_card as cards http://127.0.0.1:{{upstream}}/cards
		event * as privacy http://127.0.0.1:{{upstream}}/privacy
	}
}
`

// command runs `caddy klavi` in this process, and returns what it prints.
func command(t *testing.T, args ...string) (output string, ok bool) {
	t.Helper()
	var out bytes.Buffer
	root := &cobra.Command{Use: "caddy", SilenceErrors: true}
	cmd := &cobra.Command{Use: "klavi"}
	caddycmd.Commands()["klavi"].CobraFunc(cmd)
	root.AddCommand(cmd)
	root.SetOut(&out)
	root.SetErr(&out)
	root.SetArgs(append([]string{"klavi"}, args...))
	err := root.Execute()
	wantNowhere(t, strings.Join(args, " "), out.String(), testCPF, "Maria", testSecret, "070707")
	return out.String(), err == nil
}

// One report, from when its service is down until it has it: Caddy runs without an
// admin API, is stopped, and runs again.
func TestCommandsOnAGateway(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("TEST_SECRET_KEY", testSecret)
	t.Setenv("TEST_INBOX", filepath.Join(dir, "inbox"))
	t.Setenv("TEST_INBOX_KEY", strings.Repeat("07", 32))
	var up atomic.Bool
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if !up.Load() {
			w.Header().Set("Retry-After", "3600")
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}))
	defer upstream.Close()
	g := start(t, withInbox, "upstream", upstream.URL[strings.LastIndex(upstream.URL, ":")+1:])
	config := filepath.Join(dir, "Caddyfile")
	if err := os.WriteFile(config, []byte(g.expand(withInbox)), 0o600); err != nil {
		t.Fatal(err)
	}
	run := func(want, line string) {
		t.Helper()
		out, ok := command(t, append(strings.Fields(line), "--config", config)...)
		if got := strings.Join(strings.Fields(out), " "); !ok || !strings.Contains(got, want) {
			t.Errorf("%s: got %v and\n%s\nwant %q", line, ok, out, want)
		}
	}
	if a := g.report(`{"productName":"pf_credit_card","productReportId":"report-1","data":{"personalTaxId":"` + testCPF + `","name":"Maria"}}`); a.status != 200 {
		t.Fatalf("got %d %s, want the report taken", a.status, a.body)
	}
	g.eventually("the first attempt", func() bool {
		out, _ := command(t, "reports", "list", "--config", config)
		return strings.Contains(out, "503")
	})
	run("waiting pf_credit_card cards 1 in ", "reports list --report report-1")
	run("cards is paused", "routes pause --route cards --who ann")
	run("1 delivery is tried again", "reports retry --route cards")
	run("cards paused 0s (ann) 1", "routes list")

	if err := caddy.Stop(); err != nil {
		t.Fatal(err)
	}
	run("waiting pf_credit_card cards 1", "reports list --state waiting --route cards")
	run("(unknown) 1", "routes list")
	exported := filepath.Join(dir, "report.json")
	run(exported, "reports export --report report-1 --why OPS-1 --output "+exported)
	if text := readFile(t, exported); !strings.Contains(text, testCPF) {
		t.Errorf("got %s, want the report", text)
	}
	run("cards is resumed", "routes resume --route cards")
	// Where the key is not at hand.
	t.Setenv("TEST_INBOX_KEY", "")
	if out, ok := command(t, "reports", "list", "--config", config); ok || !strings.Contains(out, "give --encryption-key-file") {
		t.Errorf("got %v and %s without the key, want where it can come from", ok, out)
	}
	keyFile := filepath.Join(dir, "key")
	if err := os.WriteFile(keyFile, []byte(strings.Repeat("07", 32)+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	run("waiting pf_credit_card cards 1", "reports list --encryption-key-file "+keyFile)
	t.Setenv("TEST_INBOX_KEY", strings.Repeat("07", 32))

	up.Store(true)
	if err := g.load(withInbox); err != nil {
		t.Fatal(err)
	}
	g.eventually("the delivery", func() bool {
		out, _ := command(t, "reports", "list", "--state", "delivered", "--config", config)
		return strings.Contains(out, "delivered  pf_credit_card  cards")
	})
	run("nothing destroyed", "reports erase --consent mistyped --why LGPD-1")
	for _, what := range []string{"accepted by cards", "failed at cards", "retry by ", "export by "} {
		run(what, "reports audit")
	}
	wantNowhere(t, "the log", readFile(t, g.logs), testCPF, "Maria", "070707")
}
