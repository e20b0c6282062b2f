package gateway

import (
	"context"
	"io"
	"net/http"
	"testing"
)

// BenchmarkCall makes a call with the access token, and one without what the
// gateway adds to Caddy's own transport.
func BenchmarkCall(b *testing.B) {
	k := newFakeKlavi(b)
	k.Config.Handler.(*http.ServeMux).HandleFunc("GET /data/v1/consents", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "[]")
	})
	account := k.account(b)
	for _, bench := range []struct {
		name string
		send func(context.Context, *http.Request) (*http.Response, error)
	}{
		{"gateway", account.SendAuthorized},
		{"transport", func(ctx context.Context, req *http.Request) (*http.Response, error) {
			return account.transport.RoundTrip(req.WithContext(ctx))
		}},
	} {
		b.Run(bench.name, func(b *testing.B) {
			ctx := b.Context() // as a server's requests have
			b.ReportAllocs()
			for b.Loop() {
				req, err := account.NewRequest(http.MethodGet, "/consents", nil)
				if err != nil {
					b.Fatal(err)
				}
				res, err := bench.send(ctx, req)
				if err != nil {
					b.Fatal(err)
				}
				drain(res)
			}
		})
	}
}
