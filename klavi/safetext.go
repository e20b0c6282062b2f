package klavi

import (
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

const (
	hidden = "[hidden]"
	// A longer text is no message, and would take long to look through.
	maxLookedAt = 16 << 10
)

var (
	// A word is what a token, a key or an address could be written in.
	wordPattern = regexp.MustCompile(`[0-9A-Za-z_@.+~%-]+`)
	// A CNPJ with or without its punctuation, letters included; whether it is one, the check digits tell.
	cnpjPattern = regexp.MustCompile(`[0-9A-Za-z]{2}[. ]?[0-9A-Za-z]{3}[. ]?[0-9A-Za-z]{3}[/ ]?[0-9A-Za-z]{4}[- ]?[0-9]{2}`)
	// Eleven or more digits, alone or with the punctuation of a tax id or a telephone number between them.
	digitsPattern = regexp.MustCompile(`(?:[0-9][ ./()_\x{2010}-\x{2015}\x{2212}-]{0,2}){10,}[0-9]`)
	uuidPattern   = regexp.MustCompile(`(?i)^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)
	// A stack trace, from its first line to the end of the text.
	stackPattern = regexp.MustCompile(`(?s)\s*\n\s*(?:at |File "|goroutine |Caused by|Traceback ).*`)
	// Where in a program, a machine or a network something went wrong.
	placePattern = regexp.MustCompile(`(?i)(?:/[\w@.+-]+){2,}:\d+(?::\d+)?` +
		`|\b(?:\d{1,3}\.){3}\d{1,3}(?::\d+)?\b` +
		`|\b(?:[\w-]+\.)+(?:internal|local|localdomain|lan|intranet|svc|corp)\b(?::\d+)?|\blocalhost(?::\d+)?\b`)
)

// safeText returns text that somebody else wrote in a form that may be logged: at most limit bytes of valid UTF-8, on
// one line, without a stack trace, and "[hidden]" in place of what looks like a token, a key, an e-mail address, a tax
// id, or a place inside somebody's network. It would rather hide too much. Of a text above 16 KiB nothing is left.
func safeText(text string, limit int) string {
	// All of it is looked at before it is cut: half a token at the cut would pass as something shorter.
	if len(text) > maxLookedAt {
		return ""
	}
	text = stackPattern.ReplaceAllString(text, "")
	text = strings.Map(func(r rune) rune {
		if r == utf8.RuneError || !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, text)
	text = strings.Join(strings.Fields(text), " ")
	var spans [][]int
	for _, at := range wordPattern.FindAllStringIndex(text, -1) {
		if isSecretWord(text[at[0]:at[1]]) {
			spans = append(spans, at)
		}
	}
	spans = append(spans, placePattern.FindAllStringIndex(text, -1)...)
	spans = append(spans, digitsPattern.FindAllStringIndex(text, -1)...)
	return cut(hide(text, append(spans, findCNPJs(text)...)), limit)
}

// hide puts "[hidden]" in place of the spans of text, which may overlap: found one after the other, what is left of
// one could keep the next from being found.
func hide(text string, spans [][]int) string {
	slices.SortFunc(spans, func(a, b []int) int { return a[0] - b[0] })
	var out strings.Builder
	end := 0
	for _, span := range spans {
		if span[0] >= end {
			out.WriteString(text[end:span[0]])
			out.WriteString(hidden)
		}
		end = max(end, span[1])
	}
	out.WriteString(text[end:])
	return out.String()
}

// findCNPJs looks at every place: what fits the pattern and is none may overlap with one, as in "no 12ABC34501DE35".
func findCNPJs(text string) [][]int {
	var spans [][]int
	for from := 0; ; {
		at := cnpjPattern.FindStringIndex(text[from:])
		if at == nil {
			return spans
		}
		start, end := from+at[0], from+at[1]
		if _, ok := CNPJ(text[start:end]); ok {
			spans = append(spans, []int{start, end})
		}
		from = start + 1
	}
}

// minSecret is how long a secret is at least for [Repeats] to look for it: shorter ones stand in texts by chance.
const minSecret = 8

// Repeats reports whether text holds one of the secrets, as it is. Those of fewer than 8 bytes are not looked for.
func Repeats(text string, secrets ...string) bool {
	return slices.ContainsFunc(secrets, func(secret string) bool {
		return len(secret) >= minSecret && strings.Contains(text, secret)
	})
}

func isSecretWord(word string) bool {
	if strings.Contains(word, "@") || strings.Contains(word, "eyJ") {
		return true
	}
	word = strings.Trim(word, ".-")
	if uuidPattern.MatchString(word) || ValidReportType(word) {
		return false
	}
	return len(word) >= 40 || len(word) >= 16 && strings.ContainsAny(word, "0123456789")
}

// cut shortens s to at most max bytes, on the border of a character.
func cut(s string, max int) string {
	if len(s) <= max {
		return s
	}
	const ellipsis = "..."
	n := max - len(ellipsis)
	if n < 0 {
		return ""
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n] + ellipsis
}
