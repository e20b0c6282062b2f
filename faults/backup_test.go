package faults

import (
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/caddy-klavi/caddy-klavi/inbox"
)

// A copy of the directory that was made while Caddy was stopped, as docs/reports.md has
// it, is the inbox: what waited is delivered from it, byte by byte, what was dead can be
// tried again, and all records are there.
func TestBackupAndRestore(t *testing.T) {
	u, s := newUpstream(t), newSender(t)
	u.answers(func(w http.ResponseWriter, _ *http.Request, id string) {
		kind, _, _ := strings.Cut(id, "-")
		switch kind {
		case "delivered":
			u.accepts(id)
			w.WriteHeader(http.StatusOK)
		case "dead":
			w.WriteHeader(http.StatusGone)
		default:
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	})
	config := newSetup(t, u.URL)
	p := start(t, config)
	want := map[string]inbox.State{}
	for kind, state := range map[string]inbox.State{"delivered": inbox.Delivered, "dead": inbox.Dead, "waiting": inbox.Waiting} {
		for size, n := range map[string]int{"row": 3000, "file": 200_000, "spooled": 3 << 20} {
			id := kind + "-" + size
			s.mustPost(p.url, id, reportOf("pf_loans", id, n))
			want[id] = state
		}
	}
	states := func(records map[string]inbox.Record) map[string]inbox.State {
		got := make(map[string]inbox.State)
		for id, r := range records {
			got[id] = r.State
			if len(r.Attempts) == 0 {
				got[id] = "not tried"
			}
		}
		return got
	}
	eventually(t, "each report to be tried", func() bool { return maps.Equal(states(p.records()), want) })
	p.stop()

	backup, former := filepath.Join(t.TempDir(), "backup"), filesIn(t, config.dir)
	for _, args := range [][]string{{config.dir, backup}, {backup, config.dir}} {
		if out, err := exec.Command("cp", "-a", args[0], args[1]).CombinedOutput(); err != nil {
			t.Fatalf("copying: %v: %s", err, out)
		}
		if args[0] == config.dir { // the disk is lost
			if err := os.RemoveAll(config.dir); err != nil {
				t.Fatal(err)
			}
		}
	}
	if got := filesIn(t, config.dir); !reflect.DeepEqual(got, former) {
		t.Fatalf("got %d files restored, want the %d that there were", len(got), len(former))
	}

	p = start(t, config)
	if got := states(s.check(p, u)); !maps.Equal(got, want) {
		t.Errorf("got %v after the restore, want %v", got, want)
	}
	if strings.Contains(p.log(), "a new inbox was begun") {
		t.Error("got a new inbox, want the one that was restored")
	}
	u.answers(nil)
	s.drain(p, u)
	for id := range want {
		if n := u.accepted(id); n != 1 {
			t.Errorf("%s was delivered %d times, want once", id, n)
		}
	}
}
