package gateway

import (
	"bytes"
	"encoding/base64"
	"strings"
)

// sealedMinLength is how many characters of base64url at least follow
// [SealedPrefix] in a sealed link token.
const sealedMinLength = 40

var sealedPrefix = []byte(SealedPrefix)

// token masks what can be told to be a credential from the word b[i:end] and
// what follows, and reports where it ends.
func (m *masker) token(i, end int, before byte) (int, bool) {
	word := m.b[i:end]
	if m.mayBeSealed {
		if to, ok := m.sealed(i, end); ok {
			return to, true
		}
	}
	switch word[0] {
	case 'B', 'b':
		switch {
		case bytes.EqualFold(word, []byte("bearer")):
			return m.bearer(end)
		case bytes.EqualFold(word, []byte("basic")):
			return m.basic(end)
		}
	case 'e':
		if bytes.HasPrefix(word, []byte("eyJ")) {
			return m.jwt(i)
		}
	case 'v', 'V':
		if len(word) == 1 {
			return m.linkURL(end, before)
		}
	}
	if mayBeKey(word) {
		if to, ok := m.secret(i); ok {
			return to, true
		}
	}
	if end < len(m.b) && (m.b[end] == ':' || m.b[end] == '%') {
		return m.userinfo(end)
	}
	return 0, false
}

// userinfo masks name and password in a URL whose scheme ends at i, such as that of
// an egress proxy.
func (m *masker) userinfo(i int) (int, bool) {
	for _, want := range []byte("://") {
		char, size := m.decode(i)
		if char != want {
			return 0, false
		}
		i += size
	}
	at := i
	for p := i; p < len(m.b) && m.b[p] > ' '; {
		char, size := m.decode(p)
		if strings.IndexByte(`/?#"'<>\`, char) >= 0 {
			break
		}
		if char == '@' {
			at = p
		}
		p += size
	}
	return m.hide(i, at)
}

// isScheme reports whether the word at i is that of a credential which follows it.
func (m *masker) isScheme(i int) bool {
	word := m.b[i:m.wordEnd(i)]
	return bytes.EqualFold(word, []byte("bearer")) || bytes.EqualFold(word, []byte("basic"))
}

// basicLooksAt bounds how much of a credential is decoded, so that no text takes
// more than linear time.
const basicLooksAt = 512

// basic masks the name and password after the word Basic, which ends at i: what
// is base64 of a text with a colon in it.
func (m *masker) basic(i int) (int, bool) {
	start := m.skipSpace(i)
	end := start
	for end < len(m.b) && end-start < basicLooksAt && (isBase64URL(m.b[end]) || m.b[end] == '/' || m.b[end] == '+') {
		end++
	}
	if start == i || end-start < 2 {
		return 0, false
	}
	var plain [basicLooksAt]byte
	n, _ := base64.RawStdEncoding.Decode(plain[:], m.b[start:end])
	if bytes.IndexByte(plain[:n], ':') < 0 {
		return 0, false
	}
	return m.hide(start, m.until(start, ",;'<>&()[]{}", 1))
}

// bearer masks the token after the word Bearer, which ends at i.
func (m *masker) bearer(i int) (int, bool) {
	start := m.skipSpace(i)
	end := m.until(start, ",;'<>&()[]{}", 1)
	if start == i || end == start {
		return 0, false
	}
	switch string(m.b[start:end]) {
	case "token", "tokens", "realm=", "error=":
		return 0, false // a sentence about bearer tokens, or a challenge
	}
	m.replace(start, end, "***")
	return end, true
}

// sealed masks a sealed link token that begins in the word b[i:end].
func (m *masker) sealed(i, end int) (int, bool) {
	for i < end {
		at := bytes.Index(m.b[i:end], sealedPrefix)
		if at < 0 {
			break
		}
		from := i + at
		to := from
		for to < len(m.b) && isBase64URL(m.b[to]) {
			to++
		}
		if to-from >= len(SealedPrefix)+sealedMinLength {
			m.replace(from, to, "***")
			return to, true
		}
		i = from + len(SealedPrefix)
	}
	return 0, false
}

// jwt masks a JSON web token at i, also one that was cut after its first dot.
func (m *masker) jwt(i int) (int, bool) {
	if i < m.noJWT {
		return 0, false
	}
	end, dots := i, 0
	for end < len(m.b) && (isBase64URL(m.b[end]) || m.b[end] == '.') {
		if m.b[end] == '.' {
			dots++
		}
		end++
	}
	if dots == 0 || m.b[end-1] == '.' && dots == 1 {
		m.noJWT = end
		return 0, false
	}
	m.replace(i, end, "***")
	return end, true
}

// linkURL masks the value of the query parameter v, whose name ends at i: in a
// linkURL it is the link token. See docs.klavi.ai/connect/create-a-link.
func (m *masker) linkURL(i int, before byte) (int, bool) {
	stops, least := valueStops, 1
	switch before {
	case 0, '?', '&', '#', '"':
	case ';':
		if !bytes.HasSuffix(m.b[:i-1], []byte("amp;")) {
			// Media types have this parameter, too: their versions are short.
			stops, least = valueStops+";,", 4
		}
	default:
		return 0, false
	}
	return m.value(i, stops, least)
}

// valueStops is what ends the value of a query parameter, beyond what until
// says.
const valueStops = "&#'<>`"

// value masks the value of the parameter whose name ends at i, if it has at
// least so many bytes.
func (m *masker) value(i int, stops string, least int) (int, bool) {
	char, size := m.decode(i)
	if char != '=' {
		return 0, false
	}
	start := i + size
	end := m.until(start, stops, size)
	if end-start < least {
		return 0, false
	}
	m.replace(start, end, "***")
	return end, true
}

// until returns the index of the first byte from i that ends an unquoted value:
// white space, a quotation mark, a backslash or one of stops; or a stop that is
// percent-encoded in as many bytes as the sign before the value, if that is.
func (m *masker) until(i int, stops string, sign int) int {
	for i < len(m.b) && m.b[i] > ' ' && m.b[i] != '"' && m.b[i] != '\\' && strings.IndexByte(stops, m.b[i]) < 0 {
		if m.b[i] == '%' && sign > 1 {
			if char, size := m.decode(i); size == sign && (char <= ' ' || char == '"' || strings.IndexByte(stops, char) >= 0) {
				break
			}
		}
		i++
	}
	return i
}

func isBase64URL(c byte) bool {
	return isWordByte(c) || c == '-' || c == '_'
}
