package gateway

import (
	"errors"
	"fmt"
	"math"
	"testing"
	"testing/synctest"
	"time"
)

func user(i int) Caller    { return Caller{ID: fmt.Sprint("user ", i)} }
func address(i int) Caller { return Caller{ID: fmt.Sprint("address ", i), Crowd: true} }

// enterMany takes places until who gets no more, and returns them.
func enterMany(t *testing.T, l *limits, who Caller) []Place {
	t.Helper()
	var places []Place
	for range creationsAtOnce + 1 {
		place, err := l.enter(who)
		if err != nil {
			wantLimit(t, err)
			return places
		}
		places = append(places, place)
	}
	t.Fatalf("%s: got %d places and no end", who.ID, len(places))
	return nil
}

// wantLimit checks that err is a limit that says when to come again.
func wantLimit(t *testing.T, err error) *LimitError {
	t.Helper()
	limit, ok := errors.AsType[*LimitError](err)
	if !ok {
		t.Fatalf("got %v, want a *LimitError", err)
	}
	if limit.RetryAfter <= 0 || limit.Reason == "" {
		t.Fatalf("got %+v, want a reason and a time", limit)
	}
	return limit
}

func TestPlacesOfOneCaller(t *testing.T) {
	for _, tt := range []struct {
		name string
		who  Caller
		want int
	}{
		{"a user", user(1), 20},
		{"an address", address(1), 100},
	} {
		for kind, l := range map[string]*limits{"creations": newLimits(creationsAtOnce), "reads": newLimits(math.MaxInt)} {
			places := enterMany(t, l, tt.who)
			if len(places) != tt.want {
				t.Errorf("%s, %s: got %d places, want %d", tt.name, kind, len(places), tt.want)
			}
			if _, err := l.enter(user(2)); err != nil {
				t.Errorf("%s, %s: another user got %v, want a place", tt.name, kind, err)
			}
			places[0].Leave()
			if _, err := l.enter(tt.who); err != nil {
				t.Errorf("%s, %s: got %v after one has left, want a place", tt.name, kind, err)
			}
		}
	}
}

// Callers that take all they can get leave places for others: at first if they
// are few, and however many they are once their first requests are over.
func TestPlacesForNewcomers(t *testing.T) {
	l := newLimits(creationsAtOnce)
	var taken []Place
	for i := range 20 {
		taken = append(taken, enterMany(t, l, address(i))...)
	}
	if free := creationsAtOnce - len(taken); free < 5 {
		t.Fatalf("got %d places left by 20 addresses, want 5 or more", free)
	}
	for i := range 80 {
		taken = append(taken, enterMany(t, l, address(20+i))...)
	}
	if len(taken) != creationsAtOnce {
		t.Fatalf("got %d places taken by 100 addresses, want all %d", len(taken), creationsAtOnce)
	}
	for range len(taken) { // each tries to get back what it leaves
		who := taken[0].caller.Caller
		taken[0].Leave()
		taken = append(taken[1:], enterMany(t, l, who)...)
	}
	for i := range 5 {
		if _, err := l.enter(user(i)); err != nil {
			t.Errorf("user %d: got %v, want a place", i, err)
		}
	}
}

func TestPlacesOfAll(t *testing.T) {
	l := newLimits(creationsAtOnce)
	for i := range creationsAtOnce {
		if _, err := l.enter(user(i)); err != nil {
			t.Fatalf("user %d: got %v, want a place", i, err)
		}
	}
	_, err := l.enter(user(creationsAtOnce))
	wantLimit(t, err)
	if len(l.callers) != creationsAtOnce {
		t.Errorf("got %d callers, want %d: those that are refused are not remembered", len(l.callers), creationsAtOnce)
	}
}

func TestSpend(t *testing.T) {
	for _, tt := range []struct {
		name     string
		who      Caller
		burst    int
		interval time.Duration
	}{
		{"a user", user(1), 60, time.Second},
		{"an address", address(1), 300, time.Second / 5},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := newLimits(creationsAtOnce)
				spend := func(who Caller) error {
					place, err := l.enter(who)
					if err != nil {
						t.Fatal(err)
					}
					defer place.Leave()
					return place.spend()
				}
				burst := func() {
					t.Helper()
					for i := range tt.burst {
						if err := spend(tt.who); err != nil {
							t.Fatalf("creation %d: got %v, want none", i+1, err)
						}
					}
				}
				burst()
				for range 3 { // to be refused costs nothing
					if limit := wantLimit(t, spend(tt.who)); limit.RetryAfter != tt.interval {
						t.Fatalf("got %s to wait, want %s", limit.RetryAfter, tt.interval)
					}
				}
				if err := spend(user(2)); err != nil {
					t.Errorf("another user: got %v, want none", err)
				}
				time.Sleep(tt.interval)
				if err := spend(tt.who); err != nil {
					t.Errorf("after %s: got %v, want none", tt.interval, err)
				}
				wantLimit(t, spend(tt.who))
				time.Sleep(time.Minute)
				burst()
				wantLimit(t, spend(tt.who))
			})
		})
	}
}

// What is remembered of callers is bounded, and nothing is once it makes no
// difference any more.
func TestCallersAreForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLimits(creationsAtOnce)
		visit := func(who Caller) {
			place, err := l.enter(who)
			if err != nil {
				t.Fatalf("%s: %v", who.ID, err)
			}
			if err := place.spend(); err != nil {
				t.Fatalf("%s: %v", who.ID, err)
			}
			place.Leave()
		}
		want := func(n int) {
			t.Helper()
			if len(l.callers) != n || l.idle.Len() != n {
				t.Fatalf("got %d callers, %d of them idle, want %d", len(l.callers), l.idle.Len(), n)
			}
		}
		const many = 3 * idleCallers
		for i := range many {
			visit(address(i))
		}
		want(idleCallers)
		if l.callers[address(many-1).ID] == nil || l.callers[address(0).ID] != nil {
			t.Error("got the oldest caller kept or the newest one dropped")
		}
		time.Sleep(idleKept - time.Second)
		visit(user(1))
		want(idleCallers)
		busy, err := l.enter(user(2))
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		visit(user(1))
		if len(l.callers) != 2 || l.callers[user(2).ID] == nil {
			t.Fatalf("got %d callers, want the one under way and the one just now", len(l.callers))
		}
		busy.Leave()
		time.Sleep(idleKept)
		visit(user(3))
		want(1)
	})
}

func BenchmarkEnter(b *testing.B) {
	l := newLimits(creationsAtOnce)
	who := user(1)
	b.ReportAllocs()
	for b.Loop() {
		place, err := l.enter(who)
		if err != nil {
			b.Fatal(err)
		}
		place.Leave()
	}
}
