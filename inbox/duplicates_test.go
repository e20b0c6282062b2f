package inbox

import (
	"fmt"
	"testing"
	"time"
)

func TestCopies(t *testing.T) {
	const (
		stored = iota
		duplicate
		repeat
		conflict
		repeatOfTwo // with another one under the same id
	)
	want := map[int]Receipt{
		stored: {}, duplicate: {Duplicate: true}, repeat: {Repeat: true}, conflict: {Conflict: true},
		repeatOfTwo: {Repeat: true, Conflict: true},
	}
	type copied struct {
		pass   time.Duration
		body   string
		kind   Kind
		ended  string // what becomes of the one before it
		become int
	}
	for _, test := range []struct {
		name   string
		copies []copied
	}{
		{"at once", []copied{{0, "a", "", "", stored}, {0, "a", "", "", duplicate}}},
		{"within ten minutes", []copied{{0, "a", "", "", stored}, {9 * time.Minute, "a", "", "", duplicate}, {time.Minute, "a", "", "", repeat}, {9 * time.Minute, "a", "", "", duplicate}}},
		{"delivered", []copied{{0, "a", "", "", stored}, {time.Minute, "a", "", "delivered", duplicate}, {time.Hour, "a", "", "", repeat}}},
		{"dead", []copied{{0, "a", "", "", stored}, {time.Minute, "a", "", "dead", duplicate}, {time.Hour, "a", "", "", repeat}}},
		{"dropped", []copied{{0, "a", "", "", stored}, {time.Minute, "a", "", "dropped", repeat}}},
		{"damaged", []copied{{0, "a", "", "", stored}, {time.Minute, "a", "", "damaged", repeat}}},
		{"another body", []copied{{0, "a", "", "", stored}, {0, "b", "", "", conflict}, {0, "b", "", "", duplicate}, {0, "a", "", "", duplicate}, {time.Hour, "a", "", "", repeatOfTwo}}},
		{"another kind", []copied{{0, "a", "", "", stored}, {0, "a", KindEvent, "", stored}}},
		{"a clock that goes back", []copied{{0, "a", "", "", stored}, {-time.Hour, "a", "", "", repeat}}},
	} {
		t.Run(test.name, func(t *testing.T) {
			s, c, _ := clocked(t, Settings{})
			var last Receipt
			for i, cp := range test.copies {
				c.pass(cp.pass)
				switch cp.ended {
				case "":
				case "damaged":
					if err := s.setReportAside(t.Context(), 1, "test"); err != nil {
						t.Fatal(err)
					}
				default:
					end(t, s, last.UID, cp.ended)
				}
				head := headAt(s, "id")
				if cp.kind != "" {
					head.Kind = cp.kind
				}
				got := mustPut(t, s, head, []byte(cp.body))
				uid := got.UID
				got.UID = ""
				if got != want[cp.become] {
					t.Errorf("copy %d: got %+v, want %+v", i, got, want[cp.become])
				}
				last.UID = uid
				_ = s.Close() // what is known survives
				o, _ := quietOptions(s.dir)
				o.Now = c.Now
				s = openTest(t, o)
			}
		})
	}
}

// A copy that comes later takes the place of a dead one.
func TestRepeatEndsTheDead(t *testing.T) {
	s, c, _ := clocked(t, Settings{})
	body := randomBody(100_000)
	first := mustPut(t, s, headAt(s, "a"), body)
	end(t, s, first.UID, "dead")
	c.pass(time.Hour)
	second := mustPut(t, s, headAt(s, "a"), body)
	checkStored(t, s, map[string][]byte{"a": body})
	st, err := s.Stats(t.Context())
	if err != nil || st.Waiting != 1 || st.Dead != 0 || st.Bytes != sealedSize(int64(len(body))) {
		t.Errorf("got %+v and %v, want the new one alone", st, err)
	}
	if got := readState(t, s, first.UID) + " " + readState(t, s, second.UID); got != "dropped waiting" {
		t.Errorf("got %s, want the first dropped and the second waiting", got)
	}
}

func readState(t testing.TB, s *Store, uid string) (state string) {
	t.Helper()
	err := s.write(t.Context(), func(tx *tx) error {
		return tx.get([]any{&state}, `SELECT state FROM reports WHERE uid = ?`, uid)
	})
	if err != nil {
		t.Fatal(err)
	}
	return state
}

// What nobody can make sense of is dead at once, and kept.
func TestUnreadable(t *testing.T) {
	s, _, _ := clocked(t, Settings{})
	for i, head := range []Head{{Kind: KindUnreadable, ReportID: "digest"}, {Kind: KindReport, ReportID: "b"}} {
		receipt := mustPut(t, s, head, fmt.Append(nil, "body ", i))
		if state := readState(t, s, receipt.UID); state != "dead" {
			t.Errorf("got %s, want it dead", state)
		}
	}
	checkStored(t, s, map[string][]byte{"digest": []byte("body 0"), "b": []byte("body 1")})
}
