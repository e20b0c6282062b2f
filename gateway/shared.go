package gateway

import (
	"context"
	"crypto/sha256"
	"net/http"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-klavi/caddy-klavi/klavi"
)

// What is remembered of requests and reports, per credentials and process.
const (
	// A link lives half an hour, and an answer is of no use after its link.
	answersKept     = 30 * time.Minute
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
	tokens  *klavi.Tokens
	answers *once[*Answer]
	reports *once[struct{}]
}

// Destruct is called when the last config with these credentials is gone.
// Requests may still be in flight, so nothing is closed.
func (*shared) Destruct() error { return nil }

func acquire(key string) (*shared, error) {
	value, _, err := pool.LoadOrNew(key, func() (caddy.Destructor, error) {
		return &shared{
			tokens:  klavi.NewTokens(),
			answers: newOnce[*Answer](answersKept, answersPerScope, answersInAll),
			reports: newOnce[struct{}](reportsKept, reportsInAll, reportsInAll),
		}, nil
	})
	if err != nil {
		return nil, err
	}
	return value.(*shared), nil
}

func release(key string) error {
	_, err := pool.Delete(key)
	return err
}

// Answer is an answer to a browser that may be given again.
type Answer struct {
	Status int
	Header http.Header
	Body   []byte
}

// AnswerOnce makes requests with the same Idempotency-Key into one: the first
// 2xx answer is given to all of them, for half an hour. Scope is whoever may use
// the key; request is what is compared, and another one under the same key is
// [ErrConflict]. More than 100 under way in a scope are [ErrBusy].
func (a *Account) AnswerOnce(ctx context.Context, scope, key string, request []byte,
	perform func(context.Context) (*Answer, error),
) (*Answer, error) {
	return a.shared.answers.do(ctx, a.name+"\x00"+scope, key, sha256.Sum256(request),
		func(ctx context.Context) (*Answer, bool, error) {
			answer, err := perform(ctx)
			return answer, err == nil && answer.Status/100 == 2, err
		})
}

// DeliverOnce makes deliveries of the same report to the same route into one:
// a copy that comes meanwhile, or within ten minutes of a success, gets the
// first one's outcome.
func (a *Account) DeliverOnce(ctx context.Context, route string, digest [sha256.Size]byte, deliver func(context.Context) error) error {
	_, err := a.shared.reports.do(ctx, a.name, route+"\x00"+string(digest[:]), digest,
		func(ctx context.Context) (struct{}, bool, error) {
			err := deliver(ctx)
			return struct{}{}, err == nil, err
		})
	return err
}
