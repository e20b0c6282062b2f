package sandbox

import (
	"fmt"
	"net/http"
	"strings"
)

// apiError is Klavi's error body (docs.klavi.ai/connect/open-finance-codes-and-errors). Of business errors, HTTP 416,
// StatusCode is the four-digit code.
type apiError struct {
	status     int
	StatusCode int    `json:"statusCode"`
	Title      string `json:"error"`
	Message    string `json:"message"`
}

func (e *apiError) Error() string {
	return fmt.Sprintf("%d (%d): %s", e.status, e.StatusCode, e.Message)
}

func httpError(status int, message string) error {
	return &apiError{status, status, http.StatusText(status), message}
}

func badRequest(message string) error   { return httpError(http.StatusBadRequest, message) }
func unauthorized(message string) error { return httpError(http.StatusUnauthorized, message) }
func notFound(message string) error     { return httpError(http.StatusNotFound, message) }

func missing(field string) error { return badRequest(field + " should not be empty") }

// Business errors, with the texts that Klavi's users report where they are known.
const (
	invalidAuthorisation = 4001
	invalidProduct       = 4002
	consentLimit         = 4003
	invalidInstitution   = 4004
	noProducts           = 4005
	invalidCallback      = 4006
	requestFailed        = 4007
)

var businessTexts = map[int][2]string{
	invalidAuthorisation: {"Invalid authorisation info", "Authorisation info has expired or does not exist"},
	invalidProduct:       {"Invalid product info", "Product info does not exist or the product level is not correct"},
	consentLimit:         {"Invalid consent request", "Consents exceeds the limit"},
	invalidInstitution:   {"Invalid institution", "The institution is in outage, or there is no permission for it"},
	noProducts:           {"Invalid products", "products must contain at least 1 item"},
	invalidCallback:      {"Invalid productsCallbackURL", "productsCallbackURL is not valid"},
	requestFailed:        {"Product request failed", "Product request failed"},
}

// businessError answers HTTP 416. A detail is added to the message.
func businessError(code int, detail ...string) error {
	texts := businessTexts[code]
	message := strings.Join(append([]string{texts[1]}, detail...), ": ")
	return &apiError{http.StatusRequestedRangeNotSatisfiable, code, texts[0], message}
}
