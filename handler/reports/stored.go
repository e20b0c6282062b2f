package reports

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/caddy-klavi/caddy-klavi/inbox"
)

// Route returns the name of the route for a type of report or a name of an event.
func (h *Reports) Route(kind inbox.Kind, subject string) string {
	var route *Route
	switch kind {
	case inbox.KindReport:
		route = h.table.route(subject)
	case inbox.KindEvent:
		route = h.table.events.find(subject)
	}
	if route == nil {
		return ""
	}
	return route.Name
}

// LargestBody is max_body.
func (h *Reports) LargestBody() int64 { return h.MaxBody }

// List returns the routes.
func (h *Reports) List() []inbox.Route {
	list := make([]inbox.Route, len(h.Routes))
	for i, route := range h.Routes {
		list[i] = inbox.Route{Name: route.Name, Concurrency: route.Concurrency, Timeout: time.Duration(route.Timeout)}
		if route.Concurrency == 0 {
			list[i].Concurrency = defaultConcurrency
		}
		if route.Timeout == 0 {
			list[i].Timeout = defaultTimeout
		}
	}
	return list
}

// Deliver has the route's handlers take a report of the inbox.
func (h *Reports) Deliver(ctx context.Context, name string, d *inbox.Delivery) inbox.Outcome {
	for _, route := range h.Routes {
		if route.Name == name {
			rep := h.stored(d)
			status, err := h.attempt(recallTrace(ctx, rep.sender.Trace), route, rep, d.Attempt)
			return outcome(status, err)
		}
	}
	return inbox.Outcome{Reason: "the route is not there any more"}
}

// outcome is what the record is to hold of an attempt, with the status if it was
// accepted. What a handler's error says
// may be anything, so it is left to the log.
func outcome(status int, err error) inbox.Outcome {
	if err == nil {
		return inbox.Outcome{Accepted: true, Status: status}
	}
	f, ok := errors.AsType[*failure](err)
	if !ok {
		return inbox.Outcome{Reason: "the route did not accept it"}
	}
	o := inbox.Outcome{Status: f.status, RetryAfter: f.retryAfter, Dead: f.status == http.StatusGone}
	switch {
	case f.late:
		o.Reason = "the route did not answer in time"
	case errors.Is(f.err, errSilent), errors.Is(f.err, errAborted), errors.Is(f.err, errPanicked):
		o.Reason = f.err.Error()
	case errors.Is(f.err, errNotAStatus):
		o.Reason = "the route answered with status " + strconv.Itoa(f.status)
	case f.status == http.StatusBadGateway:
		o.Reason = "the upstream could not be reached"
	case f.status == http.StatusServiceUnavailable:
		o.Reason = "no upstream is available"
	default:
		o.Reason = "a handler of the route failed"
	}
	return o
}

// retryAfter returns how long an answer asks to be left alone, 0 if it does not.
func retryAfter(header http.Header, now time.Time) time.Duration {
	text := header.Get("Retry-After")
	if seconds, err := strconv.ParseUint(text, 10, 31); err == nil {
		return time.Duration(seconds) * time.Second
	}
	if at, err := http.ParseTime(text); err == nil {
		return max(0, at.Sub(now))
	}
	return 0
}
