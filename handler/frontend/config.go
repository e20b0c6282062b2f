package frontend

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"

	"github.com/caddy-klavi/caddy-klavi/klavi"
)

// What the config may fix or open.
var (
	setFields        = []string{personalTaxID, businessTaxID, email, phone, institutionCode, connectionKey}
	setConsentFields = []string{validityPeriod, phone, email, personalTaxID, businessTaxID, institutionCode}
	acceptFields     = []string{connectionKey, externalInfo}
)

// checkConfig checks every setting and resolves what belongs to no request.
func (f *Frontend) checkConfig() error {
	for _, check := range []func() error{
		f.checkPrefix, f.checkUser, f.checkModes, f.checkFields, f.checkRedirects, f.checkReports, f.checkAppLink, f.checkOrigins,
	} {
		if err := check(); err != nil {
			return err
		}
	}
	return nil
}

var prefixPattern = regexp.MustCompile(`^(/[A-Za-z0-9._~-]+)+$`)

func (f *Frontend) checkPrefix() error {
	prefix := strings.TrimSuffix(strings.TrimSuffix(f.Prefix, "/*"), "/")
	if prefix == "" {
		return fmt.Errorf("prefix %q: a path such as /klavi is needed", f.Prefix)
	}
	if !prefixPattern.MatchString(prefix) {
		return fmt.Errorf("prefix %q: it must be a plain path such as /klavi: letters, digits and . _ ~ - between single slashes", f.Prefix)
	}
	for segment := range strings.SplitSeq(prefix[1:], "/") {
		if strings.Trim(segment, ".") == "" {
			return fmt.Errorf("prefix %q: it cannot have %q as a part", f.Prefix, segment)
		}
	}
	f.Prefix = prefix
	return nil
}

func (f *Frontend) checkUser() error {
	if (f.User == "") != f.Public {
		return errors.New("exactly one of user and public is needed: " +
			"user with the placeholder that holds the logged-in user, such as {http.request.header.X-User}, or public for a site without logins")
	}
	if !f.Public && !hasPlaceholder(f.User) {
		return fmt.Errorf("user %q has no placeholder: every visitor would be the same user", f.User)
	}
	return nil
}

func (f *Frontend) checkModes() error {
	switch f.Flow {
	case "", flowWhitelabel, flowAPIOnly:
	default:
		return fmt.Errorf("flow %q is unknown: it is whitelabel or api_only; leave it out for both", f.Flow)
	}
	switch f.LinkToken {
	case "", linkTokenSealed, linkTokenRaw:
	default:
		return fmt.Errorf("link_token %q is unknown: it is sealed or raw", f.LinkToken)
	}
	if f.LinksOff && f.Flow == flowWhitelabel {
		return errors.New("links_off closes links and flow whitelabel closes institutions and consents: nothing would be open")
	}
	return nil
}

func (f *Frontend) checkFields() error {
	if err := checkFixed("set", f.Set, setFields); err != nil {
		return err
	}
	if err := checkFixed("set_consent", f.SetConsent, setConsentFields); err != nil {
		return err
	}
	for _, name := range f.Accept {
		if !slices.Contains(acceptFields, name) {
			return fmt.Errorf("accept: %w", unknownName(name, acceptFields))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(f.ExternalInfo)) {
		if name == "user" || name == "client" {
			return fmt.Errorf("external_info: the name %q is taken by the gateway; choose another", name)
		}
		if checkText(name, maxExternalText) != nil {
			return fmt.Errorf("external_info: %q cannot be a name", name)
		}
		if f.ExternalInfo[name] == "" {
			return fmt.Errorf("external_info: %q has no value", name)
		}
	}
	return nil
}

// checkFixed checks the fields that the config fixes; constants must be right
// already, placeholders are seen with each request.
func checkFixed(setting string, fixed map[string]string, known []string) error {
	for _, name := range slices.Sorted(maps.Keys(fixed)) {
		value := fixed[name]
		if !slices.Contains(known, name) {
			return fmt.Errorf("%s: %w", setting, unknownName(name, known))
		}
		if value == "" {
			return fmt.Errorf("%s: %s has no value", setting, name)
		}
		if hasPlaceholder(value) {
			continue
		}
		if _, ok := fieldRules[name].canonical(value); !ok {
			return fmt.Errorf("%s: %s must be %s", setting, name, fieldRules[name].right)
		}
	}
	return nil
}

func unknownName(name string, known []string) error {
	if near, ok := klavi.Nearest(name, known); ok {
		return fmt.Errorf("field %q is unknown: did you mean %q?", name, near)
	}
	return fmt.Errorf("field %q is unknown: possible are %s", name, strings.Join(known, ", "))
}

func (f *Frontend) checkRedirects() error {
	if len(f.RedirectURLs) == 0 {
		return errors.New("redirect_urls is missing: list where users may be sent in the end, such as https://app.example.com/connected")
	}
	for _, text := range f.RedirectURLs {
		u, err := resolveSetting("redirect_urls", text)
		if err != nil {
			return err
		}
		private, err := checkRedirect(u)
		if err != nil {
			return fmt.Errorf("redirect_urls: %q %w", u, err)
		}
		if private {
			f.logger.Warn("redirect_urls has a private scheme: any app on a user's device can register it; "+
				"a universal link (https) cannot be taken over", zap.String("url", u))
		}
		f.redirects = append(f.redirects, u)
	}
	return nil
}

// checkRedirect accepts https, http on loopback, and the private schemes of
// apps.
func checkRedirect(text string) (private bool, err error) {
	if _, ok := fieldRules[redirectURL].canonical(text); !ok {
		return false, errors.New("has spaces or characters that a URL has to escape, or is too long")
	}
	u, err := url.Parse(text)
	if err != nil || u.Scheme == "" {
		return false, errors.New("is not a whole URL such as https://app.example.com/connected")
	}
	switch u.Scheme {
	case "https":
	case "http":
		if !isLoopback(u.Hostname()) {
			return false, errors.New("must be https: http is possible on loopback only")
		}
	case "javascript", "data", "vbscript", "file", "blob", "about":
		return false, fmt.Errorf("has the scheme %s, under which a browser runs or reads local content", u.Scheme)
	default:
		return true, nil
	}
	if u.Hostname() == "" || u.User != nil {
		return false, errors.New("must have a host and no user")
	}
	return false, nil
}

func (f *Frontend) checkReports() error {
	if len(f.ReportsURL) == 0 {
		return nil
	}
	urls := make(map[string]string, len(f.ReportsURL))
	for _, name := range slices.Sorted(maps.Keys(f.ReportsURL)) {
		u, err := resolveSetting("reports_url "+name, f.ReportsURL[name])
		if err != nil {
			return err
		}
		urls[name] = u
	}
	var err error
	if all, ok := urls["all"]; ok && len(urls) == 1 {
		f.reportsURL, err = klavi.CallbackAll(all)
	} else {
		other := urls["other"]
		delete(urls, "other")
		f.reportsURL, err = klavi.CallbackSpecific(urls, other)
	}
	if err != nil {
		return fmt.Errorf("reports_url: %w", err)
	}
	return nil
}

var parameterPattern = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)

func (f *Frontend) checkAppLink() error {
	if f.AppLink == nil {
		return nil
	}
	if f.AppLink.URL == "" || f.AppLink.Parameter == "" {
		return errors.New("app_link needs both url and parameter")
	}
	if !parameterPattern.MatchString(f.AppLink.Parameter) {
		return fmt.Errorf("app_link: parameter %q must be letters, digits, _ or -", f.AppLink.Parameter)
	}
	u, err := resolveSetting("app_link", f.AppLink.URL)
	if err != nil {
		return err
	}
	private, err := checkRedirect(u)
	if err != nil {
		return fmt.Errorf("app_link: %q %w", u, err)
	}
	if private {
		f.logger.Warn("app_link has a private scheme: any app on a user's device can register it", zap.String("url", u))
	}
	f.appLinkURL = u
	return nil
}

// resolveSetting replaces placeholders that belong to the process, such as
// {env.APP_URL}.
func resolveSetting(setting, text string) (string, error) {
	value, err := caddy.NewReplacer().ReplaceOrErr(text, true, true)
	if err != nil {
		return "", fmt.Errorf("%s: %w", setting, err)
	}
	if value == "" {
		return "", fmt.Errorf("%s: a value is empty", setting)
	}
	return value, nil
}

func hasPlaceholder(text string) bool { return strings.Contains(text, "{") }

func isLoopback(host string) bool {
	if strings.EqualFold(host, "localhost") {
		return true
	}
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.Unmap().IsLoopback()
}
