package klavi

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/singleflight"
)

// Token is an access token of Klavi's, good until it expires or is refused.
type Token struct {
	value   string
	header  string        // "Bearer <value>", so that a request costs no concatenation
	fetched time.Duration // since the epoch of the Tokens that holds it, like the next two
	renewAt time.Duration
	expires time.Duration
}

// Value returns the bare token.
func (t *Token) Value() string { return t.value }

// Header returns the value of the Authorization header: "Bearer " and the token.
func (t *Token) Header() string { return t.header }

// Login asks Klavi for a new access token and says how long it lives.
type Login func(context.Context) (value string, lifetime time.Duration, err error)

// LoginError says why there is no access token.
type LoginError struct {
	// Refused is true where Klavi answered and did not accept the
	// credentials: waiting does not help. Otherwise Klavi could not be
	// reached, or its answer could not be used.
	Refused bool
	// RetryAfter is how long until a new attempt is made.
	RetryAfter time.Duration
	// Err is the cause. Its text holds neither keys nor tokens.
	Err error
}

func (e *LoginError) Error() string {
	if e.Refused {
		return fmt.Sprintf("klavi refused the credentials: %v", e.Err)
	}
	return fmt.Sprintf("logging in to klavi: %v", e.Err)
}

func (e *LoginError) Unwrap() error { return e.Err }

const (
	minBackoff = 250 * time.Millisecond
	maxBackoff = 30 * time.Second
	// A token that was refused before it lived this long counts as refused
	// when fresh: another login is not worth more than a try now and then.
	freshFor = time.Minute
)

// Tokens keeps the current access token of one pair of keys. Reading it costs
// neither a lock nor an allocation; getting a new one happens once for all who
// wait, on a context that no caller can cancel. It owns no goroutine beyond a
// login under way. Make one with [NewTokens].
type Tokens struct {
	epoch   time.Time
	current atomic.Pointer[Token]
	flight  singleflight.Group

	mu       sync.Mutex
	failures int           // logins failed in a row
	nextTry  time.Duration // no login before this moment
	lastErr  error         // why the last login failed
	refusals int           // tokens in a row that were refused while fresh
}

// NewTokens returns an empty Tokens: the first Get logs in.
func NewTokens() *Tokens {
	return &Tokens{epoch: time.Now()}
}

// now is the monotonic time since the epoch: cheaper to read than the wall
// clock, and blind to its jumps.
func (t *Tokens) now() time.Duration { return time.Since(t.epoch) }

// Current returns the token in use, nil if there is none that has not expired.
func (t *Tokens) Current() *Token {
	tok := t.current.Load()
	if tok == nil || t.now() >= tok.expires {
		return nil
	}
	return tok
}

// Get returns a token that has not expired. Within ahead of its expiry it is
// renewed in the background while it goes on being used, however long Klavi's
// login is down. Without a token it waits for login, for as long as ctx allows.
// timeout bounds one login. The error is a *LoginError, or that of ctx.
func (t *Tokens) Get(ctx context.Context, login Login, ahead, timeout time.Duration) (*Token, error) {
	tok, now := t.current.Load(), t.now()
	if tok != nil && now < tok.renewAt {
		return tok, nil
	}
	if tok != nil && now < tok.expires {
		if wait, _ := t.backoff(now); wait <= 0 {
			t.login(ctx, login, ahead, timeout)
		}
		return tok, nil
	}
	if wait, last := t.backoff(now); wait > 0 {
		return nil, loginError(last, wait)
	}
	select {
	case r := <-t.login(ctx, login, ahead, timeout):
		if r.Err != nil {
			wait, _ := t.backoff(t.now())
			return nil, loginError(r.Err, wait)
		}
		return r.Val.(*Token), nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Refused tells that Klavi answered 401 to tok. It is dropped if it is still
// the current one; a newer one stays. A token that is refused while it is fresh
// is replaced at a falling rate, so that a Klavi that refuses every token is
// not asked for another each time.
func (t *Tokens) Refused(tok *Token) {
	t.mu.Lock()
	defer t.mu.Unlock()
	age := t.now() - tok.fetched
	if age < pause(t.refusals) {
		return
	}
	if !t.current.CompareAndSwap(tok, nil) {
		return
	}
	if age >= freshFor {
		t.refusals = 0
	} else {
		t.refusals++
	}
}

// login starts a login, or joins the one under way.
func (t *Tokens) login(ctx context.Context, login Login, ahead, timeout time.Duration) <-chan singleflight.Result {
	return t.flight.DoChan("", func() (any, error) {
		// Someone else's login may have ended between the caller's look and now.
		if tok := t.current.Load(); tok != nil && t.now() < tok.renewAt {
			return tok, nil
		}
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), timeout)
		defer cancel()
		began := t.now()
		value, lifetime, err := guard(ctx, login)
		if err != nil {
			t.failed(err)
			return nil, err
		}
		return t.store(value, began, lifetime, ahead), nil
	})
}

// guard turns a panic into an error: on singleflight's own goroutine it would
// end the process. What was panicked with is not repeated, it may hold a key.
func guard(ctx context.Context, login Login) (value string, lifetime time.Duration, err error) {
	defer func() {
		if recover() != nil {
			err = errors.New("login panicked")
		}
	}()
	value, lifetime, err = login(ctx)
	if err == nil && value == "" {
		err = errors.New("the answer has no accessToken")
	}
	return value, lifetime, err
}

// store keeps a token whose life began when it was asked for, at the latest.
func (t *Tokens) store(value string, began, lifetime, ahead time.Duration) *Token {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.failures, t.nextTry, t.lastErr = 0, 0, nil
	tok := &Token{
		value:   value,
		header:  "Bearer " + value,
		fetched: t.now(),
		// A token that lives shorter than ahead is not renewed on every use.
		renewAt: began + lifetime - min(ahead, lifetime/3),
		expires: began + lifetime,
	}
	t.current.Store(tok)
	return tok
}

func (t *Tokens) failed(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.failures++
	t.lastErr = err
	p := pause(t.failures)
	// Between half and all of it, so that gateways which lost Klavi together
	// do not come back together.
	t.nextTry = t.now() + p/2 + rand.N(p/2) //nolint:gosec // jitter, not a secret
}

// backoff returns how long until a login may be tried again, and the error of
// the last one.
func (t *Tokens) backoff(now time.Duration) (time.Duration, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.nextTry - now, t.lastErr
}

// pause doubles with each time in a row, from nothing to maxBackoff.
func pause(times int) time.Duration {
	if times <= 0 {
		return 0
	}
	return min(minBackoff<<min(times-1, 10), maxBackoff)
}

func loginError(err error, wait time.Duration) error {
	var refused *Error
	return &LoginError{
		Refused:    errors.As(err, &refused) && refused.StatusCode < 500 && refused.StatusCode != 429,
		RetryAfter: max(wait, 0),
		Err:        err,
	}
}
