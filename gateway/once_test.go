package gateway

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

var (
	digestA = sha256.Sum256([]byte("a"))
	digestB = sha256.Sum256([]byte("b"))
)

// counting returns a call that takes a second and brings how often it was made.
func counting(calls *int, kept time.Duration, err error) func(context.Context) (int, time.Duration, error) {
	return func(context.Context) (int, time.Duration, error) {
		time.Sleep(time.Second)
		*calls++
		return *calls, kept, err
	}
}

func TestOnceJoins(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o, calls := newOnce[int](10, 100), 0
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() {
				got, _, err := o.do(context.Background(), "u", "k", digestA, counting(&calls, time.Minute, nil))
				if got != 1 || err != nil {
					t.Errorf("got %d, %v, want 1, nil", got, err)
				}
			})
		}
		wg.Wait()
		if calls != 1 {
			t.Errorf("got %d calls, want 1", calls)
		}
	})
}

func TestOnceKeepsForAWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o, calls := newOnce[int](10, 100), 0
		want := func(n int) {
			t.Helper()
			if got, _, err := o.do(context.Background(), "u", "k", digestA, counting(&calls, time.Minute, nil)); got != n || err != nil {
				t.Errorf("got %d, %v, want %d, nil", got, err, n)
			}
		}
		want(1)
		want(1)
		time.Sleep(time.Minute + time.Second)
		want(2)
		if got := o.order.Len(); got != 1 {
			t.Errorf("got %d calls in the list, want 1", got)
		}
	})
}

func TestOnceDoesNotKeepFailures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o, calls := newOnce[int](10, 100), 0
		failed := errors.New("failed")
		for range 2 {
			if _, _, err := o.do(context.Background(), "u", "k", digestA, counting(&calls, 0, failed)); !errors.Is(err, failed) {
				t.Errorf("got %v, want %v", err, failed)
			}
		}
		if calls != 2 || o.order.Len() != 0 || len(o.scopes) != 0 {
			t.Errorf("got %d calls, %d listed, %d scopes; want 2, 0, 0", calls, o.order.Len(), len(o.scopes))
		}
	})
}

func TestOnceConflict(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o, calls := newOnce[int](10, 100), 0
		if _, _, err := o.do(context.Background(), "u", "k", digestA, counting(&calls, time.Minute, nil)); err != nil {
			t.Fatal(err)
		}
		if _, _, err := o.do(context.Background(), "u", "k", digestB, counting(&calls, time.Minute, nil)); !errors.Is(err, ErrConflict) {
			t.Errorf("got %v, want %v", err, ErrConflict)
		}
		if got, _, err := o.do(context.Background(), "other user", "k", digestB, counting(&calls, time.Minute, nil)); got != 2 || err != nil {
			t.Errorf("got %d, %v for the key of another user, want 2, nil", got, err)
		}
	})
}

func TestOnceOldestLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o, calls := newOnce[int](3, 5), 0
		for i := range 4 {
			if _, _, err := o.do(context.Background(), "u", fmt.Sprint(i), digestA, counting(&calls, time.Minute, nil)); err != nil {
				t.Fatal(err)
			}
		}
		if got, _, _ := o.do(context.Background(), "u", "1", digestA, counting(&calls, time.Minute, nil)); got != 2 {
			t.Errorf("got %d for the second key, want 2, kept", got)
		}
		if got, _, _ := o.do(context.Background(), "u", "0", digestA, counting(&calls, time.Minute, nil)); got != 5 {
			t.Errorf("got %d for the first key, want 5, made again", got)
		}
		for i := range 10 {
			if _, _, err := o.do(context.Background(), fmt.Sprint("v", i), "k", digestA, counting(&calls, time.Minute, nil)); err != nil {
				t.Fatal(err)
			}
		}
		if got := o.order.Len(); got != 5 || o.calls.ItemCount() != 5 {
			t.Errorf("got %d listed and %d kept, want 5", got, o.calls.ItemCount())
		}
	})
}

func TestOnceBusy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o, calls := newOnce[int](2, 100), 0
		for i := range 2 {
			go func() {
				_, _, _ = o.do(context.Background(), "u", fmt.Sprint(i), digestA, func(context.Context) (int, time.Duration, error) {
					time.Sleep(time.Minute)
					return 0, time.Minute, nil
				})
			}()
		}
		synctest.Wait()
		if _, _, err := o.do(context.Background(), "u", "third", digestA, counting(&calls, time.Minute, nil)); !errors.Is(err, ErrBusy) {
			t.Errorf("got %v with the scope full of calls under way, want %v", err, ErrBusy)
		}
		time.Sleep(2 * time.Minute)
		if _, _, err := o.do(context.Background(), "u", "third", digestA, counting(&calls, time.Minute, nil)); err != nil {
			t.Errorf("got %v once they are over, want none", err)
		}
	})
}

func TestOnceCallerLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o, calls := newOnce[int](10, 100), 0
		ctx, leave := context.WithCancel(context.Background())
		go func() {
			time.Sleep(time.Millisecond)
			leave()
		}()
		if _, _, err := o.do(ctx, "u", "k", digestA, counting(&calls, time.Minute, nil)); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v, want %v", err, context.Canceled)
		}
		if got, _, err := o.do(context.Background(), "u", "k", digestA, counting(&calls, time.Minute, nil)); got != 1 || err != nil {
			t.Errorf("got %d, %v for the one that came back, want 1, nil", got, err)
		}
	})
}

func TestOncePanics(t *testing.T) {
	o := newOnce[int](10, 100)
	_, _, err := o.do(context.Background(), "u", "k", digestA, func(context.Context) (int, time.Duration, error) { panic("secret") })
	if !errors.Is(err, errPanicked) {
		t.Errorf("got %v, want %v", err, errPanicked)
	}
}
