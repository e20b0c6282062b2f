// Package problem is the error answers that the three faces share: RFC 9457
// problem details with a type from a fixed list.
package problem

import (
	"bytes"
	"io"
	"math"
	"net/http"
	"strconv"
	"time"

	"github.com/go-json-experiment/json"
)

// Type is what a client may depend on: the type member of a problem. Each is
// explained in docs/problems.md.
type Type struct {
	Name   string
	Title  string
	Status int
}

// The types. Statuses are what a type has unless Klavi's own says more.
var (
	LoginRequired          = Type{"login-required", "Log in first", http.StatusUnauthorized}
	NotYours               = Type{"not-yours", "This belongs to another user", http.StatusForbidden}
	Origin                 = Type{"origin", "This site may not use the gateway", http.StatusForbidden}
	NotFound               = Type{"not-found", "There is nothing here", http.StatusNotFound}
	MethodNotAllowed       = Type{"method-not-allowed", "This method is not possible here", http.StatusMethodNotAllowed}
	NotAllowed             = Type{"not-allowed", "This endpoint is not open", http.StatusForbidden}
	InvalidRequest         = Type{"invalid-request", "The request cannot be read", http.StatusBadRequest}
	UnsupportedMediaType   = Type{"unsupported-media-type", "The body must be JSON", http.StatusUnsupportedMediaType}
	UnknownField           = Type{"unknown-field", "A field is unknown", http.StatusBadRequest}
	InvalidField           = Type{"invalid-field", "A field is not valid", http.StatusBadRequest}
	RedirectNotListed      = Type{"redirect-not-listed", "The redirectURL is not on the list", http.StatusBadRequest}
	LinkExpired            = Type{"link-expired", "The link has run out", http.StatusUnauthorized}
	LinkInvalid            = Type{"link-invalid", "The link token is not valid", http.StatusUnauthorized}
	ConsentMismatch        = Type{"consent-mismatch", "The consent does not fit its link", http.StatusForbidden}
	ConsentLimit           = Type{"consent-limit", "There are too many consents", http.StatusUnprocessableEntity}
	InstitutionUnavailable = Type{"institution-unavailable", "The institution is not available", http.StatusUnprocessableEntity}
	IdempotencyConflict    = Type{"idempotency-conflict", "The Idempotency-Key was used for another request", http.StatusUnprocessableEntity}
	TooLarge               = Type{"too-large", "The body is too large", http.StatusRequestEntityTooLarge}
	RateLimited            = Type{"rate-limited", "There are too many requests", http.StatusTooManyRequests}
	KlaviRefused           = Type{"klavi-refused", "Klavi refused the request", http.StatusBadGateway}
	KlaviUnreachable       = Type{"klavi-unreachable", "Klavi cannot be reached", http.StatusServiceUnavailable}
	KlaviNonsense          = Type{"klavi-nonsense", "Klavi's answer cannot be used", http.StatusBadGateway}
	SignatureInvalid       = Type{"signature-invalid", "The signature is missing or wrong", http.StatusUnauthorized}
	TooEarly               = Type{"too-early", "The connection is not set up yet", http.StatusTooEarly}
	TooSlow                = Type{"too-slow", "The body did not arrive in time", http.StatusRequestTimeout}
	Busy                   = Type{"busy", "There is no room at the moment", http.StatusServiceUnavailable}
	ReportNotAccepted      = Type{"report-not-accepted", "The report was not accepted", http.StatusBadGateway}
	Internal               = Type{"internal", "Something went wrong", http.StatusInternalServerError}
)

// Problem is an error answer. Its Detail helps whoever reads it, and never
// repeats a secret, a token or a tax id.
type Problem struct {
	Type   Type
	Status int // in place of the type's own, if not 0
	Detail string
	// Field is the member of the request's body that is meant, if one is.
	Field string
	// Code and Message are Klavi's own statusCode and message, where it answered.
	Code    int
	Message string
	// RetryAfter is sent in whole seconds, rounded up, if it is not 0.
	RetryAfter time.Duration
}

// New returns a problem of that type.
func New(t Type, detail string) *Problem {
	return &Problem{Type: t, Detail: detail}
}

// Error returns the detail, for logs.
func (p *Problem) Error() string { return p.Type.Name + ": " + p.Detail }

// HTTPStatus returns the status of the answer.
func (p *Problem) HTTPStatus() int {
	if p.Status != 0 {
		return p.Status
	}
	return p.Type.Status
}

// Write answers with the problem.
func (p *Problem) Write(w http.ResponseWriter) {
	body := p.body()
	p.header(w.Header(), len(body))
	w.WriteHeader(p.HTTPStatus())
	_, _ = w.Write(body)
}

// Response returns the problem as the answer to req, for a transport: an error
// that a transport returns loses its status and Retry-After on the way.
func (p *Problem) Response(req *http.Request) *http.Response {
	body := p.body()
	header := make(http.Header, 4)
	p.header(header, len(body))
	return &http.Response{
		Status:        strconv.Itoa(p.HTTPStatus()) + " " + http.StatusText(p.HTTPStatus()),
		StatusCode:    p.HTTPStatus(),
		Proto:         "HTTP/1.1",
		ProtoMajor:    1,
		ProtoMinor:    1,
		Header:        header,
		Body:          io.NopCloser(bytes.NewReader(body)),
		ContentLength: int64(len(body)),
		Request:       req,
	}
}

func (p *Problem) header(h http.Header, length int) {
	h.Set("Content-Type", "application/problem+json")
	h.Set("Content-Length", strconv.Itoa(length))
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	if p.HTTPStatus() == http.StatusUnauthorized {
		h.Set("Www-Authenticate", "Bearer") // RFC 9110 wants one with every 401
	}
	if p.RetryAfter > 0 {
		h.Set("Retry-After", strconv.Itoa(int(math.Ceil(p.RetryAfter.Seconds()))))
	}
}

func (p *Problem) body() []byte {
	body, err := json.Marshal(struct {
		Type    string `json:"type"`
		Title   string `json:"title"`
		Status  int    `json:"status"`
		Detail  string `json:"detail,omitzero"`
		Field   string `json:"field,omitzero"`
		Code    int    `json:"statusCode,omitzero"`
		Message string `json:"message,omitzero"`
	}{p.Type.Name, p.Type.Title, p.HTTPStatus(), p.Detail, p.Field, p.Code, p.Message})
	if err != nil { // text that is not UTF-8
		return []byte(`{"type":"internal","title":"` + Internal.Title + `"}`)
	}
	return append(body, '\n')
}
