package conformance

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/url"
	"regexp"
	"strings"
)

// What the lines of the corpus are written for.
const (
	corpusHost   = "gw.example"
	corpusPrefix = "/klavi"
)

// Target is where a klavi_frontend is reached from outside.
type Target struct {
	scheme string
	name   string // host without port
	port   string // empty for the scheme's own
	prefix string
}

// prefixes are those that klavi_frontend takes.
var prefixes = regexp.MustCompile(`^(/[A-Za-z0-9._~-]+)+$`)

// ParseTarget reads a URL such as https://app.example.com/klavi, whose path is
// the prefix of klavi_frontend. Errors do not repeat it: it may hold a password.
func ParseTarget(text string) (*Target, error) {
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Hostname() == "" {
		return nil, errors.New("it must be a URL such as https://app.example.com/klavi")
	}
	if u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return nil, errors.New("it must have no user, query or fragment: https://app.example.com/klavi")
	}
	t := &Target{scheme: u.Scheme, name: u.Hostname(), port: u.Port(), prefix: strings.TrimSuffix(u.EscapedPath(), "/")}
	if strings.Contains(t.name, ":") {
		t.name = "[" + t.name + "]"
	}
	if t.port == t.schemePort() {
		t.port = "" // as browsers write it
	}
	if !prefixes.MatchString(t.prefix) {
		return nil, errors.New("its path must be the prefix of klavi_frontend, as in https://app.example.com/klavi")
	}
	return t, nil
}

// String returns the URL.
func (t *Target) String() string { return t.scheme + "://" + t.host() + t.prefix }

func (t *Target) schemePort() string {
	if t.scheme == "https" {
		return "443"
	}
	return "80"
}

// host is what stands in a Host header.
func (t *Target) host() string {
	if t.port == "" {
		return t.name
	}
	return t.name + ":" + t.port
}

// address is where to connect to.
func (t *Target) address() string {
	return net.JoinHostPort(strings.Trim(t.name, "[]"), cmp.Or(t.port, t.schemePort()))
}

// Header is a header field that each request carries beside its own.
type Header struct{ name, value string }

var (
	fieldName  = regexp.MustCompile("^[A-Za-z0-9!#$%&'*+.^_`|~-]+$")
	fieldValue = regexp.MustCompile(`^[\x20-\x7e\x80-\xff]+$`)

	// reserved are the fields in which lines of the corpus have what they are about.
	reserved = regexp.MustCompile(`(?i)^(authorization|klavi[-_].*|host|connection|content-.*|transfer-encoding|te|trailer|upgrade|` +
		`expect|origin|sec-fetch-.*|access-control-.*|proxy-.*|idempotency-key|x-http-method.*|x-original-url|x-rewrite-url)$`)
)

// ParseHeader reads "Name: value". Errors do not repeat the value.
func ParseHeader(text string) (Header, error) {
	name, value, found := strings.Cut(text, ":")
	value = strings.TrimSpace(value)
	if !found || !fieldName.MatchString(name) || !fieldValue.MatchString(value) {
		return Header{}, errors.New("it must be written as 'Name: value', on one line")
	}
	if reserved.MatchString(name) {
		return Header{}, fmt.Errorf("%s cannot be given: the corpus has lines that are about it", name)
	}
	return Header{name, value}, nil
}
