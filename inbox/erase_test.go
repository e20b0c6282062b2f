package inbox

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func about(s *Store, id, link, consent string) Head {
	head := headAt(s, id)
	head.LinkIDs, head.ConsentIDs = []string{link}, []string{consent}
	return head
}

func event(s *Store, name, id string, consents ...string) Head {
	return Head{Kind: KindEvent, Subjects: []string{name}, ReportID: id, EventIDs: []string{id}, ConsentIDs: consents, Received: s.now()}
}

func TestErase(t *testing.T) {
	for _, test := range []struct {
		kind, value string
		gone        []string
	}{
		{EraseConsent, "c1", []string{"a", "b", "c", "d"}},
		{EraseLink, "l2", []string{"b", "e"}},
		{EraseReport, "e", []string{"e"}},
		{EraseReport, "uid of a", []string{"a"}},
	} {
		t.Run(test.kind+" "+test.value, func(t *testing.T) {
			s, c, _ := clocked(t, Settings{})
			large := randomBody(100_000)
			bodies := map[string][]byte{"a": []byte("body of a"), "b": large, "c": []byte("body of c"), "e": []byte("body of e"), "d": randomBody(70_000)}
			uids, places := make(map[string]string), make(map[string]string)
			for _, r := range [][3]string{{"a", "l1", "c1"}, {"b", "l2", "c1"}, {"c", "l1", "c1"}, {"d", "l3", "c1"}, {"e", "l2", "c2"}} {
				uids[r[0]] = mustPut(t, s, about(s, r[0], r[1], r[2]), bodies[r[0]]).UID
				places[r[0]] = nameOf(t, s, uids[r[0]])
			}
			end(t, s, uids["c"], "dead")
			if err := s.setReportAside(t.Context(), 4, "test"); err != nil { // d
				t.Fatal(err)
			}
			value := test.value
			if id, found := strings.CutPrefix(value, "uid of "); found {
				value = uids[id]
			}
			traces := tracesOf(t, s, uids[test.gone[0]])

			receipt, err := s.Erase(t.Context(), test.kind, value, "an operator", "a person asked for it")
			if err != nil {
				t.Fatal(err)
			}
			var gone []string
			for _, r := range receipt.Reports {
				if !r.Destroyed {
					t.Errorf("got %+v, want its body destroyed", r)
				}
				gone = append(gone, r.ReportID)
			}
			if !slices.Equal(gone, test.gone) {
				t.Errorf("got %v erased, want %v", gone, test.gone)
			}
			left := readAll(t, s)
			for id, body := range bodies {
				if slices.Contains(gone, id) {
					for _, folder := range []string{bodiesName, damagedName} {
						if _, err := os.Stat(s.files.path(folder, places[id])); places[id] != "" && err == nil {
							t.Errorf("got the body of %s still in %s", id, folder)
						}
					}
					if place, ok := asPlace(places[id]); ok && !isClear(rawAt(t, s, place)) {
						t.Errorf("got the body of %s still in its pack", id)
					}
					if left[id] != nil || readState(t, s, uids[id]) != "erased" {
						t.Errorf("got %s still there, %s", id, readState(t, s, uids[id]))
					}
				} else if !bytes.Equal(left[id], body) && id != "d" {
					t.Errorf("got %s gone, want it left alone", id)
				}
			}
			if found := traces.find(t, s.dir); len(found) > 0 {
				t.Errorf("got what was erased in %v", found)
			}
			if n := countRows(t, s, `SELECT count(*) FROM audit WHERE who = 'an operator' AND why = 'a person asked for it'`); n != len(gone)+1 {
				t.Errorf("got %d lines in the record, want %d", n, len(gone)+1)
			}

			// What still comes is not kept, in this process and in the next.
			for range 2 {
				c.pass(time.Hour)
				for _, id := range gone {
					r := mustPut(t, s, about(s, id, "l2", "c1"), []byte("once more"))
					if !r.Erased {
						t.Errorf("got %+v for %s, want that it was erased", r, id)
					}
				}
				if again := readAll(t, s); len(again) != len(left) {
					t.Errorf("got %d bodies, want the %d that were left", len(again), len(left))
				}
				_ = s.Close()
				o, _ := quietOptions(s.dir)
				o.Now = c.Now
				s = openTest(t, o)
			}
		})
	}
}

func countRows(t testing.TB, s *Store, query string, args ...any) (n int) {
	t.Helper()
	err := s.write(t.Context(), func(tx *tx) error { return tx.get([]any{&n}, query, args...) })
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// traces is what the files hold of a report that is there.
type traces [][]byte

// tracesOf returns the key, the head and parts of the body of a report, as they
// stand in the files.
func tracesOf(t testing.TB, s *Store, uid string) traces {
	t.Helper()
	var key, head, body []byte
	err := s.write(t.Context(), func(tx *tx) error {
		return tx.get([]any{&key, &head, &body}, `SELECT key, head, body FROM bodies b JOIN reports r ON r.id = b.report WHERE r.uid = ?`, uid)
	})
	if err != nil {
		t.Fatal(err)
	}
	if s.base.shared() {
		return nil // it is not about files
	}
	found := traces{key, head}
	// A long one does not stand in one piece.
	for part := range bytesIn(body, 500) {
		if len(part) > 32 {
			part = part[len(part)/2-16 : len(part)/2+16]
		}
		found = append(found, part)
	}
	if len(found.find(t, s.dir)) == 0 {
		t.Fatalf("got no trace of %s that is there", uid)
	}
	return found
}

// find returns the files that hold any of it.
func (tr traces) find(t testing.TB, dir string) (names []string) {
	t.Helper()
	for _, name := range filesIn(t, dir) {
		data, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
		if slices.ContainsFunc(tr, func(part []byte) bool { return bytes.Contains(data, part) }) {
			names = append(names, name)
		}
	}
	return names
}

func TestEraseOnEvent(t *testing.T) {
	s, _, _ := clocked(t, Settings{EraseOn: []string{"consent_deleted"}})
	mustPut(t, s, about(s, "a", "l1", "c1"), []byte("body of a"))
	mustPut(t, s, about(s, "b", "l1", "c2"), []byte("body of b"))
	mustPut(t, s, event(s, "consent_paused", "1", "c1"), []byte("event 1"))
	mustPut(t, s, event(s, "consent_deleted", "2", "c1"), []byte("event 2"))
	// One array with two events: only the consent of the one is erased.
	both := event(s, "consent_deleted", "3", "c3", "c4")
	both.Subjects = append(both.Subjects, "consent_created")
	both.EventConsents = map[string][]string{"consent_deleted": {"c3"}, "consent_created": {"c4"}}
	traces := tracesOf(t, s, mustPut(t, s, about(s, "c", "l2", "c3"), randomBody(30_000)).UID)
	mustPut(t, s, about(s, "d", "l3", "c4"), []byte("body of d"))
	mustPut(t, s, both, []byte("event 3"))
	eventually(t, "nothing is left of it", func() bool { return len(traces.find(t, s.dir)) == 0 })
	// And again, by a person: the events stay until they are delivered.
	if _, err := s.Erase(t.Context(), EraseConsent, "c1", "x", "y"); err != nil {
		t.Fatal(err)
	}
	got := readAll(t, s)
	for _, id := range []string{"b", "d", "2", "3"} {
		if got[id] == nil {
			t.Errorf("got %s erased, want it left alone", id)
		}
	}
	if len(got) != 4 {
		t.Errorf("got %d bodies, want 4", len(got))
	}
	if r := mustPut(t, s, about(s, "e", "l1", "c1"), []byte("late")); !r.Erased {
		t.Errorf("got %+v for a report that comes late, want it erased", r)
	}
	if r := mustPut(t, s, event(s, "consent_created", "4", "c1"), []byte("late")); !r.Erased {
		t.Errorf("got %+v for an event that comes late, want it erased", r)
	}
	if r := mustPut(t, s, event(s, "consent_created", "5", "c1", "c2"), []byte("late")); r.Erased {
		t.Errorf("got %+v for events of which one is about something else, want it kept", r)
	}
	two := about(s, "f", "l1", "c1")
	two.ConsentIDs = append(two.ConsentIDs, "c2")
	if r := mustPut(t, s, two, []byte("late")); !r.Erased {
		t.Errorf("got %+v for a report of two consents, want it erased", r)
	}
}

func TestEraseRefuses(t *testing.T) {
	s, _, _ := clocked(t, Settings{})
	for _, what := range [][2]string{{"person", "x"}, {EraseConsent, ""}} {
		if _, err := s.Erase(t.Context(), what[0], what[1], "x", "y"); err == nil {
			t.Errorf("got %v erased, want an error", what)
		}
	}
}

// What arrives together with the first erasure is not kept either, nor with one that
// comes when it was asked already what is erased.
func TestEraseInTheSameTransaction(t *testing.T) {
	t.Run("the first", func(t *testing.T) { testEraseInTheSameTransaction(t, 0) })
	t.Run("another", func(t *testing.T) { testEraseInTheSameTransaction(t, 1) })
}

func testEraseInTheSameTransaction(t *testing.T, before int) {
	t.Helper()
	s, _, _ := clocked(t, Settings{})
	for range before {
		if _, err := s.Erase(t.Context(), EraseConsent, "c0", "x", "y"); err != nil {
			t.Fatal(err)
		}
	}
	release := holdWriter(t, s)
	defer release()
	for range before {
		go func() {
			if r, err := put(s, about(s, "z", "l2", "c2"), []byte("body of z")); err != nil || r.Erased {
				t.Errorf("got %+v and %v, want it stored", r, err)
			}
		}()
		eventually(t, "a report stands in line", func() bool { return len(s.ops) == before })
	}
	erased, stored := make(chan error, 1), make(chan Receipt, 1)
	go func() {
		_, err := s.Erase(context.Background(), EraseConsent, "c1", "x", "y")
		erased <- err
	}()
	eventually(t, "the erasure stands in line", func() bool { return len(s.ops) == before+1 })
	go func() {
		r, err := put(s, about(s, "a", "l1", "c1"), []byte("body of a"))
		if err != nil {
			t.Error(err)
		}
		stored <- r
	}()
	eventually(t, "the report stands behind it", func() bool { return len(s.ops) == before+2 })
	release()
	if err := <-erased; err != nil {
		t.Fatal(err)
	}
	if r := <-stored; !r.Erased {
		t.Errorf("got %+v, want it erased", r)
	}
}

// Who reads for long keeps the log from being emptied. It is said, and done later,
// however many reports arrive.
func TestEraseWhileSomebodyReads(t *testing.T) {
	onlySQLite(t)
	bubble(t, nil, func(t *testing.T, s *Store) {
		tr := tracesOf(t, s, mustPut(t, s, about(s, "a", "l1", "c1"), randomBody(30_000)).UID)
		rows, err := s.base.(*sqlite).readers.QueryContext(t.Context(), `SELECT id FROM reports`)
		if err != nil || !rows.Next() {
			t.Fatalf("got no row and %v", err)
		}
		defer rows.Close()
		receipt, err := s.Erase(t.Context(), EraseConsent, "c1", "x", "y")
		if err != nil || len(receipt.Copies) != 1 || len(tr.find(t, s.dir)) == 0 {
			t.Fatalf("got %+v and %v, want that the log still holds it", receipt, err)
		}
		if found := tr.find(t, s.dir); !slices.Contains(found, filepath.Base(receipt.Copies[0])) {
			t.Errorf("got what was erased in %v, want it in %s", found, receipt.Copies)
		}
		if err := rows.Close(); err != nil {
			t.Fatal(err)
		}
		for i := range 40 { // never quiet for a second
			arrive(t, s, "a", fmt.Sprint(i))
			pass(100 * time.Millisecond)
		}
		if found := tr.find(t, s.dir); len(found) > 0 {
			t.Errorf("got what was erased in %v when nobody reads any more", found)
		}
		receipt, err = s.Erase(t.Context(), EraseConsent, "c2", "x", "y")
		if err != nil || len(receipt.Copies) > 0 {
			t.Errorf("got %+v and %v, want nothing left anywhere", receipt, err)
		}
	})
}
