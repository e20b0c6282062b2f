package integration

import (
	"encoding/binary"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
)

// collector takes what is traced, in the protocol of OpenTelemetry.
type collector struct {
	mu     sync.Mutex
	traces [][]byte
}

func (c *collector) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.traces = append(c.traces, body)
	w.WriteHeader(http.StatusOK)
}

// spans returns all spans, as text, by who made them.
func (c *collector) spans() map[string]string {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := make(map[string]string)
	for _, request := range c.traces { // opentelemetry/proto/collector/trace/v1
		for _, resource := range fieldsOf(request)[1] {
			for _, scope := range fieldsOf(resource)[2] {
				maker := string(fieldsOf(fieldsOf(scope)[1][0])[1][0])
				for _, span := range fieldsOf(scope)[2] {
					all[maker] += printable(span) + "\n"
				}
			}
		}
	}
	return all
}

// fieldsOf returns the fields of a protobuf message that have a length, by their
// numbers.
func fieldsOf(message []byte) map[uint64][][]byte {
	fields := make(map[uint64][][]byte)
	for len(message) > 0 {
		tag, n := binary.Uvarint(message)
		message = message[n:]
		switch tag & 7 {
		case 0:
			_, n = binary.Uvarint(message)
		case 1:
			n = 8
		case 5:
			n = 4
		case 2:
			length, size := binary.Uvarint(message)
			n = size + int(length)
			fields[tag>>3] = append(fields[tag>>3], message[size:n])
		default:
			panic("not protobuf")
		}
		message = message[n:]
	}
	return fields
}

// printable leaves out what is not ASCII text, so that it hides nothing.
func printable(b []byte) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return ' '
		}
		return r
	}, string(b))
}

// startTraced starts the loud gateway with Caddy's tracing on each of its sites.
func startTraced(t *testing.T) (*witness, *collector) {
	t.Helper()
	traces := new(collector)
	server := httptest.NewServer(traces)
	t.Cleanup(server.Close)
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", server.URL)
	t.Setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")
	t.Setenv("OTEL_TRACES_EXPORTER", "otlp")
	setSecrets(t)
	// Behind tracing, Caddy's placeholder leaves nothing of a body to others.
	traced := strings.NewReplacer("\timport loud\n", "\timport loud\n\ttracing\n", "\tlog_append sent {http.request.body}\n", "").Replace(loud)
	return &witness{gateway: start(t, traced+outside)}, traces
}

// spansSoFar has all spans sent off: nothing traces any more.
func (w *witness) spansSoFar(from *collector) map[string]string {
	w.t.Helper()
	w.add("the id of a person's consent", w.consentID)
	w.add("a user", "maria", "joao")
	if err := w.load("{\n\tadmin 127.0.0.1:{{admin}}\n}\n"); err != nil {
		w.t.Fatal(err)
	}
	return from.spans()
}

const ourSpans = "github.com/caddy-klavi/caddy-klavi"

// What the gateway traces has no secret, token or tax id, and nothing that tells
// who it was, whatever goes wrong.
func TestTracesHaveNoSecrets(t *testing.T) {
	w, traces := startTraced(t)
	w.walk()
	ours := w.spansSoFar(traces)[ourSpans]
	for _, span := range []string{
		"klavi POST /links", "klavi GET /links/institutions", "klavi POST /consents", "klavi GET /consents", "klavi GET /consents/{id}",
		"klavi report", "klavi.account", "klavi.route",
	} {
		if !strings.Contains(ours, span) {
			t.Errorf("the trace has no %q: this test shows less than it says", span)
		}
	}
	w.wantNone(t, "the trace", ours)
}

// The spans of Caddy's own directive have the path of a request, and no query, body
// or header: what Klavi's endpoints take as tax ids and tokens is in none of them.
func TestTracesOfCaddyHaveNoQueries(t *testing.T) {
	w, traces := startTraced(t)
	w.work()
	w.learnTokens()
	consentID := w.consentID
	w.consentID = ""
	all := w.spansSoFar(traces)
	if len(all) < 2 {
		t.Errorf("got spans of %d makers, want the gateway's and Caddy's", len(all))
	}
	for maker, spans := range all {
		if maker != ourSpans && !strings.Contains(spans, "/consents/"+consentID) {
			t.Errorf("the spans of %s have no paths: this test shows less than it says", maker)
		}
		w.wantNone(t, "the spans of "+maker, spans)
	}
}
