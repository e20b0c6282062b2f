package gateway

import (
	"context"
	"errors"
	"net/http"
	"runtime"
	"testing"
	"time"
)

// A call is not made in its caller's context, yet ends when the caller goes:
// before the answer, and while that is read.
func TestCallEndsWithItsCaller(t *testing.T) {
	k := newFakeKlavi(t)
	begun := make(chan struct{})
	k.Config.Handler.(*http.ServeMux).HandleFunc("/data/v1/never", func(_ http.ResponseWriter, r *http.Request) {
		close(begun)
		<-r.Context().Done()
	})
	k.Config.Handler.(*http.ServeMux).HandleFunc("/data/v1/half", func(w http.ResponseWriter, r *http.Request) {
		_, _ = w.Write([]byte("half"))
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	})
	a := k.account(t)

	ctx, leave := context.WithCancel(context.Background())
	go func() {
		<-begun
		leave()
	}()
	req, err := a.NewRequest(http.MethodGet, "/never", nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.SendAuthorized(ctx, req); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v for a caller that left before the answer, want %v", err, context.Canceled)
	}

	ctx, leave = context.WithCancel(context.Background())
	if req, err = a.NewRequest(http.MethodGet, "/half", nil); err != nil {
		t.Fatal(err)
	}
	res, err := a.SendAuthorized(ctx, req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	leave()
	for {
		if _, err = res.Body.Read(make([]byte, 8)); err != nil {
			break
		}
	}
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v for a caller that left while the answer came, want %v", err, context.Canceled)
	}
}

// What holds the caller's request never sees the token.
func TestCallLeavesTheRequestAlone(t *testing.T) {
	k := newFakeKlavi(t)
	a := k.account(t)
	req, err := a.NewRequest(http.MethodGet, "/consents", nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, send := range []func() (*http.Response, error){
		func() (*http.Response, error) { return a.SendAuthorized(t.Context(), req) },
		func() (*http.Response, error) { return a.SendWithLinkToken(t.Context(), req, "link-token") },
	} {
		res, err := send()
		if err != nil {
			t.Fatal(err)
		}
		drain(res)
		if got := req.Header.Values("Authorization"); len(got) != 0 {
			t.Errorf("got Authorization %q on the caller's request, want none", got)
		}
	}
	k.wantSeen(t, "GET /data/v1/consents Bearer token-1 ", "GET /data/v1/consents Bearer link-token ")
}

// A context that package context does not know is watched by a goroutine: one
// more for every call.
func TestCallContextNeedsNoGoroutine(t *testing.T) {
	caller, leave := context.WithCancel(context.WithValue(t.Context(), http.LocalAddrContextKey, "a value"))
	before := runtime.NumGoroutine()
	ctx, cancel := context.WithTimeout(withoutValues{caller}, time.Hour)
	defer cancel()
	if got := runtime.NumGoroutine(); got != before {
		t.Errorf("got %d goroutines, want %d", got, before)
	}
	if got := ctx.Value(http.LocalAddrContextKey); got != nil {
		t.Errorf("got the caller's value %v, want none", got)
	}
	leave()
	if ctx.Err() == nil {
		t.Error("got a call that goes on, want it to end with its caller")
	}
}
