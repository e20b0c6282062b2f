package inbox

import (
	"errors"
	"maps"
	"math"
	"slices"
	"time"
)

// So many reports at most are sent again after the process has died, of each
// route, beside those that were under way.
const maxUnsure = 64

// lane is the workers of one route. Its fields are guarded by engine.mu.
type lane struct {
	e     *engine
	name  string
	kicks chan struct{}

	set    *set // that it delivers with, nil if none has such a route
	route  Route
	health health
	ready  []*job    // claimed, and not begun
	active int       // attempts under way, those of older sets too
	unsure int       // that have ended, and are not on record yet
	slots  int       // how many attempts this node may make at once
	turn   int       // how many were claimed so far
	ahead  int       // so many are claimed before there is a worker for them
	filled time.Time // the last claim that got all it asked for
	stuck  bool      // claims fail
	// doubtful: the last claim may have been made, though it failed.
	doubtful bool
	last     lastAttempt
}

// lastAttempt is how the last attempt of a route ended.
type lastAttempt struct {
	at      time.Time
	outcome Outcome
}

func newLane(e *engine, name string) *lane {
	slots := math.MaxInt
	if e.s.base.shared() {
		slots = 0 // until it is agreed upon
	}
	return &lane{e: e, name: name, kicks: make(chan struct{}, 1), health: newHealth(), slots: slots}
}

// kick has the lane look for something to do.
func (l *lane) kick() {
	select {
	case l.kicks <- struct{}{}:
	default:
	}
}

// run begins attempts, until the lane has no route any more and nothing to wait
// for.
func (l *lane) run() {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		wait, more := l.step()
		if !more {
			return
		}
		timer.Stop()
		var due <-chan time.Time
		if wait != never {
			timer.Reset(time.Duration(wait))
			due = timer.C
		}
		select {
		case <-l.kicks:
		case <-due:
		case <-l.e.stop:
		}
	}
}

// step begins what can be begun. It returns after how many nanoseconds there may
// be more, and whether the lane goes on.
func (l *lane) step() (wait int64, more bool) {
	e := l.e
	e.mu.Lock()
	defer e.mu.Unlock()
	for {
		if !l.open() {
			l.giveBack()
			if e.stopped {
				return 0, false
			}
			if l.set == nil && l.active+l.unsure == 0 && len(l.ready) == 0 {
				delete(e.lanes, l.name)
				return 0, false
			}
			if !l.open() {
				if len(l.ready) > 0 {
					return int64(lookAgain), true
				}
				return never, true
			}
		}
		now := e.s.now()
		if l.stale() {
			if l.giveBack(); l.stuck {
				return int64(lookAgain), true
			}
			continue
		}
		l.begin()
		c := l.claim(now)
		if c == nil {
			return l.wait(now), true
		}
		if c.doubtful = l.doubtful; c.doubtful {
			c.known = slices.Collect(maps.Keys(e.busy))
		}
		e.mu.Unlock()
		err := c.take(e.s)
		e.mu.Lock()
		l.doubtful = err != nil && e.s.base.shared()
		if l.cannotClaim(err) {
			return int64(lookAgain), true
		}
		l.took(c)
	}
}

// open tells whether attempts may begin.
func (l *lane) open() bool {
	_, paused := l.e.paused[l.name]
	return l.set != nil && !paused && !l.e.stopped && l.e.s.base.mayDeliver()
}

// room is how many attempts may be under way.
func (l *lane) room() int { return min(l.health.limit, l.route.Concurrency, l.slots) }

// full tells whether no further attempt may begin. A worker need not wait until
// its attempt is on record, but what is not is sent again if the process dies.
func (l *lane) full() bool { return l.active >= l.room() || l.unsure >= maxUnsure }

// free tells whether there is a worker for one more.
func (l *lane) free() bool {
	return l.open() && !l.health.failing && !l.full() && l.active+len(l.ready) < l.room()
}

// claim returns what is to be claimed now, nil if nothing is.
func (l *lane) claim(now time.Time) *claim {
	room := l.room()
	if room == 0 {
		return nil
	}
	n := max(room-l.active, 0) + max(l.ahead, room) - len(l.ready)
	kind := l.health.probe()
	switch {
	case kind == noProbe && len(l.ready) >= n:
		return nil // less than half has been begun
	case kind != noProbe && (l.active+len(l.ready) > 0 || now.Before(l.health.next)):
		return nil
	case kind != noProbe:
		n = 1
	}
	c := &claim{
		set: l.set, route: l.name, kind: kind, n: n, turn: l.turn, gone: l.e.gone, busy: l.e.isBusy, now: now.UnixMilli(),
		// The last of them gets a worker when those before it have ended.
		until: now.Add(time.Duration(2+(len(l.ready)+n)/room)*l.route.Timeout + claimMargin).UnixMilli(),
	}
	c.retries, c.next = math.MaxInt, now
	if kind == noProbe {
		c.retries, c.next = l.health.retries(now, l.e.s.settings().RetryMaxInterval)
	}
	for _, q := range l.e.queues {
		if q.lane == l && q.due <= c.now {
			c.queues = append(c.queues, claimQueue{subject: q.subject, woken: q.woken})
		}
	}
	if len(c.queues) == 0 {
		return nil
	}
	return c
}

// pace has a route that is fast claim many at once, which is one transaction for
// all of them, and one that is slow few.
func (l *lane) pace(c *claim) {
	const fast, most = 100 * time.Millisecond, 16
	if len(c.jobs) < c.n || c.kind != noProbe {
		return
	}
	now := time.Now()
	if now.Sub(l.filled) < fast {
		l.ahead = min(2*max(l.ahead, 1), most*l.room())
	} else {
		l.ahead = 0
	}
	l.filled = now
}

// took notes what a claim has brought.
func (l *lane) took(c *claim) {
	e := l.e
	l.turn += len(c.jobs)
	l.pace(c)
	if c.retried && c.retries < math.MaxInt {
		l.health.retried(c.next)
	}
	more := len(c.jobs) == c.n
	for _, cq := range c.queues {
		q := e.queues[cq.subject]
		switch {
		case q == nil:
		case q.woken == cq.woken:
			q.due = cq.due
		default: // something came meanwhile
			more = true
		}
	}
	for _, j := range c.jobs {
		for _, id := range j.deliveries {
			e.busy[id] = struct{}{}
		}
	}
	l.ready = append(l.ready, c.jobs...)
	if more && !l.free() { // others may do it sooner
		e.s.base.tell()
	}
}

// stale tells whether what is claimed was claimed for other routes, or before
// the route failed.
func (l *lane) stale() bool {
	return len(l.ready) > 0 && (l.slots == 0 || l.ready[0].gone != l.e.gone || l.ready[0].set != l.set || l.health.failing && l.ready[0].probe == noProbe)
}

// begin begins attempts with what is claimed.
func (l *lane) begin() {
	for len(l.ready) > 0 && !l.full() {
		j := l.ready[0]
		l.ready = l.ready[1:]
		j.route = l.route
		l.active++
		l.e.running.Go(func() { l.attempt(j) })
	}
}

// giveBack undoes the claims of what was not begun. It lets go of engine.mu
// meanwhile.
func (l *lane) giveBack() {
	jobs := l.ready
	l.ready = nil
	if len(jobs) == 0 {
		return
	}
	e := l.e
	e.mu.Unlock()
	err := e.s.unclaim(jobs)
	e.mu.Lock()
	if l.cannotClaim(err) { // they are claimed still: later
		l.ready = append(jobs, l.ready...)
		return
	}
	for _, j := range jobs {
		for i, id := range j.deliveries {
			delete(e.busy, id)
			e.wake(j.subjects[i])
		}
	}
}

// cannotClaim tells whether claims fail. It says so once.
func (l *lane) cannotClaim(err error) bool {
	if err != nil && !l.stuck && !errors.Is(err, errClosed) && !errors.Is(err, ErrAway) {
		l.e.s.log.Error("deliveries to a route wait: the inbox cannot be written", "route", l.name, "error", err)
	}
	l.stuck = err != nil
	return l.stuck
}

// isBusy tells whether a delivery is claimed here.
func (e *engine) isBusy(delivery int64) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	_, busy := e.busy[delivery]
	return busy
}

// wait returns for how long there is nothing to do.
func (l *lane) wait(now time.Time) int64 {
	if len(l.ready) > 0 || l.full() {
		return never // the end of an attempt, or more slots, is the next that happens
	}
	due := never
	for _, q := range l.e.queues {
		if q.lane == l {
			due = min(due, q.due)
		}
	}
	if due == never {
		return never
	}
	wait := time.Duration(due-now.UnixMilli()) * time.Millisecond
	if l.health.failing {
		if l.active > 0 {
			return never
		}
		wait = max(wait, l.health.next.Sub(now))
	}
	// The clock may jump: no timer is trusted for long.
	return int64(min(max(wait, time.Millisecond), lookAgain))
}
