package reports

import (
	"context"
	"crypto/tls"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-klavi/caddy-klavi/klavi"
)

// maxList bounds the headers that hold lists, in bytes. What does not fit is
// left out as a whole id.
const maxList = 1024

// request returns the report as a request of its own. It is made of the report
// alone, so that no other header of the sender's can be in it, however spelt.
func (rep *report) request(ctx context.Context, attempt int, w http.ResponseWriter) *http.Request {
	u := rep.url
	r := &http.Request{
		Method:        http.MethodPost,
		URL:           &u,
		Proto:         "HTTP/1.1",
		ProtoMajor:    1,
		ProtoMinor:    1,
		Header:        rep.header(attempt),
		Body:          rep.body.reader(),
		GetBody:       func() (io.ReadCloser, error) { return rep.body.reader(), nil },
		ContentLength: rep.body.size,
		Host:          rep.host,
		RemoteAddr:    rep.remoteAddr,
		RequestURI:    u.RequestURI(),
	}
	if rep.https { // what X-Forwarded-Proto is made from
		r.TLS = &tls.ConnectionState{HandshakeComplete: true}
	}
	return caddyhttp.PrepareRequest(r.WithContext(ctx), caddy.NewReplacer(), w, rep.server)
}

func (rep *report) header(attempt int) http.Header {
	h := make(http.Header, 16)
	set := func(name, value string) {
		if value != "" {
			h.Set(name, value)
		}
	}
	set("Content-Type", rep.contentType)
	set("User-Agent", rep.userAgent)
	set(klavi.SignatureHeader, rep.signature)
	set(klavi.TimestampHeader, rep.timestamp)
	set("Klavi-Account", rep.account)
	set("Klavi-Received-At", rep.received.UTC().Format("2006-01-02T15:04:05.000Z"))
	set("Klavi-Delivery-Attempt", strconv.Itoa(attempt))

	linkIDs, consentIDs := rep.links()
	set("Klavi-Link-Id", join(linkIDs))
	set("Klavi-Consent-Id", join(consentIDs))
	id := rep.id()
	set("Idempotency-Key", id)
	if report := rep.envelope.Report; report != nil {
		set("Klavi-Report-Type", report.Type)
		set("Klavi-Report-Id", id)
		set("Klavi-Request-Id", report.RequestID)
		if report.Code != 0 {
			set("Klavi-Report-Code", strconv.Itoa(report.Code))
		}
		return h
	}
	names, ids := rep.events()
	set("Klavi-Event-Name", join(names))
	set("Klavi-Event-Id", join(ids))
	return h
}

// id returns what tells this report from all others: Klavi's own id, or the
// digest for a report without an id and for an array of several events.
func (rep *report) id() string {
	if rep.envelope.Report != nil && rep.envelope.Report.ID != "" {
		return rep.envelope.Report.ID
	}
	if len(rep.envelope.Events) == 1 && rep.envelope.Events[0].ID != "" {
		return rep.envelope.Events[0].ID
	}
	return rep.body.sha256()
}

// join joins values with commas, each once. A value with a comma of its own
// would look like two, and is left out.
func join(values []string) string {
	var b strings.Builder
	for i, value := range values {
		if value == "" || strings.Contains(value, ",") || slices.Contains(values[:i], value) {
			continue
		}
		if b.Len()+1+len(value) > maxList {
			break
		}
		if b.Len() > 0 {
			b.WriteByte(',')
		}
		b.WriteString(value)
	}
	return b.String()
}
