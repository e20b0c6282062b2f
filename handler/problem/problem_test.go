package problem

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/caddy-klavi/caddy-klavi/gateway"
	"github.com/caddy-klavi/caddy-klavi/klavi"
)

func TestWriteAndResponseAreEqual(t *testing.T) {
	p := &Problem{
		Type: ConsentLimit, Detail: "Revoke one.", Field: "institutionCode",
		Code: 4003, Message: "Consents exceeds the limit", RetryAfter: 1500 * time.Millisecond,
	}
	rec := httptest.NewRecorder()
	p.Write(rec)
	written := rec.Result()
	for name, res := range map[string]*http.Response{"Write": written, "Response": p.Response(nil)} {
		if res.StatusCode != 422 || res.Header.Get("Content-Type") != "application/problem+json" ||
			res.Header.Get("Cache-Control") != "no-store" || res.Header.Get("Retry-After") != "2" {
			t.Errorf("%s: got %d %v, want 422 with the headers of a problem", name, res.StatusCode, res.Header)
		}
		text, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		var got map[string]any
		if err := json.Unmarshal(text, &got); err != nil {
			t.Fatalf("%s: %v in %s", name, err, text)
		}
		want := map[string]any{
			"type": "consent-limit", "title": ConsentLimit.Title, "status": 422.0, "detail": "Revoke one.",
			"field": "institutionCode", "statusCode": 4003.0, "message": "Consents exceeds the limit",
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%s: got %v, want %v", name, got, want)
		}
	}
}

func TestProblemThatIsNotUTF8(t *testing.T) {
	rec := httptest.NewRecorder()
	New(InvalidField, "\xff").Write(rec)
	if !json.Valid(rec.Body.Bytes()) {
		t.Errorf("got %q, want JSON whatever the detail is", rec.Body)
	}
}

func TestFromCall(t *testing.T) {
	for _, tt := range []struct {
		name   string
		err    error
		want   Type
		status int
		retry  bool
	}{
		{"keys refused", &klavi.LoginError{Refused: true, Err: errors.New("x")}, KlaviRefused, 502, false},
		{"login down", &klavi.LoginError{RetryAfter: 3 * time.Second, Err: errors.New("x")}, KlaviUnreachable, 503, true},
		{"login down, next try due", &klavi.LoginError{Err: errors.New("x")}, KlaviUnreachable, 503, true},
		{"cannot be dialed", &gateway.CallError{Unsent: true}, KlaviUnreachable, 503, true},
		{"too slow", &gateway.CallError{Timeout: true}, KlaviUnreachable, 504, true},
		{"broke off", &gateway.CallError{}, KlaviUnreachable, 502, true},
		{"anything else", context.Canceled, Internal, 500, false},
	} {
		p := FromCall(fmt.Errorf("wrapped: %w", tt.err))
		if p.Type != tt.want || p.HTTPStatus() != tt.status || (p.RetryAfter > 0) != tt.retry {
			t.Errorf("%s: got %s %d, retry after %s; want %s %d, retry %v",
				tt.name, p.Type.Name, p.HTTPStatus(), p.RetryAfter, tt.want.Name, tt.status, tt.retry)
		}
	}
}

func TestFromAnswer(t *testing.T) {
	for _, tt := range []struct {
		status, code int
		want         Type
		wantStatus   int
	}{
		{400, 400, KlaviRefused, 400},
		{403, 403, KlaviRefused, 403},
		{416, klavi.CodeCallbackURLInvalid, KlaviRefused, 422},
		{416, klavi.CodeConsentLimit, ConsentLimit, 422},
		{416, klavi.CodeInstitutionInvalid, InstitutionUnavailable, 422},
		{429, 429, RateLimited, 429},
		{500, 500, KlaviUnreachable, 503},
		{503, 503, KlaviUnreachable, 503},
	} {
		p := FromAnswer(&klavi.Error{StatusCode: tt.status, Code: tt.code, Message: "as klavi said"})
		if p.Type != tt.want || p.HTTPStatus() != tt.wantStatus || p.Code != tt.code || p.Message != "as klavi said" {
			t.Errorf("%d/%d: got %s %d with %d %q, want %s %d with klavi's own", tt.status, tt.code,
				p.Type.Name, p.HTTPStatus(), p.Code, p.Message, tt.want.Name, tt.wantStatus)
		}
	}
}
