package inbox

import (
	"cmp"
	"context"
	"fmt"
	"path/filepath"
	"testing"
	"time"
)

func TestDelivered(t *testing.T) {
	bubble(t, nil, func(t *testing.T, s *Store) {
		var body []byte
		routes := routesTo(func(_ context.Context, _ string, d *Delivery) Outcome {
			body = deliveredBody(t, d)
			return Outcome{Accepted: true, Status: 204}
		}, "a")
		defer s.Attach(routes)()
		rest()
		began := time.Now()
		receipt := arrive(t, s, "a", "1")
		rest()
		got := routes.of("1")
		if len(got) != 1 || got[0].attempt != 1 || !got[0].at.Equal(began) {
			t.Fatalf("got %+v, want one first attempt at once", got)
		}
		if string(body) != "body of 1" {
			t.Errorf("got the body %q, want that which was stored", body)
		}
		r, err := s.Show(t.Context(), receipt.UID)
		if err != nil {
			t.Fatal(err)
		}
		if r.State != Delivered || r.Ended.IsZero() || len(r.Attempts) != 1 {
			t.Fatalf("got %+v, want it delivered with one attempt", r)
		}
		if a := r.Attempts[0]; a.Route != "a" || a.Node != "test" || a.Status != 204 || !a.Accepted || !a.At.Equal(began) {
			t.Errorf("got the attempt %+v, want one that was accepted with 204", a)
		}
		if left := readAll(t, s); len(left) != 0 {
			t.Errorf("got the bodies %v, want none", left)
		}
		pass(10 * time.Minute)
		if n := routes.attempts(); n != 1 {
			t.Errorf("got %d attempts after ten minutes, want 1", n)
		}
	})
}

func TestLargeBodyGoesWhenDelivered(t *testing.T) {
	onlySQLite(t)
	bubble(t, nil, func(t *testing.T, s *Store) {
		routes := routesTo(refuse(500), "a")
		defer s.Attach(routes)()
		mustPut(t, s, Head{Kind: KindReport, Subjects: []string{"a"}, ReportID: "1", Received: s.now()}, randomBody(3*chunkSize))
		rest()
		files := func() []string {
			names, err := filepath.Glob(filepath.Join(s.dir, bodiesName, "*"))
			if err != nil {
				t.Fatal(err)
			}
			return names
		}
		if got := files(); len(got) != 1 {
			t.Fatalf("got the files %v, want the one of the report that waits", got)
		}
		routes.answer(accept)
		pass(time.Minute)
		if got := files(); len(got) != 0 {
			t.Errorf("got the files %v after the delivery, want none", got)
		}
	})
}

// What ends in one batch ends as it would alone.
func TestManyEndInOneBatch(t *testing.T) {
	s, _, _ := clocked(t, Settings{})
	type report struct {
		state    State
		events   []State // of its deliveries
		want     State
		wantBody bool
	}
	var tests []report
	for range maxBatch {
		tests = append(tests, report{events: []State{Delivered}, want: Delivered})
	}
	tests = append(tests,
		report{events: []State{Delivered, Delivered}, want: Delivered},
		report{events: []State{Delivered, Waiting}, want: Waiting, wantBody: true},
		report{events: []State{Dead, Waiting}, want: Waiting, wantBody: true},
		report{events: []State{Dead, Delivered, Dropped}, want: Dead, wantBody: true},
		report{events: []State{Dropped, Delivered}, want: Dropped},
		report{state: Dead, events: []State{Dead, Delivered}, want: Dead, wantBody: true},
		report{state: Dead, events: []State{Delivered, Delivered}, want: Delivered},
		report{state: Damaged, events: []State{Delivered}, want: Damaged, wantBody: true},
	)
	var uids []string
	for i, test := range tests {
		head := Head{Kind: KindEvent, ReportID: fmt.Sprint(i), Received: s.now()}
		for n := range test.events {
			head.Subjects = append(head.Subjects, fmt.Sprint("event", n))
		}
		size := 100
		if i%2 == 0 {
			size = 2 * chunkSize
		}
		uids = append(uids, mustPut(t, s, head, randomBody(size)).UID)
	}
	err := s.write(t.Context(), func(tx *tx) error {
		for i, test := range tests {
			var id int64
			if err := tx.get([]any{&id}, `SELECT id FROM reports WHERE uid = ?`, uids[i]); err != nil {
				return err
			}
			if err := tx.exec(`UPDATE reports SET state = ? WHERE id = ?`, string(cmp.Or(test.state, Waiting)), id); err != nil {
				return err
			}
			for n, state := range test.events {
				if err := tx.exec(`UPDATE deliveries SET state = ? WHERE report = ? AND subject = ?`, string(state), id, fmt.Sprint("event", n)); err != nil {
					return err
				}
				tx.settle(id, s.endReports) // each once
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for i, test := range tests {
		if got := stateOf(t, s, uids[i]); got != test.want {
			t.Errorf("%s with %v: got it %s, want %s", cmp.Or(test.state, Waiting), test.events, got, test.want)
		}
		bodies := countRows(t, s, `SELECT count(*) FROM bodies b JOIN reports r ON r.id = b.report WHERE r.uid = ?`, uids[i])
		if bodies != number(test.wantBody) {
			t.Errorf("%s with %v: got %d bodies, want %d", cmp.Or(test.state, Waiting), test.events, bodies, number(test.wantBody))
		}
	}
	if room, want := s.room.size(), int64(countRows(t, s, `SELECT coalesce(sum(stored), 0) FROM bodies`)); room != want {
		t.Errorf("got %d bytes held, want those of the bodies that are left, %d", room, want)
	}
}

func TestRoutesAreApart(t *testing.T) {
	bubble(t, nil, func(t *testing.T, s *Store) {
		routes := routesTo(func(ctx context.Context, route string, d *Delivery) Outcome {
			if route == "slow" {
				return hang(ctx, route, d)
			}
			return accept(ctx, route, d)
		}, "slow", "a")
		defer s.Attach(routes)()
		arriveMany(t, s, "slow", "s", 20)
		began := time.Now()
		ids := arriveMany(t, s, "a", "a", 200)
		rest()
		if got := routes.takenReports(); len(got) != len(ids) {
			t.Errorf("got %d of %d reports delivered %v after they came", len(got), len(ids), time.Since(began))
		}
		if most := routes.most["slow"]; most != 4 {
			t.Errorf("got %d attempts at once for the slow route, want its 4 workers", most)
		}
	})
}

func TestArrayOfEventsGoesToARouteOnce(t *testing.T) {
	bubble(t, nil, func(t *testing.T, s *Store) {
		routes := routesTo(func(_ context.Context, route string, _ *Delivery) Outcome {
			return Outcome{Accepted: route == "privacy"}
		}, "privacy", "rest")
		routes.table = func(_ Kind, name string) string {
			if name == "revoked" {
				return "privacy"
			}
			return "rest"
		}
		defer s.Attach(routes)()
		receipt := mustPut(t, s, Head{Kind: KindEvent, Subjects: []string{"one", "revoked", "two", "three"}, ReportID: "1", Received: s.now()}, []byte("[]"))
		pass(2 * claimAgain) // the claim for one route may have locked what is for the other
		count := func() map[string]int {
			n := make(map[string]int)
			for _, a := range routes.of("1") {
				n[a.route]++
			}
			return n
		}
		if got := count(); got["privacy"] != 1 || got["rest"] != 1 {
			t.Fatalf("got attempts %v, want one for each route", got)
		}
		if got := stateOf(t, s, receipt.UID); got != Waiting {
			t.Errorf("got it %s while one route refuses it, want it waiting", got)
		}
		routes.answer(accept)
		pass(time.Minute)
		if got := count(); got["privacy"] != 1 || got["rest"] != 2 {
			t.Errorf("got attempts %v, want one more for the route that refused it", got)
		}
		r, err := s.Show(t.Context(), receipt.UID)
		if err != nil || r.State != Delivered || len(r.Attempts) != 3 {
			t.Fatalf("got %+v (%v), want it delivered with three attempts", r, err)
		}
		for _, d := range r.Deliveries {
			if d.State != Delivered {
				t.Errorf("got %+v, want all its names delivered", d)
			}
		}
	})
}

func deliveredBody(t testing.TB, d *Delivery) []byte {
	t.Helper()
	b, err := d.Body()
	if err != nil {
		t.Error(err)
		return nil
	}
	defer b.Close()
	data := make([]byte, 0, d.Size)
	for buf := make([]byte, 1000); ; {
		n, err := b.Read(buf)
		data = append(data, buf[:n]...)
		if err != nil {
			return data
		}
	}
}
