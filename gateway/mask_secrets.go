package gateway

import (
	"bytes"
	"strings"
)

// maskedKeys are the JSON keys and header names whose string values are secret,
// in any case. So are the strings in an array below them, which is how headers
// are logged.
var maskedKeys = [...]string{
	"linkToken", "accessToken", "secretKey", "accessKey", "password", "enquiryCpf",
	"Klavi-Link-Token", "Authorization", "Proxy-Authorization", "Cookie", "Set-Cookie",
}

// maskedInitials tells most keys apart from [maskedKeys] at once.
var maskedInitials = func() (initial [256]bool) {
	for _, key := range maskedKeys {
		initial[key[0]|0x20], initial[key[0]&^0x20] = true, true
	}
	return initial
}()

// sealedMinLength is how many characters of base64url at least follow
// [SealedPrefix] in a sealed link token.
const sealedMinLength = 40

// token masks what can be told to be a credential from the word b[i:end] and
// what follows, and reports where it ends.
func (m *masker) token(i, end int, before byte) (int, bool) {
	switch word := m.b[i:end]; word[0] {
	case 'B', 'b':
		if len(word) == 6 && bytes.EqualFold(word, []byte("bearer")) {
			return m.bearer(end)
		}
	case 'K':
		if bytes.HasPrefix(word, []byte(SealedPrefix)) {
			return m.sealed(i)
		}
	case 'e':
		if bytes.HasPrefix(word, []byte("eyJ")) {
			return m.jwt(i)
		}
	case 'v':
		if len(word) == 1 {
			return m.linkURL(end, before)
		}
	}
	return 0, false
}

// bearer masks the token after the word Bearer, which ends at i.
func (m *masker) bearer(i int) (int, bool) {
	start := i
	for {
		char, size := m.decode(start)
		if char != ' ' && char != '+' && char != '\t' {
			break
		}
		start += size
	}
	end := m.until(start, ",;'<>&()[]{}")
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

// sealed masks a sealed link token at i.
func (m *masker) sealed(i int) (int, bool) {
	end := i
	for end < len(m.b) && isBase64URL(m.b[end]) {
		end++
	}
	if end-i < len(SealedPrefix)+sealedMinLength {
		return 0, false
	}
	m.replace(i, end, "***")
	return end, true
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
	switch before {
	case 0, '?', '&', '#', '"':
	case ';': // &amp;
		if !bytes.HasSuffix(m.b[:i-1], []byte("amp;")) {
			return 0, false
		}
	default:
		return 0, false
	}
	char, size := m.decode(i)
	if char != '=' {
		return 0, false
	}
	start := i + size
	end := m.until(start, "&#'<>`")
	if end == start {
		return 0, false
	}
	m.replace(start, end, "***")
	return end, true
}

// until returns the index of the first byte from i that ends an unquoted value:
// white space, a quotation mark, a backslash or one of stops.
func (m *masker) until(i int, stops string) int {
	for i < len(m.b) && m.b[i] > ' ' && m.b[i] != '"' && m.b[i] != '\\' && strings.IndexByte(stops, m.b[i]) < 0 {
		i++
	}
	return i
}

// keyedSecret masks the value of a secret key whose opening quotation mark
// stands at i. Inside a JSON string all its quotation marks have the same
// number of backslashes before them: 1, or 3 in a string in a string, and so
// on.
func (m *masker) keyedSecret(i, backslashes int) (int, bool) {
	if unit := backslashes + 1; unit&(unit-1) != 0 {
		return 0, false
	}
	size := m.keySize(i + 1)
	if size == 0 {
		return 0, false
	}
	p := m.quoteEnd(i+1+size, backslashes)
	if p < 0 {
		return 0, false
	}
	if p = m.skipSpace(p); p == len(m.b) || m.b[p] != ':' {
		return 0, false
	}
	p = m.skipSpace(p + 1)
	if first := m.quoteEnd(p, backslashes); first >= 0 {
		p = m.secretString(first, backslashes)
	} else if p < len(m.b) && m.b[p] == '[' {
		if backslashes == 0 && m.depth > 0 {
			m.depth++
		}
		p = m.secretStrings(p+1, backslashes)
	}
	if backslashes == 0 {
		m.inString = false
	}
	return p, true
}

// keySize returns the length of the secret key that is written at i, or 0.
func (m *masker) keySize(i int) int {
	if i >= len(m.b) || !maskedInitials[m.b[i]] {
		return 0
	}
	for _, key := range maskedKeys {
		if len(m.b)-i > len(key) && bytes.EqualFold(m.b[i:i+len(key)], []byte(key)) {
			return len(key)
		}
	}
	return 0
}

// secretStrings masks the strings of an array from i on and returns where it
// stopped.
func (m *masker) secretStrings(i, backslashes int) int {
	for {
		first := m.quoteEnd(m.skipSpace(i), backslashes)
		if first < 0 {
			return i
		}
		i = m.secretString(first, backslashes)
		comma := m.skipSpace(i)
		if comma == len(m.b) || m.b[comma] != ',' {
			return i
		}
		i = comma + 1
	}
}

// secretString masks the string whose first character stands at i and returns
// the index after its closing quotation mark.
func (m *masker) secretString(i, backslashes int) int {
	unit := backslashes + 1
	run := 0
	for p := i; p < len(m.b); p++ {
		switch m.b[p] {
		case '\\':
			run++
			continue
		case '"':
			if run%(2*unit) == backslashes {
				m.hide(i, p-backslashes)
				return p + 1
			}
			if run < backslashes || run%2 == 0 {
				// The string around this one ends before it: leave that
				// quotation mark to the caller.
				m.hide(i, p-run)
				return p - run
			}
		}
		run = 0
	}
	end := len(bytes.TrimRight(m.b, "\r\n"))
	m.hide(i, end)
	return end
}

// hide replaces b[from:to] unless it is empty.
func (m *masker) hide(from, to int) {
	if from < to {
		m.replace(from, to, "***")
	}
}

// quoteEnd returns the index after the quotation mark with so many backslashes
// that begins at i, or -1.
func (m *masker) quoteEnd(i, backslashes int) int {
	end := i + backslashes
	if end >= len(m.b) || m.b[end] != '"' {
		return -1
	}
	for _, c := range m.b[i:end] {
		if c != '\\' {
			return -1
		}
	}
	return end + 1
}

// skipSpace returns the index of the first byte from i that is not white space,
// be it escaped.
func (m *masker) skipSpace(i int) int {
	for i < len(m.b) {
		char, size := m.decode(i)
		if char != ' ' && (char < '\t' || char > '\r') || m.b[i] == '%' {
			return i
		}
		i += size
	}
	return i
}

func isBase64URL(c byte) bool {
	return isWordByte(c) || c == '-' || c == '_'
}
