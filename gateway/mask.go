package gateway

import (
	"bytes"

	"go.uber.org/zap/buffer"
)

// Mask returns text without the secrets and tax ids that klavi traffic is made
// of: CPF and CNPJ, bearer tokens, JWTs, sealed link tokens, the query
// parameter v of a linkURL, and the values of the JSON keys, headers and query
// parameters in [maskedKeys], all of them also where they are percent-encoded or
// escaped. Each is replaced by ***. What begins with a brace or a bracket is taken for JSON and
// stays valid JSON: there, a number that is a tax id becomes 0.
//
// Text in which nothing is found is returned as it is, not copied; text itself
// is never changed.
func Mask(text []byte) []byte {
	masked := maskToBuffer(text)
	if masked == nil {
		return text
	}
	defer masked.Free()
	return bytes.Clone(masked.Bytes())
}

// maskToBuffer returns a pooled buffer with the masked text, or nil if nothing
// in the text is to be masked.
func maskToBuffer(text []byte) *buffer.Buffer {
	m := masker{b: text, source: text}
	masked := m.run()
	if masked != nil {
		// What stood beside something that is masked now may begin or end there.
		once := masked.Bytes()
		if again := (&masker{b: once, source: once}).run(); again != nil {
			masked.Free()
			masked = again
		}
	}
	if !m.needless {
		return masked
	}
	if masked != nil {
		text = masked.Bytes()
	}
	d := newDecoded(text)
	for level := range maskMaxLevels {
		if !d.undo(level) {
			continue
		}
		again := (&masker{b: d.plain, source: text, origin: d.origin}).run()
		if again == nil {
			continue
		}
		if masked != nil {
			masked.Free()
		}
		masked, text = again, again.Bytes()
		d = newDecoded(text)
		for done := range level + 1 {
			d.undo(done)
		}
	}
	return masked
}

// masker reads a text once from left to right. It knows no more of JSON than it
// needs: whether it stands inside a string, where everything is text, or
// outside, where a tax id can only be a whole number.
type masker struct {
	b         []byte
	source    []byte // what is copied: b, or that of which b is the decoded form
	origin    []int  // indexes of b to those of source, nil if they are the same
	lineStart int    // index of the first byte that is not white space

	out    *buffer.Buffer // nil until something was replaced
	copied int            // source up to here is in out already

	depth    int  // open braces and brackets; 0 is plain text
	inString bool // inside a JSON string; only meaningful when depth > 0

	numberEnd int // end of the last whole number that was kept; what follows its point is a fraction
	noJWT     int // no JWT starts before this index

	mayBeSealed bool // there is a sealed link token, perhaps
	needless    bool // characters were found escaped that no encoder escapes
}

// run returns a pooled buffer with the masked source, or nil if nothing in it is
// to be masked.
func (m *masker) run() *buffer.Buffer {
	m.numberEnd = -1
	m.lineStart = len(m.b) - len(bytes.TrimLeft(m.b, " \t\r\n"))
	m.mayBeSealed = bytes.Contains(m.b, sealedPrefix)
	for i := 0; i < len(m.b); {
		switch c := m.b[i]; maskClass[c] {
		case maskPlain:
			i++
		case maskDigit, maskLetter:
			i = m.bareWord(i)
		case maskQuote:
			i = m.quote(i, 0)
		case maskBackslash:
			i = m.backslash(i)
		case maskPercent:
			i = m.percent(i)
		case maskBracket:
			m.bracket(i)
			i++
		}
	}
	if m.out != nil {
		m.out.AppendBytes(m.source[m.copied:])
	}
	return m.out
}

// replace puts with in the place of b[from:to].
func (m *masker) replace(from, to int, with string) {
	if m.out == nil {
		m.out = maskPool.Get()
	}
	m.numberEnd = -1
	if m.origin != nil {
		from, to = m.origin[from], m.origin[to]
	}
	m.out.AppendBytes(m.source[m.copied:from])
	m.out.AppendString(with)
	m.copied = to
}

// bracket follows the structure of JSON, which begins with the line or, in a
// console line, with an object.
func (m *masker) bracket(i int) {
	c := m.b[i]
	opens := c == '{' || c == '['
	switch {
	case m.depth > 0:
		if m.inString {
			return
		}
		if opens {
			m.depth++
		} else {
			m.depth--
		}
	case opens && i == m.lineStart:
		m.depth, m.inString = 1, false
	case c == '{':
		if next := m.skipSpace(i + 1); next < len(m.b) && m.b[next] == '"' {
			m.depth, m.inString = 1, false
		}
	}
}

// quote handles the quotation mark at i, which has so many backslashes before
// it.
func (m *masker) quote(i, backslashes int) int {
	if m.depth > 0 && backslashes%2 == 0 {
		m.inString = !m.inString
	}
	return i + 1
}

// bareWord handles a word that no escape sequence precedes.
func (m *masker) bareWord(i int) int {
	if m.depth > 0 && !m.inString {
		return m.number(i)
	}
	var before byte
	if i > 0 {
		before = m.b[i-1]
	}
	end, _ := m.word(i, before)
	return end
}

// number handles what stands outside the strings of JSON.
func (m *masker) number(i int) int {
	end := m.wordEnd(i)
	switch string(m.b[i:end]) {
	case "true", "false", "null":
		return end
	}
	if maskClass[m.b[i]] != maskDigit {
		// A word outside a string: this was not JSON after all.
		m.depth = 0
		return m.bareWord(i)
	}
	token := end
	for token < len(m.b) && (isWordByte(m.b[token]) || m.b[token] == '.' || m.b[token] == '-' || m.b[token] == '+') {
		token++
	}
	id, ok := m.taxID(i, end)
	switch {
	case !ok || id.letters:
		return token
	case id.punctuated && !id.comma: // with commas, these are numbers in an array
		m.replace(i, id.end, "***")
		return id.end
	case token == end && id.checked && !id.punctuated:
		m.replace(i, end, "0")
	}
	return token
}

// backslash handles a run of backslashes and what it escapes. A letter after an
// odd number of them is part of an escape sequence; after an even number it may
// be one of JSON within a string, or a plain letter.
func (m *masker) backslash(i int) int {
	next := i
	for next < len(m.b) && m.b[next] == '\\' {
		next++
	}
	if next == len(m.b) {
		return next
	}
	count := next - i
	if m.b[next] == '"' {
		return m.quote(next, count)
	}
	char, size := m.decode(next - 1)
	after := next - 1 + size
	if size > 2 && isNeedless(char) {
		m.needless = true
	}
	if size == 1 { // not an escape sequence of JSON
		char, after = '\\', next
	}
	if count%2 == 0 && after != next {
		return m.words(reading{next, '\\'}, reading{after, char})
	}
	return m.words(reading{after, char})
}

// percent handles a percent sign: it may begin an escape, of one or more
// levels, or stand for itself.
func (m *masker) percent(i int) int {
	if char, _ := m.decode(i); isUnreserved(char) {
		m.needless = true
	}
	var levels [maskMaxEscapes + 1]reading
	n, before := 0, byte('%')
	for p := i + 1; n < len(levels); p += 2 {
		levels[n] = reading{p, before}
		n++
		char, ok := hexByte(m.b, p)
		if !ok || n > 1 && before != '%' {
			break
		}
		before = char
	}
	return m.words(levels[:n]...)
}

// word handles the word at i, if there is one, and reports where it ends and
// whether something was replaced. Before is the character before it, decoded.
func (m *masker) word(i int, before byte) (end int, replaced bool) {
	end = m.wordEnd(i)
	if end == i {
		return end, false
	}
	if to, ok := m.token(i, end, before); ok {
		return to, true
	}
	if end-i >= 32 || end-i == 8 {
		if to, ok := m.idEnd(i, end); ok {
			return to, false
		}
	}
	fraction := before == '.' && m.numberEnd == i-1
	if id, ok := m.taxID(i, end); ok && (id.dotted || !fraction) {
		m.replace(i, id.end, "***")
		return id.end, true
	}
	if m.allDigits(i, end) {
		if to, ok := m.taxIDAfterDigits(i, end); ok {
			return to, true
		}
		if before != '.' {
			m.numberEnd = end
		}
		return end, false
	}
	if end-i > 11 || maskClass[m.b[end-1]] == maskDigit && m.mayBeSeparator(end) {
		return m.gluedTaxID(i, end, fraction)
	}
	return end, false
}

// wordEnd returns where the run of ASCII letters and digits that begins at i
// ends.
func (m *masker) wordEnd(i int) int {
	for i < len(m.b) && isWordByte(m.b[i]) {
		i++
	}
	return i
}

func (m *masker) allDigits(from, to int) bool {
	for _, c := range m.b[from:to] {
		if maskClass[c] != maskDigit {
			return false
		}
	}
	return true
}

func isWordByte(c byte) bool {
	return maskClass[c]-maskDigit <= maskLetter-maskDigit
}

// What a byte can begin.
const (
	maskPlain uint8 = iota
	maskDigit
	maskLetter
	maskQuote
	maskBackslash
	maskPercent
	maskBracket
)

var maskClass = func() (class [256]uint8) {
	for c := '0'; c <= '9'; c++ {
		class[c] = maskDigit
	}
	for c := 'a'; c <= 'z'; c++ {
		class[c], class[c-'a'+'A'] = maskLetter, maskLetter
	}
	for _, c := range "{}[]" {
		class[c] = maskBracket
	}
	class['"'], class['\\'], class['%'] = maskQuote, maskBackslash, maskPercent
	return class
}()

var maskPool = buffer.NewPool()
