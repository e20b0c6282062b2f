package integration

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/caddy-klavi/caddy-klavi/command/conformance"
)

// field is a field of a request over HTTP/2 or HTTP/3, its pseudo-header fields
// among them.
type field struct{ name, value string }

// message is a request over HTTP/2 or HTTP/3, which nothing checks before it is
// sent.
type message struct {
	fields   []field
	body     string
	trailers []field
	data     bool // a DATA frame is sent although the body is empty
	odd      bool // it may end its connection
}

// maxScopeBody is what fits into the windows that a server opens by itself.
const maxScopeBody = 60_000

// asMessage returns a request of HTTP/1.1 as other versions of HTTP write it. ok
// is false for what they cannot express: framing, folded lines, requests behind one
// another.
func asMessage(raw string) (m message, ok bool) {
	head, body, found := strings.Cut(raw, "\r\n\r\n")
	line, lines, _ := strings.Cut(head, "\r\n")
	method, rest, _ := strings.Cut(line, " ")
	target, current := strings.CutSuffix(rest, " HTTP/1.1")
	if !found || !current || strings.Contains(body, "HTTP/1.1\r\n") {
		return message{}, false
	}
	m.fields = []field{{":method", method}, {":scheme", "http"}, {":path", target}}
	var regular []field
	for text := range strings.SplitSeq(lines, "\r\n") {
		name, value, found := strings.Cut(text, ":")
		name = strings.ToLower(name)
		// White space around a value belongs to HTTP/1.1; other versions have none.
		value = strings.Trim(value, " \t")
		switch {
		case !found, name == "transfer-encoding":
			return message{}, false
		case name == "host" && len(m.fields) == 3:
			m.fields = append(m.fields, field{":authority", value})
		case name == "connection" && value == "close":
		default:
			regular = append(regular, field{name, value})
		}
	}
	m.fields = append(m.fields, regular...)
	m.body = body[:min(len(body), maxScopeBody)]
	return m, true
}

// loosen makes of what a line of the corpus wants over HTTP/1.1 what it wants of
// m: the framing is another one here, and some fields make any request malformed.
func (a attempt) loosen(m message, line *conformance.Line) attempt {
	if line.Category == "framing" {
		a.least, a.most = 0, 1
	}
	host := ""
	for _, f := range m.fields {
		switch f.name {
		case ":authority":
			host = f.value
		case ":path":
			// A space does not end the target here, and the query is dropped.
			if _, query, _ := strings.Cut(f.value, "?"); strings.Contains(query, " ") {
				a.most = 1
			}
		case "connection", "upgrade", "keep-alive", "proxy-connection":
			a.least, a.most = 0, 0
		case "te", "http2-settings", "expect":
			a.least = 0
		}
	}
	if host == "" {
		a.most = 1 // net/http lets it pass
	}
	return a
}

// odd is a request that only HTTP/2 and HTTP/3 can express.
type odd struct {
	what        string
	message     message
	least, most int
}

// get is a good request for institutions, with other fields in place of its own
// or behind them; one without a value is left out.
func get(change ...field) message {
	return message{fields: changed([]field{
		{":method", "GET"},
		{":scheme", "https"},
		{":authority", scopeHost},
		{":path", "/klavi/institutions"},
		{"authorization", "Bearer TOKEN"},
	}, change)}
}

func post(change ...field) message {
	return message{
		fields: changed([]field{
			{":method", "POST"},
			{":scheme", "https"},
			{":authority", scopeHost},
			{":path", "/klavi/consents"},
			{"authorization", "Bearer TOKEN"},
			{"content-type", "application/json"},
		}, change),
		body: `{"externalTrackId":"x"}`,
	}
}

const without = "-"

// changed replaces fields by those of the same name, or appends them. A name
// with a + before it is appended in any case, one with ^ stands before all.
func changed(fields, change []field) []field {
next:
	for _, c := range change {
		if name, ok := strings.CutPrefix(c.name, "+"); ok {
			fields = append(fields, field{name, c.value})
			continue
		}
		if name, ok := strings.CutPrefix(c.name, "^"); ok {
			fields = append([]field{{name, c.value}}, fields...)
			continue
		}
		for i := range fields {
			if fields[i].name == c.name {
				fields[i].value = c.value
				if c.value == without {
					fields = append(fields[:i], fields[i+1:]...)
				}
				continue next
			}
		}
		fields = append(fields, c)
	}
	return fields
}

func (m message) with(body string, trailers ...field) message {
	m.body, m.trailers, m.data = body, trailers, true
	return m
}

// withToken puts a link token in its place.
func (m message) withToken(token string) message {
	put := func(fields []field) []field {
		filled := make([]field, 0, len(fields))
		for _, f := range fields {
			filled = append(filled, field{f.name, strings.ReplaceAll(f.value, "TOKEN", token)})
		}
		return filled
	}
	m.fields, m.trailers = put(m.fields), put(m.trailers)
	return m
}

// tryMessages sends the odd requests and the corpus to a placement, and compares
// what reaches Klavi. Each worker sends with what connect returns.
func (s *scopeSites) tryMessages(t *testing.T, p placement, connect func() func(message) (answer, error)) {
	t.Helper()
	corpus, err := conformance.Corpus()
	if err != nil {
		t.Fatal(err)
	}
	s.klavi.t = t
	var attempts []attempt
	var messages []message
	for _, o := range odds() {
		a := attempt{id: o.what, what: "odd", token: fmt.Sprintf("%s.odd.%d", p.name, len(attempts)), least: o.least, most: o.most}
		attempts = append(attempts, a)
		m := o.message.withToken(s.sealer.seal(p, a.token, true))
		m.odd = true
		messages = append(messages, m)
	}
	for i := range corpus {
		switch corpus[i].Category {
		case "control", "path", "method", "query":
		default: // bodies and fields are read in the same way in all placements
			if p.name != "bare" {
				continue
			}
		}
		a := ofCorpus(t, &corpus[i], p, s.sealer, true)
		if m, ok := asMessage(a.raw); ok {
			attempts = append(attempts, a.loosen(m, &corpus[i]))
			messages = append(messages, m)
		}
	}
	answers := make([][]answer, len(attempts))
	each(len(attempts), func() func(int) {
		send := connect()
		return func(i int) {
			got, err := send(messages[i])
			switch {
			case err == nil:
				answers[i] = []answer{got}
			case !errors.Is(err, errRefused):
				t.Errorf("%q (%s): %v", attempts[i].id, attempts[i].what, err)
			}
		}
	})
	came := s.klavi.take()
	for i, a := range attempts {
		a.check(t, came[a.token], answers[i])
		delete(came, a.token)
	}
	if len(came) > 0 {
		t.Errorf("got at klavi beside that: %v, want nothing", came)
	}
}
