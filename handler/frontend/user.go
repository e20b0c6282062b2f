package frontend

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"

	"github.com/caddy-klavi/caddy-klavi/handler/problem"
)

const (
	maxUser         = 256
	maxExternalText = 1 << 10
)

// currentUser returns the logged-in user, empty on a public site.
func (f *Frontend) currentUser(r *http.Request) (string, error) {
	if f.Public {
		return "", nil
	}
	return f.evaluate(r, "user", f.User, maxUser)
}

// evaluate returns the value of a setting for one request. Where a placeholder
// has none, or one that cannot be right, the user is not known well enough: the
// log says which placeholder it was, and nothing takes its place.
func (f *Frontend) evaluate(r *http.Request, setting, text string, limit int) (string, error) {
	repl, ok := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
	if !ok {
		return "", errors.New("the request has no replacer")
	}
	value, err := repl.ReplaceOrErr(text, true, true)
	if err != nil {
		return "", f.loginRequired(setting, text, err.Error())
	}
	if err := checkText(value, limit); err != nil {
		return "", f.loginRequired(setting, text, err.Error())
	}
	return value, nil
}

// checkText accepts a value that can stand in JSON and in a log line. Its errors
// do not repeat it.
func checkText(value string, limit int) error {
	switch {
	case strings.TrimSpace(value) == "":
		return errors.New("the value is blank")
	case len(value) > limit:
		return fmt.Errorf("the value is longer than %d bytes", limit)
	case !utf8.ValidString(value):
		return errors.New("the value is not UTF-8")
	case strings.ContainsFunc(value, unicode.IsControl):
		return errors.New("the value has control characters")
	default:
		return nil
	}
}

func (f *Frontend) loginRequired(setting, text, reason string) error {
	f.logger.Info("request refused: a placeholder has no usable value",
		zap.String("setting", setting), zap.String("placeholder", text), zap.String("reason", reason))
	return problem.New(problem.LoginRequired, "The site does not know who is asking: log in, then try again.")
}

// evaluateFields returns the values that the config fixes for fields of a body,
// in canonical form.
func (f *Frontend) evaluateFields(r *http.Request, setting string, fixed map[string]string) (map[string]string, error) {
	values := make(map[string]string, len(fixed))
	for _, name := range slices.Sorted(maps.Keys(fixed)) {
		where := setting + " " + name
		value, err := f.evaluate(r, where, fixed[name], maxFieldText)
		if err != nil {
			return nil, err
		}
		canonical, ok := fieldRules[name].canonical(value)
		if !ok {
			return nil, f.loginRequired(where, fixed[name], "the value is not "+fieldRules[name].right)
		}
		values[name] = canonical
	}
	return values, nil
}
