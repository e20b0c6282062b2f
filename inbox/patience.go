package inbox

import (
	"context"
	"errors"
	"fmt"
	"time"
)

const (
	// How long a report waits for a database that is away: Klavi waits ten seconds
	// for an answer, and tries for eight.
	outagePatience = 5 * time.Second
	spoolPatience  = time.Second // where there is a spool
	outageAgain    = 100 * time.Millisecond
)

// ErrAway: the database of a fleet cannot be reached, or takes nothing, and may
// come back. The store says so by itself, once, and when it has come back.
var ErrAway = fmt.Errorf("%w: the database", ErrUnavailable)

// errNotTried: it was away before.
var errNotTried = fmt.Errorf("%w is away", ErrAway)

// submitPatiently has an operation that stores a report wait for a database that
// is away, as long as the one who sent it does.
func (s *Store) submitPatiently(ctx context.Context, newOp func() *op) error {
	sp := s.base.spool()
	until := time.Now().Add(sp.patience())
	if sp != nil { // nor does it wait for longer for others
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, until)
		defer cancel()
	}
	var away error
	for {
		err := s.submit(ctx, newOp())
		if away != nil && errors.Is(err, context.DeadlineExceeded) {
			return away
		}
		away = err
		if !errors.Is(err, ErrAway) || time.Now().After(until) || ctx.Err() != nil {
			return err
		}
		timer := time.NewTimer(outageAgain)
		select {
		case <-timer.C:
		case <-ctx.Done():
		case <-s.closing:
		}
		timer.Stop()
	}
}
