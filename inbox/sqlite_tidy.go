package inbox

import "context"

// Pages that are given back to the disk at once.
const vacuumPages = 500

// upkeep is what maintain remembers from one time to the next.
type upkeep struct {
	writes, tidied int64
	reserve        reserveKeeper
}

func (s *sqlite) maintain(ctx context.Context, n int64) (idle bool) {
	k := &s.upkeep
	if s.trouble.get() != nil {
		_ = s.write(ctx, func(*tx) error { return nil }) // repairs
		return false
	}
	k.reserve.tick(s)
	s.packed.tidy()
	switch {
	// After a second in which nothing was written, or when it is needed.
	case s.untidy.Load() || n != k.tidied && (n == k.writes || s.spare(1) != nil):
		k.tidied = n
		_ = s.tidy(ctx)
	case n == k.writes && s.room.size() == 0:
		return true
	default:
		k.writes = n
	}
	return false
}

// tidy gives back to the disk what is not needed any more, and empties the log.
func (s *sqlite) tidy(ctx context.Context) error {
	for more := true; more; {
		err := s.submit(ctx, &op{raw: func(w *writer) (err error) {
			more, err = w.vacuum(vacuumPages)
			return err
		}})
		if err != nil {
			return err
		}
	}
	return s.submit(ctx, &op{raw: func(w *writer) error {
		err := w.checkpoint()
		if err == nil {
			s.untidy.Store(false)
		}
		return err
	}})
}
