package inbox

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"net/http"
	"runtime/debug"
	"sync/atomic"
	"time"
)

const (
	// How often it is tried to record what became of an attempt.
	recordAgain = time.Second
	// So long after its time-out an attempt that does not end is given up.
	leaveTime = claimMargin
)

// result is how an attempt ended.
type result struct {
	at      time.Time
	took    time.Duration
	outcome Outcome

	gone   bool  // the report is not there any more
	damage error // it cannot be read
	silent bool  // by no doing of the route
	cut    bool  // delivering has stopped
	broken bool  // a handler panicked: the report may be to blame
}

// attempt delivers a report once, and records it.
func (l *lane) attempt(j *job) {
	files := &l.e.s.files
	_ = files.at(atAttempt)
	r := l.e.deliver(j)
	_ = files.at(atAnswered)
	l.answered(j, &r)
	l.e.record(j, &r)
	_ = files.at(atSettled)
	l.recorded(j)
}

func (e *engine) deliver(j *job) (r result) {
	r.at = e.s.now()
	d, err := e.s.load(e.attempts, j.report)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		r.gone, r.silent = true, true
		return r
	case errors.Is(err, ErrDamaged):
		r.damage, r.silent = err, true
		return r
	case err != nil:
		r.silent, r.cut = true, e.attempts.Err() != nil
		r.outcome.Reason = "the report could not be read"
		return r
	case !e.holds(j): // reading it has taken too long
		r.silent, r.cut = true, true
		r.outcome.Reason = "another node may have taken it over"
		return r
	}
	j.uid = d.UID
	d.Attempt = j.attempts + 1
	var failed readError
	d.Body = failed.watch(d.Body)

	ctx, cancel := context.WithTimeout(e.attempts, j.route.Timeout)
	defer cancel()
	began := time.Now()
	r.outcome = e.call(ctx, j, d, &r.broken)
	r.took = time.Since(began)

	switch err := failed.get(); {
	case errors.Is(err, ErrDamaged):
		r.damage, r.silent = err, true
		r.outcome = Outcome{Status: r.outcome.Status, Reason: "the body that was stored is damaged"}
	case r.outcome.Accepted:
		r.outcome.Reason = ""
	case err != nil:
		r.silent = true
		r.outcome.Reason = "the body that was stored could not be read"
	case r.outcome.Dead:
		r.outcome.Reason = cmp.Or(r.outcome.Reason, "the upstream will never take it")
	case e.attempts.Err() != nil:
		r.cut, r.silent = true, true
		r.outcome.Reason = "the gateway stopped before the route answered"
	case ctx.Err() != nil:
		r.outcome.Reason = cmp.Or(r.outcome.Reason, "the route did not answer in time")
	default:
		// Without a reason, the record would say that it was accepted.
		r.outcome.Reason = cmp.Or(r.outcome.Reason, "the route did not accept it")
	}
	return r
}

// holds says whether nobody else can have taken over a job.
func (e *engine) holds(j *job) bool {
	if !e.s.base.mayDeliver() {
		return false
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	return j.gone == e.gone
}

// call is Deliver. Handlers that do not end when they should are left behind: they
// would take their worker with them, and the report.
func (e *engine) call(ctx context.Context, j *job, d *Delivery, broken *bool) Outcome {
	type called struct {
		outcome Outcome
		broken  bool
	}
	done := make(chan called, 1)
	go func() {
		var c called
		c.outcome = e.callNow(ctx, j, d, &c.broken)
		done <- c
	}()
	var ended called
	select {
	case ended = <-done:
	case <-ctx.Done():
		timer := time.NewTimer(leaveTime)
		defer timer.Stop()
		select {
		case ended = <-done:
		case <-timer.C:
			e.s.log.Error("the handlers of a route do not end: the report is delivered again", "route", j.route.Name, "uid", d.UID)
			return Outcome{Reason: "the handlers of the route did not end"}
		}
	}
	*broken = ended.broken
	return ended.outcome
}

// callNow is Deliver, for which a panic is a failure.
func (e *engine) callNow(ctx context.Context, j *job, d *Delivery, broken *bool) (o Outcome) {
	defer func() {
		switch value := recover(); value {
		case nil:
		case http.ErrAbortHandler:
			o = Outcome{Reason: "the connection to the upstream broke"}
		default:
			// Its value may be anything, also of the report.
			e.s.log.Error("delivering a report panicked", "route", j.route.Name, "uid", d.UID,
				"panic_type", fmt.Sprintf("%T", value), "stack", string(debug.Stack()))
			*broken = true
			o = Outcome{Reason: "a handler of the route panicked"}
		}
	}()
	return j.set.routes.Deliver(ctx, j.route.Name, d)
}

// record has the store remember an attempt. What an upstream has accepted must
// be on record before it could be sent again, so it tries until it can.
func (e *engine) record(j *job, r *result) {
	for warned := false; ; warned = true {
		err := e.settle(j, r)
		if err == nil || errors.Is(err, errClosed) {
			return
		}
		if !warned && !errors.Is(err, ErrAway) {
			e.s.log.Error("an attempt to deliver cannot be recorded: its report waits until it can", "route", j.route.Name, "error", err)
		}
		timer := time.NewTimer(recordAgain)
		select {
		case <-timer.C:
		case <-e.attempts.Done():
			timer.Stop()
			return
		}
	}
}

// readError is the first error of reading a body.
type readError struct{ first atomic.Pointer[error] }

func (f *readError) get() error {
	if err := f.first.Load(); err != nil {
		return *err
	}
	return nil
}

func (f *readError) note(err error) {
	if err != nil && err != io.EOF {
		f.first.CompareAndSwap(nil, &err)
	}
}

func (f *readError) watch(open func() (Body, error)) func() (Body, error) {
	return func() (Body, error) {
		b, err := open()
		if err != nil {
			f.note(err)
			return nil, err
		}
		return &watchedBody{Body: b, failed: f}, nil
	}
}

type watchedBody struct {
	Body
	failed *readError
	closed atomic.Bool
}

func (b *watchedBody) Read(p []byte) (int, error) {
	n, err := b.Body.Read(p)
	if !b.closed.Load() { // else it says nothing of the body
		b.failed.note(err)
	}
	return n, err
}

func (b *watchedBody) Close() error {
	b.closed.Store(true)
	return b.Body.Close()
}
