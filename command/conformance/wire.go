package conformance

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"
)

// timeout bounds one request and its answers.
const timeout = 20 * time.Second

const (
	maxLook = 64 << 10 // how much of a body is looked at
	maxRead = 64 << 20 // how much of a body is read, to get at what is behind it
)

const problemJSON = "application/problem+json"

// Answer is what can be seen of an answer. It holds no text of the target's own
// choice, so that no answer can bring a token into the results.
type Answer struct {
	// Status is the HTTP status, 0 if there was no answer.
	Status int `json:"status,omitempty"`
	// Type is the type of a problem of klavi_frontend's, empty for all else.
	Type string `json:"type,omitempty"`
	// MediaType is the Content-Type without parameters; "other" for one that is
	// of no interest here.
	MediaType string `json:"media_type,omitempty"`
	// None says why there was no answer in HTTP/1.
	None string `json:"none,omitempty"`

	isJSON     bool
	klavi      bool   // it has Klavi's own statusCode
	tunnel     bool   // the connection is one to somewhere else now
	created    bool   // it names a new consent or link
	letsOrigin bool   // it lets a page of another origin read it
	field      string // of a problem
	retryAfter string
}

// Why there was no answer.
const (
	noneClosed  = "closed"
	noneTimeout = "timeout"
	noneHTTP2   = "HTTP/2" // what speaks it begins so, to everyone
	noneOther   = "not HTTP"
)

// String returns the answer in a few words.
func (a Answer) String() string {
	switch {
	case a.None != "":
		return a.None
	case a.Type != "":
		return strconv.Itoa(a.Status) + " " + a.Type
	case a.MediaType != "":
		return strconv.Itoa(a.Status) + " " + a.MediaType
	}
	return strconv.Itoa(a.Status)
}

// wire sends requests to a target, each over a connection of its own.
type wire struct {
	target  *Target
	roots   *x509.CertPool // nil for the system's own
	timeout time.Duration
}

// unreachableError is that no connection came about.
type unreachableError struct{ err error }

func (e unreachableError) Error() string {
	text := "the target cannot be reached: " + e.err.Error()
	if _, ok := errors.AsType[*tls.CertificateVerificationError](e.err); ok {
		text += " (--ca takes the certificate of the authority that signed it)"
	}
	return text
}

func (e unreachableError) Unwrap() error { return e.err }

func (w *wire) connect(ctx context.Context) (net.Conn, error) {
	dialer := net.Dialer{}
	conn, err := dialer.DialContext(ctx, "tcp", w.target.address())
	if err != nil {
		return nil, unreachableError{err}
	}
	if w.target.scheme == "http" {
		return conn, nil
	}
	secure := tls.Client(conn, &tls.Config{
		ServerName: strings.Trim(w.target.name, "[]"), RootCAs: w.roots, NextProtos: []string{"http/1.1"}, MinVersion: tls.VersionTLS12,
	})
	if err := secure.HandshakeContext(ctx); err != nil {
		_ = conn.Close()
		return nil, unreachableError{err}
	}
	return secure, nil
}

// methods returns those of the requests that raw can be taken for, at least one.
func methods(raw []byte) []string {
	var found []string
	for line := range bytes.Lines(raw) {
		if before, _, _ := bytes.Cut(line, []byte(" ")); bytes.HasSuffix(line, []byte(" HTTP/1.1\r\n")) {
			// A body without a line break may stand before.
			found = append(found, string(before[bytes.LastIndexByte(before, '}')+1:]))
		}
	}
	if len(found) == 0 {
		return []string{http.MethodGet}
	}
	return found
}

// send writes raw and returns the answers: as many as there are, and at most one
// for each request that raw can be taken for. The first may say why there is none.
func (w *wire) send(ctx context.Context, raw []byte) ([]Answer, error) {
	bounded, cancel := context.WithTimeout(ctx, w.timeout)
	defer cancel()
	conn, err := w.connect(bounded)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	stop := context.AfterFunc(bounded, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	go func() { _, _ = conn.Write(raw) }() // who refuses early does not read it all

	rd := bufio.NewReader(conn)
	answers := make([]Answer, 0, 2)
	for i, method := range methods(raw) {
		a, last := readAnswer(rd, method)
		if i == 0 || a.None == "" {
			answers = append(answers, a)
		}
		if last {
			break
		}
	}
	return answers, ctx.Err()
}

// readAnswer reads an answer to a request with that method; last says that
// nothing comes behind it.
func readAnswer(rd *bufio.Reader, method string) (a Answer, last bool) {
	head, err := rd.Peek(len("HTTP/"))
	if err == nil && head[0] == 0 && head[3] == 4 { // a SETTINGS frame
		return Answer{None: noneHTTP2}, true
	}
	if err != nil || string(head) != "HTTP/" {
		return Answer{None: whyNone(err)}, true
	}
	res, err := http.ReadResponse(rd, &http.Request{Method: method})
	for err == nil && res.StatusCode < 200 && res.StatusCode != http.StatusSwitchingProtocols {
		res, err = http.ReadResponse(rd, &http.Request{Method: method})
	}
	if err != nil {
		return Answer{None: whyNone(err)}, true
	}
	defer res.Body.Close()
	a = Answer{
		Status: res.StatusCode, MediaType: mediaType(res.Header), retryAfter: res.Header.Get("Retry-After"),
		letsOrigin: res.Header.Get("Access-Control-Allow-Origin") != "",
		tunnel: method == http.MethodConnect && res.StatusCode/100 == 2 &&
			res.Header.Get("Content-Length") == "" && len(res.TransferEncoding) == 0,
	}
	if a.tunnel || a.Status == http.StatusSwitchingProtocols {
		return a, true // what follows is no answer
	}
	look, err := io.ReadAll(io.LimitReader(res.Body, maxLook))
	if err == nil {
		_, err = io.CopyN(io.Discard, res.Body, maxRead)
	}
	a.lookAt(look)
	return a, !errors.Is(err, io.EOF) || res.Close
}

func whyNone(err error) string {
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return noneTimeout
	case err == nil: // something came
		return noneOther
	}
	if _, ok := errors.AsType[*net.OpError](err); ok || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return noneClosed
	}
	return noneOther
}

func mediaType(h http.Header) string {
	text, _, _ := mime.ParseMediaType(h.Get("Content-Type"))
	switch text {
	case "", "application/json", problemJSON, "text/html", "text/plain":
		return text
	}
	return "other"
}

// lookAt takes from a body what the answer shows.
func (a *Answer) lookAt(body []byte) {
	body = bytes.TrimSpace(body)
	a.isJSON = strings.HasSuffix(a.MediaType, "json") || bytes.HasPrefix(body, []byte("{")) || bytes.HasPrefix(body, []byte("["))
	var members struct {
		Type       string          `json:"type"`
		Field      string          `json:"field"`
		StatusCode json.RawMessage `json:"statusCode"`
		ConsentID  string          `json:"consentId"`
		LinkToken  string          `json:"linkToken"`
	}
	if json.Unmarshal(body, &members) != nil {
		return
	}
	_, err := strconv.Atoi(strings.Trim(string(members.StatusCode), `"`))
	a.klavi = err == nil
	a.created = a.Status/100 == 2 && (members.ConsentID != "" || members.LinkToken != "")
	if _, known := problems[members.Type]; known && a.Status >= http.StatusBadRequest && a.MediaType == problemJSON {
		a.Type, a.field = members.Type, members.Field
	}
}

// Roots returns the authorities of a file in PEM, in place of the system's.
func Roots(pem []byte) (*x509.CertPool, error) {
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return nil, errors.New("it holds no certificate in PEM")
	}
	return roots, nil
}
