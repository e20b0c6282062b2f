package gateway

import "bytes"

// maskMaxEscapes bounds how deeply nested escapes are followed, so that no text
// takes more than linear time.
const maskMaxEscapes = 4

// maskMaxLevels is how many levels of escapes of one kind around the other are
// undone, one at a time: what is a tax id at one of them may be none at the next.
const maskMaxLevels = 2 * maskMaxEscapes

// decodeNeedless undoes levels of escapes of what no encoder escapes, letters and
// digits above all: those of JSON (\u0035) first, then those of URLs (RFC 3986,
// section 2.3), and so on. It is how to write a tax id that is not seen, and the
// same to every reader. It returns for each byte of plain, and for its end, the
// index in text, and whether the last two levels had anything to undo.
func decodeNeedless(text []byte, levels int) (plain []byte, origin []int, more bool) {
	plain, origin = bytes.Clone(text), make([]int, len(text)+1)
	for i := range origin {
		origin[i] = i
	}
	last := 0
	for level := 1; level <= levels; level++ {
		escape := byte('\\')
		if level%2 == 0 {
			escape = '%'
		}
		to := 0
		for from := 0; from < len(plain); to++ {
			char, size := plain[from], 1
			if char == escape {
				char, size = needless(plain, from)
			}
			if size == 1 && char == '\\' && from+1 < len(plain) && plain[from+1] == '\\' {
				// Two of them are one to JSON: its second begins no escape.
				plain[to], origin[to] = char, origin[from]
				to, from = to+1, from+1
			}
			plain[to], origin[to] = char, origin[from]
			from += size
		}
		if to < len(plain) {
			last = level
		}
		plain, origin[to] = plain[:to], len(text)
	}
	return plain, origin[:len(plain)+1], levels-last < 2
}

// needless returns what the escape at i stands for, if no encoder would escape
// that, and how many bytes it takes.
func needless(b []byte, i int) (char byte, size int) {
	if b[i] == '%' {
		c, ok := hexByte(b, i+1)
		// What a decoded percent sign begins is for another level.
		if ok && isNeedless(c) {
			return c, 3
		}
		if escaped, found := unicodeEscape(b, i+3); ok && c == '\\' && found && isNeedless(escaped) {
			return escaped, 8 // of JSON in a URL
		}
	} else if c, length := (&masker{b: b}).decode(i); length > 2 && isNeedless(c) {
		return c, length
	}
	return b[i], 1
}

// isNeedless reports whether an escape of c is undone: no encoder makes it, or c is
// a percent sign, which may begin another one.
func isNeedless(c byte) bool { return c == '%' || isUnreserved(c) }

func isUnreserved(c byte) bool {
	return isBase64URL(c) || c == '.' || c == '~'
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
