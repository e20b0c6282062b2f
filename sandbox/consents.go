package sandbox

import (
	"net/http"
	"net/url"
	"time"

	"github.com/google/uuid"
)

// The states of a consent (docs.klavi.ai/link/concepts). STARTED is never seen here: a consent waits for the bank at once.
const (
	awaitingBank  = "AWAITING_AUTHORISATION"
	awaitingLGPD  = "AWAITING_LGPD_AUTHORISATION"
	authorised    = "AUTHORISED"
	inError       = "ERROR"
	rejected      = "REJECTED"
	expired       = "EXPIRED"
	revoked       = "REVOKED"
	deletedByUser = "DELETED_BY_USER"
)

const (
	ticketLife  = 60 * time.Second // consentRedirectURL is single use and dies so soon
	pendingLife = 60 * time.Minute // a consent not authorised until then is rejected
)

var permissions = []string{
	"REGISTRATION_ALL", "ACCOUNTS_ALL", "CREDIT_CARDS_ALL", "CREDIT_OPERATIONS_ALL", "INVESTMENTS_ALL",
}

// consent is one user's permission at one institution.
type consent struct {
	id          string
	link        *link
	trackID     string
	personal    string
	business    string
	institution string
	redirectURL string
	status      string
	expires     time.Time // zero: never
	created     time.Time
	updated     time.Time
}

func (c *consent) pending() bool { return c.status == awaitingBank || c.status == awaitingLGPD }

func (c *consent) granted() []string {
	if c.status == awaitingBank || c.status == rejected || c.status == inError {
		return []string{}
	}
	return permissions
}

func (c *consent) expireAt() string {
	if c.expires.IsZero() {
		return ""
	}
	return c.expires.Format(secondTime)
}

// consentRequest is the body of POST /consents (docs.klavi.ai/connect/create-a-consent). clientMetadata is ignored, as is all
// that is unknown.
type consentRequest struct {
	ExternalTrackID string   `json:"externalTrackId"`
	PersonalTaxID   string   `json:"personalTaxId"`
	BusinessTaxID   string   `json:"businessTaxId"`
	InstitutionCode string   `json:"institutionCode"`
	RedirectURL     string   `json:"redirectURL"`
	Phone           string   `json:"phone"`
	Email           string   `json:"email"`
	ValidityPeriod  *float64 `json:"validityPeriod"`
}

// postConsent is POST /consents.
func (s *Sandbox) postConsent(c *call) (any, error) {
	var in consentRequest
	if err := c.decode(&in); err != nil {
		return nil, err
	}
	if in.ExternalTrackID == "" {
		return nil, missing("externalTrackId")
	}
	if in.RedirectURL == "" {
		return nil, missing("redirectURL")
	}
	con, err := s.createConsent(c.link, in)
	if err != nil {
		return nil, err
	}
	id := randomHex(24)
	s.tickets.put(id, ticket{con, s.clock.now().Add(ticketLife)})
	return struct {
		ConsentID          string `json:"consentId"`
		ConsentRedirectURL string `json:"consentRedirectURL"`
		ExpireAt           string `json:"expireAt"`
	}{con.id, baseURL(c.r) + pageTicket + "?ticket=" + id, con.expireAt()}, nil
}

// createConsent makes a consent of an API client or of the hosted page.
func (s *Sandbox) createConsent(l *link, in consentRequest) (*consent, error) {
	if in.PersonalTaxID == "" {
		return nil, missing("personalTaxId")
	}
	if in.InstitutionCode == "" {
		return nil, missing("institutionCode")
	}
	personal, business, err := checkPerson(in.PersonalTaxID, in.BusinessTaxID, in.Phone, in.Email)
	if err != nil {
		return nil, err
	}
	if in.RedirectURL != "" && !validRedirect(in.RedirectURL) {
		return nil, badRequest("Invalid redirectURL")
	}
	months := 12
	if in.ValidityPeriod != nil {
		months = int(*in.ValidityPeriod)
		if *in.ValidityPeriod != 0 && *in.ValidityPeriod != 12 {
			return nil, badRequest("validityPeriod must be one of 0, 12")
		}
	}
	inst := findInstitution(in.InstitutionCode)
	if inst == nil || inst.Type != openFinance || inst.persona == outage {
		return nil, businessError(invalidInstitution)
	}
	if inst.persona == limitReached {
		return nil, businessError(consentLimit)
	}
	if _, taken := s.trackIDs[in.ExternalTrackID]; taken {
		return nil, httpError(http.StatusConflict, "externalTrackId already exists")
	}
	now := s.clock.now()
	con := &consent{
		id: uuid.NewString(), link: l, trackID: in.ExternalTrackID, personal: personal, business: business,
		institution: inst.Code, redirectURL: in.RedirectURL, status: awaitingBank, created: now, updated: now,
	}
	if months > 0 {
		con.expires = now.AddDate(0, months, 0)
	}
	if len(s.trackIDs) >= maxConsents {
		clear(s.trackIDs) // the consents of most are forgotten by now
	}
	s.trackIDs[con.trackID] = con.id
	s.consents.put(con.id, con)
	l.consents = append(l.consents, con)
	return con, nil
}

type consentReply struct {
	ConsentID          string   `json:"consentId"`
	LinkID             string   `json:"linkId"`
	ExternalTrackID    string   `json:"externalTrackId"`
	PersonalTaxID      string   `json:"personalTaxId"`
	BusinessTaxID      string   `json:"businessTaxId"`
	InstitutionCode    string   `json:"institutionCode"`
	Status             string   `json:"status"`
	PermissionsApply   []string `json:"permissionsApply"`
	PermissionsGranted []string `json:"permissionsGranted"`
	ExpireAt           string   `json:"expireAt"`
	CreatedAt          string   `json:"createdAt"`
	UpdatedAt          string   `json:"updatedAt"`
}

func (c *consent) reply() consentReply {
	return consentReply{
		c.id, c.link.id, c.trackID, c.personal, c.business, c.institution, c.status, permissions, c.granted(),
		c.expireAt(), c.created.Format(milliTime), c.updated.Format(milliTime),
	}
}

// getConsents is GET /consents. Both filters are documented as optional; a CPF finds the consents of every CNPJ it acts for.
func (s *Sandbox) getConsents(c *call) (any, error) {
	q := c.r.URL.Query()
	personal, business, err := checkPerson(q.Get("personalTaxId"), q.Get("businessTaxId"), "", "")
	if err != nil {
		return nil, err
	}
	list := []consentReply{}
	for _, con := range s.consents.all() {
		if (personal == "" || con.personal == personal) && (business == "" || con.business == business) &&
			(q.Get("linkId") == "" || con.link.id == q.Get("linkId")) {
			list = append(list, con.reply())
		}
	}
	return list, nil
}

// getConsent is GET /consents/{consentId}.
func (s *Sandbox) getConsent(c *call) (any, error) {
	con, ok := s.consents.get(c.id)
	if !ok {
		return nil, notFound("consent not found")
	}
	return con.reply(), nil
}

// revokeConsent is DELETE /consents/{consentId}/revoke. A consent that still waits becomes REJECTED.
func (s *Sandbox) revokeConsent(c *call) (any, error) {
	con, ok := s.consents.get(c.id)
	if !ok {
		return nil, notFound("consent not found")
	}
	switch {
	case con.pending():
		s.move(con, rejected)
	case con.status == authorised:
		s.move(con, revoked)
	default:
		return nil, businessError(invalidAuthorisation)
	}
	return ok200, nil
}

var ok200 = struct {
	Message string `json:"message"`
}{"ok"}

// consentEvents are the events that tell of a change. There is none for the steps in between.
var consentEvents = map[string]string{
	authorised: "consent_authorised", inError: "consent_error", rejected: "consent_rejected",
	expired: "consent_expired", revoked: "consent_revoked", deletedByUser: "consent_deleted_by_user",
}

// move turns a consent over, sends the event, and with `delivery automatic` the reports.
func (s *Sandbox) move(con *consent, status string) {
	con.status = status
	con.updated = s.clock.now()
	if name := consentEvents[status]; name != "" {
		s.sendEvent(name, con.payload(), con.link.externalInfo)
	}
	if status != authorised || s.opts.Manual {
		return
	}
	prefix, taxID := "pf_", con.personal
	if con.business != "" {
		prefix, taxID = "pj_", con.business
	}
	var products []string
	for _, p := range s.opts.Products {
		if p[:len(prefix)] == prefix {
			products = append(products, p)
		}
	}
	s.sendReports(reportJob{
		requestID: newRequestID(), taxID: taxID, products: products, consents: []*consent{con},
		externalInfo: con.link.externalInfo,
	})
}

// settle turns over the consents whose time has come.
func (s *Sandbox) settle() {
	now := s.clock.now()
	for _, con := range s.consents.all() {
		if con.pending() && !now.Before(con.created.Add(pendingLife)) {
			s.move(con, rejected)
		}
		if con.status == authorised && !con.expires.IsZero() && !now.Before(con.expires) {
			s.move(con, expired)
		}
	}
}

// returnURL is where the user's browser ends. Klavi documents the parameters; their encoding and the values of `error` are
// inferred.
func (c *consent) returnURL(hosted bool, failure, description string) string {
	q := url.Values{"link_id": {c.link.id}, "external_info": {string(orEmptyObject(c.link.externalInfo))}}
	target := c.redirectURL
	if hosted {
		target = c.link.redirectURL
	} else {
		q.Set("consent_id", c.id)
		q.Set("external_track_id", c.trackID)
	}
	if failure != "" {
		q.Set("error", failure)
		q.Set("error_description", description)
	}
	if target == "" {
		return pageDone + "?" + url.Values{"error": {failure}}.Encode()
	}
	return addQuery(target, q)
}
