package sandbox

import (
	"net/http"
	"strings"
	"sync"
	"time"
)

// maxJournalBody is how much of each body the journal keeps.
const maxJournalBody = 64 << 10

// entry is one request that reached the API, as it came.
type entry struct {
	Time    string      `json:"time"`
	Method  string      `json:"method"`
	Target  string      `json:"target"` // the request target, byte for byte
	Host    string      `json:"host"`
	Proto   string      `json:"proto"`
	Headers http.Header `json:"headers"`
	Body    string      `json:"body"`
	Token   tokenKind   `json:"token"`
	Status  int         `json:"status"` // 0: not answered yet

	journal *journal
}

// journal remembers the latest requests, so that a test can see what really left its own service.
type journal struct {
	mu      sync.Mutex
	entries []*entry
}

func (j *journal) add(r *http.Request, body []byte, kind tokenKind, now time.Time) *entry {
	e := &entry{
		Time:    now.Format(time.RFC3339Nano),
		Method:  r.Method,
		Target:  r.RequestURI,
		Host:    r.Host,
		Proto:   r.Proto,
		Headers: r.Header.Clone(),
		Body:    strings.ToValidUTF8(string(body[:min(len(body), maxJournalBody)]), "\uFFFD"),
		Token:   kind,
		journal: j,
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.entries = append(j.entries, e)
	if len(j.entries) > maxRequests {
		j.entries[0] = nil
		j.entries = j.entries[1:]
	}
	return e
}

func (e *entry) answered(status int) {
	e.journal.mu.Lock()
	defer e.journal.mu.Unlock()
	e.Status = status
}

// list copies the journal, newest last.
func (j *journal) list() []entry {
	j.mu.Lock()
	defer j.mu.Unlock()
	list := make([]entry, len(j.entries))
	for i, e := range j.entries {
		list[i] = *e
	}
	return list
}

func (j *journal) reset() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.entries = nil
}
