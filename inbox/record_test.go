package inbox

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

func TestAcceptedIsRecordedFirst(t *testing.T) {
	bubble(t, nil, func(t *testing.T, s *Store) {
		routes := routesTo(accept, "a")
		end := refuseWrites(t, s, "INSERT ON attempts")
		defer s.Attach(routes)()
		receipt := arrive(t, s, "a", "1")
		pass(3 * time.Minute) // longer than the claim
		if got := stateOf(t, s, receipt.UID); got != Waiting || routes.attempts() != 1 {
			t.Fatalf("got it %s after %d attempts, want one attempt that is not on record", got, routes.attempts())
		}
		end()
		pass(2 * time.Second)
		r, err := s.Show(t.Context(), receipt.UID)
		if err != nil || r.State != Delivered || len(r.Attempts) != 1 || routes.attempts() != 1 {
			t.Errorf("got %+v (%v) after %d attempts, want it delivered with one", r, err, routes.attempts())
		}
	})
}

func TestUnrecordedAttemptsAreBounded(t *testing.T) {
	bubble(t, nil, func(t *testing.T, s *Store) {
		routes := routesTo(accept, "a")
		end := refuseWrites(t, s, "INSERT ON attempts")
		arriveMany(t, s, "a", "r", 300)
		defer s.Attach(routes)()
		pass(20 * time.Second)
		if n := routes.attempts(); n > maxUnsure+4 {
			t.Errorf("got %d attempts that are not on record, want %d at most", n, maxUnsure+4)
		}
		end()
		pass(time.Minute)
		if got := stateCount(t, s); got[Delivered] != 300 || routes.attempts() != 300 {
			t.Errorf("got %v with %d attempts, want all delivered once", got, routes.attempts())
		}
	})
}

func TestKilledBeforeTheRecord(t *testing.T) {
	onlySQLite(t)
	bubble(t, nil, func(t *testing.T, s *Store) {
		after := t.TempDir()
		routes := routesTo(func(ctx context.Context, route string, d *Delivery) Outcome {
			copyDir(t, after, s.dir) // what a kill leaves
			return accept(ctx, route, d)
		}, "a")
		defer s.Attach(routes)()
		receipt := arrive(t, s, "a", "1")
		rest()
		again := reopen(t, after, nil)
		var uid string
		routes = routesTo(func(ctx context.Context, route string, d *Delivery) Outcome {
			uid = d.UID
			return accept(ctx, route, d)
		}, "a")
		again.Attach(routes)
		rest()
		if uid != receipt.UID || routes.attempts() != 1 {
			t.Errorf("got %q in %d attempts, want %q once more", uid, routes.attempts(), receipt.UID)
		}
	})
}

func TestDamagedReportIsSetAside(t *testing.T) {
	onlySQLite(t)
	bubble(t, nil, func(t *testing.T, s *Store) {
		inRow := arrive(t, s, "a", "row")
		inFile := mustPut(t, s, Head{Kind: KindReport, Subjects: []string{"a"}, ReportID: "file", Received: s.now()}, randomBody(ownFile))
		gone := mustPut(t, s, Head{Kind: KindReport, Subjects: []string{"a"}, ReportID: "gone", Received: s.now()}, randomBody(ownFile))
		good := arrive(t, s, "a", "good")
		noHead := arrive(t, s, "a", "head")
		path := s.files.body(inFile.UID)
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		data[3*chunkSize] ^= 1
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Remove(s.files.body(gone.UID)); err != nil {
			t.Fatal(err)
		}
		for i := range 8 {
			arrive(t, s, "a", fmt.Sprint("row", i))
		}
		err = s.write(t.Context(), func(tx *tx) error {
			err := tx.exec(`UPDATE bodies SET body = zeroblob(length(body)) WHERE report IN (SELECT id FROM reports WHERE report_id LIKE 'row%')`)
			if err != nil {
				return err
			}
			if err := tx.exec(`UPDATE deliveries SET status = 502`); err != nil { // as after an attempt
				return err
			}
			return tx.exec(`UPDATE bodies SET head = zeroblob(length(head)) WHERE report IN (SELECT id FROM reports WHERE report_id = 'head')`)
		})
		if err != nil {
			t.Fatal(err)
		}
		routes := routesTo(func(ctx context.Context, route string, d *Delivery) Outcome {
			b, err := d.Body()
			if err != nil {
				return Outcome{Status: 502}
			}
			defer b.Close()
			if _, err := io.Copy(io.Discard, b); err != nil && d.Head.ReportID != "file" {
				return Outcome{Status: 502}
			}
			return accept(ctx, route, d) // a service that does not see that it got a part only
		}, "a")
		defer s.Attach(routes)()
		pass(time.Minute)
		for _, uid := range []string{inRow.UID, inFile.UID, gone.UID, noHead.UID} {
			if got := stateOf(t, s, uid); got != Damaged {
				t.Errorf("got report %s %s, want it damaged", uid, got)
			}
		}
		if got := stateOf(t, s, good.UID); got != Delivered {
			t.Errorf("got the good one %s, want it delivered", got)
		}
		for uid, want := range map[string]string{
			inRow.UID: "its body does not open (chunk 0)", gone.UID: "its file is missing", noHead.UID: "its head does not open",
		} {
			if r, err := s.Show(t.Context(), uid); err != nil || r.Deliveries[0].Status != 0 || r.Deliveries[0].Reason != want {
				t.Errorf("got %+v (%v), want only what is damaged: %s", r.Deliveries, err, want)
			}
		}
		if _, err := s.Export(t.Context(), inFile.UID, "ana", "x"); !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), "was set aside in damaged/") {
			t.Errorf("got %v for an export, want where the file is", err)
		}
		if n, err := s.Drop(t.Context(), Filter{UID: inRow.UID}, "ana", "x", nil); err != nil || n != 1 {
			t.Errorf("got %d (%v), want a damaged one dropped", n, err)
		}
		if r, err := s.Show(t.Context(), inRow.UID); err != nil || r.State != Dropped || r.Deliveries[0].State != Dropped {
			t.Errorf("got %+v (%v), want it dropped, and its delivery", r, err)
		}
		if n := routes.attempts(); n > 12 {
			t.Errorf("got %d attempts, want each tried once", n)
		}
		if got := routeStatus(t, s, "a"); !got.Failing.IsZero() {
			t.Errorf("got %+v, want a route that is well", got)
		}
	})
}

func TestDeliveriesAndTheClock(t *testing.T) {
	var ahead atomic.Int64
	bubble(t, func(o *Options) {
		o.Now = func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
	}, func(t *testing.T, s *Store) {
		routes := routesTo(refuse(500), "a")
		defer s.Attach(routes)()
		before := arrive(t, s, "a", "before")
		pass(time.Minute)
		ahead.Store(int64(10 * 24 * time.Hour))
		during := arrive(t, s, "a", "during")
		pass(5 * time.Minute)
		ahead.Store(0)
		after := arrive(t, s, "a", "after")
		pass(time.Minute)
		for name, r := range map[string]Receipt{"before": before, "during": during, "after": after} {
			if got := stateOf(t, s, r.UID); got != Waiting {
				t.Errorf("%s the jump: got it %s, want it waiting", name, got)
			}
			if got := routes.of(name); len(got) < 5 {
				t.Errorf("%s the jump: got %d attempts, want more", name, len(got))
			}
		}
		routes.answer(accept)
		pass(2 * time.Minute)
		if got := stateCount(t, s); got[Delivered] != 3 {
			t.Errorf("got %v soon after the jump, want all delivered", got)
		}
	})
}

// A clock that was half an hour ahead has no report wait for half an hour.
func TestClockGoesBackALittle(t *testing.T) {
	var ahead atomic.Int64
	bubble(t, func(o *Options) {
		o.Now = func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
	}, func(t *testing.T, s *Store) {
		routes := routesTo(refuse(500), "a")
		defer s.Attach(routes)()
		ahead.Store(int64(30 * time.Minute))
		arrive(t, s, "a", "1")
		pass(5 * time.Minute)
		ahead.Store(0)
		before := routes.attempts()
		pass(5 * time.Minute)
		if got := routes.attempts() - before; got < 4 {
			t.Errorf("got %d attempts in five minutes after the clock went back, want one a minute", got)
		}
	})
}

// Nothing that waits dies because the clock is wrong for hours.
func TestClockIsWrongForHours(t *testing.T) {
	var ahead atomic.Int64
	bubble(t, func(o *Options) {
		o.Now = func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
	}, func(t *testing.T, s *Store) {
		routes := routesTo(func(_ context.Context, route string, _ *Delivery) Outcome {
			return Outcome{Status: map[string]int{"down": 503, "bad": 400}[route]}
		}, "down", "bad")
		defer s.Attach(routes)()
		arriveMany(t, s, "down", "d", 20)
		arriveMany(t, s, "bad", "b", 20)
		arriveMany(t, s, "without a route", "w", 20)
		pass(2 * trustTime)
		ahead.Store(int64(10 * 24 * time.Hour))
		pass(4 * trustTime)
		ahead.Store(0)
		pass(2 * trustTime)
		if got := stateCount(t, s); got[Waiting] != 60 {
			t.Errorf("got %v, want all waiting", got)
		}
	})
}

func TestClockJumpsDuringAnAttempt(t *testing.T) {
	var ahead atomic.Int64
	bubble(t, func(o *Options) {
		o.Now = func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
	}, func(t *testing.T, s *Store) {
		routes := routesTo(func(ctx context.Context, route string, d *Delivery) Outcome {
			time.Sleep(20 * time.Second)
			return accept(ctx, route, d)
		}, "a")
		defer s.Attach(routes)()
		arrive(t, s, "a", "1")
		pass(time.Second)
		ahead.Store(int64(10 * 24 * time.Hour))
		pass(time.Minute)
		if n := routes.attempts(); n != 1 {
			t.Errorf("got %d attempts, want one", n)
		}
	})
}

func TestClaimIsTakenOver(t *testing.T) {
	bubble(t, nil, func(t *testing.T, s *Store) {
		receipt := arrive(t, s, "a", "1")
		err := s.write(t.Context(), func(tx *tx) error {
			return tx.exec(`UPDATE deliveries SET claimed_by = 'another node', claimed_until = ?`, s.now().Add(time.Minute).UnixMilli())
		})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Attach(routesTo(accept, "a"))()
		pass(59 * time.Second)
		if got := stateOf(t, s, receipt.UID); got != Waiting {
			t.Errorf("got it %s while another has it, want it waiting", got)
		}
		pass(10 * time.Second)
		if got := stateOf(t, s, receipt.UID); got != Delivered {
			t.Errorf("got it %s, want it delivered", got)
		}
	})
}

func copyDir(t testing.TB, to, from string) {
	t.Helper()
	err := filepath.WalkDir(from, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil || d.IsDir() {
			return errors.Join(err, os.MkdirAll(filepath.Join(to, rel), 0o700))
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(to, rel), data, 0o600)
	})
	if err != nil {
		t.Error(err)
	}
}
