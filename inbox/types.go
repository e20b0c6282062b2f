package inbox

import (
	"context"
	"time"
)

// Kind is what a stored body is.
type Kind string

// The kinds.
const (
	KindReport Kind = "report"
	KindEvent  Kind = "event"
	// KindUnreadable is a signed body that nobody could make sense of. It has
	// no route: it is kept, and shown as dead.
	KindUnreadable Kind = "unreadable"
)

// Head is what is known of a report when its body has been read.
type Head struct {
	Kind Kind
	// Subjects are the report's type, or the names of the events of an array,
	// each once. There is one delivery for each.
	Subjects []string
	// ReportID is Klavi's id of the report or event, or the digest in
	// hexadecimal digits where there is none.
	ReportID string
	Code     int // of the report, 0 if it has none
	Received time.Time

	RequestID  string
	LinkIDs    []string
	ConsentIDs []string
	EventIDs   []string
	// EventConsents are the consents by the name of the event, for an array of
	// events that differ. Nil: all of them are about ConsentIDs.
	EventConsents map[string][]string

	// Meta is whatever the deliverer wants back. It is sealed with the body.
	Meta []byte
}

// Receipt is what became of a report that was stored.
type Receipt struct {
	UID string
	// Duplicate: the same report was stored less than ten minutes ago, and is
	// not stored or delivered again.
	Duplicate bool
	// Repeat: the same report was stored longer ago. It is delivered again.
	Repeat bool
	// Conflict: another report with the same id is or was there.
	Conflict bool
	// Erased: it is about something that was erased, and was not kept.
	Erased bool
}

// Delivery is a stored report on its way to a route.
type Delivery struct {
	UID      string
	Head     Head
	Size     int64
	Digest   [32]byte
	Attempt  int // 1 for the first
	Repeat   bool
	Conflict bool

	// Body opens the body at its first byte. Reading returns an error that is
	// not io.EOF where the body is damaged.
	Body func() (Body, error)
}

// Body reads a stored body. It can be closed more than once.
type Body interface {
	Read(p []byte) (int, error)
	Close() error
}

// Routes is where deliveries go: the routes of one config.
type Routes interface {
	// Route returns the name of the route for a subject, empty if there is none.
	Route(kind Kind, subject string) string
	// List returns the routes in the order in which they were written.
	List() []Route
	// Deliver makes one attempt. It ends when ctx does.
	Deliver(ctx context.Context, route string, d *Delivery) Outcome
}

// Route is how deliveries to a route are made.
type Route struct {
	Name        string
	Concurrency int           // attempts at once, 1 or more
	Timeout     time.Duration // of one attempt
}

// Outcome is how an attempt ended.
type Outcome struct {
	Accepted bool
	// Dead: the upstream said that it will never take this report (410).
	Dead bool
	// RetryAfter is how long the upstream wants to be left alone, 0 if it said nothing.
	RetryAfter time.Duration
	// Status is what the route answered, 0 for nothing.
	Status int
	// Reason says why it was not accepted, in words that hold nothing of the report.
	Reason string
}
