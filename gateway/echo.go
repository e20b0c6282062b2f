package gateway

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"strings"

	"github.com/caddy-klavi/caddy-klavi/klavi"
)

// ErrRepeats means that an answer of Klavi's repeats a credential of the gateway's.
var ErrRepeats = errors.New("the answer repeats a credential of the gateway's")

// Repeats reports whether text holds one of the account's keys, the access
// token in use, or one of the others.
func (a *Account) Repeats(text string, others ...string) bool {
	return klavi.Repeats(text, a.credentials()...) || klavi.Repeats(text, others...)
}

func (a *Account) credentials() []string {
	all := []string{a.client.AccessKey}
	for _, secret := range a.secrets {
		all = append(all, string(secret))
	}
	if token := a.shared.tokens.Current(); token != nil {
		all = append(all, token.Value())
	}
	return all
}

// SentToken returns the token that the request had which res answers.
func SentToken(res *http.Response) string {
	return strings.TrimPrefix(res.Request.Header.Get("Authorization"), "Bearer ")
}

// Guard returns body without what would repeat a credential: reading it fails
// with [ErrRepeats] before any of that, however it is cut into pieces. It is to
// be read with room for 32 KiB.
func (a *Account) Guard(body io.Reader) io.Reader {
	g := &guard{body: body}
	for _, credential := range a.credentials() {
		if klavi.Repeats(credential, credential) {
			g.credentials = append(g.credentials, []byte(credential))
		}
	}
	return g
}

type guard struct {
	body        io.Reader
	credentials [][]byte
	held        []byte // the end of what was read, with which a credential could begin
}

func (g *guard) Read(p []byte) (int, error) {
	if len(p) <= len(g.held) {
		return 0, io.ErrShortBuffer
	}
	n := copy(p, g.held)
	read, err := g.body.Read(p[n:])
	n += read
	hold := 0
	for _, credential := range g.credentials {
		if bytes.Contains(p[:n], credential) {
			return 0, ErrRepeats
		}
		hold = max(hold, begun(p[:n], credential))
	}
	if err != nil {
		hold = 0
	}
	g.held = append(g.held[:0], p[n-hold:n]...)
	return n - hold, err
}

// begun returns how much of credential stands at the end of b.
func begun(b, credential []byte) int {
	for n := min(len(b), len(credential)-1); n > 0; n-- {
		if b[len(b)-n] == credential[0] && bytes.HasSuffix(b, credential[:n]) {
			return n
		}
	}
	return 0
}
