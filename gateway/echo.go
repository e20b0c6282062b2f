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
	all := make([]string, 0, len(a.secrets)+2)
	all = append(all, a.client.AccessKey)
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
			g.needles = append(g.needles, newNeedle(credential))
		}
	}
	return g
}

type guard struct {
	body    io.Reader
	needles []needle
	held    []byte // the end of what was read, with which a credential could begin
}

func (g *guard) Read(p []byte) (int, error) {
	if len(p) <= len(g.held) {
		return 0, io.ErrShortBuffer
	}
	n := copy(p, g.held)
	read, err := g.body.Read(p[n:])
	n += read
	hold := 0
	for _, credential := range g.needles {
		if credential.isIn(p[:n]) {
			return 0, ErrRepeats
		}
		if err == nil {
			hold = max(hold, credential.begunIn(p[:n]))
		}
	}
	g.held = append(g.held[:0], p[n-hold:n]...)
	return n - hold, err
}

// needle is a text to look for. Where its rarest byte is not, it is not either:
// finding one byte takes a small part of the time of finding a text whose first
// bytes are frequent, as those of a token are.
type needle struct {
	text   string
	rarest int // index
}

func newNeedle(text string) needle {
	n := needle{text: text}
	for i := range min(len(text), 64) { // a longer text has rare ones there, too
		if rarity[text[i]] > rarity[text[n.rarest]] {
			n.rarest = i
		}
	}
	return n
}

// isIn reports whether b holds the text.
func (n needle) isIn(b []byte) bool {
	for from := n.rarest; from < len(b); from++ {
		next := bytes.IndexByte(b[from:], n.text[n.rarest])
		if next < 0 {
			return false
		}
		from += next
		if start := b[from-n.rarest:]; len(start) >= len(n.text) && string(start[:len(n.text)]) == n.text {
			return true
		}
	}
	return false
}

// begunIn returns how much of the text, but not all of it, stands at the end of b.
func (n needle) begunIn(b []byte) int {
	end := b[max(0, len(b)-len(n.text)+1):]
	for {
		next := bytes.IndexByte(end, n.text[0])
		if next < 0 {
			return 0
		}
		end = end[next:]
		if string(end) == n.text[:len(end)] {
			return len(end)
		}
		end = end[1:]
	}
}

// rarity orders bytes by how rare they are in JSON that Klavi answers with: these
// from the most frequent to the least, and all others after them. It is an
// estimate, on which only speed depends.
var rarity = func() (order [256]uint8) {
	const frequent = `"aeiontsrNEITS,:cdOARClugmp_-D.MzFBVUv/bfPLGhyHkw0123456789K{}[]jxqWYJXQZ`
	for i := range order {
		order[i] = uint8(len(frequent))
	}
	for i := range frequent {
		order[frequent[i]] = uint8(i)
	}
	return order
}()
