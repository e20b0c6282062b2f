package inbox

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"strconv"
	"sync/atomic"
	"syscall"
	"testing"
)

// movePoints are where a Move is interrupted: in the store to which, or from which,
// it moves.
var movePoints = []struct{ store, point string }{
	{"to", atCommit}, {"to", atCommitted}, {"from", atMoved}, {"from", atCommit}, {"from", atCommitted},
}

// faultAt has a Move come to an end at a point, from when it comes there for the nth
// time.
func faultAt(from, to *Store, store, point string, n int, end func() error) {
	s := from
	if store == "to" {
		s = to
	}
	s.files.fault = func(at string) error {
		if at != point {
			return nil
		}
		if n--; n <= 0 {
			return end()
		}
		return nil
	}
}

func TestMoveAgainAfterAnError(t *testing.T) {
	directions(t, func(t *testing.T, fromSide, toSide side) {
		from, to := fromSide.open(t), toSide.open(t)
		fillAll(t, from)
		want := contents(t, from)
		known, failures := 0, 0
		var moving atomic.Bool
		for i := 0; ; i++ {
			at := movePoints[i%len(movePoints)]
			broken := errors.New("broken")
			faultAt(from, to, at.store, at.point, 1+i/2, func() error {
				if !moving.Load() {
					return nil
				}
				return broken
			})
			moving.Store(true)
			moved, err := Move(t.Context(), from, to, nil)
			moving.Store(false)
			known += moved.Known
			if err == nil {
				break
			}
			if failures++; !errors.Is(err, broken) || failures > 200 {
				t.Fatalf("got %v after %d failures, want it done, or %v", err, failures, broken)
			}
			_, _ = from.Close(), to.Close()
			from, to = fromSide.open(t), toSide.open(t)
		}
		if known == 0 || failures < len(movePoints) {
			t.Errorf("got %d known after %d failures, want some", known, failures)
		}
		checkContents(t, to, want)
		checkNothing(t, from)
	})
}

// moveHelper moves what is in one store to another, and is killed on the way.
func moveHelper() error {
	var sides [2]side
	if err := json.Unmarshal([]byte(os.Getenv("HELPER_MOVE")), &sides); err != nil {
		return err
	}
	n, err := strconv.Atoi(os.Getenv("HELPER_COUNT"))
	if err != nil {
		return err
	}
	var stores [2]*Store
	for i, sd := range sides {
		if stores[i], err = Open(context.Background(), sd.options(slog.New(slog.NewTextHandler(os.Stderr, nil)))); err != nil {
			return err
		}
	}
	faultAt(stores[0], stores[1], os.Getenv("HELPER_STORE"), os.Getenv("HELPER_POINT"), n, func() error {
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {}
	})
	_, err = Move(context.Background(), stores[0], stores[1], nil)
	return errors.Join(err, stores[0].Close(), stores[1].Close())
}

func TestMoveAgainAfterAKill(t *testing.T) { //nolint:tparallel // directions says so
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	directions(t, func(t *testing.T, fromSide, toSide side) {
		from := fromSide.open(t)
		fillAll(t, from)
		want := contents(t, from)
		_ = from.Close()
		sides, err := json.Marshal([2]side{fromSide, toSide})
		if err != nil {
			t.Fatal(err)
		}
		for i, at := range movePoints {
			cmd := exec.CommandContext(t.Context(), exe)
			cmd.Env = append(os.Environ(), helperEnv+"="+fromSide.Dir, "HELPER_MOVE="+string(sides),
				"HELPER_STORE="+at.store, "HELPER_POINT="+at.point, fmt.Sprint("HELPER_COUNT=", []int{2, 3, 1, 2, 2}[i]))
			if out, err := cmd.CombinedOutput(); err == nil || cmd.ProcessState.String() != "signal: killed" {
				t.Fatalf("got %v, want it killed:\n%s", err, out)
			}
			if fromSide.URL == "" {
				continue
			}
			s := fromSide.open(t)
			eventually(t, "the node that was killed is gone", func() bool {
				names, err := s.base.others(t.Context())
				return err == nil && len(names) == 0
			})
			_ = s.Close()
		}
		from, to := fromSide.open(t), toSide.open(t)
		if _, err := Move(t.Context(), from, to, nil); err != nil {
			t.Fatal(err)
		}
		checkContents(t, to, want)
		checkNothing(t, from)
	})
}
