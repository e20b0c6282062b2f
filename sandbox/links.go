package sandbox

import (
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/google/uuid"
)

// link is what POST /links made: the frame in which one user consents.
type link struct {
	id           string
	personal     string // CPF, digits
	business     string // CNPJ, digits and letters
	institution  string
	redirectURL  string
	appLink      string
	appKey       string
	callbacks    callbacks
	externalInfo jsontext.Value
	token        string
	created      time.Time
	expires      time.Time
	consents     []*consent
	tasks        []*task
}

// linkRequest is the body of POST /links (docs.klavi.ai/connect/create-a-link).
type linkRequest struct {
	PersonalTaxID       string         `json:"personalTaxId"`
	BusinessTaxID       string         `json:"businessTaxId"`
	Email               string         `json:"email"`
	Phone               string         `json:"phone"`
	InstitutionCode     string         `json:"institutionCode"`
	RedirectURL         string         `json:"redirectURL"`
	ProductsCallbackURL jsontext.Value `json:"productsCallbackURL"`
	ExternalInfo        jsontext.Value `json:"externalInfo"`
	ConnectionKey       string         `json:"connectionKey"`
	AppLink             string         `json:"appLink"`
	AppRedirectURLKey   string         `json:"appRedirectURLKey"`
	ApplicationLink     string         `json:"applicationLink"` // the older appLink, with a fixed parameter
}

type linkReply struct {
	LinkID    string `json:"linkId"`
	LinkToken string `json:"linkToken"`
	LinkURL   string `json:"linkURL"`
	ExpireIn  any    `json:"expireIn"`
}

// postLink is POST /links.
func (s *Sandbox) postLink(c *call) (any, error) {
	var in linkRequest
	if err := c.decode(&in); err != nil {
		return nil, err
	}
	l, err := s.createLink(in)
	if err != nil {
		return nil, err
	}
	return linkReply{l.id, l.token, l.url(baseURL(c.r)), s.lifetime()}, nil
}

// url is the hosted page of the link.
func (l *link) url(base string) string {
	return base + pageStart + "?v=" + url.QueryEscape(l.token)
}

func (s *Sandbox) createLink(in linkRequest) (*link, error) {
	personal, business, err := checkPerson(in.PersonalTaxID, in.BusinessTaxID, in.Phone, in.Email)
	if err != nil {
		return nil, err
	}
	if in.RedirectURL != "" && !validRedirect(in.RedirectURL) {
		return nil, badRequest("Invalid redirectURL")
	}
	if in.InstitutionCode != "" {
		if inst := findInstitution(in.InstitutionCode); inst == nil || inst.persona == outage {
			return nil, businessError(invalidInstitution)
		}
	}
	appLink, appKey := in.AppLink, in.AppRedirectURLKey
	if appLink != "" && appKey == "" {
		return nil, badRequest("appRedirectURLKey should not be empty when appLink is present")
	}
	if appLink == "" && in.ApplicationLink != "" {
		appLink, appKey = in.ApplicationLink, "link_callback_url"
	}
	if appLink != "" && !validRedirect(appLink) {
		return nil, badRequest("Invalid appLink")
	}
	targets, err := parseCallbacks(in.ProductsCallbackURL)
	if err != nil {
		return nil, err
	}
	info, err := parseInfo(in.ExternalInfo)
	if err != nil {
		return nil, err
	}
	now := s.clock.now()
	l := &link{
		id: uuid.NewString(), personal: personal, business: business, institution: in.InstitutionCode,
		redirectURL: in.RedirectURL, appLink: appLink, appKey: appKey, callbacks: targets, externalInfo: info,
		created: now, expires: now.Add(tokenLife),
	}
	l.token = s.issue(linkToken, l)
	s.links.put(l.id, l)
	s.sendEvent("link_created", linkPayload{l.personal, l.business, l.id}, l.externalInfo)
	return l, nil
}

// getLink is GET /links/{id}. Integrations call it; no page documents it, so its fields are inferred.
func (s *Sandbox) getLink(c *call) (any, error) {
	l, ok := s.links.get(c.id)
	if !ok {
		return nil, notFound("link not found")
	}
	return struct {
		LinkID          string         `json:"linkId"`
		PersonalTaxID   string         `json:"personalTaxId"`
		BusinessTaxID   string         `json:"businessTaxId"`
		InstitutionCode string         `json:"institutionCode"`
		RedirectURL     string         `json:"redirectURL"`
		ExternalInfo    jsontext.Value `json:"externalInfo"`
		CreatedAt       string         `json:"createdAt"`
		ExpireAt        string         `json:"expireAt"`
	}{
		l.id, l.personal, l.business, l.institution, l.redirectURL, orEmptyObject(l.externalInfo),
		l.created.Format(milliTime), l.expires.Format(secondTime),
	}, nil
}

// basicLink is GET /basic-links/{appid}, a link made by opening a URL (docs.klavi.ai/connect/basic-whitelabel). That
// `products_callback_url` may be one URL or the JSON object is inferred.
func (s *Sandbox) basicLink(c *call) (any, error) {
	if c.id != AppID {
		return nil, notFound("application not found")
	}
	q := c.r.URL.Query()
	in := linkRequest{
		PersonalTaxID: q.Get("personal_tax_id"), BusinessTaxID: q.Get("business_tax_id"),
		Email: q.Get("email"), Phone: q.Get("phone"),
		InstitutionCode: q.Get("institution_code"), RedirectURL: q.Get("redirect_url"),
	}
	if target := q.Get("products_callback_url"); strings.HasPrefix(target, "{") {
		in.ProductsCallbackURL = jsontext.Value(target)
	} else if target != "" {
		in.ProductsCallbackURL, _ = json.Marshal(map[string]string{"all": target})
	}
	l, err := s.createLink(in)
	if err != nil {
		return nil, err
	}
	return redirect(l.url(baseURL(c.r))), nil
}

var (
	cpfForm   = regexp.MustCompile(`^\d{11}$`)
	cnpjForm  = regexp.MustCompile(`^[0-9A-Z]{12}\d{2}$`)
	phoneForm = regexp.MustCompile(`^\+55\d{10,11}$`)
	emailForm = regexp.MustCompile(`^[^@\s]+@[^@\s]+$`)
	taxMarks  = strings.NewReplacer(".", "", "-", "", "/", "", " ", "")
)

// checkPerson checks the form of what says who the user is, and drops punctuation from the tax ids. Check digits are not
// verified, so that invented people can be used.
func checkPerson(cpf, cnpj, phone, email string) (string, string, error) {
	cpf, cnpj = taxMarks.Replace(cpf), strings.ToUpper(taxMarks.Replace(cnpj))
	if cpf != "" && !cpfForm.MatchString(cpf) {
		return "", "", badRequest("Invalid personalTaxId")
	}
	if cnpj != "" && !cnpjForm.MatchString(cnpj) {
		return "", "", badRequest("Invalid businessTaxId")
	}
	if phone != "" && !phoneForm.MatchString(phone) {
		return "", "", badRequest("Invalid phone")
	}
	if email != "" && !emailForm.MatchString(email) {
		return "", "", badRequest("Invalid email")
	}
	return cpf, cnpj, nil
}

// validRedirect accepts absolute URLs, those of apps included, that a browser does not run as code.
func validRedirect(s string) bool {
	u, err := url.Parse(s)
	if err != nil || u.Scheme == "" || u.Opaque != "" {
		return false
	}
	switch u.Scheme {
	case "javascript", "data", "vbscript", "file", "blob":
		return false
	case "http", "https":
		return u.Host != ""
	}
	return true
}

// parseInfo takes externalInfo as it is, so that it goes out as it came.
func parseInfo(v jsontext.Value) (jsontext.Value, error) {
	if len(v) == 0 || v.Kind() == 'n' {
		return nil, nil
	}
	if v.Kind() != '{' {
		return nil, badRequest("externalInfo must be an object")
	}
	return v.Clone(), nil
}

func orEmptyObject(v jsontext.Value) jsontext.Value {
	if len(v) == 0 {
		return jsontext.Value("{}")
	}
	return v
}

// addQuery appends parameters to a URL that may have some already.
func addQuery(target string, params url.Values) string {
	u, err := url.Parse(target)
	if err != nil {
		return target
	}
	if u.RawQuery != "" {
		u.RawQuery += "&"
	}
	u.RawQuery += params.Encode()
	return u.String()
}

// seeOther sends a browser on after a form.
func seeOther(w http.ResponseWriter, target string) {
	w.Header().Set("Location", target)
	w.WriteHeader(http.StatusSeeOther)
}
