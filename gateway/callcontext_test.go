package gateway

import (
	"context"
	"errors"
	"net/http"
	"testing"
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
	req, err := a.NewRequest(ctx, http.MethodGet, "/never", nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.SendAuthorized(req); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v for a caller that left before the answer, want %v", err, context.Canceled)
	}

	ctx, leave = context.WithCancel(context.Background())
	if req, err = a.NewRequest(ctx, http.MethodGet, "/half", nil); err != nil {
		t.Fatal(err)
	}
	res, err := a.SendAuthorized(req)
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
	req, err := a.NewRequest(context.Background(), http.MethodGet, "/consents", nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, send := range []func() (*http.Response, error){
		func() (*http.Response, error) { return a.SendAuthorized(req) },
		func() (*http.Response, error) { return a.SendWithLinkToken(req, "link-token") },
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
