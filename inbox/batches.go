package inbox

import "sync"

// batches counts what the writer has written, and wakes who has nothing to do
// before the next.
type batches struct {
	mu   sync.Mutex
	n    int64
	next chan struct{} // closed with the next, nil if nobody waits for it
}

func (b *batches) Load() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.n
}

func (b *batches) Add(n int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.n += n
	if b.next != nil {
		close(b.next)
		b.next = nil
	}
}

// after returns what is closed once there are other than n.
func (b *batches) after(n int64) <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.n != n {
		closed := make(chan struct{})
		close(closed)
		return closed
	}
	if b.next == nil {
		b.next = make(chan struct{})
	}
	return b.next
}
