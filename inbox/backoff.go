package inbox

import (
	"math/rand/v2"
	"time"
)

const (
	// The first wait after a failure. Each further one is twice as long.
	firstBackoff = time.Second
	// What an upstream may ask for with Retry-After: an hour is the longest
	// that limits of rate commonly reach. A report that waits for longer than
	// its upstream is down for helps nobody.
	maxRetryAfter = time.Hour
)

// backoff returns how long to wait after so many failures in a row: doubling up
// to longest, and up to a quarter shorter, so that what failed together does not
// come back together.
func backoff(failures int, longest time.Duration) time.Duration {
	d := longest
	if shift := max(failures, 1) - 1; shift < 20 {
		d = min(firstBackoff<<shift, longest)
	}
	if d < 4 {
		return d
	}
	return d - rand.N(d/4) //nolint:gosec // jitter, not a secret
}

// retryIn is the back-off of a delivery, or what its upstream asked for.
func retryIn(o Outcome, failures int, longest time.Duration) time.Duration {
	return max(backoff(failures, longest), min(o.RetryAfter, maxRetryAfter))
}
