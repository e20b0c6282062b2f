package inbox

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// A process that is killed at any point of storing loses nothing that it has
// acknowledged, and leaves nothing behind but that.
func TestKilledWhileStoring(t *testing.T) {
	t.Parallel()
	rounds := 2
	if testing.Short() {
		rounds = 1
	}
	for _, point := range []string{atWrite, atWritten, atSynced, atRenamed, atFolder, atCommit, atCommitted} {
		t.Run(strings.ReplaceAll(point, " ", "_"), func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			var ids []string
			for round := range rounds {
				p := startHelper(t, dir, "HELPER_POINT="+point, fmt.Sprint("HELPER_COUNT=", 3+7*round), fmt.Sprint("HELPER_PREFIX=", round))
				ids = append(ids, p.kill(1_000_000)...)
				if status := p.cmd.ProcessState.String(); status != "signal: killed" {
					t.Fatalf("got %s, want it killed: %s", status, p.stderr.String())
				}
				s := openTest(t, testOptions(t, dir))
				checkKept(t, s, ids)
				_ = s.Close()
			}
		})
	}
}

// The lock ends with the process, and names it until then.
func TestLock(t *testing.T) {
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
	s := openTest(t, testOptions(t, dir))
	checkKept(t, s, ids)

	_, err = Open(t.Context(), testOptions(t, dir))
	if want := fmt.Sprintf("process %d", os.Getpid()); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("got %v, want %q", err, want)
	}
	_ = s.Close()
	_ = openTest(t, testOptions(t, dir)).Close()
}
