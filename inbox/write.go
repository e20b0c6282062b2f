package inbox

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// So many operations are committed together at most.
	maxBatch = 128
	// Where batches are written side by side, fewer operations than these wait for more
	// while another batch is being written, or if several reports have come a moment ago,
	// or if nobody waits for them, but no longer than this: many small batches take more
	// of everything than few large ones.
	fewOperations = 16
	gatherTime    = 10 * time.Millisecond
)

// op is something that somebody wants to have written.
type op struct {
	fn func(*tx) error
	// lazy: it may be forgotten when the machine stops.
	lazy bool
	// intake: it stores something new, so it has no right to the reserve.
	intake bool
	// heads are those of the reports that it stores.
	heads []*Head
	// erases: it erases something.
	erases bool
	// moved is the file that it refers to, if that has just been moved to bodies/.
	moved *moved
	// hasty: what it stores may go to the spool as well.
	hasty bool
	// large: it writes a large body, so it has a transaction of its own.
	large bool
	// calm: nobody waits for it.
	calm bool
	// raw stands in for fn. It runs outside a transaction.
	raw func(*writer) error

	taken atomic.Bool // by the writer, or by its caller who gives up
	done  chan error
}

// write runs fn in a transaction, together with whatever else has
// arrived, and returns when that is on disk. fn can be run twice; what it does
// besides must be done with then. After an uncertainError nobody knows whether
// it was written.
func (s *Store) write(ctx context.Context, fn func(*tx) error) error {
	return s.submit(ctx, &op{fn: fn})
}

// writeLazy is write for what may be forgotten when the machine stops. It does
// not wait for the disk.
func (s *Store) writeLazy(ctx context.Context, fn func(*tx) error) error {
	return s.submit(ctx, &op{fn: fn, lazy: true})
}

func (s *Store) submit(ctx context.Context, o *op) error {
	o.done = make(chan error, 1)
	ops := s.ops
	if o.large || o.raw != nil {
		ops = s.alone
	}
	select {
	case ops <- o:
	case <-s.closing:
		return errClosed
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case err := <-o.done:
		return err
	case <-s.written: // the writers have ended
		select {
		case err := <-o.done:
			return err
		default:
			return errClosed
		}
	case <-ctx.Done():
		if o.taken.CompareAndSwap(false, true) {
			return ctx.Err()
		}
		return <-o.done // it is being written just now
	}
}

// startWriters begins to write what is submitted, n batches at once.
func (s *Store) startWriters(n int) {
	var loops sync.WaitGroup
	for range n {
		loops.Go(s.writeLoop)
	}
	go func() {
		loops.Wait()
		close(s.written)
	}()
}

// writeLoop writes until the store closes and nothing is left to write.
func (s *Store) writeLoop() {
	batch := make([]*op, 0, maxBatch)
	for {
		s.turn <- struct{}{} // by turns, or they would share what there is
		batch = s.gather(batch[:0])
		<-s.turn
		if len(batch) == 0 {
			return
		}
		s.writeBatch(batch)
		clear(batch)
	}
}

// gather fills a batch with what is to be written. It is empty if the store closes
// and nothing is left.
func (s *Store) gather(batch []*op) []*op {
	select {
	case o := <-s.ops:
		batch = append(batch, o)
	case o := <-s.alone:
		return append(batch, o)
	case <-s.closing:
		select {
		case o := <-s.alone:
			return append(batch, o)
		default:
		}
	}
	var timer *time.Timer
	for len(batch) < maxBatch {
		select {
		case o := <-s.ops:
			batch = append(batch, o)
			continue
		default:
		}
		wait := s.patience(batch)
		if wait <= 0 {
			return batch
		}
		if timer == nil {
			timer = time.NewTimer(wait)
			defer timer.Stop()
		}
		select {
		case o := <-s.ops:
			batch = append(batch, o)
		case <-timer.C:
			return batch
		}
	}
	return batch
}

// patience is for how long a batch waits for more, if it does.
func (s *Store) patience(batch []*op) time.Duration {
	if len(batch) == 0 || len(batch) >= fewOperations || s.gatherTime == 0 || slices.ContainsFunc(batch, isUrgent) {
		return 0
	}
	if last := s.gathered.Load(); last != nil && time.Since(*last) < s.gatherTime {
		return s.gatherTime - time.Since(*last)
	}
	if s.writing.Load() > 0 || !slices.ContainsFunc(batch, func(o *op) bool { return !o.calm }) {
		return s.gatherTime
	}
	return 0
}

// isUrgent says of a claim that a route waits for it.
func isUrgent(o *op) bool { return o.lazy }

func (s *Store) writeBatch(batch []*op) {
	ops := slices.DeleteFunc(batch, func(o *op) bool { return !o.taken.CompareAndSwap(false, true) })
	if len(ops) == 0 {
		return
	}
	received := 0
	for _, o := range ops {
		received += number(o.intake)
	}
	if received > 1 {
		now := time.Now()
		s.gathered.Store(&now)
	}
	err := s.transact(ops)
	if err == nil || len(ops) == 1 || !s.base.retryAlone(err) {
		for _, o := range ops {
			o.done <- err
		}
		return
	}
	for _, o := range ops {
		o.done <- s.transact([]*op{o})
	}
}

func (s *Store) transact(ops []*op) error {
	s.writing.Add(1)
	err := s.base.transact(ops)
	s.writing.Add(-1)
	if ops[0].raw == nil {
		s.writes.Add(1)
	}
	return err
}

// read runs fn with connections that read.
func (s *Store) read(ctx context.Context, fn func(reads) error) error { return s.base.read(ctx, fn) }
