package inbox

import (
	"context"
	"fmt"
	"os"
	"testing"
	"time"
)

func TestRetention(t *testing.T) {
	const day = 24 * time.Hour
	s, c, _ := clocked(t, Settings{KeepDead: 30 * day, KeepRecord: 300 * day})
	uids := make(map[string]string)
	for _, id := range []string{"waiting", "delivered", "dead", "damaged"} {
		uids[id] = mustPut(t, s, headAt(s, id), randomBody(100_000)).UID
	}
	end(t, s, uids["delivered"], "delivered")
	end(t, s, uids["dead"], "dead")
	if err := s.setReportAside(t.Context(), 4, "test"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Erase(t.Context(), EraseConsent, "other", "x", "y"); err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct {
		pass                     time.Duration
		records, bodies, audited int
		deliveries, refs, erased int
	}{
		{29 * day, 4, 3, 1, 4, 12, 1},
		{2 * day, 4, 1, 1, 4, 12, 1},
		{268 * day, 4, 1, 1, 4, 12, 1},
		{2 * day, 3, 1, 0, 3, 9, 1},
		{31 * day, 1, 1, 0, 1, 3, 1}, // dropped 31 days later than the other was delivered
	} {
		c.pass(step.pass)
		if err := s.Retain(t.Context()); err != nil {
			t.Fatal(err)
		}
		for table, want := range map[string]int{
			"reports": step.records, "bodies": step.bodies, "audit": step.audited,
			"deliveries": step.deliveries, "refs": step.refs, "erased": step.erased,
		} {
			if got := countRows(t, s, "SELECT count(*) FROM "+table); got != want {
				t.Errorf("got %d rows of %s after %s more, want %d", got, table, step.pass, want)
			}
		}
	}
	if state := readState(t, s, uids["waiting"]); state != "waiting" {
		t.Errorf("got %s, want that nothing which waits is too old", state)
	}
	for _, path := range []string{s.files.body(uids["dead"]), s.files.path(damagedName, uids["damaged"])} {
		if _, err := os.Stat(path); err == nil {
			t.Errorf("got %s still there", path)
		}
	}
	if held := s.room.size(); held != sealedSize(100_000) {
		t.Errorf("got %d bytes counted, want those of one body", held)
	}
}

// More than one transaction's worth is removed.
func TestRetentionOfMany(t *testing.T) {
	s, c, _ := clocked(t, Settings{})
	for i := range retainBatch + 10 {
		head := headAt(s, fmt.Sprint(i))
		head.Kind = KindUnreadable
		mustPut(t, s, head, fmt.Append(nil, i))
	}
	c.pass(DefaultKeepDead + time.Hour)
	if err := s.Retain(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := countRows(t, s, `SELECT count(*) FROM bodies`); n != 0 {
		t.Errorf("got %d bodies, want none", n)
	}
}

// What was set aside goes when it is as old as what is dead, but never before the
// row that names it.
func TestRetentionOfWhatWasSetAside(t *testing.T) {
	onlySQLite(t)
	for _, size := range []int{100_000, ownFile} {
		s, c, _ := clocked(t, Settings{})
		uid := mustPut(t, s, headAt(s, "damaged"), randomBody(size)).UID
		// An old file, of which it is found out late that it is damaged.
		if size == ownFile {
			if err := os.Chtimes(s.files.body(uid), time.Time{}, c.Now().Add(-DefaultKeepDead)); err != nil {
				t.Fatal(err)
			}
		}
		if err := s.setReportAside(t.Context(), 1, "test"); err != nil {
			t.Fatal(err)
		}
		if size != ownFile {
			if err := os.Chtimes(s.files.path(damagedName, nameOf(t, s, uid)), time.Time{}, c.Now().Add(-DefaultKeepDead)); err != nil {
				t.Fatal(err)
			}
		}
		for _, name := range []string{dbName + "-1", dbName + "-wal-1", "0198c9be-0000-7000-8000-000000000000", "0198c9be-0000-7000-8000-000000000000+0+70000"} {
			path := s.files.path(damagedName, name)
			if err := os.WriteFile(path, nil, 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.Chtimes(path, time.Time{}, c.Now()); err != nil {
				t.Fatal(err)
			}
		}
		for _, step := range []struct {
			pass time.Duration
			want int
		}{{time.Hour, 5}, {DefaultKeepDead, 0}} {
			c.pass(step.pass)
			if err := s.Retain(t.Context()); err != nil {
				t.Fatal(err)
			}
			files, err := s.files.list(damagedName)
			if err != nil || len(files) != step.want {
				t.Errorf("%d bytes, after %s: got %v and %v, want %d files", size, step.pass, files, err, step.want)
			}
		}
	}
}

// What is old enough to go, but is on its way again, stays.
func TestRetentionSparesWhatIsUnderWay(t *testing.T) {
	bubble(t, nil, func(t *testing.T, s *Store) {
		release := make(chan struct{})
		routes := routesTo(func(context.Context, string, *Delivery) Outcome { return Outcome{Dead: true} }, "a")
		defer s.Attach(routes)()
		receipt := arrive(t, s, "a", "1")
		other := arrive(t, s, "a", "2")
		rest()
		routes.answer(func(ctx context.Context, route string, d *Delivery) Outcome {
			<-release
			deliveredBody(t, d)
			return accept(ctx, route, d)
		})
		if n, err := s.Retry(t.Context(), Filter{UID: receipt.UID}, "ana", nil); n != 1 || err != nil {
			t.Fatalf("got %d and %v, want one tried again", n, err)
		}
		pass(time.Second)
		later := s.now().Add(time.Hour)
		err := s.write(t.Context(), func(tx *tx) error {
			_, err := s.dropDead(tx, later.UnixMilli())
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		close(release)
		rest()
		if got := stateOf(t, s, receipt.UID) + " " + stateOf(t, s, other.UID); got != Delivered+" "+Dropped {
			t.Errorf("got them %s, want the one under way delivered, and the other dropped", got)
		}
	})
}
