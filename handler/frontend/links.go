package frontend

import (
	"context"
	"errors"
	"maps"
	"math"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"go.uber.org/zap"

	"github.com/caddy-klavi/caddy-klavi/gateway"
	"github.com/caddy-klavi/caddy-klavi/handler/problem"
	"github.com/caddy-klavi/caddy-klavi/klavi"
)

const (
	fromConfig  = "only the server's config sets this field."
	notAccepted = "this site does not accept the field from browsers; accept opens it."
)

// openLinkFields returns the fields that a browser may send to POST /links.
func (f *Frontend) openLinkFields() fieldSet {
	fields := fieldSet{
		open: []string{personalTaxID, businessTaxID, email, phone, institutionCode, redirectURL},
		closed: map[string]string{
			"productsCallbackURL": fromConfig, "appLink": fromConfig, "appRedirectURLKey": fromConfig, "applicationLink": fromConfig,
		},
	}
	for _, name := range acceptFields {
		_, fixed := f.Set[name]
		if fixed || slices.Contains(f.Accept, name) {
			fields.open = append(fields.open, name)
		} else {
			fields.closed[name] = notAccepted
		}
	}
	return fields
}

// serveLinks creates a link for a browser.
func (f *Frontend) serveLinks(w http.ResponseWriter, r *http.Request) error {
	user, err := f.currentUser(r)
	if err != nil {
		return err
	}
	body, err := readJSON(w, r)
	if err != nil {
		return err
	}
	fields, err := f.linkFields.decode(body)
	if err != nil {
		return err
	}
	fixed, err := f.evaluateFields(r, "set", f.Set)
	if err != nil {
		return err
	}
	if err := f.fill(fields, fixed); err != nil {
		return err
	}
	info, err := f.externalInfo(r, user, fields[externalInfo])
	if err != nil {
		return err
	}
	request, err := f.linkRequest(fields, info)
	if err != nil {
		return err
	}
	answer, err := f.create(r, "POST /links", user, request, func(ctx context.Context) (*gateway.Answer, error) {
		return f.createLink(ctx, user, fields, request)
	})
	if err != nil {
		return err
	}
	writeAnswer(w, answer)
	return nil
}

// fill puts the values that the config fixes in place, and the redirectURL that
// stands for none. A browser may not send another value for what is fixed.
func (f *Frontend) fill(fields, fixed map[string]string) error {
	for name, value := range fixed {
		if sent, ok := fields[name]; ok && sent != value {
			p := problem.New(problem.NotYours, "The site sets this field, to another value; leave it out.")
			p.Field = name
			return p
		}
		fields[name] = value
	}
	redirect, ok := fields[redirectURL]
	if !ok {
		fields[redirectURL] = f.redirects[0]
		return nil
	}
	if !slices.Contains(f.redirects, redirect) {
		p := problem.New(problem.RedirectNotListed, "It must be equal to one of the site's redirect_urls, or left out.")
		p.Field = redirectURL
		return p
	}
	return nil
}

// externalInfo returns what Klavi is to repeat in reports and events. What a
// browser sends is kept apart, so that it cannot pass for the server's.
func (f *Frontend) externalInfo(r *http.Request, user, client string) (jsontext.Value, error) {
	info := make(map[string]any, len(f.ExternalInfo)+2)
	for _, name := range slices.Sorted(maps.Keys(f.ExternalInfo)) {
		value, err := f.evaluate(r, "external_info "+name, f.ExternalInfo[name], maxExternalText)
		if err != nil {
			return nil, err
		}
		info[name] = value
	}
	if user != "" {
		info["user"] = user
	}
	if client != "" {
		info["client"] = jsontext.Value(client)
	}
	if len(info) == 0 {
		return nil, nil
	}
	return json.Marshal(info, json.Deterministic(true))
}

func (f *Frontend) linkRequest(fields map[string]string, info jsontext.Value) ([]byte, error) {
	request := klavi.LinkRequest{
		PersonalTaxID:       fields[personalTaxID],
		BusinessTaxID:       fields[businessTaxID],
		Email:               fields[email],
		Phone:               fields[phone],
		InstitutionCode:     fields[institutionCode],
		RedirectURL:         fields[redirectURL],
		ProductsCallbackURL: f.reportsURL,
		ExternalInfo:        info,
		ConnectionKey:       fields[connectionKey],
	}
	if f.AppLink != nil {
		request.AppLink, request.AppRedirectURLKey = f.appLinkURL, f.AppLink.Parameter
	}
	return json.Marshal(request)
}

// createLink has Klavi create the link, and seals its token. It may outlive the
// request that began it.
func (f *Frontend) createLink(ctx context.Context, user string, fields map[string]string, request []byte) (*gateway.Answer, error) {
	began := f.now()
	req, err := f.account.NewRequest(http.MethodPost, "/links", request)
	if err != nil {
		return nil, err
	}
	res, err := f.account.SendAuthorized(ctx, req) //nolint:bodyclose // whatever reads the answer closes it
	if err != nil {
		return nil, f.callFailed(ctx, "POST /links", err)
	}
	if !succeeded(res) {
		err := f.answerProblem(res, "POST /links")
		if res.StatusCode == http.StatusUnauthorized {
			// It is the gateway that is not let in, not the user.
			err.Status = http.StatusBadGateway
			err.Detail = "Klavi does not accept the gateway's access token."
		}
		return nil, err
	}
	body, err := f.readAnswer(res, "POST /links")
	if err != nil {
		return nil, err
	}
	link, err := klavi.ParseLink(body)
	if err == nil && f.account.Repeats(link.ID+"\n"+link.Token+"\n"+link.URL, gateway.SentToken(res)) {
		err = gateway.ErrRepeats
	}
	if err != nil {
		return nil, f.nonsense("POST /links", err)
	}
	return f.linkAnswer(link, gateway.LinkToken{
		Token:           link.Token,
		LinkID:          link.ID,
		User:            user,
		Expires:         began.Add(link.ExpireIn.Duration()).Truncate(time.Second),
		PersonalTaxID:   fields[personalTaxID],
		BusinessTaxID:   fields[businessTaxID],
		InstitutionCode: fields[institutionCode],
	})
}

// linkAnswer is what the browser gets of a link.
func (f *Frontend) linkAnswer(link klavi.Link, token gateway.LinkToken) (*gateway.Answer, error) {
	answer := struct {
		LinkID    string `json:"linkId"`
		LinkToken string `json:"linkToken,omitzero"`
		LinkURL   string `json:"linkURL,omitzero"`
		ExpireIn  int    `json:"expireIn"`
		ExpiresAt string `json:"expiresAt"`
	}{
		LinkID:    link.ID,
		ExpireIn:  int(math.Floor(link.ExpireIn.Duration().Seconds())),
		ExpiresAt: token.Expires.UTC().Format(time.RFC3339),
	}
	if f.Flow != flowAPIOnly {
		if !f.isLinkURL(link.URL) {
			return nil, f.nonsense("POST /links", errors.New("the answer to POST /links has no usable linkURL"))
		}
		answer.LinkURL = link.URL
	}
	if f.Flow != flowWhitelabel {
		answer.LinkToken = link.Token
		if !f.raw() {
			sealed, err := f.account.SealLinkToken(token)
			if err != nil {
				return nil, f.nonsense("POST /links", err)
			}
			answer.LinkToken = sealed
		}
	}
	body, err := json.Marshal(answer)
	if err != nil {
		return nil, f.nonsense("POST /links", errors.New("the answer to POST /links is not UTF-8"))
	}
	f.logger.Debug("created a link", zap.String("link_id", link.ID))
	// A link that has run out is of no use to those who ask again.
	return jsonAnswer(http.StatusOK, body, token.Expires.Sub(f.now())), nil
}

// isLinkURL accepts the address of a page: a browser will go there. It is https
// unless Klavi's API is not either, as in a sandbox.
func (f *Frontend) isLinkURL(text string) bool {
	u, err := url.Parse(text)
	return err == nil && u.Host != "" && (u.Scheme == "https" || u.Scheme == "http" && f.account.Base().Scheme == "http")
}
