package inbox

import (
	"fmt"
	"maps"
	"sync"
)

const (
	// What is left of the disk when reports are refused: so much of it, but no
	// more than lowDiskMost. It is there for what must be written to get rid of
	// what is stored, and for everybody else who uses the disk.
	lowDiskPart = 20
	lowDiskMost = 256 << 20
	// A body asks for room in steps.
	grantStep = 1 << 20
)

// room is how many bytes the bodies take up that are there, and those that
// arrive.
type room struct {
	mu       sync.Mutex
	held     int64
	arriving int64
	subjects map[subject]int64 // of held
}

type subject struct {
	kind Kind
	name string
}

// grant is what a body that arrives has taken of a room.
type grant struct {
	s    *Store
	n    int64 // granted
	used int64
}

// use takes n bytes. There is room for them on the disk, and below max_size.
func (g *grant) use(n int64) error {
	g.used += n
	if g.used <= g.n {
		return nil
	}
	step := max(g.used-g.n, grantStep)
	if err := g.s.lowDisk(); err != nil {
		return err
	}
	limit := g.s.settings().MaxSize
	r := &g.s.room
	r.mu.Lock()
	defer r.mu.Unlock()
	taken := r.held + r.arriving + g.s.quarantined.Load()
	if limit > 0 && taken+step > limit {
		if step = g.used - g.n; taken+step > limit {
			return maxSizeReached(limit)
		}
	}
	r.arriving += step
	g.n += step
	return nil
}

func (g *grant) release() {
	r := &g.s.room
	r.mu.Lock()
	defer r.mu.Unlock()
	r.arriving -= g.n
	g.n, g.used = 0, 0
}

func maxSizeReached(limit int64) error {
	return fmt.Errorf("%w: max_size (%d bytes) is reached", ErrFull, limit)
}

// hold counts a body that is stored, or no longer with a negative n.
func (r *room) hold(kind Kind, names []string, n int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.held += n
	for _, name := range names {
		key := subject{kind, name}
		if r.subjects[key] += n; r.subjects[key] <= 0 {
			delete(r.subjects, key)
		}
	}
}

func (r *room) clear() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.held = 0
	r.subjects = make(map[subject]int64)
}

func (r *room) size() int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.held
}

// admit says why no report can be stored now.
func (s *Store) admit() error {
	select {
	case <-s.closing:
		return errClosed
	default:
	}
	if err := s.trouble.get(); err != nil {
		return err
	}
	if limit := s.settings().MaxSize; limit > 0 && s.room.size()+s.quarantined.Load() >= limit {
		return maxSizeReached(limit)
	}
	return s.lowDisk()
}

func (s *Store) lowDisk() error {
	free, total, ok := diskSpace(s.dir)
	if !ok {
		return nil
	}
	if least := min(total/lowDiskPart, lowDiskMost); free < least {
		return fmt.Errorf("%w: the disk of %s has %d bytes left: %d are kept free", ErrFull, s.dir, free, least)
	}
	return nil
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
