package gateway

import (
	"context"
	"fmt"
	"time"

	"github.com/caddy-klavi/caddy-klavi/inbox"
)

// askTime is how long those who ask how an inbox is wait for it.
const askTime = 2 * time.Second

var errNoAnswer = fmt.Errorf("%w: it does not answer", inbox.ErrUnavailable)

// held is what an inbox holds.
type held struct {
	stats  inbox.Stats
	routes []inbox.RouteStatus
}

// ready returns why the inbox cannot take a report just now. It does not wait for
// one that is being opened.
func (k *keeper) ready(ctx context.Context) error {
	store, err := k.get()
	if err != nil {
		return err
	}
	_, err = k.ask(ctx, "ready", func() (any, error) { return nil, store.Ready() })
	return err
}

// held returns what the inbox holds, if that can be read just now.
func (k *keeper) held(ctx context.Context) (held, error) {
	store, err := k.get()
	if err != nil {
		return held{}, err
	}
	value, err := k.ask(ctx, "held", func() (any, error) {
		var h held
		var err error
		if h.stats, err = store.Stats(ctx); err != nil {
			return h, err
		}
		h.routes, err = store.ListRoutes(ctx)
		return h, err
	})
	if err != nil {
		return held{}, err
	}
	return value.(held), nil
}

// ask calls f, and does not wait for it any more when ctx ends: a disk that hangs
// lets nobody go. Whoever asks the same meanwhile waits for the same call, so that
// such a disk holds one goroutine and not one for each who asks.
func (k *keeper) ask(ctx context.Context, what string, f func() (any, error)) (any, error) {
	select {
	case answer := <-k.asked.DoChan(what, f):
		return answer.Val, answer.Err
	case <-ctx.Done():
		return nil, errNoAnswer
	}
}
