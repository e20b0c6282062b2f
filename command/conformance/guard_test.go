package conformance

import "testing"

func TestGuard(t *testing.T) {
	const consent = "POST /klavi/consents HTTP/1.1\r\n\r\n"
	open, fixed, create := guard{}, guard{fixed: "fixed"}, guard{create: true}
	for _, test := range []struct {
		g    guard
		raw  string
		want Want
		sent bool
	}{
		{open, consent + `{"externalTrackId":"x"}`, Reject, true},
		{open, consent + `{"externalTrackId":"x"}`, Allow, false},
		{open, consent + `{"externalTrackId":"x"}`, Either, false},
		{open, "POST /klavi/links HTTP/1.1\r\n\r\n{}", Reject, false},
		{open, "POST /klavi/LINKS/ HTTP/1.1\r\n\r\n{}", Reject, false},
		{open, consent + `{"institutionCode":"341"}`, Reject, false},
		{open, consent + `{"Institution\u0043ode":"341"}`, Reject, false},
		{open, consent + `{"\u0069nstitutionCode":"341"}`, Reject, false},
		{open, consent + "{\x00\"\x00i\x00n\x00s\x00t\x00i\x00t\x00u\x00t\x00i\x00o\x00n\x00C\x00o\x00d\x00e\x00\"\x00", Reject, false},
		{open, consent + "0\r\n\r\nGET /klavi/institutions HTTP/1.1\r\n", Reject, true},
		{fixed, consent + `{}`, Reject, false},
		{fixed, "GET /klavi/consents HTTP/1.1\r\n\r\n", Reject, true},
		{fixed, "GET /klavi/institutions HTTP/1.1\r\n\r\n", Allow, true},
		{fixed, "GET /klavi/consents HTTP/1.1\r\nX-HTTP-Method-Override: post\r\n\r\n", Reject, false},
		{fixed, "GET / HTTP/1.1\r\n\r\nPOST /klavi/consents HTTP/1.1\r\n\r\n", Reject, false},
		{fixed, "GET /klavi/institutions?_method=POST HTTP/1.1\r\n\r\n", Reject, false},
		{fixed, "GET /klavi/institutions HTTP/1.1\r\nX-Forwarded-Method: POST\r\n\r\n", Allow, true},
		{fixed, "OPTIONS /klavi/consents HTTP/1.1\r\nAccess-Control-Request-Method: POST\r\n\r\n", Reject, true},
		{open, `POST /klavi/x HTTP/1.1\r\n\r\n{}POST /klavi/link%2573 HTTP/1.1\r\n`, Reject, false},
		{create, consent + `{"institutionCode":"341"}`, Allow, true},
		{create, "POST /klavi/links HTTP/1.1\r\n\r\n{}", Reject, true},
	} {
		if why := test.g.skip(test.raw, []Want{test.want}); (why == "") != test.sent {
			t.Errorf("%+v %q, %s: got %q, want sent %v", test.g, test.raw, test.want, why, test.sent)
		}
	}
}

func TestGuardLearns(t *testing.T) {
	const line = "POST /klavi/consents HTTP/1.1\r\n\r\n{}"
	for _, test := range []struct {
		a    Answer
		sent bool
	}{
		{answered(200, "application/json", `{"consentId":"1"}`), false},
		{answered(200, "application/json", `{"linkToken":"1"}`), false},
		{answered(200, "application/json", institutionsList), true},
		{answered(400, "application/json", `{"consentId":"1"}`), true},
	} {
		var g guard
		g.learn(Result{Got: []Answer{test.a}})
		if why := g.skip(line, []Want{Reject}); (why == "") != test.sent {
			t.Errorf("%v: got %q, want sent %v", test.a, why, test.sent)
		}
	}
}
