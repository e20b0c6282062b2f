package klavi

import (
	"errors"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// LinkRequest is the body of POST /links (docs.klavi.ai/connect/create-a-link).
// Klavi ignores a field that it does not know, and does not say so.
type LinkRequest struct {
	PersonalTaxID       string         `json:"personalTaxId,omitzero"`
	BusinessTaxID       string         `json:"businessTaxId,omitzero"`
	Email               string         `json:"email,omitzero"`
	Phone               string         `json:"phone,omitzero"`
	InstitutionCode     string         `json:"institutionCode,omitzero"`
	RedirectURL         string         `json:"redirectURL,omitzero"`
	ProductsCallbackURL CallbackURL    `json:"productsCallbackURL,omitzero"`
	ExternalInfo        jsontext.Value `json:"externalInfo,omitzero"`
	ConnectionKey       string         `json:"connectionKey,omitzero"`
	AppLink             string         `json:"appLink,omitzero"`
	AppRedirectURLKey   string         `json:"appRedirectURLKey,omitzero"`
}

// Link is the answer to POST /links.
type Link struct {
	ID       string   `json:"linkId"`
	Token    string   `json:"linkToken"`
	URL      string   `json:"linkURL"`
	ExpireIn ExpireIn `json:"expireIn"`
}

// ParseLink reads the answer to POST /links. An answer without a linkId or a
// usable linkToken is an error; the text of an error never repeats the answer.
func ParseLink(body []byte) (Link, error) {
	var l Link
	if err := json.Unmarshal(body, &l); err != nil {
		return Link{}, errors.New("the answer to POST /links is not the documented JSON")
	}
	if l.ID == "" || !isToken(l.Token) {
		return Link{}, errors.New("the answer to POST /links has no linkId or no linkToken")
	}
	return l, nil
}

// ConsentRequest is the body of POST /consents
// (docs.klavi.ai/connect/create-a-consent).
type ConsentRequest struct {
	ExternalTrackID string         `json:"externalTrackId,omitzero"`
	PersonalTaxID   string         `json:"personalTaxId,omitzero"`
	BusinessTaxID   string         `json:"businessTaxId,omitzero"`
	InstitutionCode string         `json:"institutionCode,omitzero"`
	RedirectURL     string         `json:"redirectURL,omitzero"`
	Phone           string         `json:"phone,omitzero"`
	Email           string         `json:"email,omitzero"`
	ClientMetadata  jsontext.Value `json:"clientMetadata,omitzero"`
	// ValidityPeriod is in months: 12, or 0 for no end. It is required by
	// one copy of Klavi's page and unknown to another, so nil leaves it out.
	ValidityPeriod *int `json:"validityPeriod,omitzero"`
}
