package inbox

import (
	"context"
	"crypto/sha256"
	"errors"
	"testing"
)

// drainable is a store whose reports a, with a route that is held, b, whose route is
// paused, and c, without one, wait. The route of a accepts once release is closed.
func drainable(t *testing.T) (s *Store, c *Client, release chan struct{}) {
	t.Helper()
	onlySQLite(t)
	o, _ := quietOptions(t.TempDir())
	s, c = serveTest(t, o)
	release = make(chan struct{})
	s.Attach(routesTo(func(ctx context.Context, _ string, _ *Delivery) Outcome {
		select {
		case <-release:
			return Outcome{Accepted: true, Status: 200}
		case <-ctx.Done():
			return Outcome{}
		}
	}, "a", "b"))
	if err := s.Pause(t.Context(), "b", "ann"); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"a", "b", "c"} {
		arriveMany(t, s, name, name, 2)
	}
	return s, c, release
}

func TestDrain(t *testing.T) {
	s, c, release := drainable(t)
	draft, err := s.NewDraft() // it is on its way already
	if err != nil {
		t.Fatal(err)
	}
	var told [][2]int
	done := make(chan error)
	go func() {
		done <- c.Drain(t.Context(), func(done, total int) { told = append(told, [2]int{done, total}) })
	}()
	eventually(t, "reports are refused", func() bool { return errors.Is(s.Ready(), ErrDraining) })
	if _, err := s.NewDraft(); !errors.Is(err, ErrDraining) || !errors.Is(err, ErrUnavailable) {
		t.Errorf("got %v, want %v", err, ErrDraining)
	}
	body := randomBody(10)
	_, _ = draft.Write(body)
	if _, err := draft.Commit(t.Context(), Head{Kind: KindReport, Subjects: []string{"a"}, ReportID: "late", Received: s.now()}, sha256.Sum256(body)); err != nil {
		t.Errorf("got %v for what was on its way, want it stored", err)
	}
	select {
	case err := <-done:
		t.Fatalf("got %v while something waits, want it to go on", err)
	default:
	}
	close(release)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if got := stateCount(t, s); got[Delivered] != 3 || got[Waiting] != 4 {
		t.Errorf("got %v, want what has a route delivered, and 4 waiting", got)
	}
	if last := told[len(told)-1]; last[0] != last[1] || last[0] < 3 {
		t.Errorf("got the progress %v, want it to end with all of 3 or more", told)
	}
	if err := s.Ready(); !errors.Is(err, ErrDraining) {
		t.Errorf("got %v when it is drained, want %v", err, ErrDraining)
	}
}

// Who hangs up has reports taken again.
func TestDrainInterrupted(t *testing.T) {
	s, c, release := drainable(t)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- c.Drain(ctx, nil) }()
	eventually(t, "reports are refused", func() bool { return errors.Is(s.Ready(), ErrDraining) })
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want %v", err, context.Canceled)
	}
	eventually(t, "reports are taken again", func() bool { return s.Ready() == nil })
	mustPut(t, s, testHead("b"), randomBody(10))
	close(release)
}

// A store that nobody delivers from has nothing to wait for, and goes on.
func TestDrainWithoutRoutes(t *testing.T) {
	onlySQLite(t)
	o, _ := quietOptions(t.TempDir())
	s, c := serveTest(t, o)
	if err := c.Drain(t.Context(), nil); !errors.Is(err, ErrUnavailable) || errors.Is(err, ErrDraining) {
		t.Errorf("got %v, want that nothing is delivered", err)
	}
	if err := s.Ready(); err != nil {
		t.Errorf("got %v, want reports taken", err)
	}
}

// What is on its way into the store will wait in it.
func TestDrainWaitsForDrafts(t *testing.T) {
	o, _ := quietOptions(t.TempDir())
	s := openTest(t, o)
	s.Attach(routesTo(func(context.Context, string, *Delivery) Outcome { return Outcome{Accepted: true, Status: 200} }, "a"))
	draft, err := s.NewDraft()
	if err != nil {
		t.Fatal(err)
	}
	totals := make(chan int, 100)
	done := make(chan error)
	go func() { done <- s.Drain(t.Context(), func(_, total int) { totals <- total }) }()
	if total := <-totals; total != 1 {
		t.Errorf("got %d to wait for, want the draft", total)
	}
	draft.Abort()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
