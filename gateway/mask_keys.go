package gateway

import "bytes"

// maskedKeys are the JSON keys, header names and query parameters whose values
// are secret: in any case, and with dashes and underscores anywhere, as in
// secret_key. In JSON these are strings and the strings in an array, which is
// how headers are logged.
var maskedKeys = [...]string{
	"linktoken", "accesstoken", "secretkey", "accesskey", "acceptsecretkeys", "sealkey", "password", "enquirycpf",
	"klavilinktoken", "authorization", "proxyauthorization", "cookie", "setcookie",
}

// keysByInitial is maskedKeys by their first letters: most words have none.
var keysByInitial = func() (keys [256][]string) {
	for _, key := range maskedKeys {
		keys[key[0]] = append(keys[key[0]], key)
		keys[key[0]&^0x20] = keys[key[0]]
	}
	return keys
}()

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
	if i >= len(m.b) {
		return 0
	}
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
		if matched == len(key) {
			return p - i
		}
	}
	return 0
}

// parameter masks the value of a query parameter, or of a cookie, that is called
// like a secret key and begins at i.
func (m *masker) parameter(i int) (int, bool) {
	size := m.keySize(i)
	if size == 0 {
		return 0, false
	}
	end := i + size
	if char, size := m.decode(end); char == '=' {
		next := end + size
		if last := m.wordEnd(next); last-next == 6 && bytes.EqualFold(m.b[next:last], []byte("bearer")) {
			return 0, false // the token is what follows
		}
	}
	return m.value(end, valueStops+";", 1)
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
