package klavi

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

const (
	testAhead   = 2 * time.Minute
	testTimeout = 15 * time.Second
	testLife    = 30 * time.Minute
)

// fakeLogin hands out token-1, token-2, … and can be told to fail or to wait.
type fakeLogin struct {
	calls atomic.Int64
	took  time.Duration
	err   atomic.Pointer[error]
}

func (f *fakeLogin) login(ctx context.Context) (string, time.Duration, error) {
	n := f.calls.Add(1)
	if f.took > 0 {
		select {
		case <-time.After(f.took):
		case <-ctx.Done():
			return "", 0, ctx.Err()
		}
	}
	if err := f.err.Load(); err != nil {
		return "", 0, *err
	}
	return fmt.Sprintf("token-%d", n), testLife, nil
}

func (f *fakeLogin) fail(err error) { f.err.Store(&err) }
func (f *fakeLogin) mend()          { f.err.Store(nil) }

func get(t *testing.T, tokens *Tokens, f *fakeLogin) string {
	t.Helper()
	tok, err := tokens.Get(context.Background(), f.login, testAhead, testTimeout)
	if err != nil {
		t.Fatalf("got error %v, want a token", err)
	}
	return tok.Value()
}

func wantLogins(t *testing.T, f *fakeLogin, want int64) {
	t.Helper()
	if got := f.calls.Load(); got != want {
		t.Errorf("got %d logins, want %d", got, want)
	}
}

func TestTokensLoginOnceForAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tokens, f := NewTokens(), &fakeLogin{took: time.Second}
		var wg sync.WaitGroup
		for range 50 {
			wg.Go(func() {
				if got := get(t, tokens, f); got != "token-1" {
					t.Errorf("got %q, want token-1", got)
				}
			})
		}
		wg.Wait()
		wantLogins(t, f, 1)
	})
}

func TestTokensOneCallerLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tokens, f := NewTokens(), &fakeLogin{took: time.Second}
		leader, leave := context.WithCancel(context.Background())
		left := make(chan error)
		go func() {
			_, err := tokens.Get(leader, f.login, testAhead, testTimeout)
			left <- err
		}()
		synctest.Wait()
		stays := make(chan string)
		go func() { stays <- get(t, tokens, f) }()
		synctest.Wait()
		leave()
		if err := <-left; !errors.Is(err, context.Canceled) {
			t.Errorf("got %v for the one that left, want %v", err, context.Canceled)
		}
		if got := <-stays; got != "token-1" {
			t.Errorf("got %q for the one that stayed, want token-1", got)
		}
		wantLogins(t, f, 1)
	})
}

func TestTokensRenewAhead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tokens, f := NewTokens(), &fakeLogin{}
		get(t, tokens, f)
		time.Sleep(testLife - testAhead - time.Second)
		get(t, tokens, f)
		wantLogins(t, f, 1)

		time.Sleep(2 * time.Second)
		if got := get(t, tokens, f); got != "token-1" {
			t.Errorf("got %q while the renewal is under way, want token-1", got)
		}
		synctest.Wait()
		if got := get(t, tokens, f); got != "token-2" {
			t.Errorf("got %q after the renewal, want token-2", got)
		}
		wantLogins(t, f, 2)
	})
}

// A token is good until it expires, and Klavi's login may be down for long.
func TestTokensUsedUntilExpiry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tokens, f := NewTokens(), &fakeLogin{}
		get(t, tokens, f)
		f.fail(errors.New("down"))
		time.Sleep(testLife - testAhead)
		for range 119 { // each second of the last two minutes but one
			if got := get(t, tokens, f); got != "token-1" {
				t.Fatalf("got %q, want token-1", got)
			}
			synctest.Wait()
			time.Sleep(time.Second)
		}
		if got := f.calls.Load() - 1; got < 3 || got > 20 {
			t.Errorf("got %d renewals in two minutes of outage, want a few, further and further apart", got)
		}
		time.Sleep(time.Minute)
		_, err := tokens.Get(context.Background(), f.login, testAhead, testTimeout)
		var login *LoginError
		if !errors.As(err, &login) || login.Refused || login.RetryAfter <= 0 {
			t.Errorf("got %#v after the expiry, want a LoginError with RetryAfter that is not Refused", err)
		}
		f.mend()
		time.Sleep(maxBackoff)
		if got := get(t, tokens, f); got == "token-1" {
			t.Errorf("got %q after Klavi came back, want a new token", got)
		}
	})
}

func TestTokensBackoffWithoutToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tokens, f := NewTokens(), &fakeLogin{}
		f.fail(&Error{StatusCode: 401, Message: "Invalid accessKey or secretKey"})
		for range 100 {
			_, err := tokens.Get(context.Background(), f.login, testAhead, testTimeout)
			var login *LoginError
			if !errors.As(err, &login) || !login.Refused {
				t.Fatalf("got %v, want a LoginError that is Refused", err)
			}
		}
		wantLogins(t, f, 1)
	})
}

func TestTokensLoginTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tokens, f := NewTokens(), &fakeLogin{took: time.Hour}
		began := time.Now()
		_, err := tokens.Get(context.Background(), f.login, testAhead, testTimeout)
		if took := time.Since(began); took != testTimeout || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v after %s, want %v after %s", err, took, context.DeadlineExceeded, testTimeout)
		}
	})
}

func TestTokensLoginPanics(t *testing.T) {
	tokens := NewTokens()
	_, err := tokens.Get(context.Background(), func(context.Context) (string, time.Duration, error) {
		panic("secret-key")
	}, testAhead, testTimeout)
	if err == nil || err.Error() != "logging in to klavi: login panicked" {
		t.Errorf("got %v, want an error that does not repeat what was panicked with", err)
	}
}

func TestTokensRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tokens, f := NewTokens(), &fakeLogin{}
		first, err := tokens.Get(context.Background(), f.login, testAhead, testTimeout)
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Minute)
		tokens.Refused(first)
		if got := get(t, tokens, f); got != "token-2" {
			t.Errorf("got %q after token-1 was refused, want token-2", got)
		}
		// A hundred requests were in flight with token-1: token-2 stays.
		for range 100 {
			tokens.Refused(first)
		}
		if got := get(t, tokens, f); got != "token-2" {
			t.Errorf("got %q after late refusals of token-1, want token-2", got)
		}
		wantLogins(t, f, 2)
	})
}

// A Klavi that refuses every token is asked for a new one less and less often.
func TestTokensRefusedWhileFresh(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tokens, f := NewTokens(), &fakeLogin{}
		for range 10 * 60 { // ten requests a second for a minute
			tok, err := tokens.Get(context.Background(), f.login, testAhead, testTimeout)
			if err != nil {
				t.Fatal(err)
			}
			tokens.Refused(tok)
			time.Sleep(100 * time.Millisecond)
		}
		if got := f.calls.Load(); got < 3 || got > 12 {
			t.Errorf("got %d logins in a minute of refusals, want a few", got)
		}
	})
}

func TestTokensShortLife(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tokens := NewTokens()
		var calls int
		login := func(context.Context) (string, time.Duration, error) {
			calls++
			return "short", time.Minute, nil
		}
		for range 10 {
			if _, err := tokens.Get(context.Background(), login, testAhead, testTimeout); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
		}
		if calls != 1 {
			t.Errorf("got %d logins for a token that lives shorter than refresh_ahead, want 1", calls)
		}
	})
}

func BenchmarkTokensGet(b *testing.B) {
	tokens, f := NewTokens(), &fakeLogin{}
	ctx := context.Background()
	if _, err := tokens.Get(ctx, f.login, testAhead, testTimeout); err != nil {
		b.Fatal(err)
	}
	login := Login(f.login)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := tokens.Get(ctx, login, testAhead, testTimeout); err != nil {
			b.Fatal(err)
		}
	}
}
