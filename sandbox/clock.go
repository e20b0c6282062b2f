package sandbox

import (
	"context"
	"sync/atomic"
	"time"
)

// clock is the time by which tokens, links and consents expire. It runs with the machine's clock, and a test can move it
// forward. Waiting (back-off, latency) is always real: moving the clock does not hurry a delivery.
type clock struct {
	ahead atomic.Int64
}

func (c *clock) now() time.Time {
	return time.Now().Add(time.Duration(c.ahead.Load())).UTC()
}

func (c *clock) advance(d time.Duration) { c.ahead.Add(int64(d)) }

func (c *clock) reset() { c.ahead.Store(0) }

// wait sleeps for d or until ctx ends, and reports whether it slept the whole time.
func wait(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// Klavi's documents show three notations of time: with milliseconds and Z (events, consents), with seconds and Z
// (expireAt), and without a zone (productReportTime).
const (
	milliTime  = "2006-01-02T15:04:05.000Z"
	secondTime = "2006-01-02T15:04:05Z"
	reportTime = "2006-01-02T15:04:05"
)
