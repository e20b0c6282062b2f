package klavi

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"

	"github.com/go-json-experiment/json/jsontext"
)

// Envelope is what the body of a webhook says on its outside. Exactly one of Report and Events is set.
type Envelope struct {
	// Report is set for a product webhook.
	Report *Report
	// Events is set for an event webhook: the events of its array, or the one that stands alone. Only the first 1000
	// are considered.
	Events []Event
}

// EnvelopeError says why a body is neither a report nor events. Nothing of the body is in it.
type EnvelopeError struct {
	Reason string
}

// Error returns the reason.
func (e *EnvelopeError) Error() string { return "unreadable webhook body: " + e.Reason }

const (
	maxKeptText = 256
	maxKeptIDs  = 64
	maxEvents   = 1000
	// A text of maxKeptText bytes with every byte escaped, in its quotes.
	maxQuoted = 6*maxKeptText + 2
)

// ReadEnvelope reads a body to its end, and keeps of it no more than an [Envelope]. Its memory does not grow with the
// body, except that the decoder holds each single string as a whole: one above 8 MiB makes the body unreadable. A body
// that is in memory already is best given as a *[bytes.Buffer], which is read in place, without copying or changing
// its bytes.
//
// The whole body has to be JSON (RFC 8259; no byte order mark, nothing behind it). A body that is not, or is neither a
// report nor events, is an [*EnvelopeError]; any other error is one of r's. Names in the data of a report may stand
// there twice, and its texts need not be UTF-8; a name of the header may stand there once, in whatever case.
func ReadEnvelope(r io.Reader) (Envelope, error) {
	s := newScan(r)
	defer s.release()
	env, err := s.envelope()
	if err == nil {
		return env, nil
	}
	if s.window.err != nil {
		return Envelope{}, fmt.Errorf("reading the body: %w", s.window.err)
	}
	if unreadable, ok := errors.AsType[*EnvelopeError](err); ok {
		return Envelope{}, unreadable
	}
	return Envelope{}, &EnvelopeError{syntaxReason(err)}
}

// syntaxReason puts an error of the JSON decoder into words of ours: the decoder's own quote the body.
func syntaxReason(err error) string {
	if errors.Is(err, errWindowFull) {
		return "a single string, number or gap in it is longer than 8 MiB"
	}
	if errors.Is(err, io.ErrUnexpectedEOF) || err == io.EOF {
		return "it ends before its JSON does"
	}
	if syntax, ok := errors.AsType[*jsontext.SyntacticError](err); ok {
		return "not valid JSON at byte " + strconv.FormatInt(syntax.ByteOffset, 10)
	}
	return "not valid JSON"
}

func (s *scan) envelope() (Envelope, error) {
	env, err := s.document()
	if err != nil {
		return Envelope{}, err
	}
	switch _, err := s.token(); {
	case err == io.EOF:
		return env, nil
	case err == nil:
		return Envelope{}, &EnvelopeError{"something follows its JSON"}
	default:
		return Envelope{}, err
	}
}

func (s *scan) document() (Envelope, error) {
	switch kind, err := s.peek(); {
	case err != nil:
		return Envelope{}, err
	case kind == jsontext.KindBeginObject:
		h, err := s.header()
		if err != nil {
			return Envelope{}, err
		}
		return h.envelope()
	case kind == jsontext.KindBeginArray:
		events, err := s.events()
		return Envelope{Events: events}, err
	default:
		return Envelope{}, &EnvelopeError{"neither an object nor an array of events"}
	}
}

func (s *scan) events() ([]Event, error) {
	var events []Event
	err := s.eachElement(func(kind jsontext.Kind) error {
		if len(events) == maxEvents {
			return s.skip()
		}
		if kind != jsontext.KindBeginObject {
			return &EnvelopeError{"an event that is not an object"}
		}
		h, err := s.header()
		if err != nil {
			return err
		}
		if !h.seen[nameEventName] {
			return &EnvelopeError{"an event without an eventName"}
		}
		events = append(events, h.event())
		return nil
	})
	if err == nil && len(events) == 0 {
		err = &EnvelopeError{"an array without events"}
	}
	return events, err
}

// headerName is one of the names that this package reads at the top of a report or an event.
type headerName int

const (
	notHeader headerName = iota
	nameProductName
	nameProductReportID
	nameCode
	nameRequestID
	nameLinks
	nameEventName
	nameEventID
	namePayload
	headerNames
)

var headerSpelling = [headerNames]string{
	nameProductName:     "productName",
	nameProductReportID: "productReportId",
	nameCode:            "code",
	nameRequestID:       "requestId",
	nameLinks:           "links",
	nameEventName:       "eventName",
	nameEventID:         "eventId",
	namePayload:         "payload",
}

// headerNameOf returns which name this is if case does not matter, and whether it is spelt as Klavi spells it. Of
// eventId Klavi's documents have two spellings.
func headerNameOf(name []byte) (field headerName, exact bool) {
	for field := notHeader + 1; field < headerNames; field++ {
		if spelling := headerSpelling[field]; bytes.EqualFold(name, []byte(spelling)) {
			return field, field == nameEventID || string(name) == spelling
		}
	}
	return notHeader, false
}

// header is what an object at the top says of itself, be it a report or an event.
type header struct {
	seen            [headerNames]bool
	taken           [headerNames]bool // by a name in any case
	productName     string
	productReportID string
	code            int
	requestID       string
	links           idSet
	eventName       string
	eventID         string
	payload         idSet
}

func (h *header) envelope() (Envelope, error) {
	switch {
	case h.seen[nameProductName]:
		return Envelope{Report: h.report()}, nil
	case h.seen[nameEventName]:
		return Envelope{Events: []Event{h.event()}}, nil
	default:
		return Envelope{}, &EnvelopeError{"it has neither a productName nor an eventName"}
	}
}

// header reads one object.
func (s *scan) header() (*header, error) {
	h := new(header)
	err := s.eachMember(func(name []byte, kind jsontext.Kind) (err error) {
		field, exact := headerNameOf(name)
		if h.taken[field] {
			// Which of them counts depends on who reads it.
			return &EnvelopeError{"a name of its header stands in it twice"}
		}
		if !exact {
			h.taken[field] = field != notHeader
			return s.skip()
		}
		h.taken[field], h.seen[field] = true, true
		switch field {
		case nameProductName:
			h.productName, err = s.required("productName", kind)
		case nameEventName:
			h.eventName, err = s.required("eventName", kind)
		case nameProductReportID:
			h.productReportID, err = s.id(kind)
		case nameRequestID:
			h.requestID, err = s.id(kind)
		case nameEventID:
			h.eventID, err = s.id(kind)
		case nameCode:
			h.code, err = s.integer(kind)
		case nameLinks:
			err = s.eachObject(kind, func(name []byte, kind jsontext.Kind) error { return s.idMember(&h.links, name, kind) })
		case namePayload:
			err = s.members(kind, func(name []byte, kind jsontext.Kind) error {
				if string(name) == "linkId" {
					h.payload.linkIDs = nil // of two, the last one counts, as it does to others
				}
				return s.idMember(&h.payload, name, kind)
			})
		}
		return err
	})
	return h, err
}
