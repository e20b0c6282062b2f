package reports

import (
	"net/http"
	"net/url"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"

	"github.com/caddy-klavi/caddy-klavi/gateway"
	"github.com/caddy-klavi/caddy-klavi/klavi"
)

// report is a webhook that was accepted as Klavi's: its body, and all that a
// delivery needs. Nothing in it refers to the request that brought it.
type report struct {
	account  string
	envelope klavi.Envelope
	body     *body
	received time.Time
	encoding string

	// Of the request that brought it.
	url         url.URL
	host        string
	remoteAddr  string
	https       bool
	contentType string
	userAgent   string
	signature   string
	timestamp   string
	server      *caddyhttp.Server
}

// newReport returns the report that r has brought, without its envelope.
func newReport(r *http.Request, account string, b *body, received time.Time) *report {
	rep := &report{
		account:     account,
		body:        b,
		received:    received,
		encoding:    encoded(r.Header),
		url:         url.URL{Path: r.URL.Path, RawPath: r.URL.RawPath},
		host:        r.Host,
		remoteAddr:  remoteAddr(r),
		https:       r.TLS != nil,
		contentType: single(r.Header, "Content-Type"),
		userAgent:   single(r.Header, "User-Agent"),
		signature:   single(r.Header, klavi.SignatureHeader),
		timestamp:   single(r.Header, klavi.TimestampHeader),
	}
	rep.server, _ = r.Context().Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server)
	if rep.server == nil {
		rep.server = new(caddyhttp.Server) // reverse_proxy reads its settings
	}
	if rep.contentType == "" {
		rep.contentType = "application/json"
	}
	return rep
}

// single returns the value of a header that is there once and not too long.
func single(header http.Header, name string) string {
	const longest = 256
	values := header.Values(name)
	if len(values) != 1 || len(values[0]) > longest {
		return ""
	}
	return values[0]
}

// events returns the names and the ids of the events.
func (rep *report) events() (names, ids []string) {
	for _, event := range rep.envelope.Events {
		names = append(names, event.Name)
		ids = append(ids, event.ID)
	}
	return names, ids
}

// links returns the ids of the links and of the consents that it is about.
func (rep *report) links() (linkIDs, consentIDs []string) {
	if rep.envelope.Report != nil {
		return rep.envelope.Report.LinkIDs, rep.envelope.Report.ConsentIDs
	}
	for _, event := range rep.envelope.Events {
		linkIDs = append(linkIDs, event.LinkID)
		consentIDs = append(consentIDs, event.ConsentIDs...)
	}
	return linkIDs, consentIDs
}

// fields says in a log line which report it is, and nothing of what is in it.
func (rep *report) fields() []zap.Field {
	fields := []zap.Field{
		zap.String("sha256", rep.body.sha256()),
		zap.Int64("size", rep.body.size),
	}
	if rep.envelope.Report != nil {
		return append(fields,
			zap.String("report_type", loggable(rep.envelope.Report.Type)),
			zap.String("report_id", loggable(rep.envelope.Report.ID)))
	}
	if len(rep.envelope.Events) == 0 {
		return fields
	}
	names, ids := rep.events()
	return append(fields,
		zap.String("event_names", loggable(join(names))),
		zap.String("event_ids", loggable(join(ids))))
}

// loggable returns a text of the sender's in the form in which it may be logged.
func loggable(text string) string {
	const longest = 64
	text = string(gateway.Mask([]byte(text)))
	if len(text) > longest {
		return text[:longest] + "..."
	}
	return text
}
