package sandbox

import (
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/dustin/go-humanize"
	"github.com/go-json-experiment/json"
	"github.com/google/uuid"
)

// trigger is the body of POST /_sandbox/trigger: send this now.
type trigger struct {
	Product    string  `json:"product"`   // a report of this type, bought or not
	Event      string  `json:"event"`     // or an event of this name
	Body       *string `json:"body"`      // or exactly these bytes, signed; product or event may name them in the record
	LinkID     string  `json:"linkId"`    // about the last consent of this link
	ConsentID  string  `json:"consentId"` // about this consent; with neither, about an invented one
	Code       int     `json:"code"`      // of the report
	Size       string  `json:"size"`      // of the report
	HeaderLast bool    `json:"headerLast"`
	URL        string  `json:"url"`    // in place of where it would go
	Copies     int     `json:"copies"` // identical ones, all at once
}

const maxCopies = 1000

type triggerReply struct {
	Deliveries []string `json:"deliveries"`
}

func (s *Sandbox) controlTrigger(body []byte) (int, any) {
	var t trigger
	if err := json.Unmarshal(body, &t, json.RejectUnknownMembers(true)); err != nil {
		return http.StatusBadRequest, controlError{"want product, event or body, with linkId, consentId, code, size, headerLast, url, copies: " + err.Error()}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	ids, err := s.pull(t)
	if err != nil {
		return http.StatusBadRequest, controlError{err.Error()}
	}
	return http.StatusAccepted, triggerReply{ids}
}

func (s *Sandbox) pull(t trigger) ([]string, error) {
	copies := max(t.Copies, 1)
	if t.Copies < 0 || t.Copies > maxCopies {
		return nil, fmt.Errorf("copies: want 1 to %d", maxCopies)
	}
	if err := checkURL(t.URL); err != nil {
		return nil, fmt.Errorf("url: %w", err)
	}
	if t.Product != "" && t.Event != "" {
		return nil, fmt.Errorf("want product or event, not both")
	}
	if t.Product != "" && !productName.MatchString(t.Product) {
		return nil, fmt.Errorf("product: %q is not a report type", t.Product)
	}
	if t.Event != "" && !slices.Contains(eventNames, t.Event) {
		return nil, fmt.Errorf("event: unknown name %q: want %s", t.Event, strings.Join(eventNames, ", "))
	}
	con, err := s.subject(t)
	if err != nil {
		return nil, err
	}
	switch {
	case t.Body != nil:
		d := delivery{Kind: "report", Name: t.Product, URL: s.reportTarget(t, con), open: fixedBody([]byte(*t.Body))}
		if t.Event != "" {
			d.Kind, d.Name, d.URL = "event", t.Event, s.eventTarget(t)
		}
		if d.URL == "" {
			return nil, errNoTarget
		}
		return s.enqueue(d, copies), nil
	case t.Event != "":
		target := s.eventTarget(t)
		if target == "" {
			return nil, errNoTarget
		}
		return s.sendEventTo(target, t.Event, payloadOf(t.Event, con), con.link.externalInfo, copies), nil
	case t.Product != "":
		return s.pullReport(t, con, copies)
	}
	return nil, fmt.Errorf("want product, event or body")
}

var errNoTarget = fmt.Errorf("nowhere to send it: give url, or configure events_url and reports_url")

func (s *Sandbox) reportTarget(t trigger, con *consent) string {
	if t.URL != "" {
		return t.URL
	}
	return reportURL(t.Product, nil, con.link.callbacks, s.opts.ReportsURL)
}

func (s *Sandbox) eventTarget(t trigger) string {
	if t.URL != "" {
		return t.URL
	}
	return s.opts.EventsURL
}

func (s *Sandbox) pullReport(t trigger, con *consent, copies int) ([]string, error) {
	taxID := con.personal
	if strings.HasPrefix(t.Product, "pj_") {
		taxID = con.business
	}
	r := s.newReport(t.Product, reportJob{
		requestID: newRequestID(), taxID: taxID, consents: []*consent{con}, externalInfo: con.link.externalInfo,
	})
	r.headerLast = t.HeaderLast
	if t.Code != 0 {
		r.Code, r.Message = t.Code, fmt.Sprintf("code %d", t.Code)
	}
	if t.Size != "" {
		size, err := humanize.ParseBytes(t.Size)
		if err != nil || size == 0 || size > maxReportSize {
			return nil, fmt.Errorf("size: %q: want one such as 4KB or 20MB, up to 64MiB", t.Size)
		}
		r.size = int64(size)
	}
	target := s.reportTarget(t, con)
	if target == "" {
		return nil, errNoTarget
	}
	return s.sendReport(r, target, copies), nil
}

// subject is the consent that a trigger is about.
func (s *Sandbox) subject(t trigger) (*consent, error) {
	if t.ConsentID != "" {
		con, ok := s.consents.get(t.ConsentID)
		if !ok {
			return nil, fmt.Errorf("no consent %s", t.ConsentID)
		}
		if t.LinkID != "" && con.link.id != t.LinkID {
			return nil, fmt.Errorf("consent %s is not of link %s", t.ConsentID, t.LinkID)
		}
		return con, nil
	}
	invented := &consent{
		id: uuid.NewString(), trackID: uuid.NewString(), personal: "25872252137", business: "11222333000181",
		institution: "001", status: authorised,
		link: &link{id: uuid.NewString(), personal: "25872252137", business: "11222333000181"},
	}
	if t.LinkID == "" {
		return invented, nil
	}
	l, ok := s.links.get(t.LinkID)
	if !ok {
		return nil, fmt.Errorf("no link %s", t.LinkID)
	}
	if len(l.consents) > 0 {
		return l.consents[len(l.consents)-1], nil
	}
	invented.link, invented.personal, invented.business = l, l.personal, l.business
	return invented, nil
}

func payloadOf(name string, con *consent) any {
	if name == "link_created" {
		return linkPayload{con.link.personal, con.link.business, con.link.id}
	}
	if strings.HasPrefix(name, "consent_") {
		return con.payload()
	}
	p := productPayload{linkPayload: linkPayload{con.personal, con.business, con.link.id}, RequestID: newRequestID()}
	if name == "product_request_received" {
		p.Products = []string{"pf_checking_account"}
		return p
	}
	p.ProductName, p.ProductReportID = "pf_checking_account", uuid.NewString()
	if name == "product_generated_failed" {
		p.Code, p.Message = 5000, "Report generation failed"
	}
	return p
}
