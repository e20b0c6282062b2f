package proxy

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"
	"unicode"

	"github.com/caddyserver/caddy/v2"
	"github.com/go-json-experiment/json/jsontext"
	"go.uber.org/zap"

	"github.com/caddy-klavi/caddy-klavi/handler/problem"
	"github.com/caddy-klavi/caddy-klavi/klavi"
)

// Members of the bodies that are looked at. Klavi writes URL and Id as here, and
// ignores a member that is spelt otherwise without saying so.
const (
	fieldCallbackURL     = "productsCallbackURL"
	fieldExternalInfo    = "externalInfo"
	fieldPersonalTaxID   = "personalTaxId"
	fieldBusinessTaxID   = "businessTaxId"
	fieldInstitutionCode = "institutionCode"
)

// createsLink reports whether a request is POST /links. Case does not matter:
// an endpoint that was allowed under another spelling may be the same to Klavi.
func createsLink(method, path string) bool {
	return method == http.MethodPost && strings.EqualFold(path, "/links")
}

// takesCallback reports whether a request can say where reports go: POST /links
// and the four requests for reports.
func takesCallback(method, path string) bool {
	if method != http.MethodPost {
		return false
	}
	for _, p := range [...]string{
		"/links", "/personal/institution-data", "/personal/user-data", "/business/institution-data", "/business/user-data",
	} {
		if strings.EqualFold(path, p) {
			return true
		}
	}
	return false
}

// fillsIn reports whether there is anything to fill in.
func (t *Transport) fillsIn() bool { return !t.reports.IsZero() || len(t.external) > 0 }

// fillIn completes the body of a link or report request, and refuses one that
// would have reports sent elsewhere.
func (t *Transport) fillIn(req *http.Request, o *object) error {
	if !t.reports.IsZero() {
		if err := t.fillCallbackURL(o); err != nil {
			return err
		}
	}
	if len(t.external) == 0 {
		return nil
	}
	if err := o.checkSpelling(fieldExternalInfo); err != nil {
		return err
	}
	if o.has(fieldExternalInfo) {
		return nil
	}
	info, err := t.externalInfo(req)
	if err != nil {
		return err
	}
	o.set(fieldExternalInfo, info)
	return nil
}

func (t *Transport) fillCallbackURL(o *object) error {
	if err := o.checkSpelling(fieldCallbackURL); err != nil {
		return err
	}
	if !o.has(fieldCallbackURL) {
		o.set(fieldCallbackURL, t.reportsJSON)
		return nil
	}
	if t.AnyCallbackURL {
		return nil
	}
	sent, err := klavi.ParseCallbackURL(o.get(fieldCallbackURL))
	if err != nil {
		return fieldProblem(problem.InvalidField, fieldCallbackURL, err.Error())
	}
	if !sent.Within(t.reports) {
		return fieldProblem(problem.InvalidField, fieldCallbackURL,
			"Reports can be sent to the addresses of reports_url only. Leave the field out, or have any_callback_url set.")
	}
	return nil
}

// externalInfo evaluates what is configured for this request.
func (t *Transport) externalInfo(req *http.Request) (jsontext.Value, error) {
	repl, ok := req.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
	if !ok {
		repl = caddy.NewReplacer()
	}
	info := new(object)
	for _, name := range t.external {
		value, err := repl.ReplaceOrErr(t.ExternalInfo[name], true, true)
		if err != nil {
			t.logger.Error("external_info cannot be filled in", zap.String("name", name), zap.Error(err))
			return nil, fieldProblem(problem.InvalidRequest, fieldExternalInfo, "The request lacks what the gateway sends as externalInfo.")
		}
		quoted, err := jsontext.AppendQuote(nil, value)
		if err != nil {
			return nil, fieldProblem(problem.InvalidRequest, fieldExternalInfo, "What the gateway sends as externalInfo is not valid UTF-8.")
		}
		info.set(name, quoted)
	}
	return info.encode(), nil
}

// readObject reads the body of req, which has to be a JSON object of at most
// 1 MiB. An error is the problem that refuses the request.
func (t *Transport) readObject(req *http.Request) (*object, error) {
	if media := req.Header.Get("Content-Type"); media != "" {
		// Another type would have Klavi read the body otherwise than here.
		if kind, _, err := mime.ParseMediaType(media); err != nil || kind != "application/json" {
			return nil, problem.New(problem.UnsupportedMediaType, "The body must be application/json.")
		}
	}
	b, err := readBody(req)
	if err != nil {
		return nil, err
	}
	switch {
	case b == nil:
		return nil, problem.New(problem.InvalidRequest, "The body must be a JSON object; there is none.")
	case b.stream != nil:
		return nil, problem.New(problem.TooLarge, fmt.Sprintf("The body may have at most %d bytes here.", maxBuffered))
	}
	return parseObject(b.data)
}

// object is a JSON object whose members keep their order and their values as
// they were written.
type object struct{ members []member }

type member struct {
	name  string
	value jsontext.Value
}

// parseObject reads data, which must be one JSON object without a name that
// stands in it twice. An error is a problem, which repeats nothing of data.
func parseObject(data []byte) (*object, error) {
	dec := jsontext.NewDecoder(bytes.NewBuffer(data))
	if dec.PeekKind() != jsontext.KindBeginObject {
		return nil, problem.New(problem.InvalidRequest, "The body must be a JSON object.")
	}
	if _, err := dec.ReadToken(); err != nil {
		return nil, jsonProblem(err)
	}
	o := new(object)
	for dec.PeekKind() != jsontext.KindEndObject {
		name, err := dec.ReadToken()
		if err != nil {
			return nil, jsonProblem(err)
		}
		text := name.String()
		value, err := dec.ReadValue()
		if err != nil {
			return nil, jsonProblem(err)
		}
		o.members = append(o.members, member{text, value.Clone()})
	}
	if _, err := dec.ReadToken(); err != nil {
		return nil, jsonProblem(err)
	}
	if _, err := dec.ReadToken(); err != io.EOF {
		return nil, problem.New(problem.InvalidRequest, "Something follows the JSON object in the body.")
	}
	return o, nil
}

func jsonProblem(err error) *problem.Problem {
	if errors.Is(err, jsontext.ErrDuplicateName) {
		return problem.New(problem.InvalidField, "A name stands twice in one object of the body; each may stand there once.")
	}
	return problem.New(problem.InvalidRequest, "The body is not valid JSON in UTF-8.")
}

// get returns the value of a member, nil if there is none.
func (o *object) get(name string) jsontext.Value {
	for _, m := range o.members {
		if m.name == name {
			return m.value
		}
	}
	return nil
}

// has reports whether there is a member of that name that is not null.
func (o *object) has(name string) bool {
	value := o.get(name)
	return value != nil && value.Kind() != jsontext.KindNull
}

// set gives a member a value, at its place or at the end.
func (o *object) set(name string, value jsontext.Value) {
	for i := range o.members {
		if o.members[i].name == name {
			o.members[i].value = value
			return
		}
	}
	o.members = append(o.members, member{name, value})
}

// checkSpelling refuses members whose names begin with field, were it not for
// upper and lower case and for what is neither letter nor digit, such as
// products_callback_url or productsCallbackURL[all]. Klavi, or what reads its
// log, could take one for the real one.
func (o *object) checkSpelling(field string) error {
	reduced := strings.ToLower(field)
	for _, m := range o.members {
		if m.name != field && strings.HasPrefix(strings.Map(reduce, m.name), reduced) {
			return fieldProblem(problem.UnknownField, m.name, "The field is called "+field+".")
		}
	}
	return nil
}

// reduce returns the lower case of a letter, also of one that is equal to an
// ASCII letter in upper case only, a digit, or -1.
func reduce(r rune) rune {
	if unicode.IsLetter(r) {
		return unicode.ToLower(unicode.ToUpper(r))
	}
	if unicode.IsDigit(r) {
		return r
	}
	return -1
}

// encode returns the object as JSON.
func (o *object) encode() []byte {
	out := []byte{'{'}
	for i, m := range o.members {
		if i > 0 {
			out = append(out, ',')
		}
		// The names were decoded from valid UTF-8, or are from the config.
		out, _ = jsontext.AppendQuote(out, m.name)
		out = append(out, ':')
		out = append(out, m.value...)
	}
	return append(out, '}')
}

func fieldProblem(t problem.Type, field, detail string) *problem.Problem {
	p := problem.New(t, detail)
	p.Field = field
	return p
}
