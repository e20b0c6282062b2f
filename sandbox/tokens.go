package sandbox

import (
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"fmt"
	"net/http"
	"strings"
	"time"
)

// tokenLife is how long access tokens and link tokens are good (docs.klavi.ai/link/generate-access-token).
const tokenLife = 30 * time.Minute

type tokenKind string

const (
	noToken      tokenKind = "none"
	unknownToken tokenKind = "unknown"
	accessToken  tokenKind = "access"
	linkToken    tokenKind = "link"
)

type token struct {
	kind    tokenKind
	link    *link // of link tokens
	expires time.Time
	revoked bool
}

var base64url = base64.RawURLEncoding

// issue makes a token. It has the shape of a JWT; what it is good for is remembered here.
func (s *Sandbox) issue(kind tokenKind, l *link) string {
	now := s.clock.now()
	id := randomHex(12)
	claims := fmt.Sprintf(`{"iss":"klavi-sandbox","sub":%q,"use":%q,"jti":%q,"iat":%d,"exp":%d}`,
		AppID, kind, id, now.Unix(), now.Add(tokenLife).Unix())
	signature := make([]byte, 64)
	rand.Read(signature)
	text := base64url.EncodeToString([]byte(`{"alg":"ES256","typ":"JWT"}`)) + "." +
		base64url.EncodeToString([]byte(claims)) + "." + base64url.EncodeToString(signature)
	s.tokens.put(text, &token{kind: kind, link: l, expires: now.Add(tokenLife)})
	return text
}

// revokeAccessTokens ends every access token issued so far.
func (s *Sandbox) revokeAccessTokens() {
	for _, t := range s.tokens.all() {
		if t.kind == accessToken {
			t.revoked = true
		}
	}
}

// presented reads the bearer token of a request and says which kind it is, expired or not.
func (s *Sandbox) presented(r *http.Request) (*token, tokenKind) {
	values := r.Header.Values("Authorization")
	if len(values) == 0 {
		return nil, noToken
	}
	if len(values) > 1 {
		return nil, unknownToken
	}
	scheme, text, _ := strings.Cut(values[0], " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return nil, unknownToken
	}
	t, ok := s.tokens.get(text)
	if !ok {
		return nil, unknownToken
	}
	return t, t.kind
}

// authorise refuses a request whose token is missing, of the wrong kind, revoked or expired. Klavi documents the shape of
// the answer, not its texts.
func (s *Sandbox) authorise(t *token, want tokenKind) error {
	if want == noToken {
		return nil
	}
	if t == nil || t.revoked {
		return unauthorized("Invalid token")
	}
	if t.kind != want {
		return unauthorized("Invalid token: this endpoint takes the " + string(want) + "Token")
	}
	if !s.clock.now().Before(t.expires) {
		return unauthorized("Token has expired")
	}
	return nil
}

// lifetime is `expireIn` as it appears in answers.
func (s *Sandbox) lifetime() any {
	if s.faults.ExpireInString {
		return "1800"
	}
	return int(tokenLife / time.Second)
}

type tokenReply struct {
	AccessToken string `json:"accessToken"`
	ExpireIn    any    `json:"expireIn"`
}

// login is POST /auth (docs.klavi.ai/link/generate-access-token).
func (s *Sandbox) login(c *call) (any, error) {
	var in struct {
		AccessKey string `json:"accessKey"`
		SecretKey string `json:"secretKey"`
	}
	if err := c.decode(&in); err != nil {
		return nil, err
	}
	if in.AccessKey == "" {
		return nil, missing("accessKey")
	}
	if in.SecretKey == "" {
		return nil, missing("secretKey")
	}
	same := subtle.ConstantTimeCompare([]byte(in.AccessKey), []byte(s.opts.AccessKey)) &
		subtle.ConstantTimeCompare([]byte(in.SecretKey), []byte(s.opts.SecretKey))
	if same != 1 || s.faults.RefusedCredentials {
		return nil, unauthorized("Invalid accessKey or secretKey")
	}
	if s.faults.SingleToken {
		s.revokeAccessTokens()
	}
	return tokenReply{s.issue(accessToken, nil), s.lifetime()}, nil
}

// refresh is GET /refresh (docs.klavi.ai/link/refresh-access-token). The token presented stays good.
func (s *Sandbox) refresh(*call) (any, error) {
	return tokenReply{s.issue(accessToken, nil), s.lifetime()}, nil
}
