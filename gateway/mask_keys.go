package gateway

import "bytes"

// maskedKeys are the JSON keys, header names and query parameters whose values
// are hidden whatever they look like: in any case, and with dashes and underscores
// anywhere, as in secret_key. What stands before them after a dash or an
// underscore does not matter: X-Cpf, KLAVI_SECRET_KEY.
var maskedKeys = [...]string{
	// Credentials (docs.klavi.ai/connect and /klaas).
	"accesskey", "secretkey", "acceptsecretkeys", "sealkey", "accesstoken", "refreshtoken", "linktoken", "connectionkey",
	"clientsecret", "partnertoken", "password", "consentredirecturl", "presignedurl",
	// Tax ids: one that was mistyped, or lost its first zeros as a number, does
	// not look like one.
	"cpf", "cnpj", "cpfcnpj", "cnpjcpf", "cpfnumber", "cnpjnumber", "taxid", "personaltaxid", "businesstaxid",
	"enquirycpf", "enquirycnpj", "companycnpj", "partiecnpjcpf",
	// Headers.
	"authorization", "proxyauthorization", "cookie", "setcookie", "klavilinktoken",
}

// maskedHeaders are those of maskedKeys whose values may have spaces in them.
var maskedHeaders = [...]string{"authorization", "proxy-authorization", "cookie", "set-cookie", "klavi-link-token"}

// keysByInitial is maskedKeys by their first letters.
var keysByInitial = func() (keys [256][]string) {
	for _, key := range maskedKeys {
		keys[key[0]] = append(keys[key[0]], key)
		keys[key[0]&^0x20] = keys[key[0]]
	}
	return keys
}()

// keyStarts has a bit for the second letter at the first: most words do not begin
// like a key.
var keyStarts = func() (starts [32]uint32) {
	for _, key := range maskedKeys {
		starts[key[0]&31] |= 1 << (key[1] & 31)
	}
	return starts
}()

// mayBeKey spares most words a closer look.
func mayBeKey(word []byte) bool {
	return len(word) > 1 && keyStarts[word[0]&31]>>(word[1]&31)&1 != 0
}

// keySize returns the length of the secret key that is written at i, or 0.
func (m *masker) keySize(i int) int {
	longest := 0
	for _, key := range keysByInitial[m.b[i]] {
		matched, p := 1, i+1
		for ; p < len(m.b) && matched < len(key); p++ {
			c := m.b[p]
			if c|0x20 == key[matched] {
				matched++
			} else if c != '_' && c != '-' {
				break
			}
		}
		if matched == len(key) && (p == len(m.b) || !isWordByte(m.b[p])) {
			longest = max(longest, p-i)
		}
	}
	return longest
}

// secret masks the value of the secret key that begins at i, if there is one. It
// knows the ways in which keys and values are written:
//
//	"secretKey":"..." \"secretKey\":["..."]   JSON, in a string too
//	%22secretKey%22%3A%22...%22               JSON in a query
//	secret_key=... secretKey="..."            a query, a cookie, an environment
//	Cookie:[...] secretKey:...                a map and a struct as Go prints them
//	Cookie: ...                               a header, if a line begins with it
//
// A name, a colon and a space elsewhere begin an error message, which stays.
func (m *masker) secret(i int) (int, bool) {
	keyLength := m.keySize(i)
	if keyLength == 0 {
		return 0, false
	}
	key, p := m.quoteAt(i + keyLength)
	if !key.none() {
		p = m.skipSpace(p)
	}
	sign, length := m.decode(p)
	if sign != ':' && sign != '=' {
		return 0, false
	}
	p += length
	if !key.none() {
		return m.keyedValue(key, m.skipSpace(p))
	}
	if value, start := m.quoteAt(p); m.opens(value, key) {
		return m.quotedValue(value, start)
	}
	char, size := m.decode(p)
	switch {
	case char == '[' && sign == ':':
		return m.hide(p+size, m.untilDecoded(p+size, ']'))
	case sign == '=':
		return m.parameter(p, length)
	case char == ' ' && m.isHeader(i, keyLength):
		return m.header(p)
	case char == ' ':
		return 0, false
	case m.isScheme(p):
		return 0, false // the credential is what follows
	default:
		return m.hide(p, m.until(p, valueStops+",;()[]{}", length))
	}
}

// keyedValue masks the value at p of a key that stands in quotation marks, in
// the way of JSON: a string, the strings in an array, which is how headers are
// logged, or a number.
func (m *masker) keyedValue(key quoteMark, p int) (int, bool) {
	value, start := m.quoteAt(p)
	switch {
	case m.opens(value, key):
		p, _ = m.quotedValue(value, start)
	case p < len(m.b) && m.b[p] == '[' && key.raw():
		if key.backslashes == 0 && m.depth > 0 {
			m.depth++
		}
		p = m.secretStrings(p+1, key.backslashes)
	case p < len(m.b) && maskClass[m.b[p]] == maskDigit:
		end := p
		for end < len(m.b) && (isWordByte(m.b[end]) || m.b[end] == '.' || m.b[end] == '-' || m.b[end] == '+') {
			end++
		}
		m.replace(p, end, "0")
		p = end
	}
	if key.raw() && key.backslashes == 0 {
		m.inString = false
	}
	return p, true
}

// parameter masks the value of a query parameter, a cookie or a variable, which
// begins at i after an equals sign of so many bytes.
func (m *masker) parameter(i, sign int) (int, bool) {
	if m.isScheme(i) {
		return 0, false
	}
	end := m.until(i, valueStops+";", sign)
	if id, ok := m.taxID(i, m.wordEnd(i)); ok && id.end > end {
		end = id.end // it has spaces in it
	}
	return m.hide(i, end)
}

// isHeader reports whether a line begins with the key b[i:i+size], and it is the
// name of a header.
func (m *masker) isHeader(i, size int) bool {
	lineBegins := i == 0 || m.b[i-1] == '\n' || m.b[i-1] == '"' || i > 1 && string(m.b[i-2:i]) == `\n`
	for _, name := range maskedHeaders {
		if lineBegins && size == len(name) && bytes.EqualFold(m.b[i:i+size], []byte(name)) {
			return true
		}
	}
	return false
}

// header masks the value of a header, which goes from i to the end of its line.
func (m *masker) header(i int) (int, bool) {
	i = m.skipSpace(i)
	if m.isScheme(i) {
		return 0, false
	}
	end := i
	for end < len(m.b) && m.b[end] >= ' ' && m.b[end] != '"' && m.b[end] != '\\' {
		end++
	}
	return m.hide(i, end)
}

// secretStrings masks the strings of an array from i on and returns where it
// stopped.
func (m *masker) secretStrings(i, backslashes int) int {
	for {
		mark, first := m.quoteAt(m.skipSpace(i))
		if !mark.raw() || mark.backslashes != backslashes {
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
// the index after its closing quotation mark, which has so many backslashes.
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
func (m *masker) hide(from, to int) (int, bool) {
	if from >= to {
		return from, false
	}
	m.replace(from, to, "***")
	return to, true
}
