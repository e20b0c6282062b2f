package conformance

import (
	"net/http"
	"strings"
	"testing"
)

// answered makes an answer as it comes over the wire.
func answered(status int, mediaType, body string) Answer {
	a := Answer{Status: status, MediaType: mediaType}
	a.lookAt([]byte(body))
	return a
}

func problem(status int, body string) Answer { return answered(status, problemJSON, body) }

const (
	institutionsList = `[{"institutionCode":"341"}]`
	plainConsent     = `POST /klavi/consents {"externalTrackId":"x"}`
)

func TestVerdictOnRefusals(t *testing.T) {
	get := request{line: &Line{Raw: "GET /klavi/institutions"}, below: true}
	outside := request{line: &Line{Raw: "GET /KLAVI/institutions"}}
	post := request{line: &Line{Raw: plainConsent}, below: true, post: true}
	for _, test := range []struct {
		what string
		q    request
		a    Answer
		want Verdict
	}{
		{"klavi_frontend refused", get, problem(404, `{"type":"not-found","status":404}`), OK},
		{"the same to HEAD", get, problem(405, ""), OK},
		{"the server refused", get, answered(400, "text/plain", "400 Bad Request"), OK},
		{"the server does not know it", get, answered(501, "text/plain", ""), OK},
		{"something before it refused", get, answered(403, "text/html", "<html>"), OK},
		{"closed", get, Answer{None: noneClosed}, OK},
		{"no answer", get, Answer{None: noneTimeout}, Fail},
		{"no HTTP", get, Answer{None: noneOther}, Fail},
		{"HTTP/2", get, Answer{None: noneHTTP2}, OK},
		{"another origin may call", outside, Answer{Status: 204, letsOrigin: true}, Fail},
		{"served", get, answered(200, "application/json", institutionsList), Fail},
		{"served without a type", get, answered(200, "", institutionsList), Fail},
		{"served without a body", get, answered(200, "", ""), Fail},
		{"a page", get, answered(200, "text/html", "<html>"), Fail},
		{"a problem that says 200", get, problem(200, `{"type":"not-found"}`), Fail},
		{"an upgrade", get, answered(101, "", ""), Fail},
		{"redirected", get, answered(308, "", ""), Fail},
		{"a page elsewhere", outside, answered(200, "text/html", "<html>"), OK},
		{"nothing elsewhere", outside, answered(200, "", ""), OK},
		{"redirected elsewhere", outside, answered(308, "", ""), OK},
		{"served elsewhere", outside, answered(200, "application/json", institutionsList), Fail},
		{"served elsewhere as text", outside, answered(200, "text/plain", institutionsList), Fail},
		{"klavi's 401", get, answered(401, "application/json", `{"statusCode":401,"message":"Invalid token"}`), Fail},
		{"klavi's 404", outside, answered(404, "application/json", `{"statusCode":404,"message":"Cannot GET"}`), Fail},
		{"klavi's business error", post, problem(422, `{"type":"klavi-refused","statusCode":4001}`), Fail},
		{"klavi's message under another type", post, problem(400, `{"type":"invalid-field","statusCode":400}`), Fail},
		{"klavi said that the link ran out", get, problem(401, `{"type":"link-expired"}`), Fail},
		{"klavi was asked in vain", get, problem(503, `{"type":"klavi-unreachable"}`), Fail},
		{"the gateway broke", get, problem(500, `{"type":"internal"}`), Fail},
		{"an upstream broke", get, answered(502, "", ""), Fail},
		{"a type that is not ours", get, problem(404, `{"type":"https://example.com/gone"}`), OK},
		{"only the institution is missing", post, problem(400, `{"type":"invalid-field","field":"institutionCode"}`), Fail},
		{"only the institution is wrong", post, problem(403, `{"type":"consent-mismatch","field":"institutionCode"}`), Fail},
		{
			"the key is looked at last",
			request{line: &Line{Raw: "POST /klavi/consents\r\nIdempotency-key: \r\n\r\n{}"}, below: true, post: true},
			problem(400, `{"type":"invalid-field","field":"institutionCode"}`), Skipped,
		},
		{"another field", post, problem(400, `{"type":"invalid-field","field":"phone"}`), OK},
		{
			"the line is about the institution",
			request{line: &Line{Raw: `POST {"institutionCode":"x"}`}, below: true, post: true},
			problem(403, `{"type":"consent-mismatch","field":"institutionCode"}`), OK,
		},
	} {
		if got, note := test.q.judge([]Want{Reject}, []Answer{test.a}); got != test.want {
			t.Errorf("%s: got %s (%s), want %s", test.what, got, note, test.want)
		}
	}
}

func TestVerdictOnWhatIsAllowed(t *testing.T) {
	get := request{line: &Line{Raw: "GET /klavi/institutions"}, below: true}
	post := request{line: &Line{Raw: plainConsent}, below: true, post: true}
	redirect := request{line: &Line{Raw: `POST {"redirectURL":"https://app.example/connected"}`}, below: true, post: true}
	for _, test := range []struct {
		what string
		q    request
		a    Answer
		want Verdict
	}{
		{"served", get, answered(200, "application/json", institutionsList), OK},
		{"a page", get, answered(200, "text/html", "<html>"), Fail},
		{"refused", get, problem(404, `{"type":"not-found"}`), Fail},
		{"klavi refused", get, problem(401, `{"type":"link-expired","statusCode":401}`), Fail},
		{"an upgrade", get, answered(101, "", ""), Fail},
		{"closed", get, Answer{None: noneClosed}, Fail},
		{"no answer", get, Answer{None: noneTimeout}, Fail},
		{"created", post, answered(200, "application/json", `{"consentId":"1"}`), OK},
		{"created, 201", post, answered(201, "application/json", `{"consentId":"1"}`), OK},
		{"asks for what is missing", post, problem(400, `{"type":"invalid-field","field":"institutionCode"}`), OK},
		{"asks for something else", post, problem(400, `{"type":"invalid-field","field":"phone"}`), Fail},
		{"klavi does not want it twice", post, problem(409, `{"type":"klavi-refused","statusCode":409}`), OK},
		{"too many consents", post, problem(422, `{"type":"consent-limit","statusCode":4003}`), OK},
		{"klavi's own 416", post, answered(416, "application/json", `{"statusCode":4003}`), OK},
		{"klavi does not know this method", post, problem(404, `{"type":"klavi-refused","statusCode":404}`), Fail},
		{"klavi does not take the token", post, problem(401, `{"type":"link-expired","statusCode":401}`), Fail},
		{"klavi is away", post, problem(503, `{"type":"klavi-unreachable"}`), Fail},
		{"refused by type", post, problem(415, `{"type":"unsupported-media-type"}`), Fail},
		{"another site's redirect URL", redirect, problem(400, `{"type":"redirect-not-listed"}`), Skipped},
		{"a redirect URL that was not sent", post, problem(400, `{"type":"redirect-not-listed"}`), Fail},
	} {
		if got, note := test.q.judge([]Want{Allow}, []Answer{test.a}); got != test.want {
			t.Errorf("%s: got %s (%s), want %s", test.what, got, note, test.want)
		}
	}
}

func TestVerdictOnSeveralAnswers(t *testing.T) {
	q := request{line: &Line{Raw: "GET /klavi/institutions"}, below: true}
	served, no := answered(200, "application/json", institutionsList), problem(405, `{"type":"method-not-allowed"}`)
	broken := answered(502, "", "")
	for _, test := range []struct {
		what    string
		wants   []Want
		answers []Answer
		want    Verdict
	}{
		{"either: served", []Want{Either}, []Answer{served}, OK},
		{"either: refused", []Want{Either}, []Answer{no}, OK},
		{"either: broken", []Want{Either}, []Answer{broken}, Fail},
		{"in turn", []Want{Allow, Reject}, []Answer{served, no}, OK},
		{"in turn, then closed", []Want{Allow, Reject}, []Answer{served}, OK},
		{"both served", []Want{Allow, Reject}, []Answer{served, served}, Fail},
		{"both refused", []Want{Allow, Reject}, []Answer{no, no}, Fail},
		{"a hidden one served", []Want{Reject}, []Answer{no, served}, Fail},
		{"a hidden one refused", []Want{Reject}, []Answer{no, no}, OK},
	} {
		if got, note := q.judge(test.wants, test.answers); got != test.want {
			t.Errorf("%s: got %s (%s), want %s", test.what, got, note, test.want)
		}
	}
}

// Whatever a target writes, the results show none of it but numbers and names
// that are known here.
func TestAnswersShowNothingOfTheTarget(t *testing.T) {
	header := http.Header{"Content-Type": {"text/secret-token; secret-token"}}
	for _, a := range []Answer{
		{Status: 200, MediaType: mediaType(header)},
		problem(400, `{"type":"secret-token","field":"secret-token","title":"secret-token"}`),
		answered(400, "text/plain", "secret-token"),
	} {
		if got := a.String(); strings.Contains(got, "secret") {
			t.Errorf("got %q, want nothing of the target's words", got)
		}
	}
}
