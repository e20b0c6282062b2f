package sandbox

// store keeps things by id in the order in which they came, and forgets the oldest above its limit, so that a long load
// test does not eat the machine's memory.
type store[T any] struct {
	limit int
	byID  map[string]T
	order []string
}

func newStore[T any](limit int) *store[T] {
	return &store[T]{limit: limit, byID: make(map[string]T)}
}

// put adds a thing under an id that is new.
func (s *store[T]) put(id string, v T) {
	s.byID[id] = v
	s.order = append(s.order, id)
	if len(s.order) > s.limit {
		delete(s.byID, s.order[0])
		s.order = s.order[1:]
	}
}

func (s *store[T]) get(id string) (T, bool) {
	v, ok := s.byID[id]
	return v, ok
}

// take removes what it returns.
func (s *store[T]) take(id string) (T, bool) {
	v, ok := s.byID[id]
	delete(s.byID, id)
	return v, ok
}

// all lists what is there, oldest first.
func (s *store[T]) all() []T {
	list := make([]T, 0, len(s.byID))
	for _, id := range s.order {
		if v, ok := s.byID[id]; ok {
			list = append(list, v)
		}
	}
	return list
}
