package reports

import (
	"container/list"
	"context"
	"errors"
	"sync"
	"time"
)

// What the bodies of all handlers of the process together may take up while
// they arrive and are delivered. Half of it is kept for Klavi's own addresses.
var (
	memoryRoom = newRoom(64 << 20)
	spoolRoom  = newRoom(2 << 30)
)

var errNoRoom = errors.New("there is no room for the body")

// room is a number of bytes that bodies take from as they arrive. Those who
// wait get theirs in order, Klavi before everybody else.
type room struct {
	mu     sync.Mutex
	free   int64
	others int64 // how much of free may go to others than Klavi
	queues [2]list.List
}

// lane is one of the two kinds of senders.
type lane int

const (
	klaviLane lane = iota
	othersLane
)

type waiter struct {
	n     int64
	ready chan struct{}
}

func newRoom(size int64) *room {
	return &room{free: size, others: size / 2}
}

// tryTake takes n bytes if they are free and nobody waits for them.
func (rm *room) tryTake(l lane, n int64) bool {
	rm.mu.Lock()
	defer rm.mu.Unlock()
	return rm.takeFree(l, n)
}

func (rm *room) takeFree(l lane, n int64) bool {
	if rm.queues[klaviLane].Len() > 0 || l == othersLane && rm.queues[othersLane].Len() > 0 || !rm.fits(l, n) {
		return false
	}
	rm.deduct(l, n)
	return true
}

// take takes n bytes, and waits for them until ctx is done.
func (rm *room) take(ctx context.Context, l lane, n int64) error {
	rm.mu.Lock()
	if rm.takeFree(l, n) {
		rm.mu.Unlock()
		return nil
	}
	w := waiter{n, make(chan struct{})}
	place := rm.queues[l].PushBack(w)
	rm.mu.Unlock()

	select {
	case <-w.ready:
		return nil
	case <-ctx.Done():
	}
	rm.mu.Lock()
	defer rm.mu.Unlock()
	select {
	case <-w.ready: // just now
		return nil
	default:
	}
	rm.queues[l].Remove(place)
	rm.serve() // whoever stood behind it
	return errNoRoom
}

// give returns n bytes.
func (rm *room) give(l lane, n int64) {
	rm.mu.Lock()
	defer rm.mu.Unlock()
	rm.deduct(l, -n)
	rm.serve()
}

func (rm *room) fits(l lane, n int64) bool {
	return n <= rm.free && (l == klaviLane || n <= rm.others)
}

func (rm *room) deduct(l lane, n int64) {
	rm.free -= n
	if l == othersLane {
		rm.others -= n
	}
}

func (rm *room) serve() {
	for l := range rm.queues {
		queue := &rm.queues[l]
		for front := queue.Front(); front != nil; front = queue.Front() {
			w := front.Value.(waiter)
			if !rm.fits(lane(l), w.n) {
				return // others wait until nobody of Klavi's does
			}
			rm.deduct(lane(l), w.n)
			queue.Remove(front)
			close(w.ready)
		}
	}
}

// patience is how long one request still waits for room, in all.
type patience struct {
	left time.Duration
}

// share is what one body has taken from a room.
type share struct {
	room *room
	lane lane
	n    int64
}

func (s *share) grow(ctx context.Context, n int64, p *patience) error {
	began := time.Now()
	ctx, cancel := context.WithTimeout(ctx, p.left)
	defer cancel()
	if err := s.room.take(ctx, s.lane, n); err != nil {
		return err
	}
	p.left -= time.Since(began)
	s.n += n
	return nil
}

func (s *share) tryGrow(n int64) bool {
	if !s.room.tryTake(s.lane, n) {
		return false
	}
	s.n += n
	return true
}

func (s *share) release() {
	if s.n > 0 {
		s.room.give(s.lane, s.n)
		s.n = 0
	}
}
