package sandbox

import (
	"fmt"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"slices"

	"go.uber.org/zap"
)

// The keys of a sandbox that was given none.
const (
	DefaultAccessKey = "sandbox-access-key"
	DefaultSecretKey = "sandbox-secret-key"
)

// Sizes of generated reports, in bytes.
const (
	defaultReportSize = 8 << 10
	maxReportSize     = 64 << 20
)

// AppID is the partner's application id: `partnerAppId` of events, and the last segment of the basic link.
const AppID = "12345678"

// Options is what a partner's contract and Klavi's Console would hold.
type Options struct {
	// AccessKey and SecretKey are the credentials of POST /data/v1/auth; the secret key signs every delivery too.
	// Default: DefaultAccessKey, DefaultSecretKey.
	AccessKey, SecretKey string

	// EventsURL is the Console's URL for event webhooks. Empty: events are not sent.
	EventsURL string

	// ReportsURL is the Console's URL for reports, the last choice after the request's and the link's own.
	ReportsURL string

	// Manual stops the reports that are otherwise sent as soon as a consent is authorised.
	Manual bool

	// Products are the report types bought at onboarding. Default: DefaultProducts().
	Products []string

	// ReportSize is how large a generated report becomes, in bytes: at least this, and less than one record more.
	// At most 64 MiB. Default: 8 KiB.
	ReportSize int64

	// Seed varies the generated data. The same seed, tax id, institution and product give the same data.
	Seed uint64

	// Fixtures is a directory of reports to send in place of generated ones, <product>.json each.
	Fixtures string

	// Transport carries the deliveries. Default: a transport of the sandbox's own.
	Transport http.RoundTripper

	// Logger is told of deliveries that were given up. Default: none.
	Logger *zap.Logger
}

var productName = regexp.MustCompile(`^(pf|pj)_[a-z0-9_]+$`)

// DefaultProducts are the report types that public integrations of Klavi's use.
func DefaultProducts() []string {
	kinds := []string{
		"checking_account", "savings_account", "credit_card", "loans", "financing",
		"bank_fixed_incomes", "funds", "treasure_titles", "categorized_checking_l3",
	}
	products := make([]string, 0, 2*len(kinds)+1)
	for _, prefix := range []string{"pf_", "pj_"} {
		for _, kind := range kinds {
			products = append(products, prefix+kind)
		}
	}
	return append(products, "pf_credit_risk")
}

// withDefaults checks the options and fills in what was left out.
func (o Options) withDefaults() (Options, error) {
	if o.AccessKey == "" {
		o.AccessKey = DefaultAccessKey
	}
	if o.SecretKey == "" {
		o.SecretKey = DefaultSecretKey
	}
	if err := checkURL(o.EventsURL); err != nil {
		return o, fmt.Errorf("events_url: %w", err)
	}
	if err := checkURL(o.ReportsURL); err != nil {
		return o, fmt.Errorf("reports_url: %w", err)
	}
	if len(o.Products) == 0 {
		o.Products = DefaultProducts()
	}
	for i, p := range o.Products {
		if !productName.MatchString(p) {
			return o, fmt.Errorf("products: %q is not a report type: want pf_ or pj_ and lower-case letters, digits or _", p)
		}
		if slices.Contains(o.Products[:i], p) {
			return o, fmt.Errorf("products: %s is listed twice", p)
		}
	}
	if o.ReportSize == 0 {
		o.ReportSize = defaultReportSize
	}
	if o.ReportSize < 0 || o.ReportSize > maxReportSize {
		return o, fmt.Errorf("report_size: %d bytes: want 1 to %d (64 MiB)", o.ReportSize, int64(maxReportSize))
	}
	if o.Fixtures != "" {
		if err := checkFixtures(os.DirFS(o.Fixtures)); err != nil {
			return o, fmt.Errorf("fixtures %s: %w", o.Fixtures, err)
		}
	}
	if o.Logger == nil {
		o.Logger = zap.NewNop()
	}
	return o, nil
}

// checkURL accepts "" and absolute http and https URLs.
func checkURL(s string) error {
	if s == "" {
		return nil
	}
	u, err := url.Parse(s)
	if err != nil {
		return err
	}
	if (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
		return fmt.Errorf("%q: want an absolute http or https URL", s)
	}
	return nil
}
