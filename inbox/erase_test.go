package inbox

import (
	"bytes"
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
			bodies := map[string][]byte{"a": []byte("body of a"), "b": large, "c": []byte("body of c"), "e": []byte("body of e"), "d": []byte("body of d")}
			uids := make(map[string]string)
			for _, r := range [][3]string{{"a", "l1", "c1"}, {"b", "l2", "c1"}, {"c", "l1", "c1"}, {"d", "l3", "c1"}, {"e", "l2", "c2"}} {
				uids[r[0]] = mustPut(t, s, about(s, r[0], r[1], r[2]), bodies[r[0]]).UID
			}
			end(t, s, uids["c"], "dead")
			if err := s.setAside(t.Context(), 4, "test"); err != nil { // d
				t.Fatal(err)
			}
			value := test.value
			if id, found := strings.CutPrefix(value, "uid of "); found {
				value = uids[id]
			}
			key := rawKey(t, s, uids[test.gone[0]])

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
					if left[id] != nil || readState(t, s, uids[id]) != "erased" {
						t.Errorf("got %s still there, %s", id, readState(t, s, uids[id]))
					}
				} else if !bytes.Equal(left[id], body) && id != "d" {
					t.Errorf("got %s gone, want it left alone", id)
				}
			}
			for _, name := range filesIn(t, s.dir) {
				if data, _ := os.ReadFile(filepath.Join(s.dir, name)); bytes.Contains(data, key) {
					t.Errorf("got the key of a report that was erased in %s", name)
				}
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

func rawKey(t testing.TB, s *Store, uid string) (key []byte) {
	t.Helper()
	err := s.write(t.Context(), func(tx *tx) error {
		return tx.get([]any{&key}, `SELECT key FROM bodies b JOIN reports r ON r.id = b.report WHERE r.uid = ?`, uid)
	})
	if err != nil {
		t.Fatal(err)
	}
	return key
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
	mustPut(t, s, about(s, "c", "l2", "c3"), []byte("body of c"))
	mustPut(t, s, about(s, "d", "l3", "c4"), []byte("body of d"))
	mustPut(t, s, both, []byte("event 3"))
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
