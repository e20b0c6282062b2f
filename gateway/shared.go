package gateway

import (
	"context"
	"crypto/sha256"
	"math"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-klavi/caddy-klavi/klavi"
)

// What is remembered of requests and reports, per credentials and process.
const (
	answersPerScope = 100
	answersInAll    = 10_000

	// A copy of a report within ten minutes is Klavi's retry; a later one is
	// a person who pressed "resend" in Klavi's Console.
	reportsKept  = 10 * time.Minute
	reportsInAll = 10_000
)

// pool keeps what a reload must not lose: a config that has the same
// credentials takes over what its predecessor had.
var pool = caddy.NewUsagePool()

// shared belongs to one base URL, access key and secret key. Nothing in it
// refers to a config, so nothing has to be handed over.
type shared struct {
	tokens    *klavi.Tokens
	creations *limits
	reads     *limits
	answers   *once[*Answer]
	reports   *once[struct{}]
}

// Destruct is called when the last config with these credentials is gone.
// Requests may still be in flight, so nothing is closed.
func (*shared) Destruct() error { return nil }

func newShared() *shared {
	return &shared{
		tokens:    klavi.NewTokens(),
		creations: newLimits(creationsAtOnce),
		// How long a read takes is up to its client too: were there a number
		// of places for all, slow clients could hold them.
		reads:   newLimits(math.MaxInt),
		answers: newOnce[*Answer](answersPerScope, answersInAll),
		reports: newOnce[struct{}](reportsInAll, reportsInAll),
	}
}

func acquire(key string) (*shared, error) {
	value, _, err := pool.LoadOrNew(key, func() (caddy.Destructor, error) { return newShared(), nil })
	if err != nil {
		return nil, err
	}
	return value.(*shared), nil
}

func release(key string) error {
	_, err := pool.Delete(key)
	return err
}

// DeliverOnce makes deliveries of the same report to the same route into one:
// a copy that comes meanwhile, or within ten minutes of a success, gets the
// first one's outcome.
func (a *Account) DeliverOnce(ctx context.Context, route string, digest [sha256.Size]byte, deliver func(context.Context) error) error {
	_, _, err := a.shared.reports.do(ctx, a.name, route+"\x00"+string(digest[:]), digest,
		func(ctx context.Context) (struct{}, time.Duration, error) {
			if err := deliver(ctx); err != nil {
				return struct{}{}, 0, err
			}
			return struct{}{}, reportsKept, nil
		})
	return err
}
