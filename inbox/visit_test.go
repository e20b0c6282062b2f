package inbox

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// What another user makes in an inbox, its owner could not write.
func TestVisitOfAnotherUser(t *testing.T) {
	onlySQLite(t)
	if os.Getuid() != 0 {
		t.Skip("only root can give files to others")
	}
	o, logged := quietOptions(t.TempDir())
	_ = openTest(t, o).Close()
	before := filesIn(t, o.Dir)
	if err := os.Chown(filepath.Join(o.Dir, dbName), 12345, 12345); err != nil {
		t.Fatal(err)
	}
	o.Visit = true
	_, err := Open(t.Context(), o)
	if !errors.Is(err, ErrUnavailable) || !strings.Contains(err.Error(), "as uid 12345") {
		t.Errorf("got %v, want who it belongs to", err)
	}
	if after := filesIn(t, o.Dir); !slices.Equal(before, after) {
		t.Errorf("got %q, want %q as before", after, before)
	}

	// Root may serve it.
	if strings.Contains(logged.String(), "belongs to another user") {
		t.Errorf("got %s, want nothing of its own inbox", logged.String())
	}
	o.Visit = false
	_ = openTest(t, o).Close()
	if !strings.Contains(logged.String(), `who cannot use what this process makes in it" dir=`) || !strings.Contains(logged.String(), `owner="uid 12345"`) {
		t.Errorf("got %s, want a warning that says whose it is", logged.String())
	}
}

// A visitor does not know for how long the owner keeps what is dead.
func TestVisitRemovesNothing(t *testing.T) {
	onlySQLite(t)
	for _, visit := range []bool{false, true} {
		t.Run(fmt.Sprint(visit), func(t *testing.T) {
			dir := t.TempDir()
			synctest.Test(t, func(t *testing.T) {
				s := reopen(t, dir, nil)
				end(t, s, mustPut(t, s, testHead("a"), randomBody(10)).UID, "dead")
				_ = s.Close()
				time.Sleep(DefaultKeepDead + time.Hour)
				s = reopen(t, dir, func(o *Options) { o.Visit = visit })
				time.Sleep(4 * retainInterval)
				synctest.Wait()
				if got := stateCount(t, s)[Dead]; (got == 1) != visit {
					t.Errorf("got %d that are dead, want it kept: %v", got, visit)
				}
				_ = s.Close()
			})
		})
	}
}
