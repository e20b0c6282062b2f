package main

import (
	"strings"
	"testing"
)

func TestWriteTable(t *testing.T) {
	plain := &face{name: "plain", runs: []run{{1000, 100, 2000}, {500, 120, 8000}, {2000, 80, 1000}}}
	// What is twice as fast in every round is so in the table, whatever the rounds were like.
	twice := &face{name: "twice", atLeast: 2, p99AtMost: 1.1, runs: []run{{2000, 50, 2000}, {1000, 60, 8000}, {4000, 40, 2000}}}
	slow := &face{name: "slow", atLeast: 1, p99AtMost: 1, runs: []run{{900, 100, 4000}, {450, 120, 16000}, {1800, 80, 2000}}}
	var out strings.Builder
	writeTable(&out, group{title: "GET /x", faces: []*face{plain, twice, slow}})
	const want = `
| GET /x | requests/s | × | CPU per request, µs | × | p99, ms | × |
|---|---|---|---|---|---|---|
| plain | 1000 (500–2000) | 1.00 | 100.0 (80.0–120.0) | 1.00 | 2.00 (1.00–8.00) | 1.00 |
| twice | 2000 (1000–4000) | 2.00 | 50.0 (40.0–60.0) | 0.50 | 2.00 (2.00–8.00) | 1.00 |
| slow | 900 (450–1800) | 0.90 | 100.0 (80.0–120.0) | 1.00 | 4.00 (2.00–16.00) | 2.00 |

* twice: requests/s × 2.00, to be at least 2.00: met
* twice: p99 × 1.00, to be at most 1.10: met
* slow: requests/s × 0.90, to be at least 1.00: **missed**
* slow: p99 × 2.00, to be at most 1.00: **missed**
`
	if got := out.String(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}
