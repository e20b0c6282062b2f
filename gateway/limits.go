package gateway

import (
	"container/list"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// What callers may ask of Klavi. docs/limits.md has the reason for each number.
const (
	// creationsAtOnce is how many links and consents may be under way for all
	// callers of one pair of keys together.
	creationsAtOnce = 500

	// A user may have userAtOnce creations under way and as many reads. It may
	// create userBurst links and consents in one go, and then one in each
	// userInterval.
	userAtOnce   = 20
	userBurst    = 60
	userInterval = time.Second

	// crowd is how many users an address counts as.
	crowd = 5

	// idleCallers is how many callers are remembered that have nothing under
	// way. One that has been idle for idleKept has all its allowance again, and
	// is like a new one.
	idleCallers = 10_000
	idleKept    = userBurst * userInterval

	// placeAfter is what a caller is told to wait that finds no place.
	placeAfter = time.Second
)

// Caller is on whose behalf Klavi is called.
type Caller struct {
	// ID is the same for all requests of one user, or of one address.
	ID string
	// Crowd says that many people may be behind it, as behind an address.
	Crowd bool
}

func (c Caller) users() int {
	if c.Crowd {
		return crowd
	}
	return 1
}

// LimitError is why a call to Klavi was not made.
type LimitError struct {
	// Reason says which limit it was, and is for the caller to see.
	Reason     string
	RetryAfter time.Duration
}

func (e *LimitError) Error() string { return e.Reason }

// limits keep a caller from taking what all callers need: the connections to
// Klavi, and the rate of calls that it allows.
type limits struct {
	atOnce int // of all callers

	mu       sync.Mutex
	underWay int
	callers  map[string]*caller
	idle     *list.List // of *caller, the longest idle first
}

type caller struct {
	Caller
	underWay  int
	rate      *rate.Limiter // nil until it has created something
	idleSince time.Time
	inIdle    *list.Element // nil while something is under way
}

func newLimits(atOnce int) *limits {
	return &limits{atOnce: atOnce, callers: make(map[string]*caller), idle: list.New()}
}

// Place is that of one request among those under way.
type Place struct {
	limits *limits
	caller *caller
}

// enter takes a place for who. Nobody waits for one: while Klavi is slow, a
// queue would only be another place to pile up.
func (l *limits) enter(who Caller) (Place, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	free := l.atOnce - l.underWay
	if free <= 0 {
		return Place{}, &LimitError{"Too many requests of all users together are under way.", placeAfter}
	}
	c, known := l.callers[who.ID]
	if !known {
		c = &caller{Caller: who}
	}
	// Whoever has none gets a place while there is one. Whoever has some gets
	// another only while four times as many are free.
	if c.underWay >= userAtOnce*c.users() || c.underWay > 0 && c.underWay >= free/4 {
		return Place{}, &LimitError{"Too many requests of the same user or address are under way.", placeAfter}
	}
	if !known {
		l.callers[who.ID] = c
	} else if c.underWay == 0 {
		l.idle.Remove(c.inIdle)
		c.inIdle = nil
	}
	c.underWay++
	l.underWay++
	return Place{l, c}, nil
}

// Leave gives the place back.
func (p Place) Leave() {
	l, c := p.limits, p.caller
	l.mu.Lock()
	defer l.mu.Unlock()
	c.underWay--
	l.underWay--
	if c.underWay > 0 {
		return
	}
	c.idleSince = time.Now()
	c.inIdle = l.idle.PushBack(c)
	l.forget(c.idleSince)
}

// spend takes one creation from the caller's allowance.
func (p Place) spend() error {
	l, c := p.limits, p.caller
	l.mu.Lock()
	defer l.mu.Unlock()
	if c.rate == nil {
		users := c.users()
		c.rate = rate.NewLimiter(rate.Every(userInterval/time.Duration(users)), userBurst*users)
	}
	now := time.Now()
	r := c.rate.ReserveN(now, 1)
	if wait := r.DelayFrom(now); wait > 0 {
		r.CancelAt(now)
		return &LimitError{"The same user or address has created too many links and consents.", wait}
	}
	return nil
}

// forget drops the idle callers of which nothing has to be known any more, and
// the longest idle where they are too many.
func (l *limits) forget(now time.Time) {
	for e := l.idle.Front(); e != nil; e = l.idle.Front() {
		c := e.Value.(*caller)
		if now.Sub(c.idleSince) < idleKept && l.idle.Len() <= idleCallers {
			return
		}
		l.idle.Remove(e)
		delete(l.callers, c.ID)
	}
}
