package reports

import (
	"cmp"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"

	"github.com/caddy-klavi/caddy-klavi/gateway"
	"github.com/caddy-klavi/caddy-klavi/inbox"
	"github.com/caddy-klavi/caddy-klavi/klavi"
)

// report is a webhook that was accepted as Klavi's, on its way to a route. Nothing
// in it refers to the request that brought it, so that both modes deliver alike.
type report struct {
	account string
	head    inbox.Head
	sender  sender
	server  *caddyhttp.Server

	size   int64
	sha256 func() string // in hexadecimal digits
	reader func() io.ReadCloser

	// Of a stored report.
	uid              string
	repeat, conflict bool
}

// sender is what a delivery tells of the request that brought a report. It is
// sealed with the body in the inbox.
type sender struct {
	Path        string `json:"path"`
	RawPath     string `json:"raw_path,omitempty"`
	Host        string `json:"host"`
	RemoteAddr  string `json:"remote_addr"`
	HTTPS       bool   `json:"https,omitempty"`
	ContentType string `json:"content_type"`
	Encoding    string `json:"encoding,omitempty"`
	UserAgent   string `json:"user_agent,omitempty"`
	Signature   string `json:"signature,omitempty"`
	Timestamp   string `json:"timestamp,omitempty"`
	Trace       string `json:"trace,omitempty"`
}

func newSender(r *http.Request) sender {
	s := sender{
		Path:        short(r.URL.Path),
		RawPath:     short(r.URL.RawPath),
		Host:        short(r.Host),
		RemoteAddr:  remoteAddr(r),
		HTTPS:       r.TLS != nil,
		ContentType: single(r.Header, "Content-Type"),
		Encoding:    encoded(r.Header),
		UserAgent:   single(r.Header, "User-Agent"),
		Signature:   single(r.Header, klavi.SignatureHeader),
		Timestamp:   single(r.Header, klavi.TimestampHeader),
		Trace:       rememberTrace(r.Context()),
	}
	if s.ContentType == "" {
		s.ContentType = "application/json"
	}
	return s
}

func (s sender) url() url.URL { return url.URL{Path: cmp.Or(s.Path, "/"), RawPath: s.RawPath} }

// meta is the sender as it is stored.
func (s sender) meta() []byte {
	text, _ := json.Marshal(s) // texts and a bool: it cannot fail
	return text
}

// arrived returns the report that r has brought, without its head.
func (h *Reports) arrived(r *http.Request, b *body) *report {
	rep := &report{
		account: h.account.Name(),
		sender:  newSender(r),
		size:    b.size,
		sha256:  b.sha256,
		reader:  b.reader,
	}
	rep.server, _ = r.Context().Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server)
	if rep.server == nil {
		rep.server = h.server
	}
	return rep
}

// stored returns a report of the inbox.
func (h *Reports) stored(d *inbox.Delivery) *report {
	rep := &report{
		account:  h.account.Name(),
		head:     d.Head,
		server:   h.server,
		size:     d.Size,
		uid:      d.UID,
		repeat:   d.Repeat,
		conflict: d.Conflict,
		sha256:   func() string { return hex.EncodeToString(d.Digest[:]) },
		reader: func() io.ReadCloser {
			b, err := d.Body()
			return &bodyReader{r: b, err: err}
		},
	}
	// What cannot be read is left out: a report is delivered without it, too.
	_ = json.Unmarshal(d.Head.Meta, &rep.sender)
	return rep
}

// readHead reads what a body says of itself. For one that is no report it returns
// the reason; its head says no more than what its digest is.
func readHead(envelope klavi.Envelope, err error, s sender, digest func() string, received time.Time) (head inbox.Head, reason string, failed error) {
	head = inbox.Head{Kind: inbox.KindUnreadable, Received: received}
	switch unreadable, ok := errors.AsType[*klavi.EnvelopeError](err); {
	case s.Encoding != "":
		reason = "its body has a Content-Encoding"
	case ok:
		reason = unreadable.Reason
	case err != nil:
		return head, "", err
	case envelope.Report != nil:
		describeReport(&head, envelope.Report)
	case len(envelope.Events) == 0:
		reason = "its array of events is empty"
	default:
		describeEvents(&head, envelope.Events)
	}
	if head.ReportID == "" {
		head.ReportID = digest()
	}
	return head, reason, nil
}

func describeReport(head *inbox.Head, r *klavi.Report) {
	head.Kind = inbox.KindReport
	head.Subjects = []string{r.Type}
	head.ReportID, head.RequestID, head.Code = r.ID, r.RequestID, r.Code
	head.LinkIDs, head.ConsentIDs = r.LinkIDs, r.ConsentIDs
}

// describeEvents does so for the events of one body. An array of several has no id
// of its own.
func describeEvents(head *inbox.Head, events []klavi.Event) {
	head.Kind = inbox.KindEvent
	if len(events) == 1 {
		head.ReportID = events[0].ID
	}
	add := func(list *[]string, values ...string) {
		for _, value := range values {
			if value != "" && !slices.Contains(*list, value) {
				*list = append(*list, value)
			}
		}
	}
	consents := make(map[string][]string)
	for _, event := range events {
		if !slices.Contains(head.Subjects, event.Name) {
			head.Subjects = append(head.Subjects, event.Name)
		}
		add(&head.EventIDs, event.ID)
		add(&head.LinkIDs, event.LinkID)
		add(&head.ConsentIDs, event.ConsentIDs...)
		of := consents[event.Name]
		add(&of, event.ConsentIDs...)
		consents[event.Name] = of
	}
	if len(head.Subjects) > 1 {
		head.EventConsents = consents
	}
}

// single returns the value of a header that is there once and not too long.
func single(header http.Header, name string) string {
	values := header.Values(name)
	if len(values) != 1 {
		return ""
	}
	return short(values[0])
}

// short returns a text of the sender's if it is not too long.
func short(text string) string {
	const longest = 256
	if len(text) > longest {
		return ""
	}
	return text
}

// reportType is what the report is, if it is one.
func (rep *report) reportType() string {
	if rep.head.Kind != inbox.KindReport || len(rep.head.Subjects) == 0 {
		return ""
	}
	return rep.head.Subjects[0]
}

// fields says in a log line which report it is, and nothing of what is in it.
func (rep *report) fields() []zap.Field {
	fields := []zap.Field{
		zap.String("sha256", rep.sha256()),
		zap.Int64("size", rep.size),
	}
	if rep.uid != "" {
		fields = append(fields, zap.String("uid", rep.uid))
	}
	switch rep.head.Kind {
	case inbox.KindReport:
		return append(fields,
			zap.String("report_type", loggable(rep.reportType())),
			zap.String("report_id", loggable(rep.head.ReportID)))
	case inbox.KindEvent:
		return append(fields,
			zap.String("event_names", loggable(join(rep.head.Subjects))),
			zap.String("event_ids", loggable(join(rep.head.EventIDs))))
	default:
		return fields
	}
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
