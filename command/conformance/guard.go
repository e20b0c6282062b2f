package conformance

import (
	"context"
	"regexp"
	"strconv"
	"strings"
)

// guard keeps lines back that create something, or would at a target that lets
// everything through. No consent comes about without an institution, so that
// those are harmless that name none, under a link that fixes none.
type guard struct {
	create bool
	// fixed says why the link may fix an institution, empty if it does not.
	fixed string
}

var (
	// postLike is a method that creates, wherever in a request it stands: in the
	// request line, in that of a hidden request, or where it overrides another.
	postLike = regexp.MustCompile(`(?i)(\b(POST|PUT|PATCH)[ \t]+[^\s]|(x-http-method|method-override|_method)[^\n]{0,3}[=:][ \t]*(POST|PUT|PATCH))`)

	escaped = regexp.MustCompile(`(\\u00|%(25)*)[0-9a-fA-F]{2}`)
)

// skip returns why a line is not sent, empty if it is. raw is as the corpus has it.

func (g guard) skip(raw string, wants []Want) string {
	if g.create || !postLike.MatchString(raw) {
		return ""
	}
	for _, want := range wants {
		if want != Reject {
			return "it may create a consent: --create-consents sends it"
		}
	}
	switch {
	case strings.Contains(plainText(raw), "links"):
		return "a target that lets it through would create a link: --create-consents sends it"
	case namesInstitution(raw):
		return "a target that lets it through would create a consent: --create-consents sends it"
	}
	return g.fixed
}

// learn has no more lines sent that could create something, once one did.
func (g *guard) learn(r Result) {
	for _, a := range r.Got {
		if a.created {
			g.fixed = "line " + r.ID + " created something, against all expectation; this one could too: --create-consents sends it"
		}
	}
}

// plainText writes a request without what could hide a word from a search.
func plainText(raw string) string {
	raw = hexBytes.ReplaceAllStringFunc(raw, decodeHex)
	raw = escaped.ReplaceAllStringFunc(raw, func(match string) string {
		code, _ := strconv.ParseUint(match[len(match)-2:], 16, 8)
		return string(rune(code))
	})
	return strings.ToLower(strings.ReplaceAll(raw, "\x00", ""))
}

// namesInstitution reports whether a request may say at which institution a
// consent is to be.
func namesInstitution(raw string) bool {
	return strings.Contains(strings.ReplaceAll(plainText(raw), "/institutions", ""), "institution")
}

// probeBody asks for a consent at an institution that does not exist.
const probeBody = `{"externalTrackId":"caddy-klavi-conformance","institutionCode":"caddy-klavi-conformance"}`

// probe finds out whether the link, or the site, fixes an institution: then an
// institution that does not exist is refused by klavi_frontend, else by Klavi.
func (r *run) probe(ctx context.Context, g *guard) (Result, error) {
	l := &Line{ID: "A0", Raw: "POST " + corpusPrefix + "/consents HTTP/1.1\r\nHost: " + corpusHost +
		"\r\nAuthorization: Bearer {LINK_TOKEN}\r\nContent-Type: application/json\r\nContent-Length: " + strconv.Itoa(len(probeBody)) +
		"\r\nConnection: close\r\n\r\n" + probeBody}
	result := Result{
		ID: l.ID, Category: "control", What: "consent at an institution that does not exist", Want: Reject.String(), Verdict: OK,
	}
	_, raw, err := r.write(l)
	if err != nil {
		return result, err
	}
	if result.Got, err = r.send(ctx, raw); err != nil {
		return result, err
	}
	switch a := result.Got[0]; {
	case a.Status/100 == 2:
		result.Verdict = Fail
		result.Note = "it was served: the target may have put another institution in its place, and created a consent"
		g.fixed = "the target may put an institution into it, and create a consent: --create-consents sends it"
	case klaviRefusedBody(a):
		result.Note = "refused by Klavi: the link fixes no institution, so that what names none creates nothing"
	default:
		result.Note = "not refused by Klavi: the link may be for one institution"
		g.fixed = "the link may be for one institution, so that a target that lets it through would create a consent: " +
			"take a link without institutionCode, or --create-consents"
	}
	return result, nil
}
