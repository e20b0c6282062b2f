// Package conformance sends the requests of a corpus to a running klavi_frontend,
// byte by byte as they are written there, and judges what comes back. It knows no
// Caddy and nothing of the gateway: it sees what any client sees.
package conformance

import (
	"bytes"
	_ "embed"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

//go:embed corpus.jsonl
var corpus []byte

// Line is a request of the corpus, and what must become of it.
type Line struct {
	ID       string `json:"id"`
	Category string `json:"category"`
	What     string `json:"what"`
	// Raw is the request for Host gw.example and prefix /klavi. In it
	// {LINK_TOKEN} is a link token, also CUT by a character, FLIPPED in one, or
	// in LOWER case; {HEX ff} is bytes, and {TIMES 3 [ TIMES} is a text that
	// often. An end such as ...<65108 bytes total> has the last character
	// before it go on until the request is that long, or its body as long as it
	// says.
	Raw string `json:"raw"`
	// Expect says what must become of the request, in one of the ways that
	// [Line.Wants] understands, with a remark behind ": " or in parentheses.
	Expect string `json:"expect"`
}

// Want is what must become of one request.
type Want int

const (
	// Allow: it is served. What a POST lacks may be asked for instead.
	Allow Want = iota
	// Reject: it is refused, and nothing of it goes on to Klavi.
	Reject
	// Either: it is refused, or goes on without what is odd about it.
	Either
)

func (w Want) String() string {
	return [...]string{"allow", "reject", "allow or reject"}[w]
}

// expectations are the ways in which the corpus says what it expects. Whether
// something is stripped or dropped on the way can be seen behind the gateway
// only; before it, the request is one that is served.
var expectations = map[string][]Want{
	"allow": {Allow},
	"allow, or 400 that names what is missing": {Allow},
	"allow, the own header counts":             {Allow},
	"allow normalised":                         {Allow},
	"strip header":                             {Allow},
	"strip upgrade":                            {Allow},
	"drop query":                               {Allow},
	"reject":                                   {Reject},
	"reject, or serve in constant form":        {Either},
	"reject/drop":                              {Either},
	"1st allow, 2nd reject":                    {Allow, Reject},
}

// Wants returns what must become of each request of the line, in turn. A single
// one is meant for all that the line can be taken for.
func (l *Line) Wants() ([]Want, error) {
	text, _, _ := strings.Cut(l.Expect, ": ")
	text, _, _ = strings.Cut(text, " (")
	wants, ok := expectations[text]
	if !ok {
		return nil, fmt.Errorf("line %s: %q is no expectation that is known here", l.ID, l.Expect)
	}
	return wants, nil
}

// Corpus returns the lines of the corpus. They are checked: all can be expanded,
// and say what they expect.
func Corpus() ([]Line, error) {
	var lines []Line
	seen := make(map[string]bool)
	for text := range bytes.Lines(corpus) {
		var l Line
		if err := json.Unmarshal(text, &l); err != nil {
			return nil, fmt.Errorf("line %d: %w", len(lines)+1, err)
		}
		if l.ID == "" || seen[l.ID] {
			return nil, fmt.Errorf("line %d: the id %q is empty or taken", len(lines)+1, l.ID)
		}
		seen[l.ID] = true
		if _, err := l.Wants(); err != nil {
			return nil, err
		}
		if _, err := l.unshortened(); err != nil {
			return nil, fmt.Errorf("line %s: %w", l.ID, err)
		}
		lines = append(lines, l)
	}
	return lines, nil
}

var (
	elided   = regexp.MustCompile(`\.\.\.<([0-9]+) bytes total>$`)
	hexBytes = regexp.MustCompile(`\{HEX (?:[0-9a-f]{2})+\}`)
	repeated = regexp.MustCompile(`\{TIMES ([0-9]+) (.+?) TIMES\}`)
)

// restOfHead follows a path that goes on until the request is long.
const restOfHead = " HTTP/1.1\r\nHost: gw.example\r\nAuthorization: Bearer {LINK_TOKEN}\r\nConnection: close\r\n\r\n"

// Bytes returns the request with a link token in it, as long as it was before it
// was shortened for the file.
func (l *Line) Bytes(token string) ([]byte, error) {
	raw, err := l.unshortened()
	if err != nil {
		return nil, fmt.Errorf("line %s: %w", l.ID, err)
	}
	return fill(raw, token), nil
}

// fill writes a link token, of two characters or more, into a request.
func fill(raw, token string) []byte {
	return []byte(strings.NewReplacer("{LINK_TOKEN}", token, "{LINK_TOKEN CUT}", token[:len(token)-1],
		"{LINK_TOKEN FLIPPED}", flipped(token), "{LINK_TOKEN LOWER}", strings.ToLower(token)).Replace(raw))
}

// unshortened replaces all of the notation but the link token.
func (l *Line) unshortened() (string, error) {
	raw, end := l.Raw, ""
	if found := elided.FindString(raw); found != "" {
		raw, end = strings.TrimSuffix(raw, found), found
	}
	raw = hexBytes.ReplaceAllStringFunc(raw, decodeHex)
	var problem error
	raw = repeated.ReplaceAllStringFunc(raw, func(match string) string {
		found := repeated.FindStringSubmatch(match)
		times, err := strconv.Atoi(found[1])
		if err != nil {
			problem = fmt.Errorf("%s: %w", match, err)
			return ""
		}
		return strings.Repeat(found[2], times)
	})
	filled := fill(raw, "Token")
	for _, part := range []string{"{HEX", "{TIMES", "{LINK_TOKEN", "TIMES}", "bytes total>"} {
		if problem == nil && bytes.Contains(filled, []byte(part)) {
			problem = fmt.Errorf("%s is not written as the notation has it", part)
		}
	}
	if end == "" || problem != nil {
		return raw, problem
	}
	return goOn(raw, elided.FindStringSubmatch(end)[1])
}

// decodeHex returns the bytes of {HEX ..}.
func decodeHex(text string) string {
	decoded, _ := hex.DecodeString(strings.TrimSuffix(strings.TrimPrefix(text, "{HEX "), "}"))
	return string(decoded)
}

// goOn repeats the last character until the body is as long as the head says, or
// else the request has that many bytes.
func goOn(raw, length string) (string, error) {
	total, err := strconv.Atoi(length)
	head, body, inBody := strings.Cut(raw, "\r\n\r\n")
	if found := contentLength.FindStringSubmatch(head + "\r"); inBody && found != nil {
		total, err = strconv.Atoi(found[2])
		total += len(raw) - len(body)
	}
	rest := ""
	if !inBody { // it is the path that is long
		rest = restOfHead
	}
	if err != nil || raw == "" || total < len(raw)+len(rest) {
		return "", fmt.Errorf("%s bytes are less than what stands before", length)
	}
	return raw + strings.Repeat(raw[len(raw)-1:], total-len(raw)-len(rest)) + rest, nil
}

// flipped returns the token with another character in its middle.
func flipped(token string) string {
	i := len(token) / 2
	other := "A"
	if token[i] == 'A' {
		other = "B"
	}
	return token[:i] + other + token[i+1:]
}
