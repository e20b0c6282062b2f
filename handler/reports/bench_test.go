package reports

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"go.uber.org/zap"

	"github.com/caddy-klavi/caddy-klavi/klavi"
)

// BenchmarkDirect takes a report from its first byte to the answer, without
// network. The route reads the body and refuses it: what is accepted would be
// delivered once.
func BenchmarkDirect(b *testing.B) {
	for _, size := range []int{4 << 10, 1 << 20, 32 << 20} {
		b.Run(fmt.Sprintf("%dKiB", size>>10), func(b *testing.B) {
			g := newGate(b, Reports{Routes: oneRoute(hook(b, "read", func(w http.ResponseWriter, r *http.Request) error {
				_, err := io.Copy(io.Discard, r.Body)
				w.WriteHeader(http.StatusTeapot)
				return err
			}))})
			g.reports.logger = zap.NewNop()
			body := reportOf("pf_categorized_checking_l3", "id", size)
			signature := klavi.Sign([]byte(secret), body)
			b.SetBytes(int64(len(body)))
			b.ReportAllocs()
			for b.Loop() {
				r := httptest.NewRequest(http.MethodPost, "/klavi/reports", bytes.NewReader(body))
				r.Header.Set(klavi.SignatureHeader, signature)
				w := httptest.NewRecorder()
				g.server.ServeHTTP(w, r)
				if w.Code != http.StatusBadGateway {
					b.Fatalf("got status %d, want 502", w.Code)
				}
			}
		})
	}
}

// BenchmarkIntake is what is done before a report is delivered.
func BenchmarkIntake(b *testing.B) {
	g := newGate(b, Reports{Routes: oneRoute(respond(200))})
	body := reportOf("pf_categorized_checking_l3", "id", 1<<20)
	signature := klavi.Sign([]byte(secret), body)
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		r := httptest.NewRequest(http.MethodPost, "/klavi/reports", bytes.NewReader(body))
		r.Header.Set(klavi.SignatureHeader, signature)
		g.server.ServeHTTP(httptest.NewRecorder(), r)
	}
}
