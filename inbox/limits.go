package inbox

import (
	"fmt"
	"maps"
	"sync"
)

// A body that arrives asks in steps.
const grantStep = 1 << 20

// room is how many bytes the bodies take up that are there, and those that are
// being stored. One that arrives takes none up: who sends it is not known before it
// is all there, and those who are nobody would keep out those who are somebody.
type room struct {
	mu         sync.Mutex
	held       int64
	committing int64
	subjects   map[subject]int64 // of held
	// full: a report found no room, and none has gone since.
	full bool
}

type subject struct {
	kind Kind
	name string
}

// grant is how large a body that arrives may be, so far.
type grant struct {
	s       *Store
	used    int64
	checked int64
}

// use says whether a body can have n bytes more: there is room for them on the
// disk, and below max_size if nothing else arrives. A large one leaves more of the
// disk free: who sent it may be nobody, and is to keep out no small report.
func (g *grant) use(n int64) error {
	g.used += n
	if g.used <= g.checked {
		return nil
	}
	times := int64(1)
	if g.used > grantStep {
		times = 2
	}
	if err := g.s.base.spare(times); err != nil {
		return err
	}
	if limit := g.s.settings().MaxSize; limit > 0 && g.s.room.size()+g.used > limit {
		return maxSizeReached(limit)
	}
	g.checked = g.used + grantStep
	return nil
}

// takeRoom takes n bytes for a body that is about to be stored. They are given back
// with release when it is, and counts as held.
func (s *Store) takeRoom(n int64) (release func(), err error) {
	limit := s.settings().MaxSize
	r := &s.room
	r.mu.Lock()
	defer r.mu.Unlock()
	if limit > 0 && r.held+r.committing+n > limit {
		r.full = true
		return nil, maxSizeReached(limit)
	}
	r.full = false
	r.committing += n
	return func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.committing -= n
	}, nil
}

func maxSizeReached(limit int64) error {
	return fmt.Errorf("%w: max_size (%d bytes) is reached", ErrFull, limit)
}

// hold counts a body that is stored, or no longer with a negative n.
func (r *room) hold(kind Kind, names []string, n int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.held += n
	r.full = r.full && n > 0
	for _, name := range names {
		key := subject{kind, name}
		if r.subjects[key] += n; r.subjects[key] <= 0 {
			delete(r.subjects, key)
		}
	}
}

func (r *room) isFull() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.full
}

// change forgets that there was no room: there may be more of it.
func (r *room) change() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.full = false
}

// set says what was counted. If that is less than before, some has gone.
func (r *room) set(held int64, subjects map[subject]int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.full = r.full && held >= r.held
	r.held, r.subjects = held, subjects
}

func (r *room) size() int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.held
}

// Admit returns why no report can be stored now, nil if nothing is known of that.
// It costs next to nothing.
func (s *Store) Admit() error {
	select {
	case <-s.closing:
		return errClosed
	default:
	}
	if s.draining.Load() > 0 {
		return ErrDraining
	}
	if err := s.base.admit(); err != nil {
		return err
	}
	if limit := s.settings().MaxSize; limit > 0 && s.room.size() >= limit {
		return maxSizeReached(limit)
	}
	return nil
}

// Ready returns why reports cannot be stored just now, nil if they can. It tries,
// with a small file. Where the last report found no room below max_size, it is full,
// though a smaller one might fit.
func (s *Store) Ready() error {
	if err := s.Admit(); err != nil {
		return err
	}
	if s.room.isFull() {
		return maxSizeReached(s.settings().MaxSize)
	}
	return s.base.probe()
}

// checkShare refuses a report for a route that has its share of max_size.
func (s *Store) checkShare(h *Head, n int64) error {
	st := s.settings()
	if st.MaxSize <= 0 || st.MaxShare <= 0 || st.MaxShare >= 1 {
		return nil
	}
	share := int64(st.MaxShare * float64(st.MaxSize))
	if s.room.size()+n <= share {
		return nil
	}
	s.room.mu.Lock()
	held := maps.Clone(s.room.subjects)
	s.room.mu.Unlock()
	for _, name := range h.Subjects {
		route := s.routeOf(h.Kind, name)
		if route == "" {
			continue
		}
		sum := n
		for sub, bytes := range held {
			if s.routeOf(sub.kind, sub.name) == route {
				sum += bytes
			}
		}
		if sum > share {
			return fmt.Errorf("%w: the route %s has its share of max_size (%d bytes)", ErrFull, route, share)
		}
	}
	return nil
}
