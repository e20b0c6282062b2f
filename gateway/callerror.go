package gateway

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"strings"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"
)

// CallError says why a call to Klavi brought no answer. Its text is safe to log.
type CallError struct {
	// Unsent is true where Klavi cannot have seen the request.
	Unsent bool
	// Timeout is true where klavi_timeout ran out.
	Timeout bool

	reason string // why it was not sent
	err    error
}

func (e *CallError) Error() string {
	switch {
	case e.Timeout:
		return "klavi did not answer in time"
	case e.reason != "":
		return e.reason
	default:
		return "the connection to klavi broke before it had answered"
	}
}

func (e *CallError) Unwrap() error { return e.err }

// callError returns the error of a call: that of the caller's context if it has
// left, or a *CallError. net/http quotes what it could not read, which may be
// anything, so only texts that are known to be harmless are repeated.
func callError(caller, call context.Context, err error) error {
	if errors.Is(caller.Err(), context.Canceled) {
		return caller.Err()
	}
	if errors.Is(call.Err(), context.DeadlineExceeded) || caller.Err() != nil {
		return &CallError{Timeout: true, err: err}
	}
	reason := unsent(err)
	return &CallError{Unsent: reason != "", reason: reason, err: err}
}

// unsent says why a request never left, or nothing if it may have.
func unsent(err error) string {
	if dial, ok := errors.AsType[reverseproxy.DialError](err); ok {
		return "klavi cannot be reached: " + dial.Error()
	}
	if cert, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return "klavi's certificate is not accepted (see tls options of the account's transport): " + certificateFault(cert.Err)
	}
	if _, ok := errors.AsType[tls.RecordHeaderError](err); ok {
		return "klavi does not answer with TLS: see base_url and the account's transport"
	}
	if alert, ok := errors.AsType[tls.AlertError](err); ok {
		return "klavi ended the TLS handshake: " + alert.Error()
	}
	// An egress proxy's refusal has no type of its own, only the operation.
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Op == "proxyconnect" {
		return "the egress proxy of the account's transport cannot be used: " + op.Err.Error()
	}
	for _, status := range []string{"Proxy Authentication Required", "Forbidden", "Bad Gateway", "Service Unavailable", "Gateway Timeout"} {
		// All that net/http returns of a refused CONNECT is the reason phrase.
		if strings.EqualFold(err.Error(), status) {
			return "the egress proxy of the account's transport refused: " + status
		}
	}
	return ""
}

// certificateFault names what is wrong with a certificate.
func certificateFault(err error) string {
	switch err.(type) { //nolint:errorlint // what verification returns is not wrapped
	case x509.UnknownAuthorityError:
		return "it is signed by an unknown authority"
	case x509.HostnameError:
		return "it is for another host"
	case x509.CertificateInvalidError:
		return err.Error()
	default:
		return "it cannot be verified"
	}
}
