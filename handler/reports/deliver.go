package reports

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"runtime/debug"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.opentelemetry.io/otel/trace"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/caddy-klavi/caddy-klavi/gateway"
	"github.com/caddy-klavi/caddy-klavi/handler/problem"
	"github.com/caddy-klavi/caddy-klavi/inbox"
)

// dispatch finds the routes of a signed report and delivers it to each. It
// returns nil once all have accepted it.
func (h *Reports) dispatch(r *http.Request, rep *report, b *body, received time.Time) *problem.Problem {
	envelope, err := b.envelope()
	head, reason, err := readHead(envelope, err, rep.sender, b.sha256, received)
	if err != nil {
		reason = "its body cannot be read back"
	}
	rep.head = head
	routes, none := h.routesOf(rep)
	if reason == "" {
		reason = none
	}
	if len(routes) == 0 {
		h.account.CountUnroutable()
		h.logger.Error("signed report has no route", append(rep.fields(), zap.String("reason", reason))...)
		return problem.New(problem.NotFound, "No route takes this report: "+reason+".")
	}
	// Klavi's connection may break: what has begun is finished all the same.
	// The context of the request has values that belong to the request alone.
	ctx := trace.ContextWithSpan(context.Background(), trace.SpanFromContext(r.Context()))
	ctx, cancel := context.WithTimeout(ctx, h.limits.delivery)
	defer cancel()

	failures := make([]error, len(routes))
	var wg sync.WaitGroup
	for i, route := range routes {
		wg.Go(func() { failures[i] = h.deliver(ctx, route, rep, b) })
	}
	wg.Wait()
	return notAccepted(errors.Join(failures...))
}

// routesOf chooses the routes. It returns none with the reason for that.
func (h *Reports) routesOf(rep *report) ([]*Route, string) {
	switch rep.head.Kind {
	case inbox.KindReport:
		if route := h.table.route(rep.head.Subjects[0]); route != nil {
			return []*Route{route}, ""
		}
		return nil, "there is no route for its type"
	case inbox.KindEvent:
		routes, lost := h.table.routes(rep.head.Subjects)
		if len(routes) > 0 && len(lost) > 0 {
			h.account.CountUnroutable()
			h.logger.Error("signed events have no route; they are delivered to those of the others of their array",
				append(rep.fields(), zap.String("without_route", loggable(join(lost))))...)
		}
		return routes, "there is no route for its events"
	default:
		return nil, ""
	}
}

// deliver delivers a report to one route, once: a copy that comes meanwhile or
// shortly after gets the same outcome.
func (h *Reports) deliver(ctx context.Context, route *Route, rep *report, b *body) error {
	deadline, _ := ctx.Deadline()
	return h.account.DeliverOnce(ctx, route.Name, b.identity, func(ctx context.Context) error {
		// The caller may leave before the delivery ends.
		if !b.retain() {
			return errGone
		}
		defer b.release()
		ctx, cancel := context.WithDeadline(ctx, deadline)
		defer cancel()
		_, err := h.attempt(ctx, route, rep, 1)
		return err
	})
}

// failure is why a route did not accept a report.
type failure struct {
	status     int // what the route wrote or its error says, or 0
	retryAfter time.Duration
	late       bool
	err        error
}

func (f *failure) Error() string {
	if f.status == 0 {
		return f.err.Error()
	}
	return fmt.Sprintf("%v (status %d)", f.err, f.status)
}

func (f *failure) Unwrap() error { return f.err }

var (
	errGone       = errors.New("the report was given up before its delivery began")
	errSilent     = errors.New("the route's handlers wrote nothing")
	errNotAStatus = errors.New("the route's handlers wrote no status of the 2xx class")
	errAborted    = errors.New("the connection to the upstream broke")
	errPanicked   = errors.New("a handler of the route panicked")
)

// attempt delivers a report to one route, and notes how it went. The status is that
// with which the route has accepted it.
func (h *Reports) attempt(ctx context.Context, route *Route, rep *report, attempt int) (int, error) {
	began := time.Now()
	ctx, span := startSpan(ctx, route.Name)
	status, err := h.run(ctx, route, rep, attempt)
	if f, ok := errors.AsType[*failure](err); ok {
		f.late = ctx.Err() != nil
		status = f.status
	}
	endSpan(span, status, err)

	took := time.Since(began)
	level, message := zap.DebugLevel, "report was accepted"
	if err != nil {
		level, message = h.failureLevel(), "report was not accepted"
	}
	if h.Direct { // the inbox counts its own, once they stand in its record
		h.account.CountAttempt(route.Name, err == nil, took)
	}
	if c := h.logger.Check(level, message); c != nil {
		c.Write(append(rep.fields(), zap.String("route", route.Name), zap.Int("attempt", attempt),
			zap.Duration("duration", took), zap.Int("status", status), masked(err))...)
	}
	return status, err
}

// failureLevel is that of a failed attempt: a direct report is lost with it, and one
// of the inbox is tried again.
func (h *Reports) failureLevel() zapcore.Level {
	if h.Direct {
		return zap.ErrorLevel
	}
	return zap.WarnLevel
}

// masked is the error of a handler: it may say anything.
func masked(err error) zap.Field {
	if err == nil {
		return zap.Skip()
	}
	return zap.String("error", string(gateway.Mask([]byte(err.Error()))))
}

// run has the route's handlers take the report, and returns the status with which
// they did. The error is a *failure.
func (h *Reports) run(ctx context.Context, route *Route, rep *report, attempt int) (status int, err error) {
	rec := newRecorder()
	defer func() {
		// A dying upstream ends its handler with a panic, which would end the
		// process outside of a server.
		switch value := recover(); value {
		case nil:
		case http.ErrAbortHandler:
			err = &failure{status: rec.status, err: errAborted}
		default:
			// Its value may be anything, also of the report.
			h.logger.Error("a handler panicked", zap.String("route", route.Name),
				zap.String("panic_type", fmt.Sprintf("%T", value)), zap.ByteString("stack", debug.Stack()))
			err = &failure{status: rec.status, err: errPanicked}
		}
	}()
	r := rep.request(ctx, attempt, rec)
	defer r.Body.Close()

	if err := route.handler.ServeHTTP(rec, r); err != nil {
		var he caddyhttp.HandlerError
		if errors.As(err, &he) && he.Err != nil {
			return 0, &failure{status: he.StatusCode, err: he.Err}
		}
		return 0, &failure{status: he.StatusCode, err: err}
	}
	switch {
	case rec.status == 0:
		return 0, &failure{err: errSilent}
	case !rec.accepted():
		return 0, &failure{status: rec.status, retryAfter: retryAfter(rec.header, time.Now()), err: errNotAStatus}
	}
	return rec.status, nil
}

// notAccepted returns the answer for a report that a route did not accept.
func notAccepted(err error) *problem.Problem {
	if err == nil {
		return nil
	}
	if errors.Is(err, gateway.ErrBusy) {
		p := problem.New(problem.Busy, "Too many reports are being delivered at once.")
		p.RetryAfter = retrySoon
		return p
	}
	p := problem.New(problem.ReportNotAccepted, "The service that this report is for did not accept it.")
	var f *failure
	if errors.Is(err, context.DeadlineExceeded) || errors.As(err, &f) && f.late {
		p.Status = http.StatusGatewayTimeout
		p.Detail = "The service that this report is for did not answer in time."
	}
	return p
}
