package gateway

import (
	"context"
	"time"

	"github.com/caddy-klavi/caddy-klavi/inbox"
)

// verifyAgain is how often what is quarantined is looked at again, if some of it
// cannot be.
const verifyAgain = time.Minute

// watchQuarantine turns what is quarantined into reports when there is a config
// that knows its key. What fails is tried again.
func (k *keeper) watchQuarantine(ctx context.Context, store *inbox.Store) {
	for {
		k.mu.Lock()
		check := k.newest.reports.Verify
		k.mu.Unlock()
		n, err := store.Release(ctx, check)
		if n > 0 {
			countReleased(k.account, n)
			k.logHere().Info("bodies whose key was not known when they came are reports now", "reports", n)
		}
		var again <-chan time.Time
		if err != nil && ctx.Err() == nil {
			k.logHere().Error("not all that is quarantined can be looked at: it is tried again", "error", err)
			again = time.After(verifyAgain)
		}
		select {
		case <-ctx.Done():
			return
		case <-k.verify:
		case <-again:
		}
	}
}

// quarantined says that a body was quarantined under the keys of a config's
// account. A newer config may know its key.
func (k *keeper) quarantined(a *Account) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.newest.account != a {
		wake(k.verify)
	}
}
