package inbox

import (
	"testing"
	"time"
)

func TestBackoff(t *testing.T) {
	tests := []struct {
		failures int
		longest  time.Duration
		want     time.Duration // at most; a quarter less at least
	}{
		{0, time.Minute, time.Second},
		{1, time.Minute, time.Second},
		{2, time.Minute, 2 * time.Second},
		{6, time.Minute, 32 * time.Second},
		{7, time.Minute, time.Minute},
		{100_000, time.Minute, time.Minute},
		{1, 100 * time.Millisecond, 100 * time.Millisecond},
		{30, 1000 * time.Hour, 1000 * time.Hour},
		{5, 1, 1},
	}
	for _, tt := range tests {
		seen := make(map[time.Duration]bool)
		for range 50 {
			got := backoff(tt.failures, tt.longest)
			if got > tt.want || got < tt.want-tt.want/4 {
				t.Fatalf("after %d failures: got %v, want up to a quarter less than %v", tt.failures, got, tt.want)
			}
			seen[got] = true
		}
		if tt.want > time.Millisecond && len(seen) < 10 {
			t.Errorf("after %d failures: got %d different waits of 50, want them spread", tt.failures, len(seen))
		}
	}
}

func TestRetryAfter(t *testing.T) {
	tests := []struct {
		asked, least, most time.Duration
	}{
		{0, 750 * time.Millisecond, time.Second},
		{-time.Hour, 750 * time.Millisecond, time.Second},
		{time.Millisecond, 750 * time.Millisecond, time.Second},
		{10 * time.Minute, 10 * time.Minute, 10 * time.Minute},
		{100 * 365 * 24 * time.Hour, time.Hour, time.Hour},
	}
	for _, tt := range tests {
		got := retryIn(Outcome{RetryAfter: tt.asked}, 1, time.Minute)
		if got < tt.least || got > tt.most {
			t.Errorf("Retry-After %v: got %v, want from %v to %v", tt.asked, got, tt.least, tt.most)
		}
	}
}
