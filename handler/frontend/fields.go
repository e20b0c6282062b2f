package frontend

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/caddy-klavi/caddy-klavi/gateway"
	"github.com/caddy-klavi/caddy-klavi/handler/problem"
	"github.com/caddy-klavi/caddy-klavi/klavi"
)

const (
	maxFieldText   = 2 << 10
	maxFieldObject = 4 << 10
	maxFieldDepth  = 16
)

// Names of fields in the bodies of POST /links and POST /consents.
const (
	personalTaxID   = "personalTaxId"
	businessTaxID   = "businessTaxId"
	email           = "email"
	phone           = "phone"
	institutionCode = "institutionCode"
	redirectURL     = "redirectURL"
	connectionKey   = "connectionKey"
	externalInfo    = "externalInfo"
	externalTrackID = "externalTrackId"
	clientMetadata  = "clientMetadata"
	validityPeriod  = "validityPeriod"
)

// fieldRule is what a field must be.
type fieldRule struct {
	kind jsontext.Kind
	// canonical returns the one form of a value in which it is compared and
	// sent. Strings come unquoted, numbers and objects as JSON.
	canonical func(string) (string, bool)
	right     string // what a value must be
}

var fieldRules = map[string]fieldRule{
	personalTaxID:   {jsontext.KindString, klavi.CPF, "a CPF with right check digits"},
	businessTaxID:   {jsontext.KindString, klavi.CNPJ, "a CNPJ with right check digits"},
	email:           {jsontext.KindString, emailAddress, "an e-mail address of at most 254 characters"},
	phone:           {jsontext.KindString, phoneNumber, "a phone number such as +5511987654321"},
	institutionCode: {jsontext.KindString, institution, "an institutionCode from the list of institutions"},
	redirectURL:     {jsontext.KindString, printable(maxFieldText), "one of the site's redirect URLs"},
	connectionKey:   {jsontext.KindString, printable(512), "a key from an earlier report, at most 512 characters"},
	externalInfo:    {jsontext.KindBeginObject, smallObject, smallObjectRight},
	externalTrackID: {jsontext.KindString, printable(128), "1 to 128 printable characters without spaces"},
	clientMetadata:  {jsontext.KindBeginObject, smallObject, smallObjectRight},
	validityPeriod:  {jsontext.KindNumber, matching(`^(0|12)$`), "the number 12 (months) or 0 (no end)"},
}

func matching(pattern string) func(string) (string, bool) {
	re := regexp.MustCompile(pattern)
	return func(s string) (string, bool) { return s, re.MatchString(s) }
}

func institution(s string) (string, bool) { return s, klavi.ValidInstitutionCode(s) }

// printable accepts ASCII without spaces and control characters.
func printable(limit int) func(string) (string, bool) {
	return func(s string) (string, bool) {
		odd := strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' })
		return s, s != "" && len(s) <= limit && !odd
	}
}

func emailAddress(s string) (string, bool) {
	local, domain, _ := strings.Cut(s, "@")
	ok := local != "" && domain != "" && len(s) <= 254 &&
		!strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r == 0x7f }) && checkText(s, 254) == nil
	return s, ok
}

var phonePattern = regexp.MustCompile(`^\+?[0-9 ()-]{8,20}$`)

func phoneNumber(s string) (string, bool) {
	digits := 0
	for _, r := range s {
		if '0' <= r && r <= '9' {
			digits++
		}
	}
	return s, digits >= 8 && phonePattern.MatchString(s)
}

const smallObjectRight = "an object of at most 4 KiB and 16 levels, whose numbers fit into 64 bits of floating point"

// smallObject encodes an object anew, so that no two readers of it can differ,
// and lets nothing pass that one of them may not be able to read.
func smallObject(s string) (string, bool) {
	if len(s) > maxFieldObject {
		return "", false
	}
	var out bytes.Buffer
	dec := jsontext.NewDecoder(strings.NewReader(s))
	enc := jsontext.NewEncoder(&out)
	for {
		token, err := dec.ReadToken()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil || dec.StackDepth() > maxFieldDepth || !isReadable(token) || enc.WriteToken(token) != nil {
			return "", false
		}
	}
	object := strings.TrimSuffix(out.String(), "\n")
	return object, strings.HasPrefix(object, "{")
}

// isReadable refuses numbers such as 1e400: most readers keep numbers as 64-bit
// floating point, and take this one for an error, or for infinity.
func isReadable(token jsontext.Token) bool {
	if token.Kind() != jsontext.KindNumber {
		return true
	}
	_, err := strconv.ParseFloat(token.String(), 64)
	return err == nil
}

// fieldSet is the fields of one body.
type fieldSet struct {
	open []string
	// closed are fields that Klavi knows and a browser may not send, with
	// what to tell those who try.
	closed map[string]string
}

// decode reads a body strictly: one object of known fields, each once and of
// its type. Values come back in canonical form. The error is a
// [problem.Problem] that names the field.
func (s fieldSet) decode(body []byte) (map[string]string, error) {
	dec := jsontext.NewDecoder(bytes.NewReader(body))
	if kind := dec.PeekKind(); kind != jsontext.KindBeginObject {
		return nil, problem.New(problem.InvalidRequest, "The body must be one JSON object in UTF-8, without a byte order mark.")
	}
	if _, err := dec.ReadToken(); err != nil {
		return nil, syntaxProblem(err)
	}
	values := make(map[string]string)
	for dec.PeekKind() != jsontext.KindEndObject {
		token, err := dec.ReadToken()
		if err != nil {
			return nil, syntaxProblem(err)
		}
		name := token.String()
		if !slices.Contains(s.open, name) {
			return nil, s.unknown(name)
		}
		if values[name], err = readField(dec, name); err != nil {
			return nil, err
		}
	}
	if _, err := dec.ReadToken(); err != nil {
		return nil, syntaxProblem(err)
	}
	if _, err := dec.ReadToken(); !errors.Is(err, io.EOF) {
		return nil, problem.New(problem.InvalidRequest, "Something follows the JSON object.")
	}
	return values, nil
}

func readField(dec *jsontext.Decoder, name string) (string, error) {
	rule := fieldRules[name]
	kind := dec.PeekKind()
	if kind == jsontext.KindInvalid {
		_, err := dec.ReadToken()
		return "", syntaxProblem(err)
	}
	if kind == jsontext.KindNull {
		return "", invalidField(name, "It is null: leave the field out, or send "+rule.right+".")
	}
	if kind != rule.kind {
		return "", invalidField(name, fmt.Sprintf("It is %s and must be %s.", kindName(kind), rule.right))
	}
	var text string
	if kind == jsontext.KindString {
		token, err := dec.ReadToken()
		if err != nil {
			return "", syntaxProblem(err)
		}
		text = token.String()
	} else {
		value, err := dec.ReadValue()
		if err != nil {
			return "", syntaxProblem(err)
		}
		text = string(value)
	}
	canonical, ok := rule.canonical(text)
	if !ok {
		return "", invalidField(name, "It must be "+rule.right+".")
	}
	return canonical, nil
}

func invalidField(name, detail string) *problem.Problem {
	p := problem.New(problem.InvalidField, detail)
	p.Field = name
	return p
}

func kindName(kind jsontext.Kind) string {
	switch kind {
	case jsontext.KindTrue, jsontext.KindFalse:
		return "a boolean"
	case jsontext.KindString:
		return "a string"
	case jsontext.KindNumber:
		return "a number"
	case jsontext.KindBeginObject:
		return "an object"
	default:
		return "an array"
	}
}

// unknown refuses a field and says which one was probably meant: Klavi would
// ignore it in silence.
func (s fieldSet) unknown(name string) error {
	p := problem.New(problem.UnknownField, "")
	p.Field = showName(name)
	near, hint := name, s.closed[name]
	if hint == "" {
		candidates := slices.Clone(s.open)
		for closed := range s.closed {
			candidates = append(candidates, closed)
		}
		slices.Sort(candidates)
		near, _ = klavi.Nearest(name, candidates)
		hint = s.closed[near]
	}
	switch {
	case hint != "":
		p.Detail = near + ": " + hint
	case near != "":
		p.Detail = fmt.Sprintf("Did you mean %q?", near)
	default:
		p.Detail = "Possible are " + strings.Join(s.open, ", ") + "."
	}
	return p
}

// syntaxProblem says where JSON is broken, without repeating any value of it.
func syntaxProblem(err error) error {
	p := problem.New(problem.InvalidRequest, "The body is not valid JSON in UTF-8.")
	var syntax *jsontext.SyntacticError
	if !errors.As(err, &syntax) {
		return p
	}
	for name := range syntax.JSONPointer.Tokens() {
		p.Type, p.Field = problem.InvalidField, showName(name)
		break
	}
	if errors.Is(err, jsontext.ErrDuplicateName) {
		p.Detail = "A name stands twice in one object."
	}
	return p
}

var namePattern = regexp.MustCompile(`^[A-Za-z0-9_$.-]{1,64}$`)

// showName returns the name of a field as it may be repeated in an answer.
func showName(name string) string {
	if !namePattern.MatchString(name) {
		return ""
	}
	return string(gateway.Mask([]byte(name)))
}
