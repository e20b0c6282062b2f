package klavi

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/go-json-experiment/json"
)

// maxSmallAnswer bounds the answers that are read whole: logins, links,
// consents and errors are a few hundred bytes.
const maxSmallAnswer = 256 << 10

// Client makes requests for one application at Klavi. It keeps no state.
type Client struct {
	// Base is the API's base URL, which ends in /data/v1.
	Base *url.URL
	// AccessKey and SecretKey are the application's credentials.
	AccessKey, SecretKey string
	// Transport carries the requests.
	Transport http.RoundTripper
}

// NewRequest returns a request to path, which is escaped and relative to the
// base URL, with the headers that Klavi's reference sends on every call.
func (c *Client) NewRequest(ctx context.Context, method, path string, body []byte) (*http.Request, error) {
	var rd io.Reader
	if body != nil {
		rd = bytes.NewReader(body)
	}
	req, err := http.NewRequestWithContext(ctx, method, c.Base.String()+path, rd)
	if err != nil {
		return nil, fmt.Errorf("building a request to klavi: %w", err)
	}
	req.Header.Set("Accept", "application/json")
	req.Header.Set("User-Agent", UserAgent)
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	return req, nil
}

// UserAgent is what Klavi sees in place of the client's own.
const UserAgent = "caddy-klavi"

// Login makes POST /auth (docs.klavi.ai/link/generate-access-token). An answer
// of Klavi's that refuses is an [*Error]. No error repeats a key or the answer.
func (c *Client) Login(ctx context.Context) (value string, lifetime time.Duration, err error) {
	body, err := json.Marshal(struct {
		AccessKey string `json:"accessKey"`
		SecretKey string `json:"secretKey"`
	}{c.AccessKey, c.SecretKey})
	if err != nil {
		return "", 0, errors.New("the keys are not valid UTF-8")
	}
	req, err := c.NewRequest(ctx, http.MethodPost, "/auth", body)
	if err != nil {
		return "", 0, err
	}
	res, err := c.Transport.RoundTrip(req)
	if err != nil {
		return "", 0, err
	}
	answer, err := ReadSmall(res)
	if err != nil {
		return "", 0, err
	}
	if res.StatusCode/100 != 2 {
		refusal := ParseError(res.StatusCode, answer)
		if Repeats(string(answer)+refusal.Message+refusal.Title, c.AccessKey, c.SecretKey) {
			refusal.Title, refusal.Message = "", ""
		}
		return "", 0, refusal
	}
	var token struct {
		AccessToken string   `json:"accessToken"`
		ExpireIn    ExpireIn `json:"expireIn"`
	}
	if json.Unmarshal(answer, &token) != nil || token.AccessToken == "" {
		return "", 0, errors.New("the answer to /auth has no accessToken")
	}
	if !isToken(token.AccessToken) {
		return "", 0, errors.New("the accessToken has characters that no header can carry")
	}
	return token.AccessToken, token.ExpireIn.Duration(), nil
}

// ReadSmall reads the whole body of an answer that is known to be small, and
// closes it. More than 256 KiB is an error.
func ReadSmall(res *http.Response) ([]byte, error) {
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, maxSmallAnswer+1))
	if err != nil {
		return nil, fmt.Errorf("reading klavi's answer: %w", err)
	}
	if len(body) > maxSmallAnswer {
		return nil, errors.New("klavi's answer is larger than expected")
	}
	return body, nil
}

// isToken reports whether s can be sent as a bearer token (RFC 6750, b64token).
func isToken(s string) bool {
	for i := range len(s) {
		c := s[i]
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		case c == '-', c == '.', c == '_', c == '~', c == '+', c == '/', c == '=':
		default:
			return false
		}
	}
	return s != ""
}
