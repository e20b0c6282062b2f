package command

import (
	"bytes"
	"context"
	"crypto/sha256"
	"log/slog"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddy-klavi/caddy-klavi/inbox"
	"github.com/caddy-klavi/caddy-klavi/inbox/postgrestest"
)

func TestMain(m *testing.M) { os.Exit(postgrestest.Main(m).Run()) }

var testKey = bytes.Repeat([]byte{7}, 32)

// openInbox opens an inbox as Caddy does. Without a key it is unencrypted.
func openInbox(t *testing.T, dir string, key []byte) *inbox.Store {
	t.Helper()
	s, err := inbox.Open(t.Context(), inbox.Options{
		Dir: dir, EncryptionKey: key, Unencrypted: key == nil, Node: "node-1", Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func serve(t *testing.T, s *inbox.Store) {
	t.Helper()
	if err := s.ServeSocket(); err != nil {
		t.Fatal(err)
	}
}

// put stores a report, and returns its uid. Its ids are made from its name.
func put(t *testing.T, s *inbox.Store, kind inbox.Kind, name string, types ...string) string {
	t.Helper()
	return putBody(t, s, kind, name, []byte(`{"about":"`+name+`"}`), types...)
}

func putBody(t *testing.T, s *inbox.Store, kind inbox.Kind, name string, body []byte, types ...string) string {
	t.Helper()
	d, err := s.NewDraft()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.Write(body); err != nil {
		t.Fatal(err)
	}
	receipt, err := d.Commit(t.Context(), inbox.Head{
		Kind: kind, Subjects: types, ReportID: name, Received: time.Now(), RequestID: "request-" + name,
		LinkIDs: []string{"link-1"}, ConsentIDs: []string{"consent-" + name}, EventIDs: []string{"event-" + name},
	}, sha256.Sum256(body))
	if err != nil {
		t.Fatal(err)
	}
	return receipt.UID
}

// routes are the routes of a config: cards, which refuses for good, and ledger,
// which accepts when it is up.
type routes struct{ up atomic.Bool }

func (*routes) Route(_ inbox.Kind, subject string) string {
	switch {
	case strings.HasPrefix(subject, "pf_credit_card"):
		return "cards"
	case subject == "pf_checking_account":
		return "ledger"
	}
	return ""
}

func (*routes) List() []inbox.Route {
	return []inbox.Route{{Name: "ledger", Concurrency: 2, Timeout: time.Second}, {Name: "cards", Concurrency: 1, Timeout: time.Second}}
}

func (r *routes) Deliver(_ context.Context, route string, d *inbox.Delivery) inbox.Outcome {
	switch {
	case route == "cards":
		return inbox.Outcome{Dead: true, Status: 410}
	case r.up.Load() || d.Head.ReportID == "done":
		return inbox.Outcome{Accepted: true, Status: 200}
	}
	return inbox.Outcome{Status: 503, Reason: "the route answered with status 503", RetryAfter: time.Hour}
}

// furnish gives an inbox one report of each sort, and returns their uids.
func furnish(t *testing.T, s *inbox.Store) (uids map[string]string, r *routes) {
	t.Helper()
	r = new(routes)
	s.Attach(r)
	uids = make(map[string]string)
	for _, report := range []struct{ name, subject string }{
		{"done", "pf_checking_account"},
		{"dead", "pf_credit_card"},
		{"waits", "pf_checking_account"},
		{"lost", "pf_unheard_of"},
	} {
		uids[report.name] = put(t, s, inbox.KindReport, report.name, report.subject)
		attempts := 1
		if report.name == "lost" {
			attempts = 0
		}
		eventually(t, report.name+" is where it belongs", func() bool {
			record, err := s.Show(context.Background(), uids[report.name])
			return err == nil && record.Deliveries[0].Attempts == attempts
		})
	}
	return uids, r
}

func eventually(t *testing.T, what string, fn func() bool) {
	t.Helper()
	for range 2000 {
		if fn() {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Fatalf("it did not come about that %s", what)
}

// each runs a test with an inbox that Caddy has open, and with one that it had.
func each(t *testing.T, test func(t *testing.T, dir string, uids map[string]string, running bool)) {
	t.Helper()
	for _, running := range []bool{true, false} {
		name := "stopped"
		if running {
			name = "running"
		}
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			s := openInbox(t, dir, nil)
			uids, _ := furnish(t, s)
			if running {
				serve(t, s)
			} else {
				_ = s.Close()
			}
			test(t, dir, uids, running)
		})
	}
}

// must runs a command that must succeed, and returns what it printed.
func must(t *testing.T, args ...string) string {
	t.Helper()
	code, stdout, stderr := klavi(t, args...)
	if code != exitOK {
		t.Errorf("%q: got %d and %q, want %d", args, code, stderr, exitOK)
	}
	return stdout
}

// refused runs a command that must not.
func refused(t *testing.T, code int, want string, args ...string) {
	t.Helper()
	got, stdout, stderr := klavi(t, args...)
	if got != code || stdout != "" || !strings.Contains(stderr, want) {
		t.Errorf("%q: got %d, %q and %q, want %d, nothing, and %q", args, got, stdout, stderr, code, want)
	}
	for _, secret := range []string{string(testKey), "hunter2", "0707"} {
		if strings.Contains(stderr, secret) {
			t.Errorf("%q: a key is shown: %s", args, stderr)
		}
	}
}
