package conformance

import (
	"net/http"
	"strings"
)

// Verdict is what an answer shows.
type Verdict string

// The verdicts.
const (
	OK      Verdict = "ok"
	Fail    Verdict = "FAIL"
	Skipped Verdict = "skipped"
)

// reach is how far a request came that was answered with a problem.
type reach int

const (
	refused   reach = iota // klavi_frontend refused it
	forwarded              // Klavi was asked, or would have been if it could be reached
	unclear                // it could be either
)

// problems are the types of klavi_frontend's problems: docs/problems.md.
var problems = map[string]reach{
	"login-required":          refused,
	"not-yours":               refused,
	"origin":                  refused,
	"not-found":               refused,
	"method-not-allowed":      refused,
	"invalid-request":         refused,
	"unsupported-media-type":  refused,
	"unknown-field":           refused,
	"invalid-field":           refused,
	"redirect-not-listed":     refused,
	"link-invalid":            refused,
	"consent-mismatch":        refused,
	"idempotency-conflict":    refused,
	"too-large":               refused,
	"too-slow":                refused,
	"too-early":               refused,
	"link-expired":            forwarded, // by Klavi: where the link has run out indeed, the run has ended before
	"consent-limit":           forwarded,
	"institution-unavailable": forwarded,
	"klavi-refused":           forwarded,
	"klavi-unreachable":       forwarded,
	"klavi-nonsense":          forwarded,
	"rate-limited":            unclear,
	"internal":                unclear,
}

// Notes that stand in the results.
const (
	noteNotGateway = "refused, but not by klavi_frontend: by its HTTP server, or by something beside or before it"
	noteElsewhere  = "not below the prefix: something else answered"
)

// institutionField is what every consent needs, and no body of the corpus has by chance.
const institutionField = "institutionCode"

// request is a line as it was sent.
type request struct {
	line *Line
	// below says that host and prefix are the target's, byte for byte, so that
	// klavi_frontend itself must answer.
	below bool
	post  bool
}

// judge returns the verdict on the answers to a line. Behind the last answer the
// connection was closed.
func (r request) judge(wants []Want, answers []Answer) (Verdict, string) {
	verdict, notes := OK, ""
	for i := range max(len(wants), len(answers)) {
		a := Answer{None: noneClosed}
		if i < len(answers) {
			a = answers[i]
		}
		v, note := r.judgeOne(wants[min(i, len(wants)-1)], a)
		if v == Fail {
			return v, note
		}
		if v == Skipped || notes == "" {
			verdict, notes = v, note
		}
	}
	return verdict, notes
}

func (r request) judgeOne(want Want, a Answer) (Verdict, string) {
	switch want {
	case Allow:
		return r.judgeAllow(a)
	case Reject:
		return r.judgeReject(a)
	}
	if v, note := r.judgeAllow(a); v == OK {
		return v, note
	}
	return r.judgeReject(a)
}

func (r request) judgeAllow(a Answer) (Verdict, string) {
	switch {
	case a.None != "" || a.Status == http.StatusSwitchingProtocols:
		return Fail, "not answered as HTTP/1.1"
	case a.Status/100 == 2 && a.isJSON:
		return OK, ""
	case a.Status/100 == 2:
		return Fail, "something else than klavi_frontend answered"
	case r.post && klaviRefusedBody(a):
		return OK, "Klavi refused it"
	case r.post && a.Type == "invalid-field" && a.field == institutionField && !namesInstitution(r.line.Raw):
		return OK, "asked for " + institutionField
	case r.post && a.Type == "redirect-not-listed" && strings.Contains(r.line.Raw, "redirectURL"):
		return Skipped, "its redirectURL is not on the list of this site"
	}
	return Fail, "refused"
}

// klaviRefusedBody reports whether Klavi was asked, and did not want what the
// body says: it may have seen the corpus' externalTrackId before.
func klaviRefusedBody(a Answer) bool {
	switch a.Status {
	case http.StatusBadRequest, http.StatusConflict, http.StatusRequestedRangeNotSatisfiable, http.StatusUnprocessableEntity:
		return a.klavi || problems[a.Type] == forwarded
	}
	return false
}

func (r request) judgeReject(a Answer) (Verdict, string) {
	switch {
	case a.None == noneClosed, a.None == noneHTTP2:
		return OK, noteNotGateway
	case a.None != "":
		return Fail, "no answer, which shows nothing"
	case a.tunnel:
		return Fail, "it opened a tunnel"
	case a.Status/100 == 2 && a.letsOrigin:
		return Fail, "a page of another origin may call"
	case a.klavi, problems[a.Type] == forwarded:
		return Fail, "it went on to Klavi"
	case problems[a.Type] == unclear:
		return Fail, "an error, which does not show that nothing went on to Klavi"
	case a.field == institutionField && strings.Contains(strings.ToLower(r.line.Raw), "idempotency-key:"):
		return Skipped, "not judged: the key is looked at last, and " + institutionField + " is missing before; a link with one has it judged"
	case a.field == institutionField && !namesInstitution(r.line.Raw):
		return Fail, "what the line is about was let through: only " + institutionField + " is missing"
	case a.Type != "":
		return OK, ""
	case a.Status/100 == 2 && !r.below && !a.isJSON, a.Status/100 == 3 && !r.below:
		return OK, noteElsewhere
	case a.created:
		return Fail, "it was served, and created what it asked for"
	case a.Status/100 == 2:
		return Fail, "it was served"
	case a.Status/100 == 4 && a.MediaType == problemJSON: // to HEAD, without its body
		return OK, ""
	case a.Status/100 == 4, a.Status == http.StatusNotImplemented, a.Status == http.StatusHTTPVersionNotSupported:
		return OK, noteNotGateway
	case a.Status/100 == 5:
		return Fail, "an error, which does not show that nothing went on to Klavi"
	}
	return Fail, "klavi_frontend never answers so: something else took the request"
}
