package gateway

import (
	"bytes"
	"slices"
)

// maskMaxEscapes bounds how deeply nested escapes are followed, so that no text
// takes more than linear time.
const maskMaxEscapes = 4

// maskMaxLevels is how many levels of escapes are undone, one at a time: what is a
// tax id at one of them may be none at the next.
const maskMaxLevels = 2*maskMaxEscapes + 1

// decoded is a text with needless escapes undone: of what no encoder escapes,
// letters and digits above all. It is how to write a tax id that is not seen, and
// the same to every reader.
type decoded struct {
	plain  []byte
	origin []int // for each byte of plain, and for its end, the index in the text
}

func newDecoded(text []byte) *decoded {
	d := &decoded{bytes.Clone(text), make([]int, len(text)+1)}
	for i := range d.origin {
		d.origin[i] = i
	}
	return d
}

// undo undoes one level, and reports whether there was anything to undo. Levels
// come in order: JSON (\u0035), URLs (RFC 3986, section 2.3), JSON in a string of
// JSON or in a URL (\\u0035, %5Cu0035), URLs again, and so on.
func (d *decoded) undo(level int) bool {
	b, origin, to := d.plain, d.origin, 0
	for from := 0; from < len(b); {
		kept, char, size := 1, byte(0), 0
		switch {
		case b[from] == '\\' && level%2 == 0:
			kept, char, size = needlessInJSON(b, from, 1<<(level/2))
		case b[from] == '%' && level%2 != 0:
			kept, char, size = needlessInURL(b, from)
		case b[from] == '%' && level > 0:
			kept, char, size = needlessInJSONInURL(b, from)
		}
		for range kept {
			b[to], origin[to] = b[from], origin[from]
			to, from = to+1, from+1
		}
		if size > 0 {
			b[to], origin[to] = char, origin[from]
			to, from = to+1, from+size
		}
	}
	origin[to] = origin[len(b)]
	d.plain, d.origin = b[:to], origin[:to+1]
	return to < len(b)
}

// needlessInJSON looks at the run of backslashes at i: so many of them, and what
// comes after them, are kept as they are; then, unless size is 0, so many bytes
// stand for char. Depth is how many backslashes write one of the JSON that is
// looked at: of three, two are a backslash, and the last begins an escape.
func needlessInJSON(b []byte, i, depth int) (kept int, char byte, size int) {
	next := i
	for next < len(b) && b[next] == '\\' {
		next++
	}
	count := next - i
	if char, ok := unicodeEscape(b, next); ok && isNeedless(char) && count&-count == depth {
		return count - depth, char, depth + len("u0035")
	}
	return count, 0, 0
}

// needlessInURL does the same for the percent sign at i. What a decoded percent
// sign begins is for another level.
func needlessInURL(b []byte, i int) (kept int, char byte, size int) {
	if char, ok := hexByte(b, i+1); ok && isNeedless(char) {
		return 0, char, len("%35")
	}
	return 1, 0, 0
}

// needlessInJSONInURL does the same for the percent sign at i, if it stands for a
// backslash.
func needlessInJSONInURL(b []byte, i int) (kept int, char byte, size int) {
	backslash, ok := hexByte(b, i+1)
	if char, found := unicodeEscape(b, i+3); ok && found && backslash == '\\' && isNeedless(char) {
		return 0, char, len("%5Cu0035")
	}
	return 1, 0, 0
}

// isNeedless reports whether an escape of c is undone: no encoder makes it, or c is
// a percent sign, which may begin another one.
func isNeedless(c byte) bool { return c == '%' || isUnreserved(c) }

func isUnreserved(c byte) bool {
	return isBase64URL(c) || c == '.' || c == '~'
}

// reading is where a word begins if what is before it is read in one way.
type reading struct {
	start  int
	before byte // the character before it, decoded
}

// words handles one word in all its readings, from that of the outermost level of
// escapes to the innermost, and reports where it ends. Secrets are looked for in
// the innermost first, which is what the last reader will see; tax ids in the
// outermost first, since what is before a masked one is not looked at again, and
// only there do all characters stand for themselves.
func (m *masker) words(readings ...reading) (end int) {
	for _, r := range slices.Backward(readings) {
		if end = m.wordEnd(r.start); end == r.start {
			continue
		}
		if to, ok := m.token(r.start, end, r.before); ok {
			return to
		}
	}
	for _, r := range readings {
		var replaced bool
		if end, replaced = m.word(r.start, r.before); replaced {
			break
		}
	}
	return end
}

// decode returns the character at i and how many bytes it takes: plain,
// percent-encoded (%2F, %252F) or escaped as in JSON strings (\/, \u0026). What
// is not a complete escape is one byte that stands for itself.
func (m *masker) decode(i int) (char byte, size int) {
	if i >= len(m.b) {
		return 0, 0
	}
	switch m.b[i] {
	case '%':
		char, ok := hexByte(m.b, i+1)
		p := i + 3
		for range maskMaxEscapes - 1 {
			inner, innerOK := hexByte(m.b, p)
			if char != '%' || !innerOK {
				break
			}
			char, p = inner, p+2
		}
		if escaped, found := unicodeEscape(m.b, p); ok && char == '\\' && found {
			return escaped, p + 5 - i
		}
		if ok {
			return char, p - i
		}
	case '\\':
		p := i + 1
		for p < len(m.b) && m.b[p] == '\\' && p-i < 1<<maskMaxEscapes {
			p++
		}
		if p == len(m.b) {
			break
		}
		switch m.b[p] {
		case '/':
			return '/', p + 1 - i
		case 'b', 'f', 'n', 'r', 't':
			return ' ', p + 1 - i
		case 'u':
			if char, ok := unicodeEscape(m.b, p); ok {
				return char, p + 5 - i
			}
		}
	}
	return m.b[i], 1
}

// unicodeEscape reads what follows the backslash of \u0035. Characters beyond
// U+00FF are not compared here, and 0.
func unicodeEscape(b []byte, i int) (char byte, ok bool) {
	if i >= len(b) || b[i] != 'u' {
		return 0, false
	}
	high, highOK := hexByte(b, i+1)
	low, lowOK := hexByte(b, i+3)
	if high != 0 {
		low = 0
	}
	return low, highOK && lowOK
}

// hexByte reads two hexadecimal digits.
func hexByte(b []byte, i int) (byte, bool) {
	if i+2 > len(b) {
		return 0, false
	}
	high, ok1 := unhex(b[i])
	low, ok2 := unhex(b[i+1])
	return high<<4 | low, ok1 && ok2
}

func unhex(c byte) (byte, bool) {
	switch {
	case '0' <= c && c <= '9':
		return c - '0', true
	case 'a' <= c|0x20 && c|0x20 <= 'f':
		return c | 0x20 - 'a' + 10, true
	}
	return 0, false
}
