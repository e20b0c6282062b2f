package inbox

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"testing"
)

// A process that is killed at any point of storing loses nothing that it has
// acknowledged, and leaves nothing behind but that.
func TestKilledWhileStoring(t *testing.T) {
	t.Parallel()
	rounds := soakRounds(2)
	points := []string{atWrite, atWritten, atSynced, atRenamed, atFolder, atCommit, atCommitted}
	if testDatabase != "" {
		points = []string{atWrite, atCommit, atCommitted} // there are no folders
	}
	for _, point := range points {
		t.Run(strings.ReplaceAll(point, " ", "_"), func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			var ids []string
			for round := range rounds {
				p := startHelper(t, dir, "HELPER_POINT="+point, fmt.Sprint("HELPER_COUNT=", 3+7*(round%30)), fmt.Sprint("HELPER_PREFIX=", round))
				ids = append(ids, p.kill(1_000_000)...)
				if status := p.cmd.ProcessState.String(); status != "signal: killed" {
					t.Fatalf("got %s, want it killed: %s", status, p.stderr.String())
				}
				s := openTest(t, hurried(testOptions(t, dir)))
				checkKept(t, s, ids)
				_ = s.Close()
			}
		})
	}
}

// A process that is killed at any point of delivering has delivered what it has
// taken off the record, byte for byte, and delivers the rest when it is back.
func TestKilledWhileDelivering(t *testing.T) {
	t.Parallel()
	for _, point := range []string{atAttempt, atAnswered, atSettled, atCommit, atCommitted} {
		t.Run(strings.ReplaceAll(point, " ", "_"), func(t *testing.T) {
			t.Parallel()
			testKillsWhileDelivering(t, point, soakRounds(2))
		})
	}
}

func testKillsWhileDelivering(t *testing.T, point string, rounds int) {
	dir := t.TempDir()
	var stored []string
	took := make(map[string][]string)
	for round := range rounds {
		p := startHelper(t, dir, "HELPER_DELIVER=1", "HELPER_POINT="+point, fmt.Sprint("HELPER_COUNT=", 5+13*(round%20)), fmt.Sprint("HELPER_PREFIX=", round))
		stored = append(stored, p.kill(1_000_000)...)
		if status := p.cmd.ProcessState.String(); status != "signal: killed" {
			t.Fatalf("got %s, want it killed: %s", status, p.stderr.String())
		}
		for id, digests := range p.took {
			took[id] = append(took[id], digests...)
		}
		s := openTest(t, hurried(testOptions(t, dir)))
		checkOnce(t, s, stored, took)
		_ = s.Close()
	}

	s := openTest(t, hurried(testOptions(t, dir)))
	var mu sync.Mutex
	routes := helperRoutes().(*fakeRoutes)
	routes.deliver = func(_ context.Context, _ string, d *Delivery) Outcome {
		body, err := d.Body()
		if err != nil {
			return Outcome{Status: 502}
		}
		defer body.Close()
		data, err := io.ReadAll(body)
		if err != nil {
			return Outcome{Status: 502}
		}
		mu.Lock()
		defer mu.Unlock()
		took[d.Head.ReportID] = append(took[d.Head.ReportID], fmt.Sprintf("%x", sha256.Sum256(data)))
		return Outcome{Accepted: true, Status: 200}
	}
	s.Attach(routes)
	eventually(t, "nothing waits any more", func() bool {
		st, err := s.Stats(t.Context())
		return err == nil && st.Waiting == 0
	})
	mu.Lock()
	defer mu.Unlock()
	checkOnce(t, s, stored, took)
	checkKept(t, s, nil)
	if s.base.shared() {
		return
	}
	if err := s.base.(*sqlite).tidy(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{bodiesName, tmpName} {
		if files, err := s.files.list(name); err != nil || len(files) > 0 {
			t.Errorf("got %d files in %s and %v when all is delivered, want none", len(files), name, err)
		}
	}
}

// checkOnce makes sure that each report that was stored is on record once:
// delivered, if somebody has taken it as it was, or waiting.
func checkOnce(t testing.TB, s *Store, stored []string, took map[string][]string) {
	t.Helper()
	records, err := s.List(t.Context(), Filter{}, Page{Limit: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	states := make(map[string]State, len(records))
	for _, r := range records {
		if states[r.ReportID] != "" {
			t.Errorf("%s is on record twice", r.ReportID)
		}
		states[r.ReportID] = r.State
		want := fmt.Sprintf("%x", sha256.Sum256(bodyOf(r.ReportID)))
		for _, got := range took[r.ReportID] {
			if got != want {
				t.Errorf("%s was delivered with another body: got %s, want %s", r.ReportID, got, want)
			}
		}
		if r.State != Waiting && (r.State != Delivered || len(took[r.ReportID]) == 0) {
			t.Errorf("%s: got it %s, delivered %d times", r.ReportID, r.State, len(took[r.ReportID]))
		}
	}
	for _, id := range stored {
		if states[id] == "" {
			t.Errorf("%s was acknowledged and is missing", id)
		}
	}
}

// The lock ends with the process, and names it until then.
func TestLock(t *testing.T) {
	onlySQLite(t)
	dir := t.TempDir()
	p := startHelper(t, dir, "HELPER_PREFIX=a")
	<-p.opened
	_, err := Open(t.Context(), testOptions(t, dir))
	if want := fmt.Sprintf("in use by process %d since 20", p.cmd.Process.Pid); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("got %v, want %q", err, want)
	}
	ids := p.kill(10)
	if len(ids) < 10 {
		t.Errorf("got %d reports stored beside somebody who wanted the lock, want at least 10: %s", len(ids), p.stderr.String())
	}
	s := openTest(t, hurried(testOptions(t, dir)))
	checkKept(t, s, ids)

	_, err = Open(t.Context(), testOptions(t, dir))
	if want := fmt.Sprintf("process %d", os.Getpid()); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("got %v, want %q", err, want)
	}
	_ = s.Close()
	_ = openTest(t, hurried(testOptions(t, dir))).Close()
}
