package command

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/dustin/go-humanize"

	"github.com/caddy-klavi/caddy-klavi/inbox"
)

// printRecord prints all that is known of a report.
func printRecord(w io.Writer, r *inbox.Record, now time.Time) error {
	out := newFields(w)
	field := func(name string, values ...string) {
		for _, value := range values {
			if value != "" {
				out.rows = append(out.rows, []string{name, clean(value)}) // in full
			}
		}
	}
	field("uid", r.UID)
	field("state", string(r.State)+ended(r, now))
	field("kind", string(r.Kind))
	field("type", r.Types...)
	field("report", r.ReportID)
	field("request", r.RequestID)
	field("link", r.LinkIDs...)
	field("consent", r.ConsentIDs...)
	field("event", r.EventIDs...)
	if r.Code != 0 {
		field("code", fmt.Sprint(r.Code))
	}
	field("size", fmt.Sprintf("%d bytes (%s)", r.Size, humanize.IBytes(uint64(max(r.Size, 0)))))
	field("sha256", r.Digest)
	field("received", stamp(r.Received)+", "+since(r.Received, now)+" ago")
	if r.Repeat {
		field("repeat", "the same report came before")
	}
	if r.Conflict {
		field("conflict", "another report has the same id")
	}
	if err := out.flush(); err != nil {
		return err
	}
	if err := printDeliveries(w, r, now); err != nil {
		return err
	}
	return printEvents(w, "\n", history(r))
}

// ended says when a report has.
func ended(r *inbox.Record, now time.Time) string {
	if r.Ended.IsZero() {
		return ""
	}
	return ", " + stamp(r.Ended) + ", " + since(r.Ended, now) + " ago"
}

func printDeliveries(w io.Writer, r *inbox.Record, now time.Time) error {
	if len(r.Deliveries) == 0 {
		return nil
	}
	fmt.Fprintln(w)
	out := newPrinter(w, "TYPE", "STATE", "ROUTE", "TRIES", "WAITING", "NEXT", "LAST")
	for i := range r.Deliveries {
		d := &r.Deliveries[i]
		waiting := ""
		if d.State == inbox.Waiting {
			waiting = since(d.Since, now)
		}
		out.row(d.Type, stateOf(r, d), d.Route, fmt.Sprint(d.Attempts), waiting, next(d, now), last(r, d))
	}
	return out.flush()
}

// printHistory prints what an auditor asks of a report.
func printHistory(w io.Writer, r *inbox.Record) error {
	fmt.Fprintf(w, "%s %s: %s\n", r.UID, clean(cmp.Or(strings.Join(r.Types, " "), string(r.Kind))), r.State)
	var ids []string
	add := func(name string, values ...string) {
		for _, value := range values {
			if value != "" {
				ids = append(ids, name+" "+clean(value))
			}
		}
	}
	add("report", r.ReportID)
	add("request", r.RequestID)
	add("link", r.LinkIDs...)
	add("consent", r.ConsentIDs...)
	add("event", r.EventIDs...)
	for _, id := range ids {
		fmt.Fprintln(w, "  "+id)
	}
	came := event{r.Received, "received", fmt.Sprintf("%d bytes, sha256 %s", r.Size, r.Digest)}
	return printEvents(w, "  ", append([]event{came}, history(r)...))
}

// event is something that happened to a report.
type event struct {
	at         time.Time
	what, text string
}

// history is the attempts and what people did, in their order.
func history(r *inbox.Record) []event {
	var events []event
	for _, a := range r.Attempts {
		what, preposition := "failed", "at"
		if a.Accepted {
			what, preposition = "accepted", "by"
		}
		text := fmt.Sprintf("%s %s, from %s, after %s", preposition, a.Route, a.Node, took(a.Took))
		if how := outcome(a.Status, a.Reason); how != "" {
			text += ": " + how
		}
		events = append(events, event{a.At, what, text})
	}
	for _, a := range r.Actions {
		text := "by " + a.Who
		if a.Why != "" {
			text += ": " + a.Why
		}
		events = append(events, event{a.At, a.What, text})
	}
	slices.SortStableFunc(events, func(a, b event) int { return a.at.Compare(b.at) })
	return events
}

// took is how long an attempt took, of which the record has milliseconds.
func took(d time.Duration) string {
	if d < time.Millisecond {
		return "<1ms"
	}
	return d.Round(time.Millisecond).String()
}

// printEvents prints a line for each. Before the first comes what separates them
// from the rest, if it is a line end; else it comes before each.
func printEvents(w io.Writer, before string, events []event) error {
	if len(events) > 0 && before == "\n" {
		fmt.Fprintln(w)
		before = ""
	}
	for _, e := range events {
		if _, err := fmt.Fprintf(w, "%s%s  %-8s  %s\n", before, stamp(e.at), e.what, clean(e.text)); err != nil {
			return err
		}
	}
	return nil
}
