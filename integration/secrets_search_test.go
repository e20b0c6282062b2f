package integration

import (
	"encoding/base64"
	"maps"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// hidden is what must not be read where it does not belong: words by what they
// are, and tax ids.
type hidden struct {
	words  map[string]string
	taxIDs []string
}

func (h *hidden) add(what string, words ...string) {
	if h.words == nil {
		h.words = make(map[string]string)
	}
	for _, word := range words {
		if word != "" {
			h.words[word] = what
		}
	}
}

// finding is a hidden thing that stands in a text.
type finding struct{ what, word, where string }

// find returns what of it stands in text, however it is escaped there. Of a long
// word its middle is enough: whoever cuts words, leaves beginnings or ends.
func (h *hidden) find(text string) []finding {
	found := make(map[string]finding) // by word
	for _, reading := range readings(text) {
		for word, what := range h.words {
			part := word
			if len(part) > 24 {
				part = part[len(part)/2-8 : len(part)/2+8]
			}
			for _, form := range []string{part, base64.StdEncoding.EncodeToString([]byte(word))} {
				if i := strings.Index(reading, form); i >= 0 {
					found[word] = finding{what, word, around(reading, i, i+len(form))}
				}
			}
		}
		bare := bare(reading)
		for _, id := range h.taxIDs {
			if i := strings.Index(bare, id); i >= 0 {
				found[id] = finding{"a tax id", id, around(bare, i, i+len(id))}
			}
		}
	}
	return slices.Collect(maps.Values(found))
}

// wantNone fails the test if any of it stands in text.
func (h *hidden) wantNone(t testing.TB, where, text string) {
	t.Helper()
	for _, f := range h.find(text) {
		t.Errorf("%s shows %s, %.20q: …%s…", where, f.what, f.word, f.where)
	}
}

func around(text string, from, to int) string {
	return text[max(0, from-200):min(len(text), to+100)]
}

// bare leaves out of text what may stand between the characters of a tax id.
func bare(text string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case '0' <= r && r <= '9' || 'A' <= r && r <= 'Z':
			return r
		case 'a' <= r && r <= 'z':
			return r - 'a' + 'A'
		}
		return -1
	}, text)
}

var escapes = regexp.MustCompile(`%[0-9A-Fa-f]{2}|\\+u[0-9A-Fa-f]{4}|\\.`)

// readings returns text as it is, and with its escapes undone once, twice, ...
func readings(text string) []string {
	all := []string{text}
	for range 5 {
		plain := escapes.ReplaceAllStringFunc(text, func(escape string) string {
			if escape[0] == '%' {
				char, err := url.PathUnescape(escape)
				if err != nil {
					return escape
				}
				return char
			}
			if i := strings.LastIndexByte(escape, '\\'); len(escape)-i == 6 {
				char, err := url.PathUnescape("%" + escape[len(escape)-2:])
				if err != nil || escape[i+2:i+4] != "00" {
					return "?"
				}
				return char
			}
			return strings.NewReplacer(`\n`, "\n", `\t`, "\t", `\r`, "\r", `\`, "").Replace(escape)
		})
		if plain == text {
			break
		}
		text = plain
		all = append(all, text)
	}
	return all
}

// The search finds what it is for.
func TestHiddenIsFound(t *testing.T) {
	h := hidden{taxIDs: []string{"52998224725", "12ABC34501DE35"}}
	h.add("a token", "KLT1-the-token-with-a-middle-of-its-own-0123456789")
	h.add("a key", "short/key")
	for _, text := range []string{
		"x52998224725y", "529.982.247-25", "529%2E982%2E247%2D25", "529%252E982%252E247%252D25", "529 982 247 25",
		`{"a":"{\"b\":\"529\\u002e982\\u002e247-25\"}"}`, `\u0035\u0032\u0039\u0039\u0038\u0032\u0032\u0034\u0037\u0032\u0035`,
		"12.abc.345/01de-35", "12%2EABC%2E345%2F01DE%2D35", "short%2Fkey", `short\/key`, "short%252Fkey", "c2hvcnQva2V5",
		"KLT1-the-token-with-a-middle-of-its-...", "...n-with-a-middle-of-its-own-0123456789",
	} {
		if len(h.find(text)) == 0 {
			t.Errorf("found nothing in %s", text)
		}
	}
	for _, text := range []string{"", "***", "52998224724", "short key", "KLT1-the-token...", "%zz 100% \\u12"} {
		if found := h.find(text); len(found) > 0 {
			t.Errorf("got %v in %s, want nothing", found, text)
		}
	}
}
