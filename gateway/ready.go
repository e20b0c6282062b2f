package gateway

import (
	"context"
	"errors"
	"fmt"
	"sync"
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
		// Others may wait for this call who have more time.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), askTime)
		defer cancel()
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

// NotReady returns in a word why reports cannot be kept just now, for each account
// that keeps them in an inbox and cannot: opening, locked, wrong_key, full or
// unavailable. It does not wait for an inbox, at most for a disk that is slow.
func (a *App) NotReady(ctx context.Context) map[string]string {
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	var wg sync.WaitGroup
	var mu sync.Mutex
	reasons := make(map[string]string)
	for name, k := range a.keepers() {
		wg.Go(func() {
			if err := k.ready(ctx); err != nil {
				mu.Lock()
				defer mu.Unlock()
				reasons[name] = reason(err)
			}
		})
	}
	wg.Wait()
	return reasons
}

// keepers returns those of the accounts that keep reports, by account.
func (a *App) keepers() map[string]*keeper {
	a.tables.mu.Lock()
	defer a.tables.mu.Unlock()
	all := make(map[string]*keeper)
	for name, table := range a.tables.byAccount {
		if table.reports != nil {
			all[name] = a.Accounts[name].keeper
		}
	}
	return all
}

// reason returns the word for why an inbox is not ready. The error itself has paths
// in it, and is for the log.
func reason(err error) string {
	switch {
	case errors.Is(err, errOpening):
		return "opening"
	case errors.Is(err, inbox.ErrLocked):
		return "locked"
	case errors.Is(err, inbox.ErrKey):
		return "wrong_key"
	case errors.Is(err, inbox.ErrFull):
		return "full"
	case errors.Is(err, inbox.ErrDraining):
		return "draining"
	default:
		return "unavailable"
	}
}

// keepersInForce returns the keepers that a config has started and not stopped, one
// for each account: while a reload changes its dir, there are two.
func keepersInForce() map[string]*keeper {
	newest, since := make(map[string]*keeper), make(map[string]time.Time)
	keepers.Range(func(_, value any) bool {
		k := value.(*keeper)
		k.mu.Lock()
		defer k.mu.Unlock()
		if len(k.configs) > 0 && (newest[k.account] == nil || since[k.account].Before(k.since)) {
			newest[k.account], since[k.account] = k, k.since
		}
		return true
	})
	return newest
}
