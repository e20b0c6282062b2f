package inbox

import "time"

// Observer is told what happens to deliveries, for metrics. Each func may be
// nil. They are called often and must not block. What waits is for Routes to
// say.
type Observer struct {
	// Attempt: an attempt has ended, and stands in the record.
	Attempt func(route string, o Outcome, took time.Duration)
	// Dead: so many deliveries to a route have died. Without a route it is
	// empty.
	Dead func(route string, n int)
}

func (o *Observer) attempt(route string, outcome Outcome, took time.Duration) {
	if o.Attempt != nil {
		o.Attempt(route, outcome, took)
	}
}

func (o *Observer) dead(route string, n int) {
	if o.Dead != nil && n > 0 {
		o.Dead(route, n)
	}
}
