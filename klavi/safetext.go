package klavi

import (
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"
)

const hidden = "[hidden]"

var (
	// A word is what a token, a key or an address could be written in.
	wordPattern = regexp.MustCompile(`[0-9A-Za-z_@.+~%-]+`)
	// A CNPJ with or without its punctuation, letters included; whether it is one, the check digits tell.
	cnpjPattern = regexp.MustCompile(`[0-9A-Za-z]{2}[. ]?[0-9A-Za-z]{3}[. ]?[0-9A-Za-z]{3}[/ ]?[0-9A-Za-z]{4}[- ]?[0-9]{2}`)
	// Eleven or more digits, alone or with the punctuation of a tax id or a telephone number between them.
	digitsPattern = regexp.MustCompile(`(?:[0-9][ ./()-]{0,2}){10,}[0-9]`)
	uuidPattern   = regexp.MustCompile(`(?i)^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)
)

// safeText returns text that somebody else wrote in a form that may be logged: at most max bytes of valid UTF-8, on
// one line, and "[hidden]" in place of what looks like a token, a key, an e-mail address or a tax id. It would rather
// hide too much.
func safeText(text string, max int) string {
	// Looking beyond the cut keeps half a token at the cut from passing as something shorter.
	text = cut(text, 4*max)
	text = strings.Map(func(r rune) rune {
		if r == utf8.RuneError || !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, text)
	text = strings.Join(strings.Fields(text), " ")
	text = cnpjPattern.ReplaceAllStringFunc(text, func(word string) string {
		if _, ok := CNPJ(word); ok {
			return hidden
		}
		return word
	})
	text = wordPattern.ReplaceAllStringFunc(text, func(word string) string {
		if isSecretWord(word) {
			return hidden
		}
		return word
	})
	text = digitsPattern.ReplaceAllString(text, hidden)
	return cut(text, max)
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
