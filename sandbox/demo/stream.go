package demo

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	// keptArrivals bounds what is remembered.
	keptArrivals = 1000

	// maxStreams bounds who follows at once; a page that is left open holds one.
	maxStreams = 64

	// heartbeat is how often a quiet stream says that it is alive.
	heartbeat = 15 * time.Second

	// writeWithin is how long a browser may take to accept what is written.
	writeWithin = 10 * time.Second
)

// arrivals remembers what arrived, and tells who follows.
type arrivals struct {
	// run stands in the ids of events, so that those of an earlier process
	// are not taken for this one's.
	run string

	mu      sync.Mutex
	list    []Arrival
	count   int           // of all that ever arrived; the last one in list has this number
	more    chan struct{} // closed at the next arrival
	streams int
}

func newArrivals() *arrivals {
	return &arrivals{run: rand.Text()[:8], more: make(chan struct{})}
}

func (a *arrivals) add(arrival Arrival) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.list) == keptArrivals {
		a.list = a.list[1:]
	}
	a.list = append(a.list, arrival)
	a.count++
	close(a.more)
	a.more = make(chan struct{})
}

// after returns what is remembered of the arrivals above that number, the number
// of the last one, and a channel that is closed when there is more.
func (a *arrivals) after(number int) (list []Arrival, last int, more <-chan struct{}) {
	a.mu.Lock()
	defer a.mu.Unlock()
	first := a.count - len(a.list)
	return append([]Arrival{}, a.list[min(max(0, number-first), len(a.list)):]...), a.count, a.more
}

// number reads a Last-Event-ID. It is 0, before all arrivals, unless this process gave it out.
func (a *arrivals) number(id string) int {
	run, text, _ := strings.Cut(id, "-")
	n, err := strconv.Atoi(text)
	if run != a.run || err != nil || n < 0 {
		return 0
	}
	return n
}

func (a *arrivals) enter() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.streams == maxStreams {
		return false
	}
	a.streams++
	return true
}

func (a *arrivals) leave() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.streams--
}

// stream writes each arrival as a server-sent event, those that are remembered
// first, until the browser goes or stopping is closed. With Last-Event-ID it goes
// on after that one.
func (a *arrivals) stream(w http.ResponseWriter, r *http.Request, stopping <-chan struct{}) {
	if !a.enter() {
		w.Header().Set("Retry-After", "5")
		http.Error(w, fmt.Sprintf("%d pages follow the arrivals already", maxStreams), http.StatusServiceUnavailable)
		return
	}
	defer a.leave()
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(http.StatusOK)

	out := http.NewResponseController(w)
	defer func() { _ = out.SetWriteDeadline(time.Time{}) }() // the connection may serve others
	beat := time.NewTicker(heartbeat)
	defer beat.Stop()
	text := []byte("retry: 1000\n\n")
	last := a.number(r.Header.Get("Last-Event-ID"))
	for {
		list, count, more := a.after(last)
		for i, arrival := range list {
			text = a.event(text, count-len(list)+i+1, arrival)
		}
		last = count
		if len(text) > 0 {
			_ = out.SetWriteDeadline(time.Now().Add(writeWithin)) // not every writer can
			if _, err := w.Write(text); err != nil {
				return
			}
			if out.Flush() != nil {
				return
			}
			text = text[:0]
		}
		select {
		case <-more:
		case <-beat.C:
			text = append(text, ":\n\n"...)
		case <-r.Context().Done():
			return
		case <-stopping:
			return
		}
	}
}

// event appends one event. JSON without indentation has no line breaks.
func (a *arrivals) event(text []byte, number int, arrival Arrival) []byte {
	b := bytes.NewBuffer(text)
	fmt.Fprintf(b, "id: %s-%d\ndata: ", a.run, number)
	_ = json.NewEncoder(b).Encode(arrival) // times and strings always can be; ends the line
	b.WriteByte('\n')
	return b.Bytes()
}
