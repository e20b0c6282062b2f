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

	"github.com/caddy-klavi/caddy-klavi/inbox"
	"github.com/caddy-klavi/caddy-klavi/klavi"
)

// maxList bounds the headers that hold lists, in bytes. What does not fit is
// left out as a whole id.
const maxList = 1024

// request returns the report as a request of its own. It is made of the report
// alone, so that no other header of the sender's can be in it, however spelt.
func (rep *report) request(ctx context.Context, attempt int, w http.ResponseWriter) *http.Request {
	u := rep.sender.url()
	r := &http.Request{
		Method:        http.MethodPost,
		URL:           &u,
		Proto:         "HTTP/1.1",
		ProtoMajor:    1,
		ProtoMinor:    1,
		Header:        rep.header(attempt),
		Body:          rep.reader(),
		GetBody:       func() (io.ReadCloser, error) { return rep.reader(), nil },
		ContentLength: rep.size,
		Host:          rep.sender.Host,
		RemoteAddr:    rep.sender.RemoteAddr,
		RequestURI:    u.RequestURI(),
	}
	if rep.sender.HTTPS { // what X-Forwarded-Proto is made from
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
	set("Content-Type", rep.sender.ContentType)
	set("User-Agent", rep.sender.UserAgent)
	set(klavi.SignatureHeader, rep.sender.Signature)
	set(klavi.TimestampHeader, rep.sender.Timestamp)
	set("Klavi-Account", rep.account)
	set("Klavi-Received-At", rep.head.Received.UTC().Format("2006-01-02T15:04:05.000Z"))
	set("Klavi-Delivery-Attempt", strconv.Itoa(attempt))
	if rep.repeat {
		set("Klavi-Report-Repeat", "true")
	}
	if rep.conflict {
		set("Klavi-Report-Conflict", "true")
	}
	set("Klavi-Link-Id", join(rep.head.LinkIDs))
	set("Klavi-Consent-Id", join(rep.head.ConsentIDs))
	// Klavi's own id, or the digest for what has none and for an array of several
	// events.
	set("Idempotency-Key", rep.head.ReportID)
	if rep.head.Kind == inbox.KindReport {
		set("Klavi-Report-Type", rep.reportType())
		set("Klavi-Report-Id", rep.head.ReportID)
		set("Klavi-Request-Id", rep.head.RequestID)
		if rep.head.Code != 0 {
			set("Klavi-Report-Code", strconv.Itoa(rep.head.Code))
		}
		return h
	}
	set("Klavi-Event-Name", join(rep.head.Subjects))
	set("Klavi-Event-Id", join(rep.head.EventIDs))
	return h
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
