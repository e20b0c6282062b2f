package gateway

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"go.uber.org/zap"

	"github.com/caddy-klavi/caddy-klavi/klavi"
)

// The words beside report types in productsCallbackURL
// (docs.klavi.ai/connect/create-a-link).
const (
	wordAll   = "all"
	wordOther = "other"
)

var errAllAlone = errors.New(`"all" stands alone: it takes every report, so that nothing is left for "other" or for report types beside it`)

// UnmarshalReportsURL reads reports_url out of a Caddyfile into Klavi's
// productsCallbackURL object. d stands on the word reports_url. Syntax:
//
//	reports_url <url>
//
//	reports_url {
//		specific <type...> <url>
//		other    <url>
//	}
//
//	reports_url {
//		all <url>
//	}
//
// A URL alone is the same as all. A URL without placeholders is checked at once.
func UnmarshalReportsURL(d *caddyfile.Dispenser) (map[string]string, error) {
	urls := make(map[string]string)
	args := d.RemainingArgs()
	if len(args) > 1 {
		return nil, d.Errf("reports_url takes one URL, or a block with specific, other or all")
	}
	if len(args) == 1 {
		if err := addReportURL(d, urls, []string{wordAll}, args[0]); err != nil {
			return nil, err
		}
	}
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		if len(args) == 1 {
			return nil, d.Errf("reports_url takes either a URL or a block, not both")
		}
		if err := unmarshalReportURL(d, urls); err != nil {
			return nil, err
		}
	}
	if len(urls) == 0 {
		return nil, d.Errf("reports_url needs a URL, or a block with specific, other or all")
	}
	return urls, nil
}

// unmarshalReportURL reads one line of the block.
func unmarshalReportURL(d *caddyfile.Dispenser, urls map[string]string) error {
	word, args := d.Val(), d.RemainingArgs()
	switch word {
	case "specific":
		if len(args) < 2 {
			return d.Errf("specific takes report types and their URL, such as: specific pf_checking_account https://hooks.example.com/checking")
		}
		last := len(args) - 1
		return addReportURL(d, urls, args[:last], args[last])
	case wordOther, wordAll:
		if len(args) != 1 {
			return d.Errf("%s takes one URL", word)
		}
		return addReportURL(d, urls, []string{word}, args[0])
	}
	if near, ok := klavi.Nearest(word, []string{"specific", wordOther, wordAll}); ok {
		return d.Errf("unrecognized word '%s' in reports_url: did you mean '%s'?", word, near)
	}
	if klavi.ValidReportType(word) {
		return d.Errf("report types stand behind the word specific: specific %s <url>", word)
	}
	return d.Errf("unrecognized word '%s' in reports_url: there are specific, other and all", word)
}

func addReportURL(d *caddyfile.Dispenser, urls map[string]string, names []string, address string) error {
	line := make(map[string]string, len(names))
	for _, name := range names {
		if _, ok := urls[name]; ok {
			return d.Errf("reports_url: '%s' has a URL already", name)
		}
		if strings.Contains(name, "*") {
			return d.Errf("reports_url: '%s': Klavi knows no '*' here, write each report type", name)
		}
		urls[name], line[name] = address, address
	}
	if _, ok := urls[wordAll]; ok && len(urls) > 1 {
		return d.Errf("reports_url: %w", errAllAlone)
	}
	if strings.Contains(address, "{") {
		// What a placeholder stands for is known when the config is loaded.
		for name := range line {
			line[name] = "https://placeholder.invalid/"
		}
	}
	if _, err := ParseReportsURL(line); err != nil {
		return d.Errf("reports_url: %w", err)
	}
	return nil
}

// ParseReportsURL returns the productsCallbackURL that m stands for: report
// types, `other` or `all` to URLs, in which global placeholders such as
// `{env.HOOKS_URL}` are resolved. An empty m is the zero value.
func ParseReportsURL(m map[string]string) (klavi.CallbackURL, error) {
	if len(m) == 0 {
		return klavi.CallbackURL{}, nil
	}
	if _, ok := m[wordAll]; ok && len(m) > 1 {
		return klavi.CallbackURL{}, errAllAlone
	}
	repl := caddy.NewReplacer()
	urls := make(map[string]string, len(m))
	for _, name := range slices.Sorted(maps.Keys(m)) {
		address, err := resolve(repl, fmt.Sprintf("the URL of %q", name), m[name])
		if err != nil {
			return klavi.CallbackURL{}, err
		}
		urls[name] = address
	}
	if all, ok := urls[wordAll]; ok {
		return klavi.CallbackAll(all)
	}
	other := urls[wordOther]
	delete(urls, wordOther)
	return klavi.CallbackSpecific(urls, other)
}

// WarnUnknownReportTypes logs which names in a reports_url are report types
// that nobody has heard of: right when Klavi added one, a slip of the keyboard
// otherwise.
func WarnUnknownReportTypes(logger *zap.Logger, m map[string]string) {
	known := klavi.KnownReportTypes()
	for _, name := range slices.Sorted(maps.Keys(m)) {
		if name == wordAll || name == wordOther || slices.Contains(known, name) {
			continue
		}
		near, _ := klavi.Nearest(name, known)
		logger.Warn("reports_url has a report type that is not known", zap.String("report_type", name), zap.String("did_you_mean", near))
	}
}
