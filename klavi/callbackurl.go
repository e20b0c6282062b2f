package klavi

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
)

// CallbackURL is the productsCallbackURL of a link or of a report request: where Klavi sends which report. It can hold
// nothing but the three forms that Klavi documents (docs.klavi.ai/connect/create-a-link): one address for each of some
// report types; these, and one address for all others; or one address for all. The zero value is none of them, and
// stands for a request without productsCallbackURL.
type CallbackURL struct {
	// Of these, either all alone is set, or specific or other or both.
	specific map[string]string
	other    string
	all      string
}

const (
	keyAll   = "all"
	keyOther = "other"

	maxCallbackKeys = 256
	maxCallbackURL  = 2048
)

// Klavi's words for the one mistake that its own documents warn of.
var errCallbackMix = errors.New(`productsCallbackURL: "all" stands for every report and cannot be combined with "other" or with report types ` +
	`(Klavi answers 416 with code 4006): use "all" alone, or report types with "other" for the rest`)

// CallbackAll returns the form that has every report sent to u.
func CallbackAll(u string) (CallbackURL, error) {
	if err := checkCallback(keyAll, u); err != nil {
		return CallbackURL{}, err
	}
	return CallbackURL{all: u}, nil
}

// CallbackSpecific returns the form that has each report type of the map sent to its address, and all others to other,
// unless that is empty. It needs at least one of both.
func CallbackSpecific(specific map[string]string, other string) (CallbackURL, error) {
	if len(specific) == 0 && other == "" {
		return CallbackURL{}, errors.New(`productsCallbackURL: needs at least one report type, or "other"`)
	}
	if len(specific) > maxCallbackKeys {
		return CallbackURL{}, fmt.Errorf("productsCallbackURL: %d report types are more than %d", len(specific), maxCallbackKeys)
	}
	for _, name := range slices.Sorted(maps.Keys(specific)) {
		if name == keyAll {
			return CallbackURL{}, errCallbackMix
		}
		if name == keyOther {
			return CallbackURL{}, errors.New(`productsCallbackURL: "other" is no report type, it stands beside them`)
		}
		if err := checkCallbackKey(name); err != nil {
			return CallbackURL{}, err
		}
		if err := checkCallback(name, specific[name]); err != nil {
			return CallbackURL{}, err
		}
	}
	if other != "" {
		if err := checkCallback(keyOther, other); err != nil {
			return CallbackURL{}, err
		}
	}
	return CallbackURL{specific: maps.Clone(specific), other: other}, nil
}

// ParseCallbackURL reads productsCallbackURL from JSON: one object, no name in it twice, each value an address. An
// address is https (http on a loopback host), without user and fragment, at most 2048 bytes. Errors name the key and
// what would be right; they never show an address, which can hold a secret of its own.
func ParseCallbackURL(data []byte) (CallbackURL, error) {
	dec := jsontext.NewDecoder(bytes.NewReader(data))
	if dec.PeekKind() != jsontext.KindBeginObject {
		return CallbackURL{}, errors.New(`productsCallbackURL: must be an object such as {"all":"https://..."}, with report types, "other" or "all" as names`)
	}
	if _, err := dec.ReadToken(); err != nil {
		return CallbackURL{}, callbackSyntaxError(err)
	}
	urls := make(map[string]string)
	for dec.PeekKind() != jsontext.KindEndObject {
		name, err := dec.ReadToken()
		if err != nil {
			return CallbackURL{}, callbackSyntaxError(err)
		}
		key := name.String()
		if dec.PeekKind() != jsontext.KindString {
			return CallbackURL{}, fmt.Errorf(`productsCallbackURL: the value of %s must be a string that holds a URL`, quoteKey(key))
		}
		value, err := dec.ReadToken()
		if err != nil {
			return CallbackURL{}, callbackSyntaxError(err)
		}
		urls[key] = value.String()
		if len(urls) > maxCallbackKeys {
			return CallbackURL{}, fmt.Errorf("productsCallbackURL: more than %d names", maxCallbackKeys)
		}
	}
	if _, err := dec.ReadToken(); err != nil {
		return CallbackURL{}, callbackSyntaxError(err)
	}
	if _, err := dec.ReadToken(); err != io.EOF {
		return CallbackURL{}, errors.New("productsCallbackURL: something follows the object")
	}

	if all, ok := urls[keyAll]; ok {
		if len(urls) > 1 {
			return CallbackURL{}, errCallbackMix
		}
		return CallbackAll(all)
	}
	other, ok := urls[keyOther]
	if ok && other == "" {
		return CallbackURL{}, checkCallback(keyOther, other)
	}
	delete(urls, keyOther)
	return CallbackSpecific(urls, other)
}

// callbackSyntaxError says that the text is no JSON, without repeating any of it.
func callbackSyntaxError(err error) error {
	if errors.Is(err, jsontext.ErrDuplicateName) {
		return errors.New("productsCallbackURL: a name stands in it twice; each may stand in it once")
	}
	return errors.New("productsCallbackURL: not valid JSON")
}

// IsZero reports whether c holds no address.
func (c CallbackURL) IsZero() bool {
	return c.all == "" && c.other == "" && len(c.specific) == 0
}

// URLs returns the addresses in it, sorted, each once.
func (c CallbackURL) URLs() []string {
	urls := slices.Collect(maps.Values(c.specific))
	for _, u := range []string{c.other, c.all} {
		if u != "" {
			urls = append(urls, u)
		}
	}
	slices.Sort(urls)
	return slices.Compact(urls)
}

// Within reports whether every address of c is also one of allowed's. Addresses are compared as whole texts, so that
// no two ways to write one can differ in what they reach.
func (c CallbackURL) Within(allowed CallbackURL) bool {
	urls := allowed.URLs()
	for _, u := range c.URLs() {
		if _, found := slices.BinarySearch(urls, u); !found {
			return false
		}
	}
	return true
}

// MarshalJSON writes the object that Klavi expects: report types in order, then "other"; or "all". The zero value is
// null.
func (c CallbackURL) MarshalJSON() ([]byte, error) {
	if c.IsZero() {
		return []byte("null"), nil
	}
	var buf bytes.Buffer
	sep := byte('{')
	put := func(key, u string) error {
		buf.WriteByte(sep)
		sep = ','
		quoted, err := jsontext.AppendQuote(buf.AvailableBuffer(), key)
		if err != nil {
			return err
		}
		quoted, err = jsontext.AppendQuote(append(quoted, ':'), u)
		if err != nil {
			return err
		}
		buf.Write(quoted)
		return nil
	}
	for _, key := range slices.Sorted(maps.Keys(c.specific)) {
		if err := put(key, c.specific[key]); err != nil {
			return nil, err
		}
	}
	for _, word := range []struct{ key, u string }{{keyOther, c.other}, {keyAll, c.all}} {
		if word.u == "" {
			continue
		}
		if err := put(word.key, word.u); err != nil {
			return nil, err
		}
	}
	buf.WriteByte('}')
	return buf.Bytes(), nil
}

// UnmarshalJSON is [ParseCallbackURL]; null is refused like anything else that is no object.
func (c *CallbackURL) UnmarshalJSON(data []byte) error {
	parsed, err := ParseCallbackURL(data)
	if err != nil {
		return err
	}
	*c = parsed
	return nil
}

func checkCallbackKey(key string) error {
	if ValidReportType(key) {
		return nil
	}
	if near, ok := Nearest(key, append(KnownReportTypes(), keyAll, keyOther)); ok {
		return fmt.Errorf("productsCallbackURL: unknown name %s: did you mean %q?", quoteKey(key), near)
	}
	return fmt.Errorf(`productsCallbackURL: unknown name %s: report types start with "pf_" or "pj_" and have lower-case letters, digits and underscores; `+
		`besides them there are "other" and "all"`, quoteKey(key))
}

// quoteKey returns a name out of a request in a form that is safe to show.
func quoteKey(key string) string {
	return strconv.Quote(safeText(key, 64))
}

// checkCallback checks one address, and says what is wrong with it without showing it.
func checkCallback(key, u string) error {
	fail := func(what string) error {
		return fmt.Errorf("productsCallbackURL: the address of %s %s", quoteKey(key), what)
	}
	if len(u) > maxCallbackURL {
		return fail(fmt.Sprintf("is longer than %d bytes", maxCallbackURL))
	}
	if strings.ContainsFunc(u, func(r rune) bool { return r <= ' ' || r > '~' || r == '\\' }) {
		return fail("holds spaces, backslashes or characters that a URL has to escape")
	}
	if strings.Contains(u, "#") {
		return fail("must not have a fragment (#...)")
	}
	parsed, err := url.Parse(u)
	if err != nil || parsed.Hostname() == "" || parsed.Opaque != "" || !validPort(parsed) {
		return fail("must be a whole URL such as https://hooks.example.com/klavi/reports")
	}
	if parsed.User != nil {
		return fail("must not have a user (user@host)")
	}
	if parsed.Scheme == "https" || parsed.Scheme == "http" && isLoopback(parsed.Hostname()) {
		return nil
	}
	return fail("must start with https:// (http:// is for loopback hosts only)")
}

func validPort(u *url.URL) bool {
	if !strings.HasSuffix(u.Host, ":") && u.Port() == "" {
		return true
	}
	port, err := strconv.ParseUint(u.Port(), 10, 16)
	return err == nil && port > 0
}

func isLoopback(host string) bool {
	if strings.EqualFold(host, "localhost") {
		return true
	}
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.Unmap().IsLoopback()
}
