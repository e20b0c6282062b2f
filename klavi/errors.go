package klavi

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// Business codes: what Klavi answers in the statusCode of the body when the HTTP status is 416, which has nothing to
// do with ranges here (docs.klavi.ai/connect/open-finance-codes-and-errors).
const (
	// CodeAuthorisationInvalid: the authorisation has expired or does not exist.
	CodeAuthorisationInvalid = 4001
	// CodeProductInvalid: a product does not exist, or is not of the level (institution or user) that was asked.
	CodeProductInvalid = 4002
	// CodeConsentLimit: the person's consents exceed the limit.
	CodeConsentLimit = 4003
	// CodeInstitutionInvalid: the institution is out of service, or there is no permission for it.
	CodeInstitutionInvalid = 4004
	// CodeProductsEmpty: products holds fewer than one item.
	CodeProductsEmpty = 4005
	// CodeCallbackURLInvalid: productsCallbackURL is none of the forms that Klavi knows; see [CallbackURL].
	CodeCallbackURLInvalid = 4006
	// CodeProductRequestFailed: the request for a product failed.
	CodeProductRequestFailed = 4007
	// CodeNoConsent: no Open Finance consent is there to take the product from.
	CodeNoConsent = 4008
	// CodeKYCNeeded: the product needs KYC information first.
	CodeKYCNeeded = 4009
)

var codeTexts = map[int]string{
	CodeAuthorisationInvalid: "invalid authorisation: expired, or does not exist",
	CodeProductInvalid:       "invalid product: does not exist, or of another level",
	CodeConsentLimit:         "consents exceed the limit",
	CodeInstitutionInvalid:   "invalid institution: out of service, or no permission",
	CodeProductsEmpty:        "products needs at least one item",
	CodeCallbackURLInvalid:   "invalid productsCallbackURL",
	CodeProductRequestFailed: "product request failed",
	CodeNoConsent:            "no Open Finance consent available",
	CodeKYCNeeded:            "KYC information needed",
}

// Error is an answer of Klavi's that is not a success. Its texts are Klavi's, made safe to log and to pass on: see
// [ParseError].
type Error struct {
	// StatusCode is the HTTP status.
	StatusCode int
	// Code is the statusCode of the body: the HTTP status again, or a business code such as [CodeConsentLimit]. Zero
	// if the body has none.
	Code int
	// Title is the body's error, such as "Unauthorized".
	Title string
	// Message is the body's message.
	Message string
}

// Error says what Klavi answered, in at most 300 bytes and without anything that looks like a token or a tax id.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString("klavi answered ")
	b.WriteString(strconv.Itoa(e.StatusCode))
	if e.Code != 0 && e.Code != e.StatusCode {
		fmt.Fprintf(&b, " (code %d)", e.Code)
	}
	text := e.Message
	if text == "" {
		text = codeTexts[e.Code]
	}
	if text == "" {
		text = e.Title
	}
	if text != "" {
		b.WriteString(": ")
		b.WriteString(safeText(text, maxErrorText-b.Len()))
	}
	return b.String()
}

const (
	maxErrorText = 300
	maxErrorBody = 64 << 10
)

// ParseError makes an [Error] of an answer. It takes what it finds: a body that is no JSON object, or has fields of
// other types than documented, costs only the texts. Klavi documents {"statusCode":..., "error":..., "message":...};
// message may also be a list of texts. Texts are cut to 300 bytes; control characters become spaces, and what looks
// like a token, an e-mail address, a CPF or a CNPJ becomes "[hidden]".
func ParseError(httpStatus int, body []byte) *Error {
	e := &Error{StatusCode: httpStatus}
	if len(body) > maxErrorBody {
		return e
	}
	var fields struct {
		StatusCode jsontext.Value `json:"statusCode,case:ignore"`
		Error      jsontext.Value `json:"error,case:ignore"`
		Message    jsontext.Value `json:"message,case:ignore"`
	}
	if json.Unmarshal(body, &fields, jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true)) != nil {
		return e
	}
	if code, err := strconv.Atoi(strings.Trim(string(fields.StatusCode), `"`)); err == nil && code > 0 && code <= 9999 {
		e.Code = code
	}
	e.Title = safeText(textOf(fields.Error), maxErrorText)
	e.Message = safeText(textOf(fields.Message), maxErrorText)
	return e
}

// textOf returns a JSON string, or the strings of a JSON array joined; anything else is "".
func textOf(v jsontext.Value) string {
	var one string
	if json.Unmarshal(v, &one, jsontext.AllowInvalidUTF8(true)) == nil {
		return one
	}
	var many []jsontext.Value
	if json.Unmarshal(v, &many, jsontext.AllowInvalidUTF8(true)) != nil {
		return ""
	}
	var texts []string
	for _, v := range many {
		var text string
		if json.Unmarshal(v, &text, jsontext.AllowInvalidUTF8(true)) == nil && text != "" {
			texts = append(texts, text)
		}
	}
	return strings.Join(texts, "; ")
}
