package frontend

import (
	"errors"
	"net/http"
	"strings"

	"github.com/caddy-klavi/caddy-klavi/gateway"
	"github.com/caddy-klavi/caddy-klavi/handler/problem"
)

// headerLinkToken carries the link token where Authorization is the site's own login.
const headerLinkToken = "Klavi-Link-Token"

// maxRawToken bounds a link token of Klavi's, which is a JWT.
const maxRawToken = 8 << 10

// openLink returns the link whose token the request carries. In raw mode
// nothing but the token is known of it.
func (f *Frontend) openLink(r *http.Request, user string) (gateway.LinkToken, error) {
	token, err := linkToken(r.Header)
	if err != nil {
		return gateway.LinkToken{}, err
	}
	if f.raw() {
		if !isBearerToken(token) || f.account.IsAccessToken(token) {
			return gateway.LinkToken{}, problem.New(problem.LinkInvalid, "This is not a link token of Klavi's.")
		}
		return gateway.LinkToken{Token: token}, nil
	}
	link, err := f.account.OpenLinkToken(token, f.now())
	if errors.Is(err, gateway.ErrLinkExpired) {
		return gateway.LinkToken{}, linkExpired()
	}
	if err != nil {
		return gateway.LinkToken{}, problem.New(problem.LinkInvalid,
			"This is not a link token that POST "+f.Prefix+"/links gave out, or it was changed.")
	}
	if link.User != user {
		return gateway.LinkToken{}, problem.New(problem.NotYours, "The link was created for another user; create a new one.")
	}
	return link, nil
}

func (f *Frontend) raw() bool { return f.LinkToken == linkTokenRaw }

func linkExpired() *problem.Problem {
	return problem.New(problem.LinkExpired, "Create a new link.")
}

// linkToken returns the token from its own header or else from Authorization.
func linkToken(h http.Header) (string, error) {
	if values, ok := h[headerLinkToken]; ok && len(values) > 0 {
		return values[0], nil
	}
	authorization := h.Get("Authorization")
	scheme, token, _ := strings.Cut(authorization, " ")
	if !strings.EqualFold(scheme, "Bearer") || token == "" {
		return "", problem.New(problem.LinkInvalid,
			"The link token is missing: send what came as linkToken as Authorization: Bearer, or in "+headerLinkToken+".")
	}
	return token, nil
}

// isBearerToken reports whether s has the form of a bearer token (RFC 6750, b64token).
func isBearerToken(s string) bool {
	body := strings.TrimRight(s, "=")
	if body == "" || len(s) > maxRawToken {
		return false
	}
	for i := range len(body) {
		c := body[i]
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		case c == '-', c == '.', c == '_', c == '~', c == '+', c == '/':
		default:
			return false
		}
	}
	return true
}
