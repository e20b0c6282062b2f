package inbox

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
)

// One operation that is wrong does not take the others of its batch with it.
func TestOneOfABatchFails(t *testing.T) {
	onlySQLite(t)
	s, _, _ := clocked(t, Settings{})
	wrong := errors.New("wrong")
	begun, begin := make(chan struct{}), make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() { // until all others stand in line
		_ = s.write(context.Background(), func(*tx) error {
			close(begun)
			<-begin
			return nil
		})
	})
	<-begun
	results := make([]error, 30)
	for i := range results {
		wg.Go(func() {
			results[i] = s.write(context.Background(), func(t *tx) error {
				if err := t.exec(`INSERT INTO pauses (route, at, by) VALUES (?, ?, '')`, i, i); err != nil {
					return err
				}
				switch i % 10 {
				case 3:
					return wrong
				case 7:
					panic("wrong too")
				}
				return nil
			})
		})
	}
	eventually(t, "all of them stand in line", func() bool { return len(s.ops) >= len(results) })
	close(begin)
	wg.Wait()
	failed := 0
	for i, err := range results {
		switch i % 10 {
		case 3:
			failed++
			if !errors.Is(err, wrong) {
				t.Errorf("%d: got %v, want %v", i, err, wrong)
			}
		case 7:
			failed++
			if err == nil || !strings.Contains(err.Error(), "wrong too") {
				t.Errorf("%d: got %v, want the panic", i, err)
			}
		default:
			if err != nil {
				t.Errorf("%d: got %v, want none", i, err)
			}
		}
	}
	if n := countRows(t, s, `SELECT count(*) FROM pauses`); n != len(results)-failed {
		t.Errorf("got %d rows, want %d", n, len(results)-failed)
	}
	if err := s.Ready(); err != nil {
		t.Errorf("got %v from Ready, want none: nothing is wrong with the store", err)
	}
}

// Who does not wait any more gets nothing written, unless it has begun.
func TestCallerGivesUp(t *testing.T) {
	onlySQLite(t)
	s, _, _ := clocked(t, Settings{})
	begun, begin := make(chan struct{}), make(chan struct{})
	ctx, cancel := context.WithCancel(t.Context())
	var first, second error
	var wg sync.WaitGroup
	wg.Go(func() {
		first = s.write(ctx, func(t *tx) error {
			close(begun)
			<-begin
			return t.exec(`INSERT INTO pauses (route, at, by) VALUES ('first', 1, '')`)
		})
	})
	<-begun
	wg.Go(func() {
		second = s.write(ctx, func(t *tx) error {
			return t.exec(`INSERT INTO pauses (route, at, by) VALUES ('second', 1, '')`)
		})
	})
	eventually(t, "the second stands in line", func() bool { return len(s.ops) > 0 })
	cancel()
	close(begin)
	wg.Wait()
	if first != nil || !errors.Is(second, context.Canceled) {
		t.Errorf("got %v and %v, want the first written and the second given up", first, second)
	}
	if n := countRows(t, s, `SELECT count(*) FROM pauses`); n != 1 {
		t.Errorf("got %d rows, want one", n)
	}
}

// What stands in line when the store closes is written or refused, and those who
// wait for it are told.
func TestCloseWhileWriting(t *testing.T) {
	onlySQLite(t)
	o, _ := quietOptions(t.TempDir())
	s := openTest(t, o)
	var mu sync.Mutex
	stored := make(map[string][]byte)
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			for j := 0; ; j++ {
				id := strings.Repeat("x", i) + strings.Repeat("y", j)
				body := randomBody(30_000 * (i % 4))
				_, err := put(s, testHead(id), body)
				if err != nil {
					if !errors.Is(err, ErrUnavailable) {
						t.Errorf("got %v, want %v", err, ErrUnavailable)
					}
					return
				}
				mu.Lock()
				stored[id] = body
				mu.Unlock()
			}
		})
	}
	eventually(t, "some are stored", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return len(stored) > 40
	})
	_ = s.Close()
	wg.Wait()
	s = openTest(t, o)
	checkStored(t, s, stored)
}

// While the disk takes its time, those who cannot wait go, and nothing of theirs
// is stored. The others get what they wait for.
func TestWriterStalls(t *testing.T) {
	onlySQLite(t)
	o, _ := quietOptions(t.TempDir())
	s := openTest(t, o)
	release := holdWriter(t, s)
	defer release()
	gone, cancel := context.WithCancel(t.Context())
	const n = 200 // more than fit in a line
	results := make([]error, n)
	var impatient, wg sync.WaitGroup
	for i := range n {
		ctx, group := gone, &impatient
		if i%2 == 0 {
			ctx, group = t.Context(), &wg
		}
		size := 100
		if i%20 < 2 {
			size = 2 * chunkSize
		}
		group.Go(func() {
			d, err := s.NewDraft()
			if err == nil {
				_, err = d.Write(bytes.Repeat([]byte{byte(i)}, size))
			}
			if err != nil {
				t.Error(err)
				return
			}
			_, results[i] = d.Commit(ctx, testHead(fmt.Sprint(i)), [32]byte{})
		})
	}
	eventually(t, "the line is full", func() bool { return len(s.ops) == cap(s.ops) })
	cancel()
	impatient.Wait() // although nothing is written
	release()
	wg.Wait()
	got := readAll(t, s)
	for i, err := range results {
		id := fmt.Sprint(i)
		if stored := got[id] != nil; stored != (err == nil) {
			t.Errorf("%s: got stored %v and %v", id, stored, err)
		}
		if i%2 == 0 && err != nil {
			t.Errorf("%s: got %v for one who waits, want it stored", id, err)
		}
		if i%2 == 1 && !errors.Is(err, context.Canceled) {
			t.Errorf("%s: got %v for one who has gone, want %v", id, err, context.Canceled)
		}
	}
	if files := countFiles(t, s); files != n/20 {
		t.Errorf("got %d bodies, want %d", files, n/20)
	}
}
