package inbox

import (
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"
)

// Where nothing waits, the database is not read before something was written.
func TestEmptyStoreIsNotRead(t *testing.T) {
	onlySQLite(t)
	o, _ := quietOptions(t.TempDir())
	s := openTest(t, o) // without routes, watch itself does not look
	look := s.engine.watchOnce
	if err := look(); err != nil {
		t.Fatal(err)
	}
	_ = s.base.(*sqlite).readers.Close() // so that to read is an error
	if err := look(); err != nil {
		t.Errorf("got %v, want nothing read: nothing was written", err)
	}
	if err := s.write(t.Context(), func(*tx) error { return nil }); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := look(); err == nil {
			t.Error("got nothing read, want it read again: something was written, and no look has succeeded since")
		}
	}
}

func TestStoreInWhichSomethingWaitsIsRead(t *testing.T) {
	onlySQLite(t)
	o, _ := quietOptions(t.TempDir())
	s := openTest(t, o)
	mustPut(t, s, testHead("1"), randomBody(100))
	if err := s.engine.watchOnce(); err != nil {
		t.Fatal(err)
	}
	_ = s.base.(*sqlite).readers.Close()
	if err := s.engine.watchOnce(); err == nil {
		t.Error("got nothing read, want it read: a report waits")
	}
}

// What was repaired may be another database.
func TestRepairCountsAsWritten(t *testing.T) {
	onlySQLite(t)
	o, _ := quietOptions(t.TempDir())
	s := openTest(t, o)
	err := s.submit(t.Context(), &op{raw: func(*writer) error {
		before := s.writes.Load()
		s.base.(*sqlite).trouble.set(errGone)
		err := s.base.(*sqlite).repair()
		if got := s.writes.Load(); got == before {
			t.Errorf("got %d batches before the repair and after it, want more", got)
		}
		return err
	}})
	if err != nil {
		t.Fatal(err)
	}
}

func TestEmptyStoreSleeps(t *testing.T) {
	onlySQLite(t)
	var looks atomic.Int64 // at the clock: whoever wakes up takes one
	clock := func(o *Options) {
		o.Now = func() time.Time {
			looks.Add(1)
			return time.Now()
		}
	}
	bubble(t, clock, func(t *testing.T, s *Store) {
		defer s.Attach(routesTo(accept, "a"))()
		arrive(t, s, "a", "1")
		pass(5 * time.Minute)
		before := looks.Load()
		pass(time.Hour)
		// Two a minute, and retention with what follows on it.
		if got := looks.Load() - before; got < 60 || got > 240 {
			t.Errorf("got %d looks at the clock in an hour in which nothing happened, want some three a minute", got)
		}
	})
}

// What sleeps is awake when something was written.
func TestEmptyStoreWakes(t *testing.T) {
	onlySQLite(t)
	bubble(t, nil, func(t *testing.T, s *Store) {
		routes := routesTo(accept, "a")
		defer s.Attach(routes)()
		for _, id := range []string{"1", "2"} {
			pass(14*time.Minute + 30*time.Second)
			stored := s.stored
			s.stored = func(Kind, []string) bool { return true } // nobody is told
			arrive(t, s, "a", id)
			s.stored = stored
			log := filepath.Join(s.dir, dbName+"-wal")
			if info, err := os.Stat(log); err != nil || info.Size() == 0 {
				t.Fatalf("got %v and %v, want a log with the report in it", info, err)
			}
			pass(3 * maintainInterval)
			if info, err := os.Stat(log); err != nil || info.Size() > 0 {
				t.Errorf("got a log of %d bytes and %v, want it empty soon", info.Size(), err)
			}
			pass(lookAgain)
			if got := routes.of(id); len(got) != 1 {
				t.Errorf("got %d attempts, want what nobody was told of found within %v", len(got), lookAgain)
			}
		}
	})
}

// The reserve is made in time after a long sleep, and goes when nothing waits.
func TestEmptyStoreKeepsReserve(t *testing.T) {
	onlySQLite(t)
	bubble(t, nil, func(t *testing.T, s *Store) {
		defer s.Attach(routesTo(accept, "a"))()
		if err := s.Pause(t.Context(), "a", "test"); err != nil { // nothing is written while it waits
			t.Fatal(err)
		}
		exists := func() bool {
			_, err := os.Stat(s.files.path(reserveName))
			return err == nil
		}
		pass(14*time.Minute + 30*time.Second)
		arrive(t, s, "a", "1")
		pass(makeReserveAfter - 2*time.Second)
		if exists() {
			t.Error("got a reserve at once, want none for what is delivered soon")
		}
		pass(4 * time.Second)
		if !exists() {
			t.Errorf("got no reserve, want one when a report has waited for %v", makeReserveAfter)
		}
		if err := s.Resume(t.Context(), "a", "test"); err != nil {
			t.Fatal(err)
		}
		pass(dropReserveAfter + idleInterval)
		if exists() {
			t.Error("got a reserve when nothing waits any more, want none")
		}
	})
}

func TestBatchesWake(t *testing.T) {
	var b batches
	isClosed := func(c <-chan struct{}) bool {
		select {
		case <-c:
			return true
		default:
			return false
		}
	}
	first, second := b.after(0), b.after(0)
	if isClosed(first) || isClosed(second) {
		t.Error("got somebody woken before anything was written")
	}
	b.Add(1)
	if !isClosed(first) || !isClosed(second) {
		t.Error("got somebody asleep, want all awake: something was written")
	}
	if !isClosed(b.after(0)) {
		t.Error("got somebody asleep who has missed what was written")
	}
	if isClosed(b.after(1)) {
		t.Error("got somebody woken who has missed nothing")
	}
}
