package gateway

// quoteMark is how a quotation mark is written: as it is, with so many
// backslashes before it, or otherwise (', %22, \u0022).
type quoteMark struct {
	char        byte // 0 if there is none
	escaped     bool
	backslashes int
}

func (q quoteMark) none() bool { return q.char == 0 }
func (q quoteMark) raw() bool  { return q.char == '"' && !q.escaped }

// quoteAt returns the quotation mark at i and the index after it. Inside a JSON
// string all quotation marks of a JSON text have the same number of backslashes
// before them: 1, or 3 in a string in a string, and so on.
func (m *masker) quoteAt(i int) (quoteMark, int) {
	end := i
	for end < len(m.b) && m.b[end] == '\\' {
		end++
	}
	if end < len(m.b) && m.b[end] == '"' {
		if unit := end - i + 1; unit&(unit-1) != 0 {
			return quoteMark{}, i
		}
		return quoteMark{char: '"', backslashes: end - i}, end + 1
	}
	if char, size := m.decode(i); char == '"' || char == '\'' {
		return quoteMark{char: char, escaped: true}, i + size
	}
	return quoteMark{}, i
}

// opens reports whether a quotation mark begins the value of a key, rather than
// ending the string around both.
func (m *masker) opens(value, key quoteMark) bool {
	if value.raw() && key.raw() {
		return value.backslashes == key.backslashes
	}
	return !value.none() && (!value.raw() || value.backslashes > 0 || m.depth == 0)
}

// quotedValue masks a value from i, which is after its opening quotation mark.
func (m *masker) quotedValue(mark quoteMark, i int) (int, bool) {
	if mark.raw() {
		return m.secretString(i, mark.backslashes), true
	}
	return m.hide(i, m.untilDecoded(i, mark.char))
}

// untilDecoded returns the index of the first character from i that is last, be
// it escaped, or that ends the string or the line around it.
func (m *masker) untilDecoded(i int, last byte) int {
	for i < len(m.b) && m.b[i] >= ' ' && m.b[i] != '"' {
		char, size := m.decode(i)
		if char == last || size == 1 && char == '\\' {
			return i
		}
		i += size
	}
	return i
}

// skipSpace returns the index of the first character from i that is not white
// space, be it escaped.
func (m *masker) skipSpace(i int) int {
	for i < len(m.b) {
		char, size := m.decode(i)
		if char != ' ' && char != '+' && (char < '\t' || char > '\r') {
			return i
		}
		i += size
	}
	return i
}
