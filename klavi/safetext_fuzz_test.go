package klavi

import (
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

// personal are texts that must not be told, with the shortest part of each that
// would tell something.
var personal = map[string]string{
	"52998224725":                  "52998",
	"529.982.247-25":               "529.9",
	"529 982 247 25":               "529 9",
	"11.222.333/0001-81":           "11.22",
	"12ABC34501DE35":               "12ABC",
	"ana.souza@example.com":        "souza",
	"+55 11 98765-4321":            "98765",
	"eyJhbGciOiJFUzI1NiJ9.e30.c2k": "eyJhb",
	"KLT14Pp5uAS0sRCuvd9h-CWZGT4x": "sRCuv",
	"9f86d081884c7d659a2feaa0c55a": "9f86d",
	"10.1.22.7:5432":               "10.1.",
	"db.klavi.internal":            "db.kl",
	"/usr/src/app/dist/main.js:12": "/usr/",
}

// Wherever it stands, and however long what is around it: nothing of it is told.
func TestSafeTextAtEveryPlace(t *testing.T) {
	long := strings.Repeat("0123456789abcdef", 80)
	for text, part := range personal {
		for _, before := range []string{"", "a ", "é ", "\n", long + " ", "x@y "} {
			for _, n := range []int{0, 1, 2, 5, 11} {
				got := safeText(strings.Repeat(before, n)+text+" and so on", 100)
				if strings.Contains(got, part) {
					t.Errorf("%d times %.20q before %s: got %q, want nothing of it", n, before, text, got)
				}
			}
		}
		for n := 40; n < 450; n += 5 { // a word of which little is left
			if got := safeText(strings.Repeat("x", n)+" "+text, 100); strings.Contains(got, part) {
				t.Errorf("%d bytes before %s: got %q, want nothing of it", n, text, got)
			}
		}
	}
	if got := safeText(strings.Repeat("a ", maxLookedAt), 300); got != "" {
		t.Errorf("got %d bytes of a text that is too long, want none", len(got))
	}
}

// onOneLine writes a text as safeText does, and hides nothing of it.
func onOneLine(text string) string {
	return strings.Join(strings.FieldsFunc(text, func(r rune) bool { return r == utf8.RuneError || r == ' ' || !unicode.IsPrint(r) }), " ")
}

func FuzzSafeText(f *testing.F) {
	for text := range personal {
		f.Add("before "+text, "after")
	}
	for _, text := range []string{"\xff\x00", "a\n    at f (x.js:1:2)", "\u202e", "5\u00a02\u20039", "99-99-", "a@", "12.ABC.345"} {
		f.Add(text, text)
	}
	f.Fuzz(func(t *testing.T, before, after string) {
		whole := safeText(before+after, 300)
		if len(whole) > 300 || !utf8.ValidString(whole) {
			t.Fatalf("got %d bytes of %q, want at most 300 of valid UTF-8", len(whole), whole)
		}
		digits := 0
		for _, r := range whole {
			if !unicode.IsPrint(r) {
				t.Fatalf("%q holds %U", whole, r)
			}
			if r < '0' || r > '9' {
				digits = 0
				continue
			}
			if digits++; digits == 11 {
				t.Fatalf("%q holds eleven digits in a row", whole)
			}
		}
		around := onOneLine(before + " " + after)
		for text, part := range personal {
			if strings.Contains(around, part) {
				continue // by itself it may be anything
			}
			if got := safeText(before+" "+text+" "+after, 300); strings.Contains(got, part) {
				t.Fatalf("%q %s %q: got %q", before, text, after, got)
			}
		}
	})
}
