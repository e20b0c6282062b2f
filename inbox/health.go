package inbox

import (
	"maps"
	"math"
	"net/http"
	"slices"
	"time"
)

const (
	// So many deliveries in a row that fail as if by the route's fault make it
	// a failing route.
	minPatience = 5
	maxPatience = 4 * 4 * 4 * 4 * minPatience
	// An upstream that says when to come back counts for more: two such answers
	// are enough.
	askedToWait = 3
	// How many of the deliveries that fail while their route does are
	// remembered.
	maxSuspects = 4096
	// So many refusals in a row, whatever the reports, are the route's.
	maxRefusals = 100
)

// health is what the attempts of a route say of it. A failing route gets no
// attempts but probes.
//
// A report that breaks the connection of its upstream looks like a route that is
// down. Therefore the probes take turns between the oldest report and the
// newest: if one is accepted where the other was not, it is the reports, and the
// route is given more patience.
//
// A route that answers, but refuses everything, may have a service whose own
// database is down, or only bad reports. It still gets what is fresh, so that no
// good report waits for bad ones, but what it has refused before comes one at a
// time until it accepts something.
type health struct {
	limit     int // attempts at once; grows with each that is accepted
	patience  int
	score     int // of the failures since the last answer
	accepted  int // in a row
	suspects  map[int64]struct{}
	failing   bool
	since     time.Time // it is failing
	next      time.Time // when to probe
	probes    int       // that failed
	oldFailed bool      // one of them with the oldest report

	refused      int // in a row
	refusing     time.Time
	refusedAgain int // since then, of what was refused before
	nextRetry    time.Time
}

func newHealth() health {
	return health{limit: math.MaxInt, patience: minPatience, suspects: make(map[int64]struct{})}
}

// probe is which report an attempt tries a failing route with.
type probe int

const (
	noProbe probe = iota
	oldestProbe
	newestProbe
)

// probe returns which report the next attempt is to be made with.
func (h *health) probe() probe {
	switch {
	case !h.failing:
		return noProbe
	case h.probes%2 == 0:
		return oldestProbe
	}
	return newestProbe
}

// faulty tells whether an outcome speaks against the route rather than the
// report. Where nothing could be reached or nothing came in time, there is no
// status.
func faulty(o Outcome) bool {
	if o.Accepted || o.Dead {
		return false
	}
	switch o.Status {
	case 0, http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return true
	}
	return false
}

// alive notes that the route answered an attempt, whether or not it accepted the
// report. A failing route fails no more; the deliveries that failed with it are
// returned.
func (h *health) alive(accepted bool, kind probe, now time.Time) (cleared []int64) {
	if h.failing {
		cleared = slices.Collect(maps.Keys(h.suspects))
		patience := minPatience
		if kind == newestProbe && h.oldFailed {
			patience = min(4*h.patience, maxPatience)
		}
		*h = newHealth()
		h.limit, h.patience = 1, patience
	}
	h.score = 0
	clear(h.suspects)
	if !accepted {
		h.accepted = 0
		if h.refused++; h.refused == maxRefusals {
			h.refusing, h.nextRetry, h.refusedAgain = now, now.Add(firstBackoff), 0
		}
		return cleared
	}
	h.refused = 0
	if h.limit < math.MaxInt {
		h.limit++
	}
	if h.accepted++; h.accepted >= h.patience {
		h.patience = minPatience
	}
	return cleared
}

// faulted notes a failure that looks like the route's, and tells whether that
// makes it a failing one.
func (h *health) faulted(delivery int64, o Outcome, kind probe, now time.Time, longest time.Duration) bool {
	_, again := h.suspects[delivery]
	if len(h.suspects) < maxSuspects {
		h.suspects[delivery] = struct{}{}
	}
	h.accepted, h.limit = 0, 1
	if h.failing {
		if kind == noProbe { // under way since before
			return false
		}
		h.probes++
		h.oldFailed = h.oldFailed || kind == oldestProbe
		h.next = now.Add(retryIn(o, h.probes+1, longest))
		return false
	}
	if again {
		return false // it says nothing new
	}
	h.score++
	if o.RetryAfter > 0 {
		h.score += askedToWait - 1
	}
	if h.score < h.patience {
		return false
	}
	h.failing, h.since, h.probes, h.oldFailed = true, now, 0, false
	h.next = now.Add(retryIn(o, 1, longest))
	return true
}

// silent notes that a probe never reached the route.
func (h *health) silent(now time.Time) { h.next = now.Add(firstBackoff) }

// refuses tells whether the route refuses everything.
func (h *health) refuses() bool { return !h.failing && h.refused >= maxRefusals }

// retries returns how many reports that were refused before may be tried now, and
// when the next may be, when these have been.
func (h *health) retries(now time.Time, longest time.Duration) (n int, next time.Time) {
	switch {
	case !h.refuses():
		return math.MaxInt, now
	case now.Before(h.nextRetry):
		return 0, h.nextRetry
	}
	return 1, now.Add(backoff(h.refusedAgain+1, longest))
}

// retried notes that one of them is tried.
func (h *health) retried(next time.Time) {
	h.nextRetry = next
	h.refusedAgain++
}

// again has a route that fails or refuses everything probed at once, and its
// intervals begin anew.
func (h *health) again(now time.Time) {
	h.next, h.probes = now, 0
	h.nextRetry, h.refusedAgain = now, 0
}
