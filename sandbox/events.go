package sandbox

import (
	"fmt"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// event is one element of an event webhook; bodies are arrays of them (docs.klavi.ai/connect/api-events).
type event struct {
	PartnerAppID string         `json:"partnerAppId"`
	EventID      string         `json:"eventId"`
	EventType    string         `json:"eventType"`
	EventName    string         `json:"eventName"`
	EventTime    string         `json:"eventTime"`
	Payload      any            `json:"payload"`
	ExternalInfo jsontext.Value `json:"externalInfo"`
}

var eventNames = []string{
	"link_created", "consent_authorised", "consent_error", "consent_rejected", "consent_expired", "consent_revoked",
	"consent_deleted_by_user", "product_request_received", "product_generated_success", "product_generated_failed",
}

type linkPayload struct {
	PersonalTaxID string `json:"personalTaxId"`
	BusinessTaxID string `json:"businessTaxId"`
	LinkID        string `json:"linkId"`
}

type consentPayload struct {
	linkPayload
	Consents consentInfo `json:"consents"`
}

// consentInfo is the node `consents` of consent events. Its last members are inferred.
type consentInfo struct {
	ConsentID          string   `json:"consentId"`
	ExternalTrackID    string   `json:"externalTrackId"`
	InstitutionCode    string   `json:"institutionCode"`
	PermissionsGranted []string `json:"permissionsGranted"`
}

func (c *consent) payload() consentPayload {
	return consentPayload{
		linkPayload{c.personal, c.business, c.link.id},
		consentInfo{c.id, c.trackID, c.institution, c.granted()},
	}
}

// productPayload is the payload of the product events, which Klavi does not document: inferred.
type productPayload struct {
	linkPayload
	RequestID       string   `json:"requestId"`
	Products        []string `json:"products,omitempty"`
	ProductName     string   `json:"productName,omitempty"`
	ProductReportID string   `json:"productReportId,omitempty"`
	Code            int      `json:"code,omitempty"`
	Message         string   `json:"message,omitempty"`
}

// sendEvent queues an event for the Console's URL. The caller holds the lock.
func (s *Sandbox) sendEvent(name string, payload any, info jsontext.Value) {
	if s.opts.EventsURL == "" {
		return
	}
	s.sendEventTo(s.opts.EventsURL, name, payload, info, 1)
}

func (s *Sandbox) sendEventTo(target, name string, payload any, info jsontext.Value, copies int) []string {
	now := s.clock.now()
	e := event{
		PartnerAppID: AppID, EventID: fmt.Sprintf("%d-%s", now.UnixMilli(), randomHex(12)), EventType: "api",
		EventName: name, EventTime: now.Format(milliTime), Payload: payload, ExternalInfo: orEmptyObject(info),
	}
	body, err := json.Marshal([]event{e}, jsontext.AllowInvalidUTF8(true), jsontext.AllowDuplicateNames(true))
	if err != nil {
		panic("sandbox: encoding an event: " + err.Error())
	}
	return s.enqueue(delivery{Kind: "event", Name: name, ReportID: e.EventID, URL: target, open: fixedBody(body)}, copies)
}
