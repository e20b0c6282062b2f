package inbox

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
)

// What goes over the socket. Both ends are this package, perhaps of two
// versions: callsPath changes when they no longer understand each other.

const (
	socketName = "control.sock"
	callsPath  = "/v1/"

	// A request is no longer than this, and a page of reports has no more.
	maxRequest = 64 << 10
	maxPage    = 1000

	// Why a body breaks off stands behind it.
	errorTrailer = "Inbox-Error"
)

// call is what a client asks for. What a call does not need is empty.
type call struct {
	Filter Filter
	Page   Page

	UID, Route  string
	Kind, Value string // of Erase
	Who, Why    string
}

// reply is a line of an answer. Progress comes first; the last line has a result
// or an error.
type reply struct {
	Done   int             `json:",omitempty"`
	Total  int             `json:",omitempty"`
	Result json.RawMessage `json:",omitempty"`
	Count  int             `json:",omitempty"` // beside an error: what was done before it
	Error  *wireError      `json:",omitempty"`
}

// wireError is an error that remains what it is on the way.
type wireError struct {
	Kind string `json:",omitempty"` // of kinds
	Text string
}

// kinds are the errors that callers know.
var kinds = []struct {
	name string
	err  error
}{
	{"not_found", ErrNotFound},
	{"gone", ErrGone},
	{"full", ErrFull},
	{"damaged", ErrDamaged},
	{"locked", ErrLocked},
	{"key", ErrKey},
	{"draining", ErrDraining},
	{"unavailable", ErrUnavailable},
}

func toWire(err error) *wireError {
	e := &wireError{Text: err.Error()}
	for _, k := range kinds {
		if errors.Is(err, k.err) {
			e.Kind = k.name
			break
		}
	}
	return e
}

func (e *wireError) Error() string { return e.Text }

func (e *wireError) Unwrap() error {
	for _, k := range kinds {
		if k.name == e.Kind {
			return k.err
		}
	}
	return nil
}

// setTrailer puts an error behind a body.
func (e *wireError) setTrailer(h http.Header) {
	text, err := json.Marshal(e)
	if err == nil {
		h.Set(errorTrailer, base64.StdEncoding.EncodeToString(text))
	}
}

// trailerError returns the error behind a body, nil if there is none.
func trailerError(h http.Header) error {
	text := h.Get(errorTrailer)
	if text == "" {
		return nil
	}
	e := &wireError{Text: "inbox: the body breaks off"}
	if b, err := base64.StdEncoding.DecodeString(text); err == nil {
		_ = json.Unmarshal(b, e)
	}
	return e
}
