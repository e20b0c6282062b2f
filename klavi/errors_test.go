package klavi

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

func TestParseError(t *testing.T) {
	tests := []struct {
		name   string
		status int
		body   string
		want   Error
		text   string
	}{
		{
			"as documented", 401, `{"statusCode":401,"error":"Unauthorized","message":"Invalid accessKey or secretKey"}`,
			Error{401, 401, "Unauthorized", "Invalid accessKey or secretKey"},
			"klavi answered 401: Invalid accessKey or secretKey",
		},
		{
			"business code", 416, `{"statusCode":4003,"error":"Range Not Satisfiable","message":"Consents exceeds the limit"}`,
			Error{416, CodeConsentLimit, "Range Not Satisfiable", "Consents exceeds the limit"},
			"klavi answered 416 (code 4003): Consents exceeds the limit",
		},
		{
			"code as a text, no message", 416, `{"statusCode":"4006"}`,
			Error{416, CodeCallbackURLInvalid, "", ""},
			"klavi answered 416 (code 4006): invalid productsCallbackURL",
		},
		{
			"list of messages", 400, `{"message":["email must be an email",7,"","phone is too short"],"error":"Bad Request","statusCode":400}`,
			Error{400, 400, "Bad Request", "email must be an email; phone is too short"},
			"klavi answered 400: email must be an email; phone is too short",
		},
		{
			"only a title", 404, `{"error":"Not Found","message":{"odd":true},"statusCode":404.5}`,
			Error{404, 0, "Not Found", ""},
			"klavi answered 404: Not Found",
		},
		{"other letters", 400, `{"StatusCode":400,"MESSAGE":"Invalid phone"}`, Error{400, 400, "", "Invalid phone"}, "klavi answered 400: Invalid phone"},
		{"absurd code", 500, `{"statusCode":99999999999999999999}`, Error{StatusCode: 500}, "klavi answered 500"},
		{"negative code", 500, `{"statusCode":-1}`, Error{StatusCode: 500}, "klavi answered 500"},
		{"a page", 502, `<html><body>Bad Gateway 52998224725</body></html>`, Error{StatusCode: 502}, "klavi answered 502"},
		{"array", 500, `["a"]`, Error{StatusCode: 500}, "klavi answered 500"},
		{"cut off", 500, `{"message":"a`, Error{StatusCode: 500}, "klavi answered 500"},
		{"empty", 503, ``, Error{StatusCode: 503}, "klavi answered 503"},
		{"too large", 500, `{"message":"` + strings.Repeat("a ", maxErrorBody) + `"}`, Error{StatusCode: 500}, "klavi answered 500"},
		{
			"a route that is not there", 404, `{"statusCode":404,"message":"Cannot POST /data/v1/personal/institution-data","error":"Not Found"}`,
			Error{404, 404, "Not Found", "Cannot POST /data/v1/personal/institution-data"},
			"klavi answered 404: Cannot POST /data/v1/personal/institution-data",
		},
	}
	for _, test := range tests {
		got := ParseError(test.status, []byte(test.body))
		if *got != test.want {
			t.Errorf("%s: got %+v, want %+v", test.name, *got, test.want)
		}
		if got.Error() != test.text {
			t.Errorf("%s: got %q, want %q", test.name, got.Error(), test.text)
		}
	}
}

func TestErrorTextIsSafe(t *testing.T) {
	const token = "eyJhbGciOiJFUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiIxMjM0In0.c2lnbmF0dXJl"
	got := ParseError(400, fmt.Appendf(nil, `{"message":"token %s of 529.982.247-25 is bad","error":"11222333000181"}`, token))
	if want := "token [hidden] of [hidden] is bad"; got.Message != want {
		t.Errorf("message: got %q, want %q", got.Message, want)
	}
	if got.Title != hidden {
		t.Errorf("title: got %q, want %q", got.Title, hidden)
	}
	byHand := &Error{StatusCode: 400, Message: "of 52998224725 " + strings.Repeat("long ", 200)}
	text := byHand.Error()
	if strings.Contains(text, "52998224725") || len(text) > maxErrorText {
		t.Errorf("got %d bytes: %q, want at most %d without the CPF", len(text), text, maxErrorText)
	}
	if klaviErr, ok := errors.AsType[*Error](fmt.Errorf("creating a link: %w", got)); !ok || klaviErr.StatusCode != 400 {
		t.Errorf("errors.AsType: got %v, %v, want the error with status 400", klaviErr, ok)
	}
}

func TestEveryBusinessCodeHasAText(t *testing.T) {
	for code := CodeAuthorisationInvalid; code <= CodeKYCNeeded; code++ {
		if text := (&Error{StatusCode: 416, Code: code}).Error(); !strings.Contains(text, "): ") {
			t.Errorf("code %d: got %q, want a text behind it", code, text)
		}
	}
}
