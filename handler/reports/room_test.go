package reports

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestRoomKeepsHalfForKlavi(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rm := newRoom(100)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := rm.take(ctx, othersLane, 50); err != nil {
			t.Fatalf("others, first half: got %v, want it", err)
		}
		if err := rm.take(ctx, othersLane, 1); err != errNoRoom {
			t.Errorf("others, second half: got %v, want errNoRoom", err)
		}
		if err := rm.take(t.Context(), klaviLane, 50); err != nil {
			t.Errorf("klavi, second half: got %v, want it", err)
		}
		rm.give(klaviLane, 50)
		rm.give(othersLane, 50)
		if err := rm.take(t.Context(), klaviLane, 100); err != nil {
			t.Errorf("klavi, all: got %v, want it", err)
		}
		rm.give(klaviLane, 100)
		if rm.free != 100 || rm.others != 50 {
			t.Errorf("got %d and %d free, want 100 and 50", rm.free, rm.others)
		}
	})
}

func TestRoomServesKlaviFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rm := newRoom(100)
		if err := rm.take(t.Context(), klaviLane, 100); err != nil {
			t.Fatal(err)
		}
		var mu sync.Mutex
		var order []string
		wait := func(name string, l lane, n int64) {
			go func() {
				if err := rm.take(t.Context(), l, n); err != nil {
					t.Errorf("%s: got %v, want room", name, err)
				}
				mu.Lock()
				order = append(order, name)
				mu.Unlock()
			}()
			synctest.Wait()
		}
		wait("other 1", othersLane, 10)
		wait("klavi 1", klaviLane, 30)
		wait("klavi 2", klaviLane, 10)
		for range 5 {
			rm.give(klaviLane, 10)
			synctest.Wait()
		}
		want := []string{"klavi 1", "klavi 2", "other 1"}
		mu.Lock()
		defer mu.Unlock()
		if len(order) != 3 || order[0] != want[0] || order[1] != want[1] || order[2] != want[2] {
			t.Errorf("got order %v, want %v", order, want)
		}
	})
}

// A large request at the front that gives up does not hold up those behind it.
func TestRoomAfterGivingUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rm := newRoom(100)
		_ = rm.take(t.Context(), klaviLane, 60)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		go func() {
			if err := rm.take(ctx, klaviLane, 90); err != errNoRoom {
				t.Errorf("got %v, want errNoRoom", err)
			}
		}()
		synctest.Wait()
		began := time.Now()
		if err := rm.take(t.Context(), klaviLane, 10); err != nil {
			t.Error(err)
		}
		if waited := time.Since(began); waited != time.Second {
			t.Errorf("got room after %v, want 1s", waited)
		}
	})
}

func TestPatienceIsForAllWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rm := newRoom(10)
		_ = rm.take(t.Context(), klaviLane, 10)
		s, p := share{room: rm, lane: klaviLane}, &patience{8 * time.Second}
		go func() {
			time.Sleep(5 * time.Second)
			rm.give(klaviLane, 5)
		}()
		if err := s.grow(t.Context(), 5, p); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		if err := s.grow(t.Context(), 5, p); err != errNoRoom {
			t.Errorf("got %v, want errNoRoom", err)
		}
		if waited := time.Since(began); waited != 3*time.Second {
			t.Errorf("got refused after %v more, want 3s", waited)
		}
		s.release()
		if rm.free != 5 {
			t.Errorf("got %d free, want 5", rm.free)
		}
	})
}
