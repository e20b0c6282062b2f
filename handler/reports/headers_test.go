package reports

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddy-klavi/caddy-klavi/klavi"
)

// seen is what an upstream got.
type seen struct {
	header http.Header
	path   string
	host   string
	body   []byte
}

func recording(t *testing.T) (*httptest.Server, *[]seen) {
	var mu sync.Mutex
	all := new([]seen)
	ts := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		mu.Lock()
		defer mu.Unlock()
		*all = append(*all, seen{r.Header.Clone(), r.URL.RequestURI(), r.Host, body})
	}))
	t.Cleanup(ts.Close)
	return ts, all
}

func TestHeaders(t *testing.T) {
	report := reportOf("pf_credit_card", "report-1", 400)
	noID := []byte(`{"productName":"pf_loans","code":204}`)
	oneEvent := []byte(`[{"eventId":"e-1","eventName":"link_created","payload":{"linkId":"l-1"}}]`)
	twoEvents := []byte(`[{"eventId":"e-1","eventName":"link_created","payload":{"linkId":"l-1"}},
		{"eventID":"e-2","eventName":"consent_authorised","payload":{"linkId":"l-1","consents":{"consentId":"c-1"}}}]`)
	digest := func(body []byte) string {
		sum := sha256.Sum256(body)
		return hex.EncodeToString(sum[:])
	}
	tests := []struct {
		name string
		body []byte
		want map[string]string // "": not there
	}{
		{"report", report, map[string]string{
			"Klavi-Report-Type": "pf_credit_card", "Klavi-Report-Id": "report-1", "Klavi-Report-Code": "200", "Klavi-Request-Id": "112334",
			"Klavi-Link-Id": "gPuKXrCJU05J4k", "Klavi-Consent-Id": "f55c899f,a66d900a", "Idempotency-Key": "report-1",
			"Klavi-Event-Name": "", "Klavi-Event-Id": "",
		}},
		{"report without an id", noID, map[string]string{
			"Klavi-Report-Type": "pf_loans", "Klavi-Report-Id": digest(noID), "Klavi-Report-Code": "204", "Klavi-Request-Id": "",
			"Klavi-Link-Id": "", "Klavi-Consent-Id": "", "Idempotency-Key": digest(noID),
		}},
		{"event", oneEvent, map[string]string{
			"Klavi-Event-Name": "link_created", "Klavi-Event-Id": "e-1", "Klavi-Link-Id": "l-1", "Idempotency-Key": "e-1",
			"Klavi-Report-Type": "", "Klavi-Report-Id": "", "Klavi-Report-Code": "", "Klavi-Request-Id": "", "Klavi-Consent-Id": "",
		}},
		{"events", twoEvents, map[string]string{
			"Klavi-Event-Name": "link_created,consent_authorised", "Klavi-Event-Id": "e-1,e-2", "Klavi-Link-Id": "l-1", "Klavi-Consent-Id": "c-1",
			"Idempotency-Key": digest(twoEvents),
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			upstream, got := recording(t)
			g := newGate(t, Reports{Routes: oneRoute(proxyTo(upstream))}).serve()
			r := g.signed(tt.body)
			r.Host = "hooks.example.com"
			r.URL.RawQuery = "route=other"
			r.Header["X-Forwarded-For"] = []string{fromKlavi}
			for _, name := range []string{
				"Klavi-Account", "Klavi-Report-Type", "klavi-report-id", "Klavi_Report_Type", "klavi.report.type", "KLAVI-EVENT-ID", "Klavi-Event-Name",
				"Klavi-Received-At", "Klavi-Delivery-Attempt", "Idempotency-Key", "Klavi-Anything", "Authorization", "Cookie", "X-Forwarded-Host", "Connection",
				"Klavi-Request-Id", "Klavi-Consent-Id", "Klavi-Link-Id", "Traceparent",
			} {
				r.Header[name] = []string{"forged"}
			}
			if a := send(t, r); a.status != 200 || len(*got) != 1 {
				t.Fatalf("got status %d and %d deliveries, want 200 and one: %s", a.status, len(*got), g.logged())
			}
			s := (*got)[0]
			for name, values := range s.header {
				if slices.Contains(values, "forged") {
					t.Errorf("the sender's header %s reached the upstream", name)
				}
			}
			tt.want["Klavi-Account"] = g.account
			tt.want["Klavi-Delivery-Attempt"] = "1"
			tt.want["Content-Type"] = "application/json"
			tt.want["User-Agent"] = "klavi/1.0"
			tt.want[klavi.SignatureHeader] = klavi.Sign([]byte(secret), tt.body)
			tt.want[klavi.TimestampHeader] = "1740716924"
			tt.want["X-Forwarded-For"] = fromKlavi
			tt.want["X-Forwarded-Proto"] = "http"
			for name, want := range tt.want {
				if values := s.header.Values(name); strings.Join(values, "|") != want {
					t.Errorf("%s: got %q, want %q", name, values, want)
				}
			}
			if _, err := time.Parse("2006-01-02T15:04:05.000Z", s.header.Get("Klavi-Received-At")); err != nil {
				t.Errorf("Klavi-Received-At: %v", err)
			}
			if s.path != "/klavi/reports" || s.host != "hooks.example.com" {
				t.Errorf("got path %s of host %s, want /klavi/reports of hooks.example.com", s.path, s.host)
			}
			if string(s.body) != string(tt.body) {
				t.Error("what the upstream got is not what was sent")
			}
		})
	}
}

func TestJoin(t *testing.T) {
	long := make([]string, 0, 300)
	for i := range 300 {
		long = append(long, fmt.Sprintf("consent-%04d", i))
	}
	got := join(long)
	if len(got) > maxList || !strings.HasSuffix(got, ",consent-0077") {
		t.Errorf("got %d bytes that end in %q, want whole ids up to %d bytes", len(got), got[len(got)-12:], maxList)
	}
	if got := join([]string{"a", "", "b,c", "a", "d"}); got != "a,d" {
		t.Errorf("got %q, want a,d", got)
	}
}
