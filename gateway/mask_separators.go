package gateway

import (
	"strings"
	"unicode/utf8"
)

// anySeparators may stand between all groups of a tax id: what [klavi.CPF] drops,
// and what others make of a space.
const anySeparators = ".-/ _,"

// separatorRunes are what word processors make of a hyphen and a space.
const (
	hyphenRunes = "\u2010\u2011\u2012\u2013\u2014\u2212"
	spaceRunes  = "\u00a0\u2007\u2009\u202f"
)

// mayBeSeparator spares most words a closer look.
func (m *masker) mayBeSeparator(i int) bool {
	return i < len(m.b) && separatorStarts[m.b[i]]
}

// separatorStarts is what a separator begins with, also an escaped one.
var separatorStarts = func() (starts [256]bool) {
	for _, c := range anySeparators + `+%\` {
		starts[c] = true
	}
	for _, r := range hyphenRunes + spaceRunes {
		starts[string(r)[0]] = true
	}
	return starts
}()

// separator returns what stands between two groups of a tax id at i: one of
// anySeparators, which may have a space on either side, and how many bytes it all
// takes. Plain is whether it is nothing else than that one character.
func (m *masker) separator(i int) (char byte, size int, plain bool) {
	for n := range 3 {
		next, length := m.separatorChar(i + size)
		if strings.IndexByte(anySeparators, next) < 0 {
			break
		}
		switch {
		case n == 0:
			char, plain = next, true
			if !m.mayBeSeparator(i + length) {
				return char, length, plain
			}
		case next == ' ' || char == ' ':
			char, plain = max(char, next), false // the space is the least of them
		default:
			return 0, 0, false
		}
		size += length
	}
	return char, size, plain
}

// separatorChar is decode for a character that may be more than a byte.
func (m *masker) separatorChar(i int) (byte, int) {
	char, size := m.decode(i)
	if char == '+' {
		return ' ', size // as in a query
	}
	if char != 0 && char < utf8.RuneSelf {
		return char, size
	}
	r, size := m.decodeRune(i)
	switch {
	case strings.ContainsRune(hyphenRunes, r):
		return '-', size
	case strings.ContainsRune(spaceRunes, r):
		return ' ', size
	}
	return 0, size
}

// decodeRune returns the character at i, as UTF-8, percent-encoded or escaped as
// in JSON, and how many bytes it takes.
func (m *masker) decodeRune(i int) (rune, int) {
	if _, size := m.decode(i); size > 1 && m.b[i] == '\\' { // \u2013, of which decode knows the last byte only
		high, _ := hexByte(m.b, i+size-4)
		low, _ := hexByte(m.b, i+size-2)
		return rune(high)<<8 | rune(low), size
	}
	var text [utf8.UTFMax]byte
	n, length := 0, 0
	for n < len(text) && i+length < len(m.b) {
		char, size := m.decode(i + length)
		text[n] = char
		n, length = n+1, length+size
		if r, _ := utf8.DecodeRune(text[:n]); r != utf8.RuneError {
			return r, length
		}
	}
	return utf8.RuneError, 1
}
