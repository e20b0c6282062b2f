package sandbox

import (
	"net/netip"
	"net/url"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// callbacks is a productsCallbackURL: where reports go, by report type, or by the words `other` and `all`
// (docs.klavi.ai/connect/vDAe-user-level-report).
type callbacks map[string]string

// parseCallbacks refuses what Klavi's rules exclude with 416/4006. Klavi does not document that error's HTTP status; that it
// is 4006 is inferred from its name.
func parseCallbacks(v jsontext.Value) (callbacks, error) {
	if len(v) == 0 || v.Kind() == 'n' {
		return nil, nil
	}
	var c callbacks
	if err := json.Unmarshal(v, &c, jsontext.AllowDuplicateNames(true)); err != nil {
		return nil, businessError(invalidCallback, "want an object of URLs")
	}
	for name, target := range c {
		if name != "all" && name != "other" && !productName.MatchString(name) {
			return nil, businessError(invalidCallback, "unknown product "+name)
		}
		if !validCallback(target) {
			return nil, businessError(invalidCallback, name+" is not an https URL")
		}
	}
	if _, ok := c["all"]; ok && len(c) > 1 {
		return nil, businessError(invalidCallback, "all excludes other and specific products")
	}
	return c, nil
}

// validCallback accepts https, and http on the loopback interface for tests.
func validCallback(s string) bool {
	u, err := url.Parse(s)
	if err != nil || u.Host == "" {
		return false
	}
	if u.Scheme == "https" {
		return true
	}
	return u.Scheme == "http" && isLoopback(u.Hostname())
}

func isLoopback(host string) bool {
	if host == "localhost" || strings.HasSuffix(host, ".localhost") {
		return true
	}
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.IsLoopback()
}

// pick returns the URL for a product, or "" where this level has none.
func (c callbacks) pick(product string) string {
	for _, name := range []string{product, "other", "all"} {
		if target := c[name]; target != "" {
			return target
		}
	}
	return ""
}

// reportURL follows Klavi's order: the report request, then the link, then the Console.
func reportURL(product string, request, link callbacks, console string) string {
	if target := request.pick(product); target != "" {
		return target
	}
	if target := link.pick(product); target != "" {
		return target
	}
	return console
}
