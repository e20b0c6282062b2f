package gateway

import (
	"context"
	"crypto/sha256"
	"errors"
	"net/http"
	"time"
)

// AnswersKept is how long an answer may be given again, at most.
const AnswersKept = 30 * time.Minute

// Answer is an answer to a browser that may be given again.
type Answer struct {
	Status int
	Header http.Header
	Body   []byte
	// Kept is for how long it may be given again: not at all if it is not
	// above 0, and no longer than [AnswersKept].
	Kept time.Duration
}

// Creation is a link or a consent that is asked for.
type Creation struct {
	Caller Caller
	// Endpoint is what is created: each has keys of its own.
	Endpoint string
	// Key is what makes two requests of the caller one. It may be empty.
	Key string
	// Request is what is compared under a key.
	Request []byte
}

// Create has perform make what is asked for, within what its caller may have: a
// request beyond that is a *[LimitError] at once.
//
// Of requests with the same key only the first is performed, on a context that
// outlives it; if that succeeds, its answer is given to the others, for as long
// as it says. The same key with another request is [ErrConflict].
func (a *Account) Create(ctx context.Context, c Creation, perform func(context.Context) (*Answer, error)) (*Answer, error) {
	place, err := a.shared.creations.enter(c.Caller)
	if err != nil {
		return nil, err
	}
	call := func(ctx context.Context) (*Answer, time.Duration, error) {
		// The call's place, not the request's: it may go on when nobody waits.
		defer place.Leave()
		if err := place.spend(); err != nil {
			return nil, 0, err
		}
		answer, err := perform(ctx)
		if err != nil || answer.Status/100 != 2 {
			return answer, 0, err
		}
		return answer, min(answer.Kept, AnswersKept), nil
	}
	if c.Key == "" {
		answer, _, err := call(ctx)
		return answer, err
	}
	scope := a.name + "\x00" + c.Caller.ID + "\x00" + c.Endpoint
	answer, first, err := a.shared.answers.do(ctx, scope, c.Key, sha256.Sum256(c.Request), call)
	if !first {
		place.Leave()
	}
	if errors.Is(err, ErrBusy) {
		err = &LimitError{"Too many requests with an Idempotency-Key are under way.", placeAfter}
	}
	return answer, err
}

// EnterRead takes a place for a request of who that creates nothing, to be left
// when it is over. Beyond what who may have under way it is a *[LimitError].
func (a *Account) EnterRead(who Caller) (Place, error) { return a.shared.reads.enter(who) }
