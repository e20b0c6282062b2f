package problem

import (
	"errors"
	"net/http"
	"time"

	"github.com/caddy-klavi/caddy-klavi/gateway"
	"github.com/caddy-klavi/caddy-klavi/klavi"
)

// unreachableFor is what clients are told to wait where nothing better is known.
const unreachableFor = 5 * time.Second

// FromCall returns the problem for a call to Klavi that brought no answer.
func FromCall(err error) *Problem {
	if login, ok := errors.AsType[*klavi.LoginError](err); ok {
		if login.Refused {
			return New(KlaviRefused, "Klavi does not accept the gateway's credentials; whoever runs the gateway must mend that.")
		}
		p := New(KlaviUnreachable, "The gateway cannot log in to Klavi at the moment.")
		p.RetryAfter = max(login.RetryAfter, time.Second)
		return p
	}
	if call, ok := errors.AsType[*gateway.CallError](err); ok {
		p := New(KlaviUnreachable, "Klavi cannot be reached at the moment.")
		p.RetryAfter = unreachableFor
		if call.Timeout {
			p.Status = http.StatusGatewayTimeout
			p.Detail = "Klavi did not answer in time. The request may have had its effect."
		} else if !call.Unsent {
			p.Status = http.StatusBadGateway
			p.Detail = "The connection to Klavi broke. The request may have had its effect."
		}
		return p
	}
	return New(Internal, "The gateway could not make the call to Klavi.")
}

// FromAnswer returns the problem for an answer of Klavi's that is an error.
func FromAnswer(e *klavi.Error) *Problem {
	p := &Problem{Type: KlaviRefused, Status: e.StatusCode, Code: e.Code, Message: e.Message}
	switch {
	case e.StatusCode == http.StatusRequestedRangeNotSatisfiable:
		// To Klavi it is a business error, to HTTP it is about byte ranges.
		p.Status = http.StatusUnprocessableEntity
		switch e.Code {
		case klavi.CodeConsentLimit:
			p.Type = ConsentLimit
			p.Detail = "Revoke a consent that is no longer needed, then try again."
		case klavi.CodeInstitutionInvalid:
			p.Type = InstitutionUnavailable
			p.Detail = "The institution has an outage or cannot be used; choose another, or try later."
		}
	case e.StatusCode == http.StatusTooManyRequests:
		p.Type = RateLimited
		p.RetryAfter = unreachableFor
	case e.StatusCode >= http.StatusInternalServerError:
		p.Type = KlaviUnreachable
		p.Status = http.StatusServiceUnavailable
		p.RetryAfter = unreachableFor
		p.Detail = "Klavi has a problem of its own at the moment."
	}
	return p
}
