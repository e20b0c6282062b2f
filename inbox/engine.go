package inbox

import (
	"context"
	"errors"
	"maps"
	"math"
	"slices"
	"sync"
	"time"
)

const (
	// What is lost between two wake-ups is found after so long: claims of others
	// that have run out, and jumps of the clock.
	lookAgain = 5 * time.Second
	// How long attempts that are cut off get to say so in the record.
	cutTime = time.Second
	// Of an attempt, for routes that say nothing.
	defaultTimeout = time.Minute
)

var errStopping = errors.New("delivering has stopped")

// engine delivers what waits to the routes of the newest set that is attached.
// Each route has a lane of its own.
type engine struct {
	s *Store

	attempts context.Context // of all of them
	cut      context.CancelCauseFunc
	stop     chan struct{} // closed when no attempt may begin any more
	looks    chan struct{} // has watch look now
	running  sync.WaitGroup
	// expiredAt is when it was looked last for what has waited for too long. It is
	// watch's.
	expiredAt time.Time
	// emptyAt is how many batches were written when the last look began, if it found
	// that nothing waits, else -1. It is watch's.
	emptyAt int64

	mu      sync.Mutex
	stopped bool
	began   time.Time     // there is somebody to deliver to, and the clock goes on
	hold    time.Duration // nothing dies of age for so long from then on
	clock   clockSeen
	sets    []*set // attached, the newest last
	set     *set   // the newest, nil if there is none
	// elsewhere is what the others of a fleet deliver to, for a visit.
	elsewhere *fleetView
	lanes     map[string]*lane
	queues    map[subject]*queue
	busy      map[int64]struct{} // deliveries that are claimed here
	paused    map[string]Pause   // by people
	pauses    int                // how often that was changed here
	gone      int                // how often others may have taken over what is claimed here
}

// set is the routes of one config.
type set struct {
	routes Routes
	byName map[string]Route
	view   *fleetView // it is what the nodes of a fleet tell
}

// knows says whether it is known which route a subject has, if any.
func (st *set) knows(sub subject) bool {
	if st.view == nil {
		return true
	}
	_, known := st.view.types[sub]
	return known
}

// queue is the deliveries of a subject that wait.
type queue struct {
	subject
	lane *lane // nil without a route
	// due is when the first of them may be, never if none waits.
	due   int64
	woken int // so often: what a claim found out may be old
}

const never int64 = math.MaxInt64

// startEngine begins to look after what waits. Attempts begin when routes are
// attached.
func (s *Store) startEngine(ctx context.Context) error {
	e := &engine{
		s: s, emptyAt: -1, stop: make(chan struct{}), looks: make(chan struct{}, 1),
		lanes: make(map[string]*lane), queues: make(map[subject]*queue), busy: make(map[int64]struct{}),
	}
	var err error
	if e.paused, err = s.readPauses(ctx); err != nil && (s.base.spool() == nil || !errors.Is(err, ErrAway)) {
		return err
	}
	e.clock = clockSeen{wall: s.now(), steady: time.Now()}
	e.attempts, e.cut = context.WithCancelCause(context.Background())
	s.engine, s.stored, s.stop = e, e.stored, s.stopEngine
	e.running.Go(e.watch)
	return nil
}

// Attach has the routes deliver from now on, until detach is called. The set
// that was attached last delivers; attempts under way end with the set they
// began with. Without a set, reports wait. Detach does not wait for anything.
func (s *Store) Attach(routes Routes) (detach func()) {
	e := s.engine
	st := &set{routes: routes, byName: make(map[string]Route)}
	for _, r := range routes.List() {
		r.Concurrency = max(r.Concurrency, 1)
		if r.Timeout <= 0 {
			r.Timeout = defaultTimeout
		}
		st.byName[r.Name] = r
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.sets = append(e.sets, st)
	e.use(st)
	s.base.attached()
	return sync.OnceFunc(func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		e.sets = slices.DeleteFunc(e.sets, func(other *set) bool { return other == st })
		if e.set != st {
			return
		}
		if len(e.sets) == 0 {
			e.use(nil)
			return
		}
		e.use(e.sets[len(e.sets)-1])
	})
}

// use has st deliver. A route that was failing is probed at once: the new config
// may have mended it. e.mu is held.
func (e *engine) use(st *set) {
	if e.stopped {
		return
	}
	now := e.s.now()
	if e.set == nil {
		e.spare(now, trustTime)
	}
	e.set = st
	for name, l := range e.lanes {
		if st == nil || st.byName[name].Name == "" {
			l.set = nil
			l.kick()
		}
	}
	if st != nil {
		for name, route := range st.byName {
			l := e.lanes[name]
			if l == nil {
				l = newLane(e, name)
				e.lanes[name] = l
				e.running.Go(l.run)
			}
			l.set, l.route = st, route
			l.health.again(now)
		}
	}
	for _, q := range e.queues {
		q.lane = e.laneOf(q.subject)
		q.wake()
	}
	e.look()
}

// shown is the routes that somebody who looks is to see. e.mu is held.
func (e *engine) shown() *set {
	if e.set == nil && e.elsewhere != nil {
		return e.elsewhere.set
	}
	return e.set
}

// laneOf returns the lane of a subject, nil if it has no route. e.mu is held.
func (e *engine) laneOf(sub subject) *lane {
	return e.lanes[e.set.route(sub)]
}

// route returns the name of the route of a subject, empty if it has none.
func (st *set) route(sub subject) string {
	if st == nil {
		return ""
	}
	name := st.routes.Route(sub.kind, sub.name)
	if st.byName[name].Name == "" {
		return ""
	}
	return name
}

// routeOf returns the name of the route that a subject has now, empty if it has
// none.
func (s *Store) routeOf(kind Kind, name string) string {
	e := s.engine
	if e == nil {
		return ""
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.set == nil {
		return ""
	}
	return e.set.routes.Route(kind, name)
}

// setSlots says how many attempts of each route may be made here. If this node was
// gone, others may have taken over what was claimed here.
func (e *engine) setSlots(slots map[string]int, wasGone bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for name, l := range e.lanes {
		l.slots = slots[name]
	}
	if wasGone {
		e.gone++
	}
}

// lowerSlots has no more attempts begin than are to be made here, and returns how
// many there may be all the same: those under way end by themselves.
func (e *engine) lowerSlots(slots map[string]int) map[string]int {
	used := maps.Clone(slots)
	e.mu.Lock()
	defer e.mu.Unlock()
	for name, l := range e.lanes {
		l.slots = min(l.slots, slots[name])
		if n, ok := slots[name]; ok || l.active > 0 {
			used[name] = max(n, l.active)
		}
	}
	return used
}

// kick has all lanes look for something to do.
func (e *engine) kick() {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, l := range e.lanes {
		l.kick()
	}
}

// stored says that deliveries of these subjects may be due, and returns whether
// workers seem to be there for all of them: a claim finds out. It never waits.
func (e *engine) stored(kind Kind, names []string) (free bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	free = true
	for _, name := range names {
		l := e.wake(subject{kind, name}).lane
		free = free && l != nil && l.free()
	}
	return free
}

// wake says that deliveries of a subject may be due. e.mu is held.
func (e *engine) wake(sub subject) *queue {
	q := e.queues[sub]
	if q == nil {
		q = &queue{subject: sub, lane: e.laneOf(sub)}
		e.queues[sub] = q
	}
	q.wake()
	return q
}

func (q *queue) wake() {
	q.due = 0
	q.woken++
	if q.lane != nil {
		q.lane.kick()
	}
}

// StopDelivering begins no attempt any more, and waits for those under way. When
// ctx ends, it cuts them off.
func (s *Store) StopDelivering(ctx context.Context) {
	e := s.engine
	if e == nil {
		return
	}
	e.mu.Lock()
	if !e.stopped {
		e.stopped = true
		close(e.stop)
	}
	e.mu.Unlock()
	defer e.cut(errStopping)

	ended := make(chan struct{})
	go func() {
		e.running.Wait()
		close(ended)
	}()
	select {
	case <-ended:
		return
	case <-ctx.Done():
	}
	e.cut(errStopping)
	timer := time.NewTimer(cutTime)
	defer timer.Stop()
	select {
	case <-ended:
	case <-timer.C:
		s.log.Warn("attempts to deliver reports do not end: they will be made again")
	}
}

// stopEngine is StopDelivering without waiting for attempts to end by
// themselves.
func (s *Store) stopEngine() {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	s.StopDelivering(ctx)
}
