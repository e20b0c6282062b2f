package gateway

import (
	"errors"
	"strings"

	"github.com/caddyserver/caddy/v2"
)

// HasPlaceholder reports whether Caddy would replace anything in text, so that
// its value is not known before. `\{` is a brace, and so is a brace that nothing
// closes.
func HasPlaceholder(text string) bool {
	found := false
	_, _ = caddy.NewEmptyReplacer().ReplaceFunc(text, func(_ string, value any) (any, error) {
		found = true
		return value, nil
	})
	return found
}

// CheckPlaceholders returns an error for text with braces that Caddy would take
// literally although they were hardly meant so: `{http.request.header.X-User`
// would be the same text for everybody. The error does not repeat text.
func CheckPlaceholders(text string) error {
	for i := 0; i < len(text); i++ {
		escaped := i > 0 && text[i-1] == '\\'
		switch {
		case escaped:
		case text[i] == '}':
			return errors.New(`it has a } without a { before it: a placeholder is written {like.this}, the brace itself \}`)
		case text[i] == '{':
			length := strings.IndexByte(text[i:], '}')
			if length < 0 {
				return errors.New(`it has a { that no } closes: a placeholder is written {like.this}, the brace itself \{`)
			}
			name := text[i+1 : i+length]
			if strings.TrimSpace(name) == "" || strings.ContainsRune(name, '{') || strings.HasSuffix(name, `\`) {
				return errors.New(`it has braces with something else between them than the name of a placeholder: ` +
					`a placeholder is written {like.this}, the braces themselves \{ and \}`)
			}
			i += length
		}
	}
	return nil
}
