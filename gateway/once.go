package gateway

import (
	"container/list"
	"context"
	"crypto/sha256"
	"errors"
	"sync"
	"time"

	"github.com/patrickmn/go-cache"
)

var (
	// ErrConflict means that the same key came with another request before.
	ErrConflict = errors.New("the key was used for another request")
	// ErrBusy means that too many calls of one scope are under way.
	ErrBusy = errors.New("too many requests at once")

	errPanicked = errors.New("the call panicked")
)

// once makes equal calls into one: those that come while the first is under way
// wait for it, those that come later get what it brought, for a while. What is
// kept is bounded per scope and in all; the oldest leaves.
type once[T any] struct {
	perScope int
	inAll    int

	mu     sync.Mutex
	calls  *cache.Cache // id -> *call[T]
	scopes map[string]*list.List
	order  *list.List // of *call[T], oldest first, like each of scopes
	swept  time.Time
}

// call is one that is under way or done.
type call[T any] struct {
	id, scope string
	digest    [sha256.Size]byte
	inOrder   *list.Element
	inScope   *list.Element
	over      bool // done, and kept for a while

	done   chan struct{}
	result T
	err    error
}

func newOnce[T any](perScope, inAll int) *once[T] {
	o := &once[T]{
		perScope: perScope, inAll: inAll,
		scopes: make(map[string]*list.List),
		order:  list.New(),
		// The cache's own janitor would end only when the collector finds
		// it; what has run out is swept as new calls come instead.
		calls: cache.New(cache.NoExpiration, 0),
	}
	o.calls.OnEvicted(func(_ string, value any) { o.unlist(value.(*call[T])) })
	return o
}

// do returns what perform brought for key in scope, running it if nobody has:
// first tells whether this is whose perform runs. It runs on a context that its
// caller cannot cancel; those who come within kept of its end get the same result.
// The same key with another digest is [ErrConflict].
func (o *once[T]) do(ctx context.Context, scope, key string, digest [sha256.Size]byte,
	perform func(context.Context) (result T, kept time.Duration, err error),
) (result T, first bool, err error) {
	c, first, err := o.join(scope, key, digest)
	if err != nil {
		return result, false, err
	}
	if first {
		go o.run(context.WithoutCancel(ctx), c, perform)
	}
	select {
	case <-c.done:
		return c.result, first, c.err
	case <-ctx.Done():
		return result, first, ctx.Err()
	}
}

func (o *once[T]) run(ctx context.Context, c *call[T], perform func(context.Context) (T, time.Duration, error)) {
	var kept time.Duration
	defer func() {
		if recover() != nil {
			c.err, kept = errPanicked, 0
		}
		o.mu.Lock()
		if kept > 0 {
			c.over = true
			o.calls.Set(c.id, c, kept)
		} else {
			o.calls.Delete(c.id)
		}
		o.mu.Unlock()
		close(c.done)
	}()
	c.result, kept, c.err = perform(ctx)
}

// join returns the call of that key, and whether it is new.
func (o *once[T]) join(scope, key string, digest [sha256.Size]byte) (c *call[T], first bool, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.sweep()
	// The digest: a key has parts that are as long as a client likes.
	sum := sha256.Sum256([]byte(scope + "\x00" + key))
	id := string(sum[:])
	if found, ok := o.calls.Get(id); ok {
		c := found.(*call[T])
		if c.digest != digest {
			return nil, false, ErrConflict
		}
		return c, false, nil
	}
	o.calls.Delete(id) // it may have run out since the last sweep
	if !o.room(scope) {
		return nil, false, ErrBusy
	}
	c = &call[T]{id: id, scope: scope, digest: digest, done: make(chan struct{})}
	if o.scopes[scope] == nil {
		o.scopes[scope] = list.New()
	}
	c.inOrder, c.inScope = o.order.PushBack(c), o.scopes[scope].PushBack(c)
	o.calls.Set(id, c, cache.NoExpiration)
	return c, true, nil
}

// room drops the oldest calls that are over until one more fits.
func (o *once[T]) room(scope string) bool {
	if l := o.scopes[scope]; l != nil && l.Len() >= o.perScope && !o.dropOldest(l) {
		return false
	}
	return o.order.Len() < o.inAll || o.dropOldest(o.order)
}

func (o *once[T]) dropOldest(l *list.List) bool {
	for e := l.Front(); e != nil; e = e.Next() {
		if c := e.Value.(*call[T]); c.over {
			o.calls.Delete(c.id)
			return true
		}
	}
	return false
}

// sweep drops what has run out, at most once a second.
func (o *once[T]) sweep() {
	if now := time.Now(); now.Sub(o.swept) >= time.Second {
		o.swept = now
		o.calls.DeleteExpired()
	}
}

func (o *once[T]) unlist(c *call[T]) {
	o.order.Remove(c.inOrder)
	l := o.scopes[c.scope]
	l.Remove(c.inScope)
	if l.Len() == 0 {
		delete(o.scopes, c.scope)
	}
}
