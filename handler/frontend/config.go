package frontend

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"

	"github.com/caddy-klavi/caddy-klavi/gateway"
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
	if f.Public {
		return nil
	}
	if err := CheckUser(f.User); err != nil {
		return fmt.Errorf("user: %w", err)
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
	return f.CheckTogether("links_off")
}

func (f *Frontend) checkFields() error {
	if err := checkPairs("set", f.Set, CheckSet); err != nil {
		return err
	}
	if err := checkPairs("set_consent", f.SetConsent, CheckSetConsent); err != nil {
		return err
	}
	for _, name := range f.Accept {
		if err := CheckAccept(name); err != nil {
			return fmt.Errorf("accept: %w", err)
		}
	}
	return checkPairs("external_info", f.ExternalInfo, CheckExternalInfo)
}

func checkPairs(setting string, pairs map[string]string, check func(name, value string) error) error {
	for _, name := range slices.Sorted(maps.Keys(pairs)) {
		if err := check(name, pairs[name]); err != nil {
			return fmt.Errorf("%s: %w", setting, err)
		}
	}
	return nil
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
		private, err := CheckRedirectURL(u)
		if err != nil {
			return fmt.Errorf("redirect_urls: %w", err)
		}
		if private {
			f.logger.Warn("redirect_urls has a private scheme: any app on a user's device can register it; "+
				"a universal link (https) cannot be taken over", zap.String("url", u))
		}
		f.redirects = append(f.redirects, u)
	}
	return nil
}

func (f *Frontend) checkReports() (err error) {
	if f.reportsURL, err = gateway.ParseReportsURL(f.ReportsURL); err != nil {
		return fmt.Errorf("reports_url: %w", err)
	}
	gateway.WarnUnknownReportTypes(f.logger, f.ReportsURL)
	return nil
}

func (f *Frontend) checkAppLink() error {
	if f.AppLink == nil {
		return nil
	}
	if f.AppLink.URL == "" || f.AppLink.Parameter == "" {
		return errors.New("app_link needs both url and parameter")
	}
	if err := CheckAppLinkParameter(f.AppLink.Parameter); err != nil {
		return fmt.Errorf("app_link: %w", err)
	}
	u, err := resolveSetting("app_link", f.AppLink.URL)
	if err != nil {
		return err
	}
	private, err := CheckRedirectURL(u)
	if err != nil {
		return fmt.Errorf("app_link: %w", err)
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
	if err := gateway.CheckPlaceholders(text); err != nil {
		return "", fmt.Errorf("%s: %w", setting, err)
	}
	value, err := caddy.NewReplacer().ReplaceOrErr(text, true, true)
	if err != nil {
		return "", fmt.Errorf("%s: %w", setting, err)
	}
	if value == "" {
		return "", fmt.Errorf("%s: a value is empty", setting)
	}
	return value, nil
}
