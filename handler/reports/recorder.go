package reports

import (
	"net/http"
)

// recorder is what a route writes its answer to: never Klavi's own connection.
// It notes the status and drops the rest.
type recorder struct {
	header http.Header
	status int // 0: nothing was written
}

func newRecorder() *recorder { return &recorder{header: make(http.Header)} }

// Header returns the header, which goes nowhere.
func (rec *recorder) Header() http.Header { return rec.header }

// WriteHeader notes the first status that is final.
func (rec *recorder) WriteHeader(status int) {
	if rec.status == 0 && status >= http.StatusOK {
		rec.status = status
	}
}

// Write drops p.
func (rec *recorder) Write(p []byte) (int, error) {
	rec.WriteHeader(http.StatusOK)
	return len(p), nil
}

// Flush does nothing: what is flushed before a status accepts nothing.
func (rec *recorder) Flush() {}

func (rec *recorder) accepted() bool { return rec.status/100 == 2 }

// Interface guards
var (
	_ http.ResponseWriter = (*recorder)(nil)
	_ http.Flusher        = (*recorder)(nil)
)
