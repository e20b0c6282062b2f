package inbox

import (
	"slices"
	"testing"
	"time"
)

func TestFaulty(t *testing.T) {
	tests := []struct {
		o    Outcome
		want bool
	}{
		{Outcome{Accepted: true, Status: 200}, false},
		{Outcome{}, true}, // nothing could be reached, or nothing came in time
		{Outcome{Status: 429}, true},
		{Outcome{Status: 502}, true},
		{Outcome{Status: 503}, true},
		{Outcome{Status: 504}, true},
		{Outcome{Status: 500}, false},
		{Outcome{Status: 400}, false},
		{Outcome{Status: 422}, false},
		{Outcome{Status: 301}, false},
		{Outcome{Status: 410, Dead: true}, false},
		{Outcome{Dead: true}, false},
	}
	for _, tt := range tests {
		if got := faulty(tt.o); got != tt.want {
			t.Errorf("%+v: got %v, want %v", tt.o, got, tt.want)
		}
	}
}

// step of a story: an attempt with a delivery.
type healthStep struct {
	delivery int64
	outcome  Outcome
	probe    probe
	failing  bool // afterwards
}

func TestHealth(t *testing.T) {
	down, later := Outcome{Status: 502}, Outcome{Status: 503, RetryAfter: 10 * time.Minute}
	good, bad := Outcome{Accepted: true, Status: 200}, Outcome{Status: 422}
	tests := []struct {
		name  string
		steps []healthStep
		next  probe
	}{
		{"five in a row", []healthStep{
			{1, down, noProbe, false},
			{2, down, noProbe, false},
			{3, down, noProbe, false},
			{4, down, noProbe, false},
			{5, down, noProbe, true},
		}, oldestProbe},
		{"one report again and again", []healthStep{
			{1, down, noProbe, false},
			{1, down, noProbe, false},
			{1, down, noProbe, false},
			{1, down, noProbe, false},
			{1, down, noProbe, false},
			{1, down, noProbe, false},
		}, noProbe},
		{"an answer in between", []healthStep{
			{1, down, noProbe, false},
			{2, down, noProbe, false},
			{3, down, noProbe, false},
			{4, down, noProbe, false},
			{5, bad, noProbe, false},
			{6, down, noProbe, false},
		}, noProbe},
		{"asked to wait twice", []healthStep{{1, later, noProbe, false}, {2, later, noProbe, true}}, oldestProbe},
		{"probes take turns", []healthStep{
			{1, later, noProbe, false},
			{2, later, noProbe, true},
			{3, down, oldestProbe, true},
		}, newestProbe},
		{"what was under way is no probe", []healthStep{
			{1, later, noProbe, false},
			{2, later, noProbe, true},
			{3, down, noProbe, true},
			{4, down, noProbe, true},
		}, oldestProbe},
		{"a refused report is an answer too", []healthStep{
			{1, later, noProbe, false},
			{2, later, noProbe, true},
			{3, bad, oldestProbe, false},
		}, noProbe},
		{"the newest is accepted, the oldest was not: it is the reports", []healthStep{
			{1, later, noProbe, false},
			{2, later, noProbe, true},
			{3, down, oldestProbe, true},
			{4, good, newestProbe, false},
			{5, down, noProbe, false},
			{6, down, noProbe, false},
			{7, down, noProbe, false},
			{8, down, noProbe, false},
			{9, down, noProbe, false},
			{10, down, noProbe, false},
		}, noProbe},
		{"the oldest is accepted: it was the route", []healthStep{
			{1, later, noProbe, false},
			{2, later, noProbe, true},
			{3, good, oldestProbe, false},
			{5, down, noProbe, false},
			{6, down, noProbe, false},
			{7, down, noProbe, false},
			{8, down, noProbe, false},
			{9, down, noProbe, true},
		}, oldestProbe},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h, now := newHealth(), time.Unix(1_700_000_000, 0)
			for i, step := range tt.steps {
				if faulty(step.outcome) {
					h.faulted(step.delivery, step.outcome, step.probe, now, time.Minute)
				} else {
					h.alive(step.outcome.Accepted, step.probe, now)
				}
				if h.failing != step.failing {
					t.Fatalf("after step %d: got failing %v, want %v", i+1, h.failing, step.failing)
				}
			}
			if got := h.probe(); got != tt.next {
				t.Errorf("got the next probe %v, want %v", got, tt.next)
			}
		})
	}
}

func TestHealthProbesAtIncreasingIntervals(t *testing.T) {
	h, now := newHealth(), time.Unix(1_700_000_000, 0)
	for i := range int64(minPatience) {
		h.faulted(i, Outcome{Status: 502}, noProbe, now, time.Minute)
	}
	for i, seconds := range []int{1, 2, 4, 8, 16, 32, 60, 60} {
		want := time.Duration(seconds) * time.Second
		if got := h.next.Sub(now); got > want || got < want-want/4 {
			t.Errorf("probe %d: got it after %v, want about %v", i+1, got, want)
		}
		h.faulted(int64(100+i), Outcome{Status: 502}, h.probe(), now, time.Minute)
	}
	cleared := h.alive(true, h.probe(), now)
	slices.Sort(cleared)
	if want := []int64{0, 1, 2, 3, 4, 100, 101, 102, 103, 104, 105, 106, 107}; !slices.Equal(cleared, want) {
		t.Errorf("got %v cleared, want all that failed meanwhile: %v", cleared, want)
	}
}

// A route that answers again is not run over.
func TestHealthGrows(t *testing.T) {
	h, now := newHealth(), time.Unix(1_700_000_000, 0)
	for i := range int64(minPatience) {
		h.faulted(i, Outcome{Status: 502}, noProbe, now, time.Minute)
	}
	for i := range 5 {
		h.alive(true, h.probe(), now)
		if want := i + 2; h.limit != want {
			t.Errorf("after %d were accepted: got %d attempts at once, want %d", i+1, h.limit, want)
		}
	}
	h.faulted(200, Outcome{Status: 502}, noProbe, now, time.Minute)
	if h.limit != 1 {
		t.Errorf("after a failure: got %d attempts at once, want 1", h.limit)
	}
}

// Thousands of reports of which each breaks its connection end the patience of
// no route for long.
func TestHealthPatience(t *testing.T) {
	h, now := newHealth(), time.Unix(1_700_000_000, 0)
	pauses, id := 0, int64(0)
	for range 2000 {
		id++
		if h.failing {
			pauses++
			h.faulted(id, Outcome{}, oldestProbe, now, time.Minute)
			h.alive(true, newestProbe, now)
			continue
		}
		h.faulted(id, Outcome{}, noProbe, now, time.Minute)
	}
	if pauses > 5 {
		t.Errorf("got %d pauses for 2000 reports, want 5 at most", pauses)
	}
	for range maxPatience {
		h.alive(true, noProbe, now)
	}
	if h.patience != minPatience {
		t.Errorf("got a patience of %d after all was accepted for long, want %d", h.patience, minPatience)
	}
}
