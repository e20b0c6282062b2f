package frontend

import (
	"context"
	"errors"
	"net/http"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/google/uuid"

	"github.com/caddy-klavi/caddy-klavi/gateway"
	"github.com/caddy-klavi/caddy-klavi/handler/problem"
	"github.com/caddy-klavi/caddy-klavi/klavi"
)

// consentFields are the fields that a browser may send to POST /consents.
var consentFields = fieldSet{
	open: []string{
		externalTrackID, personalTaxID, businessTaxID, institutionCode, redirectURL, phone, email, clientMetadata, validityPeriod,
	},
	closed: map[string]string{
		"productsCallbackURL": "it belongs to the link, where " + fromConfig,
		externalInfo:          "it belongs to the link, not to the consent.",
	},
}

// serveConsents creates a consent under the caller's link.
func (f *Frontend) serveConsents(w http.ResponseWriter, r *http.Request) error {
	user, err := f.currentUser(r)
	if err != nil {
		return err
	}
	link, err := f.openLink(r, user)
	if err != nil {
		return err
	}
	body, err := readJSON(w, r)
	if err != nil {
		return err
	}
	fields, err := consentFields.decode(body)
	if err != nil {
		return err
	}
	fixed, err := f.evaluateFields(r, "set_consent", f.SetConsent)
	if err != nil {
		return err
	}
	if err := f.fill(fields, fixed); err != nil {
		return err
	}
	if !f.raw() {
		if err := f.fitLink(fields, link); err != nil {
			return err
		}
	}
	if fields[institutionCode] == "" {
		return invalidField(institutionCode, "It is missing: the link was not created for one institution, so the consent must name it.")
	}
	// What is compared under an Idempotency-Key is what the caller decides:
	// the link too, but not the externalTrackId that is made up here.
	request, err := consentRequest(fields)
	if err != nil {
		return err
	}
	key := link.LinkID
	if f.raw() {
		key = link.Token
	}
	answer, err := f.create(r, "POST /consents", user, append([]byte(key+"\x00"), request...), func(ctx context.Context) (*gateway.Answer, error) {
		return f.createConsent(ctx, link.Token, fields)
	})
	if err != nil {
		return err
	}
	writeAnswer(w, answer)
	return nil
}

// fitLink holds a consent to what its link was created for, and fills in what
// the link fixed.
func (f *Frontend) fitLink(fields map[string]string, link gateway.LinkToken) error {
	person, business := link.PersonalTaxID, link.BusinessTaxID
	switch {
	case person == "" && business == "":
		if !f.UnboundConsents && (fields[personalTaxID] != "" || fields[businessTaxID] != "") {
			return mismatch(firstSet(fields, personalTaxID, businessTaxID),
				"The link was created without a tax id, so its consents have none; unbound_consents would let them.")
		}
	case person == "":
		// Whoever acts for the business is named by a CPF of their own.
		if err := fit(fields, businessTaxID, business); err != nil {
			return err
		}
	case business == "":
		if fields[businessTaxID] != "" {
			return mismatch(businessTaxID, "The link was created for a person, without a CNPJ.")
		}
		if err := fit(fields, personalTaxID, person); err != nil {
			return err
		}
	default:
		if err := fit(fields, personalTaxID, person); err != nil {
			return err
		}
		if err := fit(fields, businessTaxID, business); err != nil {
			return err
		}
	}
	if link.InstitutionCode == "" {
		return nil
	}
	return fit(fields, institutionCode, link.InstitutionCode)
}

func fit(fields map[string]string, name, want string) error {
	if got := fields[name]; got != "" && got != want {
		return mismatch(name, "It is not what the link was created for; leave it out, or create another link.")
	}
	fields[name] = want
	return nil
}

func mismatch(name, detail string) error {
	p := problem.New(problem.ConsentMismatch, detail)
	p.Field = name
	return p
}

func firstSet(fields map[string]string, names ...string) string {
	for _, name := range names {
		if fields[name] != "" {
			return name
		}
	}
	return ""
}

func consentRequest(fields map[string]string) ([]byte, error) {
	request := klavi.ConsentRequest{
		ExternalTrackID: fields[externalTrackID],
		PersonalTaxID:   fields[personalTaxID],
		BusinessTaxID:   fields[businessTaxID],
		InstitutionCode: fields[institutionCode],
		RedirectURL:     fields[redirectURL],
		Phone:           fields[phone],
		Email:           fields[email],
	}
	if metadata, ok := fields[clientMetadata]; ok {
		request.ClientMetadata = jsontext.Value(metadata)
	}
	if months, ok := fields[validityPeriod]; ok {
		n := 0
		if months == "12" {
			n = 12
		}
		request.ValidityPeriod = &n
	}
	return json.Marshal(request)
}

// createConsent has Klavi create the consent. It may outlive the request that
// began it.
func (f *Frontend) createConsent(ctx context.Context, token string, fields map[string]string) (*gateway.Answer, error) {
	if fields[externalTrackID] == "" {
		fields[externalTrackID] = uuid.NewString()
	}
	body, err := consentRequest(fields)
	if err != nil {
		return nil, err
	}
	req, err := f.account.NewRequest(http.MethodPost, "/consents", body)
	if err != nil {
		return nil, err
	}
	res, err := f.account.SendWithLinkToken(ctx, req, token) //nolint:bodyclose // whatever reads the answer closes it
	if err != nil {
		return nil, f.callFailed(ctx, "POST /consents", err)
	}
	if !succeeded(res) {
		return nil, f.scopedProblem(res, "POST /consents")
	}
	answer, err := f.readAnswer(res, "POST /consents")
	if err != nil {
		return nil, err
	}
	if f.account.Repeats(string(answer)) {
		return nil, f.nonsense("POST /consents", gateway.ErrRepeats)
	}
	value := jsontext.Value(answer)
	if value.Kind() != jsontext.KindBeginObject || !value.IsValid(jsontext.AllowDuplicateNames(true)) {
		return nil, f.nonsense("POST /consents", errors.New("the answer to POST /consents is not a JSON object"))
	}
	return jsonAnswer(res.StatusCode, answer, gateway.AnswersKept), nil
}
