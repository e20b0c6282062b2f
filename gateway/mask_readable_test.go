package gateway

import (
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

// What a log is read for stays readable. Ids are random, so that one of them in
// some thousands holds digits that would pass for a tax id.
func TestMaskKeepsIDsAndTimes(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	digits := func(n int) string {
		b := make([]byte, (n+1)/2)
		for i := range b {
			b[i] = byte(random.Uint32())
		}
		return hex.EncodeToString(b)[:n]
	}
	at := func() time.Time { return time.Unix(1732281234+random.Int64N(1e8), random.Int64N(1e9)).UTC() }
	for name, form := range map[string]func() string{
		"UUID": func() string {
			return digits(8) + "-" + digits(4) + "-" + digits(4) + "-" + digits(4) + "-" + digits(12)
		},
		"link id of Klavi's": func() string {
			return digits(5) + "-" + digits(6) + "-" + digits(5) + "-" + digits(7) + "-" + digits(9)
		},
		"trace id":          func() string { return digits(32) },
		"commit":            func() string { return digits(40) },
		"SHA-256":           func() string { return digits(64) },
		"X-Klavi-Timestamp": func() string { return fmt.Sprint(at().Unix()) },
		"milliseconds":      func() string { return fmt.Sprint(at().UnixMilli()) },
		"nanoseconds":       func() string { return fmt.Sprint(at().UnixNano()) },
		"ts of Caddy":       func() string { return fmt.Sprintf(`{"ts":%.7f}`, float64(at().UnixMicro())/1e6) },
		"duration of Caddy": func() string { return fmt.Sprintf(`{"duration":%.11f}`, random.Float64()) },
		"duration of Go":    func() string { return time.Duration(random.Int64N(1e12)).String() },
		"RFC 3339":          func() string { return at().Format(time.RFC3339Nano) },
		"console":           func() string { return at().Format("2006/01/02 15:04:05.000") },
		"HTTP":              func() string { return at().Format(time.RFC1123) },
		"rolled file":       func() string { return at().Format("caddy-2006-01-02T15-04-05.000.log") },
		"time in a name":    func() string { return at().Format("report-20060102-150405.json") },
		"address and port": func() string {
			return fmt.Sprintf("%d.%d.%d.%d:%d", random.IntN(256), random.IntN(256), random.IntN(256), random.IntN(256), random.IntN(65536))
		},
		"IPv6 address and port": func() string { return fmt.Sprintf("[2001:db8:%s::%s]:%d", digits(4), digits(4), random.IntN(65536)) },
		"stack": func() string {
			return fmt.Sprintf("main.f(0x%s, {0xc000%s, 0x%x})\n\t/a/b.go:%d +0x%x", digits(6), digits(6), random.IntN(1e4), random.IntN(1e4), random.IntN(1e4))
		},
		"status, size": func() string {
			return fmt.Sprintf(`{"status":%d,"size":%d,"port":"%d"}`, random.IntN(600), random.Int64N(1e10), random.IntN(65536))
		},
	} {
		t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) {
			for range 20_000 {
				text := form()
				if got := string(Mask([]byte(text))); got != text {
					t.Fatalf("got %s, want %s", got, text)
				}
			}
		})
	}
	// Traceparent ends in a span id of 16 digits, where this is not excluded.
	changed := 0
	for range 20_000 {
		text := "00-" + digits(32) + "-" + digits(16) + "-01"
		if string(Mask([]byte(text))) != text {
			changed++
		}
	}
	if changed > 20 {
		t.Errorf("%d of 20000 traceparents were changed, want one in a thousand at most", changed)
	}
}

// A time without punctuation has as many digits as a CNPJ. It is none unless its
// check digits fit.
func TestMaskKeepsCompactTimes(t *testing.T) {
	for text, want := range map[string]string{
		"backup-20261122130811.tar": "backup-20261122130811.tar",
		"20261122130860":            "20261122130860",
		"20261322130811":            "***", // no month
		"21261122130811":            "***", // no year that a log has
		"20261122000145":            "20261122000145",
		"11222333000181":            "***",
	} {
		if got := string(Mask([]byte(text))); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}
