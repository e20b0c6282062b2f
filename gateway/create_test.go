package gateway

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// creator counts what Klavi would be asked to create. Each call takes a second.
type creator struct {
	*Account
	calls, atOnce, most atomic.Int64
}

func newCreator() *creator {
	return &creator{Account: &Account{name: "default", shared: newShared()}}
}

func (c *creator) create(ctx context.Context, who Caller, key string, answer *Answer, err error) (*Answer, error) {
	return c.Create(ctx, Creation{Caller: who, Endpoint: "POST /links", Key: key, Request: []byte("{}")},
		func(context.Context) (*Answer, error) {
			n := c.atOnce.Add(1)
			defer c.atOnce.Add(-1)
			for most := c.most.Load(); n > most && !c.most.CompareAndSwap(most, n); most = c.most.Load() {
			}
			time.Sleep(time.Second)
			c.calls.Add(1)
			return answer, err
		})
}

func created() *Answer { return &Answer{Status: 200, Kept: time.Hour} }

// wantIdle checks that no place is lost.
func (c *creator) wantIdle(t *testing.T) {
	t.Helper()
	l := c.shared.creations
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.underWay != 0 || len(l.callers) != l.idle.Len() {
		t.Errorf("got %d under way and %d callers, %d of them idle; want none under way", l.underWay, len(l.callers), l.idle.Len())
	}
}

// crowdOf makes n requests at once and returns how many were answered. The rest
// must have been refused for a limit, at once.
func (c *creator) crowdOf(t *testing.T, n int, who func(int) Caller, key func(int) string) int {
	t.Helper()
	var wg sync.WaitGroup
	var answered atomic.Int64
	for i := range n {
		wg.Go(func() {
			began := time.Now()
			_, err := c.create(t.Context(), who(i), key(i), created(), nil)
			limit, refused := errors.AsType[*LimitError](err)
			switch {
			case err == nil:
				answered.Add(1)
			case !refused || limit.RetryAfter <= 0:
				t.Errorf("got %v, want none or a limit", err)
			case time.Since(began) > 0:
				t.Errorf("got the refusal after %s, want it at once", time.Since(began))
			}
		})
	}
	wg.Wait()
	c.wantIdle(t)
	return int(answered.Load())
}

// Ten thousand requests at once are no more calls than there are places, and
// whoever comes next is served.
func TestCrowds(t *testing.T) {
	const many = 10_000
	one := func(int) Caller { return user(1) }
	fixed := func(int) string { return "k" }
	none := func(int) string { return "" }
	for _, tt := range []struct {
		name                  string
		who                   func(int) Caller
		key                   func(int) string
		answered, calls, most int
	}{
		{"one user, no key", one, none, 20, 20, 20},
		{"one user, one key", one, fixed, 20, 1, 1},
		{"one user, keys of their own", one, func(i int) string { return fmt.Sprint(i) }, 20, 20, 20},
		{"one address", func(int) Caller { return address(1) }, none, 100, 100, 100},
		{"users, no key", user, none, 500, 500, 500},
		{"users, the same key", user, fixed, 500, 500, 500},
		{"addresses, the same key", address, fixed, 500, 500, 500},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newCreator()
				if got := c.crowdOf(t, many, tt.who, tt.key); got != tt.answered {
					t.Errorf("got %d answers, want %d", got, tt.answered)
				}
				if calls, most := int(c.calls.Load()), int(c.most.Load()); calls != tt.calls || most != tt.most {
					t.Errorf("got %d calls, %d at once; want %d and %d", calls, most, tt.calls, tt.most)
				}
				if kept := c.shared.answers.order.Len(); kept > tt.calls {
					t.Errorf("got %d answers kept, want at most %d", kept, tt.calls)
				}
				for _, who := range []Caller{user(1), user(many + 1), address(many + 1)} {
					if _, err := c.create(t.Context(), who, "later", created(), nil); err != nil {
						t.Errorf("%s: got %v afterwards, want an answer", who.ID, err)
					}
				}
			})
		})
	}
}

// Answers that are kept are bounded, per caller and in all.
func TestKeptAnswersAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCreator()
		for i := range 2 * answersPerScope {
			if _, err := c.create(t.Context(), user(1), fmt.Sprint(i), created(), nil); err != nil {
				t.Fatal(err)
			}
		}
		if got := c.shared.answers.order.Len(); got != answersPerScope {
			t.Errorf("got %d answers kept of one user, want %d", got, answersPerScope)
		}
		const atOnce = 200
		for i := range answersInAll/atOnce + 1 {
			if got := c.crowdOf(t, atOnce, func(j int) Caller { return user(i*atOnce + j) }, func(int) string { return "k" }); got != atOnce {
				t.Fatalf("got %d answers, want %d", got, atOnce)
			}
		}
		if got := c.shared.answers.order.Len(); got != answersInAll {
			t.Errorf("got %d answers kept, want %d", got, answersInAll)
		}
	})
}

// A call that goes on after its request has left keeps its place.
func TestPlaceOfAbandonedCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCreator()
		ctx, leave := context.WithCancel(t.Context())
		for i := range userAtOnce {
			go func() { _, _ = c.create(ctx, user(1), fmt.Sprint(i), created(), nil) }()
		}
		synctest.Wait()
		leave()
		synctest.Wait()
		_, err := c.create(t.Context(), user(1), "k", created(), nil)
		wantLimit(t, err)
		time.Sleep(2 * time.Second)
		c.wantIdle(t)
		if _, err := c.create(t.Context(), user(1), "k", created(), nil); err != nil {
			t.Errorf("got %v once they are over, want none", err)
		}
	})
}

func TestHowLongAnswersAreKept(t *testing.T) {
	for _, tt := range []struct {
		name   string
		answer *Answer
		want   time.Duration
	}{
		{"no longer than it is of use", &Answer{Status: 200, Kept: time.Minute}, time.Minute},
		{"at most half an hour", &Answer{Status: 201, Kept: 2 * time.Hour}, 30 * time.Minute},
		{"of no use any more", &Answer{Status: 200, Kept: -time.Second}, 0},
		{"not at all", &Answer{Status: 200}, 0},
		{"no success", &Answer{Status: 302, Kept: time.Hour}, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newCreator()
				ask := func() int64 {
					if _, err := c.create(t.Context(), user(1), "k", tt.answer, nil); err != nil {
						t.Fatal(err)
					}
					return c.calls.Load()
				}
				ask()
				if tt.want > 0 {
					time.Sleep(tt.want - time.Millisecond)
					if got := ask(); got != 1 {
						t.Errorf("got %d calls within %s, want 1", got, tt.want)
					}
					time.Sleep(2 * time.Millisecond)
				}
				if got := ask(); got != 2 {
					t.Errorf("got %d calls after %s, want 2", got, tt.want)
				}
			})
		})
	}
}

// What makes no call is not counted as one.
func TestOnlyCallsAreSpent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCreator()
		for range 2 * userBurst { // the same answer again
			if _, err := c.create(t.Context(), user(1), "k", created(), nil); err != nil {
				t.Fatal(err)
			}
		}
		if got := c.shared.creations.callers[user(1).ID].rate.Tokens(); got != userBurst {
			t.Errorf("got %v left a second after one call, want all %d", got, userBurst)
		}
		c.crowdOf(t, 3, func(int) Caller { return user(1) }, func(int) string { return "" })
		if got := c.shared.creations.callers[user(1).ID].rate.Tokens(); got != userBurst-2 {
			t.Errorf("got %v left a second after three calls, want %d", got, userBurst-2)
		}
	})
}

func TestCreationsBeyondTheRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCreator()
		one := func(int) Caller { return user(1) }
		for range 3 {
			if got := c.crowdOf(t, userAtOnce, one, func(int) string { return "" }); got != userAtOnce {
				t.Fatalf("got %d answers, want %d", got, userAtOnce)
			}
		}
		// 60 in 3 seconds, in each of which one more is allowed
		if got := c.crowdOf(t, userAtOnce, one, func(i int) string { return fmt.Sprint("k", i) }); got != 3 {
			t.Errorf("got %d answers, want 3", got)
		}
		if got := c.calls.Load(); got != 63 {
			t.Errorf("got %d calls, want 63", got)
		}
		if _, err := c.create(t.Context(), user(2), "", created(), nil); err != nil {
			t.Errorf("another user: got %v, want none", err)
		}
	})
}

func TestPlacesAfterFailures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCreator()
		failed := errors.New("failed")
		for _, key := range []string{"", "k"} {
			if _, err := c.create(t.Context(), user(1), key, nil, failed); !errors.Is(err, failed) {
				t.Errorf("key %q: got %v, want %v", key, err, failed)
			}
		}
		if _, err := c.create(t.Context(), user(1), "k", created(), nil); err != nil {
			t.Fatal(err)
		}
		conflict := Creation{Caller: user(1), Endpoint: "POST /links", Key: "k", Request: []byte("{ }")}
		if _, err := c.Create(t.Context(), conflict, nil); !errors.Is(err, ErrConflict) {
			t.Errorf("got %v, want %v", err, ErrConflict)
		}
		crash := Creation{Caller: user(1), Endpoint: "POST /links", Key: "crash"}
		if _, err := c.Create(t.Context(), crash, func(context.Context) (*Answer, error) { panic("secret") }); !errors.Is(err, errPanicked) {
			t.Errorf("got %v, want %v", err, errPanicked)
		}
		c.wantIdle(t)
	})
}

// What a client writes does not decide how much memory a key takes.
func TestKeysAreSmall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCreator()
		if _, err := c.create(t.Context(), user(1), strings.Repeat("x", 1<<20), created(), nil); err != nil {
			t.Fatal(err)
		}
		for id := range c.shared.answers.calls.Items() {
			if len(id) > 32 {
				t.Errorf("got a key of %d bytes, want 32", len(id))
			}
		}
	})
}

// A reload does not give anybody a new allowance.
func TestLimitsSurviveReload(t *testing.T) {
	const config = `{"accounts":{"default":{"environment":"sandbox","access_key":"limits","secret_key":"s"}}}`
	before, _, err := provisionApp(t, config)
	if err != nil {
		t.Fatal(err)
	}
	place, err := before.Accounts["default"].EnterRead(user(1))
	if err != nil {
		t.Fatal(err)
	}
	after, _, err := provisionApp(t, config)
	if err != nil {
		t.Fatal(err)
	}
	if err := before.Cleanup(); err != nil {
		t.Fatal(err)
	}
	creations, reads := before.Accounts["default"].shared.creations, after.Accounts["default"].shared.reads
	if reads.underWay != 1 || creations != after.Accounts["default"].shared.creations {
		t.Errorf("got other limits after the reload, with %d under way; want the same, with 1", reads.underWay)
	}
	place.Leave()
	if reads.underWay != 0 {
		t.Errorf("got %d under way, want 0", reads.underWay)
	}
	if err := after.Cleanup(); err != nil {
		t.Fatal(err)
	}
}
