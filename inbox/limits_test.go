package inbox

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
)

func TestMaxSize(t *testing.T) {
	for _, size := range []int{10_000, 200_000} {
		limit := int64(size) * 10
		s, _, _ := clocked(t, Settings{MaxSize: limit})
		var uids []string
		var err error
		for i := 0; err == nil; i++ {
			var receipt Receipt
			if receipt, err = put(s, headAt(s, fmt.Sprint(i)), randomBody(size)); err == nil {
				uids = append(uids, receipt.UID)
			}
		}
		if !errors.Is(err, ErrFull) || len(uids) != 9 {
			t.Fatalf("got %v after %d bodies of %d bytes, want %v after 9", err, len(uids), size, ErrFull)
		}
		// As large as it was before: only a larger limit makes room, or a delivery.
		s.Configure(Settings{MaxSize: limit * 2})
		mustPut(t, s, headAt(s, "more"), randomBody(size))
		s.Configure(Settings{MaxSize: limit})
		if err := s.Ready(); !errors.Is(err, ErrFull) {
			t.Errorf("got %v from Ready, want %v", err, ErrFull)
		}
		end(t, s, uids[0], "delivered")
		end(t, s, uids[1], "delivered")
		if err := s.Ready(); err != nil {
			t.Errorf("got %v from Ready with room again, want none", err)
		}
		mustPut(t, s, headAt(s, "again"), randomBody(size))

		// After another opening, the same is counted.
		held := s.room.size()
		_ = s.Close()
		o, _ := quietOptions(s.dir)
		if again := openTest(t, o); again.room.size() != held {
			t.Errorf("got %d bytes counted, want %d", again.room.size(), held)
		}
	}
}

// Bodies that arrive at the same time do not all take the same room.
func TestMaxSizeOfBodiesThatArrive(t *testing.T) {
	onlySQLite(t)
	s, _, _ := clocked(t, Settings{MaxSize: 10 << 20})
	var mu sync.Mutex
	stored := 0
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			_, err := put(s, headAt(s, fmt.Sprint(i)), randomBody(2<<20))
			if err != nil && !errors.Is(err, ErrFull) {
				t.Errorf("got %v, want %v or none", err, ErrFull)
			}
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				stored++
			}
		})
	}
	wg.Wait()
	if held := s.room.size(); held > 10<<20 || s.room.committing != 0 || int64(stored)*sealedSize(2<<20) != held {
		t.Errorf("got %d bytes in %d bodies and %d being stored, want at most 10 MiB and none", held, stored, s.room.committing)
	}
	if left, err := s.files.list(tmpName); err != nil || len(left) > 0 {
		t.Errorf("got %d drafts left and %v, want none", len(left), err)
	}
}

// namedRoutes has each subject delivered to the route of the same first letter.
type namedRoutes struct{}

func (namedRoutes) Route(_ Kind, subject string) string {
	if strings.HasPrefix(subject, "none") {
		return ""
	}
	return subject[:1]
}

func (namedRoutes) List() []Route { return nil }

func (namedRoutes) Deliver(context.Context, string, *Delivery) Outcome { return Outcome{} }

func TestMaxShare(t *testing.T) {
	s, _, _ := clocked(t, Settings{MaxSize: 1 << 20, MaxShare: 0.5})
	defer s.Attach(namedRoutes{})()
	send := func(subject string) error {
		head := headAt(s, fmt.Sprint(len(reportIDs(t, s)), subject))
		head.Subjects = strings.Fields(subject)
		_, err := put(s, head, randomBody(50_000))
		return err
	}
	for _, step := range []struct {
		subject string
		want    int // are stored until the route has its share
	}{
		{"a1", 10}, {"a2", 0}, {"b a1", 0}, {"b", 10},
	} {
		n := 0
		var err error
		for err = send(step.subject); err == nil && n < 15; err = send(step.subject) {
			n++
		}
		if n != step.want || !errors.Is(err, ErrFull) {
			t.Errorf("%s: got %v after %d, want %v after %d", step.subject, err, n, ErrFull, step.want)
		}
	}
	if err := s.Ready(); err != nil {
		t.Errorf("got %v from Ready, want none: others have room", err)
	}
}

// Where a report finds no room, nobody is told that there is some, until one has
// gone or there is more.
func TestNotReadyWhenAReportFoundNoRoom(t *testing.T) {
	s, _, _ := clocked(t, Settings{MaxSize: 300_000})
	ready := func(when string, want error) {
		t.Helper()
		if err := s.Ready(); !errors.Is(err, want) {
			t.Errorf("%s: got %v, want %v", when, err, want)
		}
	}
	refused := func() {
		t.Helper()
		if _, err := put(s, testHead("too much"), randomBody(200_000)); !errors.Is(err, ErrFull) {
			t.Fatalf("got %v, want %v", err, ErrFull)
		}
	}
	ready("empty", nil)
	uid := mustPut(t, s, testHead("a"), randomBody(200_000)).UID
	ready("with one", nil)
	refused()
	ready("after a report without room", ErrFull)
	mustPut(t, s, testHead("small"), randomBody(1000))
	ready("after one that fits", nil)
	refused()
	s.Configure(Settings{MaxSize: 1 << 20})
	ready("with more room", nil)
	s.Configure(Settings{MaxSize: 300_000})
	refused()
	end(t, s, uid, "delivered")
	ready("when one has gone", nil)
}
