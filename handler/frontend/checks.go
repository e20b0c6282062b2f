package frontend

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-klavi/caddy-klavi/gateway"
	"github.com/caddy-klavi/caddy-klavi/klavi"
)

// The checks of single settings are exported for those who read settings out of
// a Caddyfile and can say where they stand. Their errors do not name the setting.

// What the config may fix or open.
var (
	setFields        = []string{personalTaxID, businessTaxID, email, phone, institutionCode, connectionKey}
	setConsentFields = []string{validityPeriod, phone, email, personalTaxID, businessTaxID, institutionCode}
	acceptFields     = []string{connectionKey, externalInfo}
)

// CheckUser checks [Frontend.User].
func CheckUser(user string) error {
	if err := gateway.CheckPlaceholders(user); err != nil {
		return err
	}
	if !gateway.HasPlaceholder(user) {
		return errors.New("it has no placeholder, so that every visitor would be the same person: write the placeholder " +
			"that holds who is logged in, such as {http.request.header.X-User}, or public for a site without logins")
	}
	if fixed := caddy.NewReplacer().ReplaceKnown(user, "x"); !gateway.HasPlaceholder(fixed) {
		return errors.New("its placeholders are the same for every request, so that every visitor would be the same person: " +
			"write one that holds who is logged in, such as {http.request.header.X-User}")
	}
	return nil
}

// CheckSet checks an entry of [Frontend.Set]. Constants must be right already;
// placeholders are seen with each request.
func CheckSet(name, value string) error { return checkFixed(setFields, name, value) }

// CheckSetConsent checks an entry of [Frontend.SetConsent], as CheckSet does.
func CheckSetConsent(name, value string) error { return checkFixed(setConsentFields, name, value) }

func checkFixed(known []string, name, value string) error {
	if err := checkName(known, name); err != nil {
		return err
	}
	if value == "" {
		return fmt.Errorf("%s has no value", name)
	}
	if err := gateway.CheckPlaceholders(value); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if gateway.HasPlaceholder(value) {
		return nil
	}
	if _, ok := fieldRules[name].canonical(unescaped(value)); !ok {
		return fmt.Errorf("%s must be %s", name, fieldRules[name].right)
	}
	return nil
}

// CheckAccept checks an entry of [Frontend.Accept].
func CheckAccept(name string) error { return checkName(acceptFields, name) }

func checkName(known []string, name string) error {
	if slices.Contains(known, name) {
		return nil
	}
	if near, ok := klavi.Nearest(name, known); ok {
		return fmt.Errorf("there is no field %q: did you mean %s?", name, near)
	}
	return fmt.Errorf("there is no field %q: possible are %s", name, strings.Join(known, ", "))
}

// CheckExternalInfo checks an entry of [Frontend.ExternalInfo].
func CheckExternalInfo(name, value string) error {
	if name == "user" || name == "client" {
		return fmt.Errorf("the name %q is taken by the gateway: choose another", name)
	}
	if err := checkText(name, maxExternalText); err != nil {
		return fmt.Errorf("%q cannot be a name: %w", name, err)
	}
	if value == "" {
		return fmt.Errorf("%q has no value", name)
	}
	if err := gateway.CheckPlaceholders(value); err != nil {
		return fmt.Errorf("%q: %w", name, err)
	}
	if gateway.HasPlaceholder(value) {
		return nil
	}
	if err := checkText(unescaped(value), maxExternalText); err != nil {
		return fmt.Errorf("%q: %w", name, err)
	}
	return nil
}

// unescaped is what a text without placeholders becomes.
func unescaped(text string) string { return caddy.NewEmptyReplacer().ReplaceAll(text, "") }

// CheckRedirectURL accepts https, http on loopback, and the private schemes of
// apps; private says that it is one of these. It is for an entry of
// [Frontend.RedirectURLs], or [AppLink.URL], whose placeholders are replaced.
func CheckRedirectURL(address string) (private bool, err error) {
	if _, ok := fieldRules[redirectURL].canonical(address); !ok {
		return false, fmt.Errorf("%q has spaces or characters that a URL has to escape, or is too long", address)
	}
	u, err := url.Parse(address)
	if err != nil || u.Scheme == "" {
		return false, fmt.Errorf("%q is not a whole URL such as https://app.example.com/connected", address)
	}
	switch u.Scheme {
	case "https":
	case "http":
		if !isLoopback(u.Hostname()) {
			return false, fmt.Errorf("%q must be https: http is possible on loopback only", u.Redacted())
		}
	case "javascript", "data", "vbscript", "file", "blob", "about":
		return false, fmt.Errorf("%q has the scheme %s, under which a browser runs or reads local content", u.Redacted(), u.Scheme)
	default:
		return true, nil
	}
	if u.Hostname() == "" || u.User != nil {
		return false, fmt.Errorf("%q must have a host and no user", u.Redacted())
	}
	return false, nil
}

func isLoopback(host string) bool {
	if strings.EqualFold(host, "localhost") {
		return true
	}
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.Unmap().IsLoopback()
}

var parameterPattern = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)

// CheckAppLinkParameter checks [AppLink.Parameter].
func CheckAppLinkParameter(name string) error {
	if !parameterPattern.MatchString(name) {
		return fmt.Errorf("the parameter %q must be 1 to 64 letters, digits, _ or -", name)
	}
	return nil
}

// CheckOrigin accepts an origin in the one way in which browsers write it, also of
// the private schemes under which apps show their pages. It is for an entry of
// [Frontend.AllowOrigins] whose placeholders are replaced.
func CheckOrigin(origin string) error {
	if strings.Contains(origin, "*") {
		return fmt.Errorf("%q has a *: list each origin, they may call with their users' credentials", origin)
	}
	u, err := url.Parse(origin)
	if err != nil || u.Scheme == "" || u.Host == "" {
		return fmt.Errorf("%q is not an origin such as https://app.example.com", origin)
	}
	switch u.Scheme {
	case "file", "data", "blob", "about", "javascript":
		return fmt.Errorf("%q is the origin of no page: below %s it is null, which cannot be listed", u.Redacted(), u.Scheme)
	}
	if near, ok := klavi.Nearest(u.Scheme, []string{"https", "http"}); ok && near != u.Scheme {
		return fmt.Errorf("%q has the scheme %s: did you mean %s?", u.Redacted(), u.Scheme, near)
	}
	if u.User != nil {
		return fmt.Errorf("%q has a user, which no origin has", u.Redacted())
	}
	want := strings.ToLower(u.Scheme + "://" + u.Host)
	if u.Scheme == "https" && u.Port() == "443" || u.Scheme == "http" && u.Port() == "80" {
		want = strings.TrimSuffix(want, ":"+u.Port())
	}
	if origin != want {
		return fmt.Errorf("%q is not how a browser writes it: that is %q", origin, want)
	}
	return nil
}

// CheckTogether checks what no setting is wrong about alone. linksOff is how the
// config that is being read writes links_off.
func (f *Frontend) CheckTogether(linksOff string) error {
	if !f.LinksOff {
		return nil
	}
	if f.Flow == flowWhitelabel {
		return fmt.Errorf("%s closes links and flow whitelabel closes institutions and consents: nothing would be open", linksOff)
	}
	if f.Public && !f.raw() {
		return fmt.Errorf("%s and public cannot stand together: a link token that klavi_proxy seals for a backend names a user, "+
			"and a public site knows none, so that every request would be refused; replace public by user", linksOff)
	}
	for _, setting := range []struct {
		name    string
		present bool
		instead string
	}{
		{"set", len(f.Set) > 0, "; set_consent fixes those of consents"},
		{"accept", len(f.Accept) > 0, ""},
		{"external_info", len(f.ExternalInfo) > 0, ""},
		{"reports_url", len(f.ReportsURL) > 0, ""},
		{"app_link", f.AppLink != nil, ""},
	} {
		if setting.present {
			return fmt.Errorf("%s does nothing beside %s: it is about the fields of links, which browsers cannot create here%s",
				setting.name, linksOff, setting.instead)
		}
	}
	return nil
}
