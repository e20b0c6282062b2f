package inbox

import (
	"fmt"
	"sync"
	"testing"
	"time"
)

// handClock is one that tests set.
type handClock struct {
	mu  sync.Mutex
	now time.Time
}

func newHandClock() *handClock { return &handClock{now: time.UnixMilli(1_800_000_000_000)} }

func (c *handClock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *handClock) pass(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// clocked returns a store with a clock of its own.
func clocked(t testing.TB, settings Settings) (*Store, *handClock, *logBuffer) {
	t.Helper()
	c := newHandClock()
	o, log := quietOptions(t.TempDir())
	o.Now, o.Settings = c.Now, settings
	return openTest(t, o), c, log
}

// headAt is the head of a report that comes just now.
func headAt(s *Store, id string) Head {
	head := testHead(id)
	head.Received = s.now()
	return head
}

// A clock that jumps ten days and back takes nothing away.
func TestClockJumps(t *testing.T) {
	for _, jump := range []time.Duration{10 * 24 * time.Hour, -10 * 24 * time.Hour} {
		t.Run(jump.String(), func(t *testing.T) {
			s, c, _ := clocked(t, Settings{})
			bodies := make(map[string][]byte)
			for i, d := range []time.Duration{jump, -jump, jump, -jump} {
				id := fmt.Sprint(i)
				bodies[id] = randomBody(1000 * (i + 1))
				receipt := mustPut(t, s, headAt(s, id), bodies[id])
				if i == 1 {
					end(t, s, receipt.UID, "dead")
				}
				if r := mustPut(t, s, headAt(s, id), bodies[id]); !r.Duplicate {
					t.Errorf("got %+v for a copy before the jump, want a duplicate", r)
				}
				c.pass(d)
				if r := mustPut(t, s, headAt(s, id), bodies[id]); r.Duplicate {
					t.Errorf("got %+v for a copy after the jump, want it stored", r)
				}
				if err := s.Retain(t.Context()); err != nil {
					t.Fatal(err)
				}
				checkStored(t, s, bodies)
			}
			_ = s.Close()
			o, _ := quietOptions(s.dir)
			o.Now = c.Now
			s = openTest(t, o)
			checkStored(t, s, bodies)
		})
	}
}

// Nothing is too old just because the clock has jumped.
func TestRetentionWaitsAfterAJump(t *testing.T) {
	c := newHandClock()
	r := retainer{last: c.Now()}
	for _, step := range []struct {
		pass time.Duration
		want bool
	}{
		{time.Second, false},
		{10 * time.Minute, true},
		{time.Minute, false},
		{9 * time.Minute, true},
		{10 * 24 * time.Hour, false}, // a jump
		{time.Second, false},         // not yet
		{10 * time.Minute, false},
		{-10 * 24 * time.Hour, false}, // and back
		{10 * time.Minute, false},
	} {
		c.pass(step.pass)
		if got := r.due(c.Now()); got != step.want {
			t.Errorf("got %v after %s, want %v", got, step.pass, step.want)
		}
	}
	left := clockTime
	for left > 0 && !r.due(c.Now()) {
		c.pass(10 * time.Minute)
		left -= 10 * time.Minute
	}
	if left > 10*time.Minute || !r.due(c.Now().Add(10*time.Minute)) {
		t.Errorf("got it due %s before a day had passed, want it from then on", left)
	}
}
