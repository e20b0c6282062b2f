package proxy

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"strconv"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/go-json-experiment/json"
	"go.uber.org/zap"

	"github.com/caddy-klavi/caddy-klavi/gateway"
	"github.com/caddy-klavi/caddy-klavi/handler/problem"
	"github.com/caddy-klavi/caddy-klavi/klavi"
)

const (
	userHeader = "Klavi-User"
	maxUser    = 256
)

// sendSealed makes POST /links for a browser: in Klavi's answer, its linkToken is
// replaced by one that holds it, and what the link was created for.
func (t *Transport) sendSealed(req *http.Request, path string) (*http.Response, error) {
	user, err := linkUser(req)
	if err != nil {
		return nil, err
	}
	body, err := t.readObject(req)
	if err != nil {
		return nil, err
	}
	token, err := purpose(body)
	if err != nil {
		return nil, err
	}
	token.User = user
	if err := t.fillIn(req, body); err != nil {
		return nil, err
	}
	out := t.jsonRequest(req, path, body)
	out.Header["Accept"] = []string{"application/json"}
	delete(out.Header, "Accept-Encoding") // Go's client unpacks what it asked for itself

	began := time.Now() // the link's life cannot have begun later
	res, err := t.call(req.Context(), out)
	if err != nil || res.StatusCode/100 != 2 {
		return res, err
	}
	return t.sealAnswer(res, token, began)
}

// linkUser returns for whom a service creates a link.
func linkUser(req *http.Request) (string, error) {
	refuse := func(detail string) (string, error) {
		return "", problem.New(problem.InvalidRequest, "The header "+userHeader+" "+detail)
	}
	values := req.Header[userHeader]
	if len(values) == 0 || values[0] == "" {
		return refuse("must name the user for whom the link is.")
	}
	if len(values) > 1 {
		return refuse("stands in the request more than once.")
	}
	user := values[0]
	if len(user) > maxUser || !utf8.ValidString(user) {
		return refuse("must be UTF-8 of at most " + strconv.Itoa(maxUser) + " bytes.")
	}
	for _, r := range user {
		if !unicode.IsPrint(r) {
			return refuse("holds characters that cannot be printed.")
		}
	}
	return user, nil
}

// purpose returns what a link is to be created for, with the tax ids in
// canonical form: what a consent is compared with later.
func purpose(o *object) (gateway.LinkToken, error) {
	var token gateway.LinkToken
	fields := []struct {
		name      string
		canonical func(string) (string, bool)
		wrong     string
		to        *string
	}{
		{fieldPersonalTaxID, klavi.CPF, "It is not a valid CPF.", &token.PersonalTaxID},
		{fieldBusinessTaxID, klavi.CNPJ, "It is not a valid CNPJ.", &token.BusinessTaxID},
		{fieldInstitutionCode, institutionCode, "It is not 1 to 32 letters, digits, '_' or '-'.", &token.InstitutionCode},
	}
	for _, f := range fields {
		if err := o.checkSpelling(f.name); err != nil {
			return gateway.LinkToken{}, err
		}
		if !o.has(f.name) {
			continue
		}
		var text string
		if err := json.Unmarshal(o.get(f.name), &text); err != nil {
			return gateway.LinkToken{}, fieldProblem(problem.InvalidField, f.name, "It must be a string.")
		}
		if text == "" {
			continue
		}
		var ok bool
		if *f.to, ok = f.canonical(text); !ok {
			return gateway.LinkToken{}, fieldProblem(problem.InvalidField, f.name, f.wrong)
		}
	}
	return token, nil
}

// institutionCode passes a code as it is: Klavi's are opaque, 001 is not 1.
func institutionCode(text string) (string, bool) {
	return text, klavi.ValidInstitutionCode(text)
}

// sealAnswer returns the answer to POST /links that a browser may see.
func (t *Transport) sealAnswer(res *http.Response, token gateway.LinkToken, began time.Time) (*http.Response, error) {
	answer, err := klavi.ReadSmall(res)
	if cause := errors.Unwrap(err); cause != nil {
		return nil, &gateway.CallError{Timeout: errors.Is(cause, context.DeadlineExceeded)}
	}
	if err != nil {
		return nil, t.nonsense(err)
	}
	link, err := klavi.ParseLink(answer)
	if err == nil && t.account.Repeats(link.ID+"\n"+link.Token+"\n"+link.URL, gateway.SentToken(res)) {
		err = gateway.ErrRepeats
	}
	if err != nil {
		return nil, t.nonsense(err)
	}
	lifetime := link.ExpireIn.Duration()
	token.Token, token.LinkID, token.Expires = link.Token, link.ID, began.Add(lifetime).Truncate(time.Second)
	sealed, err := t.account.SealLinkToken(token)
	if err != nil {
		return nil, t.nonsense(err)
	}
	body, err := json.Marshal(struct {
		LinkID    string `json:"linkId"`
		LinkToken string `json:"linkToken"`
		LinkURL   string `json:"linkURL,omitzero"`
		ExpireIn  int64  `json:"expireIn"`
		ExpiresAt string `json:"expiresAt"`
	}{link.ID, sealed, link.URL, int64(lifetime / time.Second), token.Expires.UTC().Format(time.RFC3339)})
	if err != nil {
		return nil, t.nonsense(err)
	}
	res.Header = http.Header{
		"Content-Type":           {"application/json"},
		"Content-Length":         {strconv.Itoa(len(body))},
		"Cache-Control":          {"no-store"},
		"X-Content-Type-Options": {"nosniff"},
	}
	res.Body = io.NopCloser(bytes.NewReader(body))
	res.ContentLength = int64(len(body))
	res.TransferEncoding, res.Uncompressed, res.Trailer = nil, false, nil
	return res, nil
}

// nonsense logs why Klavi's answer is of no use. The texts of these errors
// repeat nothing of it.
func (t *Transport) nonsense(err error) error {
	t.logger.Error("klavi's answer to POST /links cannot be used", zap.Error(err))
	return problem.New(problem.KlaviNonsense, "Klavi has answered, but not with a link that can be handed on.")
}
