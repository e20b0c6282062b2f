package conformance

import (
	"bytes"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
)

var readOnce = sync.OnceValues(Corpus)

func corpusLines(t *testing.T) []Line {
	t.Helper()
	lines, err := readOnce()
	if err != nil {
		t.Fatal(err)
	}
	if len(lines) < 190 {
		t.Fatalf("got %d lines, want the whole corpus", len(lines))
	}
	return lines
}

func TestNotation(t *testing.T) {
	for _, test := range []struct{ raw, want string }{
		{"a {LINK_TOKEN}{LINK_TOKEN} b", "a Token-AbCToken-AbC b"},
		{"{LINK_TOKEN CUT}", "Token-Ab"},
		{"{LINK_TOKEN FLIPPED}", "TokeA-AbC"},
		{"{LINK_TOKEN LOWER}", "token-abc"},
		{"a{HEX 00ff}b", "a\x00\xffb"},
		{`{TIMES 3 [ TIMES}{TIMES 2 ]} TIMES}`, "[[[]}]}"},
		{"\r\n\r\nxy...<10 bytes total>", "\r\n\r\nxyyyyy"},
		{"A: b\r\nContent-Length: 4\r\n\r\nxy...<99 bytes total>", "A: b\r\nContent-Length: 4\r\n\r\nxyyy"},
		{"GET /a...<116 bytes total>", "GET /" + strings.Repeat("a", 116-5-len(restOfHead)) + strings.ReplaceAll(restOfHead, "{LINK_TOKEN}", "Token-AbC")},
	} {
		got, err := (&Line{Raw: test.raw}).Bytes("Token-AbC")
		if err != nil || string(got) != test.want {
			t.Errorf("%q: got %q (%v), want %q", test.raw, got, err, test.want)
		}
	}
}

func TestMisspeltNotation(t *testing.T) {
	for _, raw := range []string{
		"{HEX f}", "{HEX FF}", "{HEX}", "{TIMES x [ TIMES}", "{TIMES 3 [", "{LINK_TOKEN UPPER}", "{LINK_TOKENS}", "abc...<2 bytes total>",
		"a...<100 bytes total> b", "{TIMES 99999999999999999999 [ TIMES}",
	} {
		l := Line{ID: "X1", Raw: raw}
		if got, err := l.Bytes("Token"); err == nil || !strings.Contains(err.Error(), "X1") {
			t.Errorf("%q: got %q (%v), want an error that names the line", raw, got, err)
		}
	}
}

func TestWants(t *testing.T) {
	for _, test := range []struct {
		expect string
		want   []Want
	}{
		{"allow", []Want{Allow}},
		{"allow (query dropped)", []Want{Allow}},
		{"allow: it is the same name", []Want{Allow}},
		{"allow, or 400 that names what is missing", []Want{Allow}},
		{"reject", []Want{Reject}},
		{"reject (redirect allow-list)", []Want{Reject}},
		{"reject, or serve in constant form", []Want{Either}},
		{"1st allow, 2nd reject", []Want{Allow, Reject}},
		{"allow, perhaps", nil},
		{"rejected", nil},
		{"", nil},
	} {
		got, err := (&Line{ID: "X1", Expect: test.expect}).Wants()
		if !slices.Equal(got, test.want) || (err == nil) != (test.want != nil) {
			t.Errorf("%q: got %v (%v), want %v", test.expect, got, err, test.want)
		}
	}
}

// Where a line is not about its length, the length is right: a request that is
// refused for the wrong reason shows nothing.
func TestLengths(t *testing.T) {
	length := regexp.MustCompile(`\r\nContent-Length: ([0-9]+)\r\n`)
	for _, l := range corpusLines(t) {
		if l.Category == "framing" || l.Category == "header" || l.ID == "B07" {
			continue // B07 is refused for its type, with any length
		}
		raw, err := l.Bytes("Token")
		if err != nil {
			t.Fatal(err)
		}
		head, body, found := bytes.Cut(raw, []byte("\r\n\r\n"))
		if !found {
			t.Errorf("%s: the head has no end", l.ID)
			continue
		}
		declared := 0
		if match := length.FindSubmatch(append(head, "\r\n"...)); match != nil {
			declared, _ = strconv.Atoi(string(match[1]))
		}
		if declared != len(body) && !bytes.Contains(head, []byte("\nTransfer-Encoding:")) {
			t.Errorf("%s: got Content-Length %d, want %d", l.ID, declared, len(body))
		}
	}
}

func TestProblemTypesAreThoseOfTheDocs(t *testing.T) {
	text, err := os.ReadFile("../../docs/problems.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(text), "\n## For browsers")
	section, _, _ = strings.Cut(section, "\n## ")
	rows := regexp.MustCompile("(?m)^\\| `([a-z-]+)` \\|").FindAllStringSubmatch(section, -1)
	if len(rows) < 20 {
		t.Fatalf("got %d rows, want the table of types", len(rows))
	}
	for _, row := range rows {
		if _, ok := problems[row[1]]; !ok {
			t.Errorf("the type %s of docs/problems.md is not known here", row[1])
		}
	}
}
