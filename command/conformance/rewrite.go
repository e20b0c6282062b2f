package conformance

import (
	"regexp"
	"strconv"
	"strings"
)

// unwritableError is why a line cannot be sent to a target: the reader of the
// results sees it.
type unwritableError string

func (e unwritableError) Error() string { return string(e) }

// headerLine is a line that may name host or prefix, as request lines do. No body
// of JSON has such lines.
var headerLine = regexp.MustCompile(`^[A-Za-z0-9_-]+[ \t]*:`)

// longest is more than a line has that is of interest: longer ones are filled up.
const longest = 4 << 10

// rewrite returns a request of the corpus as it is written for the target, with
// more header fields. What would not be the same test then is unwritableError.
func (t *Target) rewrite(raw string, more []Header) (string, error) {
	var fields strings.Builder
	for _, h := range more {
		if regexp.MustCompile(`(?im)^` + regexp.QuoteMeta(h.name) + `[ \t]*:`).MatchString(raw) {
			return "", unwritableError("it has a " + h.name + " of its own, beside that of --header")
		}
		fields.WriteString(h.name + ": " + h.value + "\r\n")
	}
	spellings := t.spellings()
	path := strings.NewReplacer(spellings...)

	var b strings.Builder
	inHead, body := false, -1 // body is where the first one begins
	for line := range strings.Lines(raw) {
		blank := strings.TrimRight(line, "\r\n") == ""
		first := b.Len() == 0 && !blank
		if !first && len(line) > longest {
			b.WriteString(line)
			continue
		}
		request := first || strings.HasSuffix(line, " HTTP/1.1\r\n")
		if request {
			inHead = true
			if !canSpell(line, spellings) {
				return "", unwritableError("it spells the prefix /klavi in a way that does not exist for this one")
			}
		}
		if request || headerLine.MatchString(line) {
			line = t.rewriteHost(path.Replace(line))
		}
		if inHead && blank {
			b.WriteString(fields.String())
		}
		b.WriteString(line)
		if inHead && blank {
			inHead = false
			if body < 0 {
				body = b.Len()
			}
		}
	}
	if body < 0 {
		return b.String(), nil
	}
	return fitLength(raw, b.String()[:body], b.String()[body:])
}

// spellings are the ways in which the corpus writes the prefix, each with how it
// is written for the target. Only the first is right. A way that would write the
// right prefix is left out.
func (t *Target) spellings() []string {
	p := t.prefix
	first := strings.ToUpper(strconv.FormatUint(uint64(p[1]), 16))
	all := []string{corpusPrefix, p}
	for _, odd := range [][2]string{
		{"/KLAVI", strings.ToUpper(p)},
		{"/%6Blavi", "/%" + first + p[2:]},
		{"/%256Blavi", "/%25" + first + p[2:]},
		{"/kla%C2%ADvi", p[:max(1, len(p)-2)] + "%C2%AD" + p[max(1, len(p)-2):]},
		{"/%EF%BB%BFklavi", "/%EF%BB%BF" + p[1:]},
		{"/kl*", p[:max(1, len(p)-3)] + "*"},
		{" klavi/", " " + p[1:] + "/"},
		{`\klavi`, strings.ReplaceAll(p, "/", `\`)},
		// Letters that fold to others: k to the Kelvin sign, i to the dotless one.
		{"/%E2%84%AAlavi", strings.Replace(p, "k", "%E2%84%AA", 1)},
		{"/\u212alavi", strings.Replace(p, "k", "\u212a", 1)},
		{"/klav%C4%B1", strings.Replace(p, "i", "%C4%B1", 1)},
	} {
		if odd[1] != p {
			all = append(all, odd[0], odd[1])
		}
	}
	return all
}

var likePrefix = regexp.MustCompile(`(?i)kl|lavi`)

// canSpell reports whether a request line names no prefix, or one that can be
// written for the target.
func canSpell(line string, spellings []string) bool {
	for i := 0; i < len(spellings); i += 2 {
		if strings.Contains(line, spellings[i]) {
			return true
		}
	}
	return !likePrefix.MatchString(strings.ReplaceAll(line, "klavi.ai", ""))
}

var (
	// ownHost is the corpus' host where it stands as it is, rather than within another.
	ownHost     = regexp.MustCompile(regexp.QuoteMeta(corpusHost) + `($|[\r\n /?,"])`)
	ownOrigin   = regexp.MustCompile(`http://([^\s/",]*` + regexp.QuoteMeta(corpusHost) + `)`)
	defaultPort = corpusHost + ":80"
	otherPort   = corpusHost + ":81"
)

// rewriteHost writes the target's host, with its port where the corpus' host
// stands alone, and the target's scheme where that host has one.
func (t *Target) rewriteHost(line string) string {
	if !strings.Contains(line, corpusHost) {
		return line
	}
	line = ownOrigin.ReplaceAllString(line, t.scheme+"://$1")
	if t.port == "81" {
		line = strings.ReplaceAll(line, otherPort, corpusHost+":82")
	}
	if t.port == "" {
		line = strings.ReplaceAll(line, defaultPort, corpusHost+":"+t.schemePort())
	}
	line = ownHost.ReplaceAllString(line, t.host()+"$1")
	return strings.ReplaceAll(line, corpusHost, t.name)
}

var contentLength = regexp.MustCompile(`(?im)^(Content-Length: )([0-9]+)\r$`)

// fitLength puts head and body together. A body that is longer or shorter than
// that of raw now gets the length that it has, if raw had the right one.
func fitLength(raw, head, body string) (string, error) {
	_, before, _ := strings.Cut(raw, "\r\n\r\n")
	found := contentLength.FindStringSubmatch(head)
	if found == nil {
		return head + body, nil
	}
	declared, err := strconv.Atoi(found[2])
	if err != nil || declared > len(before) {
		declared = len(before)
	}
	switch {
	case declared <= len(body) && body[:declared] == before[:declared]:
		return head + body, nil
	case declared == len(before):
		return contentLength.ReplaceAllString(head, "${1}"+strconv.Itoa(len(body))+"\r") + body, nil
	}
	return "", unwritableError("its body names host or prefix, and would not have the length that it says")
}
