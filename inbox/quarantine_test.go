package inbox

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func quarantine(t testing.TB, s *Store, signature string, body []byte) error {
	t.Helper()
	d, err := s.NewDraft()
	if err != nil {
		return err
	}
	if _, err := d.Write(body); err != nil {
		return err
	}
	return d.Quarantine(t.Context(), signature, s.now(), []byte("meta of "+signature), sha256.Sum256(body))
}

// release turns what was signed like this into reports.
func release(t testing.TB, s *Store, signature string) int {
	t.Helper()
	n, err := s.Release(t.Context(), func(q *Quarantined) (*Head, error) {
		body, err := q.Body()
		if err != nil {
			return nil, err
		}
		defer body.Close()
		data, err := io.ReadAll(body)
		if err != nil || int64(len(data)) != q.Size || sha256.Sum256(data) != q.Digest || string(q.Meta) != "meta of "+q.Signature {
			t.Errorf("got %d bytes, %q and %v, want what was quarantined", len(data), q.Meta, err)
		}
		if q.Signature != signature {
			return nil, nil
		}
		head := testHead("of " + signature)
		head.Received = q.Received
		return &head, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestQuarantine(t *testing.T) {
	s, c, _ := clocked(t, Settings{})
	bodies := map[string][]byte{"of one": randomBody(1000), "of two": randomBody(200_000)}
	for range 5 { // as often as Klavi tries
		for _, name := range []string{"one", "two"} {
			if err := quarantine(t, s, name, bodies["of "+name]); err != nil {
				t.Fatal(err)
			}
		}
	}
	// Also what stands beside them takes up room.
	least := sealedSize(1000) + sealedSize(200_000) + 2*quarantineRow
	want, err := s.Stats(t.Context())
	if st := want; err != nil || st.Quarantined != 2 || st.QuarantinedBytes < least || st.QuarantinedBytes > least+1000 || st.Bytes != 0 {
		t.Errorf("got %+v and %v, want two that take up %d bytes or a little more, and no others", st, err, least)
	}
	_ = s.Close()
	o, _ := quietOptions(s.dir)
	o.Now = c.Now
	s = openTest(t, o)
	if st, err := s.Stats(t.Context()); err != nil || st != want {
		t.Errorf("got %+v and %v after another opening, want %+v", st, err, want)
	}
	if n := release(t, s, "none"); n != 0 {
		t.Errorf("got %d released, want none", n)
	}
	for _, name := range []string{"one", "two"} {
		if n := release(t, s, name); n != 1 {
			t.Errorf("got %d released, want one", n)
		}
	}
	checkStored(t, s, bodies)
	if st, err := s.Stats(t.Context()); err != nil || st.Waiting != 2 || st.Quarantined != 0 || st.QuarantinedBytes != 0 {
		t.Errorf("got %+v and %v, want two reports and nothing quarantined", st, err)
	}
}

// What is a report already is not one once more.
func TestReleaseOfADuplicate(t *testing.T) {
	onlySQLite(t)
	s, _, _ := clocked(t, Settings{})
	body := randomBody(100_000)
	if err := quarantine(t, s, "one", body); err != nil {
		t.Fatal(err)
	}
	mustPut(t, s, headAt(s, "of one"), body)
	if n := release(t, s, "one"); n != 1 {
		t.Errorf("got %d released, want one", n)
	}
	if n, files := len(reportIDs(t, s)), countFiles(t, s); n != 1 || files != 1 {
		t.Errorf("got %d reports and %d bodies, want one of each", n, files)
	}
}

func TestQuarantineIsBounded(t *testing.T) {
	onlySQLite(t)
	s, c, _ := clocked(t, Settings{})
	s.quarantined.Store(maxQuarantined - 150_000)
	if err := quarantine(t, s, "small", randomBody(100_000)); err != nil {
		t.Error(err)
	}
	if err := quarantine(t, s, "large", randomBody(100_000)); !errors.Is(err, ErrFull) {
		t.Errorf("got %v, want %v", err, ErrFull)
	}
	c.pass(keepQuarantined + time.Minute)
	if err := s.Retain(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n, files := countRows(t, s, `SELECT count(*) FROM quarantine`), countFiles(t, s); n != 0 || files != 0 {
		t.Errorf("got %d rows and %d bodies after a day, want none", n, files)
	}
	if err := quarantine(t, s, "large", randomBody(100_000)); err != nil {
		t.Errorf("got %v with room again, want none", err)
	}
}

// A body that is damaged does not keep the others in quarantine.
func TestReleaseOfADamagedBody(t *testing.T) {
	onlySQLite(t)
	s, _, log := clocked(t, Settings{})
	for i := range 3 {
		if err := quarantine(t, s, fmt.Sprint(i), randomBody(1000)); err != nil {
			t.Fatal(err)
		}
	}
	err := s.write(t.Context(), func(tx *tx) error {
		return tx.exec(`UPDATE quarantine SET head = x'00' WHERE id = 1`)
	})
	if err != nil {
		t.Fatal(err)
	}
	if n := release(t, s, "2"); n != 1 {
		t.Errorf("got %d released, want one", n)
	}
	if !bytes.Contains([]byte(log.String()), []byte("a quarantined body is damaged")) {
		t.Errorf("got %s, want that it names the damaged one", log)
	}
}

// Two configs that are loaded one after the other both go through what is
// quarantined. A body becomes one report, whose file stays.
func TestReleaseTwiceAtOnce(t *testing.T) {
	s, c, _ := clocked(t, Settings{})
	for _, wait := range []time.Duration{time.Minute, time.Hour} { // a duplicate, or a repetition
		body := randomBody(100_000)
		name := wait.String()
		if err := quarantine(t, s, name, body); err != nil {
			t.Fatal(err)
		}
		c.pass(wait)
		var both sync.WaitGroup // until each has read it
		both.Add(2)
		var released atomic.Int64
		var wg sync.WaitGroup
		for range 2 {
			wg.Go(func() {
				n, err := s.Release(t.Context(), func(q *Quarantined) (*Head, error) {
					both.Done()
					both.Wait()
					head := testHead("of " + name)
					head.Received = q.Received
					return &head, nil
				})
				if err != nil {
					t.Error(err)
				}
				released.Add(int64(n))
			})
		}
		wg.Wait()
		if n := released.Load(); n != 1 {
			t.Errorf("after %s: got %d released, want one", wait, n)
		}
		checkStored(t, s, map[string][]byte{"of " + name: body})
		if n := s.quarantined.Load(); n != 0 {
			t.Errorf("after %s: got %d bytes quarantined, want none", wait, n)
		}
	}
}

// One that cannot be read keeps no other from being released, and what is left is
// tried again.
func TestReleaseGoesOn(t *testing.T) {
	s, _, _ := clocked(t, Settings{MaxSize: 1 << 20})
	for _, name := range []string{"one", "two", "three"} {
		if err := quarantine(t, s, name, randomBody(200_000)); err != nil {
			t.Fatal(err)
		}
	}
	check := func(broken string) func(q *Quarantined) (*Head, error) {
		return func(q *Quarantined) (*Head, error) {
			if q.Signature == broken {
				return nil, ErrUnavailable
			}
			return &Head{Kind: KindReport, Subjects: []string{"pf_loans"}, ReportID: q.Signature}, nil
		}
	}
	if n, err := s.Release(t.Context(), check("one")); n != 2 || !errors.Is(err, ErrUnavailable) {
		t.Errorf("got %d released and %v, want 2 and %v", n, err, ErrUnavailable)
	}
	if n, err := s.Release(t.Context(), check("")); n != 1 || err != nil {
		t.Errorf("got %d released and %v, want the one that was left", n, err)
	}
	if got := s.quarantined.Load(); got != 0 {
		t.Errorf("got %d bytes quarantined, want none", got)
	}
}

// What nobody has signed takes up none of the room of what somebody has.
func TestQuarantineKeepsNoReportOut(t *testing.T) {
	s, _, _ := clocked(t, Settings{MaxSize: 500_000})
	for i := range 10 {
		if err := quarantine(t, s, fmt.Sprint(i), randomBody(100_000)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := put(s, testHead("id"), randomBody(300_000)); err != nil {
		t.Errorf("got %v, want the report stored", err)
	}
}

// Many that come together do not all take the room that is there for one.
func TestQuarantineOfManyAtOnce(t *testing.T) {
	s, _, _ := clocked(t, Settings{})
	s.quarantined.Store(maxQuarantined - 350_000)
	release := holdWriter(t, s)
	defer release()
	var full atomic.Int64
	var wg sync.WaitGroup
	for i := range 10 {
		wg.Go(func() {
			err := quarantine(t, s, fmt.Sprint(i), randomBody(100_000))
			if err != nil && !errors.Is(err, ErrFull) {
				t.Errorf("got %v, want %v or none", err, ErrFull)
			}
			if err != nil {
				full.Add(1)
			}
		})
	}
	eventually(t, "each stands in line or was refused", func() bool { return len(s.ops)+int(full.Load()) >= 10 })
	release()
	wg.Wait()
	if n := full.Load(); n != 7 {
		t.Errorf("got %d of 10 refused with room for three, want 7", n)
	}
	if n := s.quarantining.Load(); n != 0 {
		t.Errorf("got %d bytes on their way, want none", n)
	}
}
