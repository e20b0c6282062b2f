package integration

import (
	"regexp"
	"slices"
	"strconv"
	"testing"
)

// decision is what the person clicks at the hosted pages, one page after the other.
type decision struct{ page, button string }

var (
	asksBank      = decision{"/bank", "approve"}
	refusesAtBank = decision{"/bank", "refuse"}
	bankFails     = decision{"/bank", "fail"}
	agrees        = decision{"/lgpd", "approve"}
	disagrees     = decision{"/lgpd", "refuse"}
	chooses       = decision{"/path", "continue"}
	leaves        = decision{"/path", "cancel"}
)

// lanes are the columns of the page, and what belongs into each.
var lanes = map[string]*regexp.Regexp{
	"lane-checking": regexp.MustCompile(`^pf_(checking_account|categorized_checking_\w+)$`),
	"lane-cards":    regexp.MustCompile(`^pf_credit_card$`),
	"lane-archive":  regexp.MustCompile(`^p[fj]_\w+$`),
	"lane-events":   regexp.MustCompile(`^\w+$`),
}

// createLink clicks through step 1.
func (tb *tab) createLink() {
	tb.t.Helper()
	tb.open(tb.url("app", "/"))
	tb.click("#create-link")
	tb.until(`document.getElementById('link-json').textContent.includes('linkId')`)
}

// listInstitutions clicks through the first half of step 2.
func (tb *tab) listInstitutions() {
	tb.t.Helper()
	tb.click("#load-institutions")
	tb.until(`document.querySelectorAll('#institutions input').length > 0`)
}

// createConsent clicks through the second half of step 2.
func (tb *tab) createConsent() {
	tb.t.Helper()
	tb.click("#create-consent")
	tb.until(`document.getElementById('consent-json').textContent.includes('consentRedirectURL')`)
}

func (tb *tab) decide(decisions ...decision) {
	tb.t.Helper()
	for _, d := range decisions {
		tb.untilAt("sandbox", d.page)
		tb.click("button[value=" + d.button + "]")
	}
}

// arrived returns the types of what came into a lane since the page was opened.
func (tb *tab) arrived(lane string) []string {
	tb.t.Helper()
	return eval[[]string](tb, `Array.from(document.querySelectorAll('#`+lane+` li.new > code'), (e) => e.textContent)`)
}

// Klavi's own pages, and screens of one's own, to each of their ends.
func (b *browser) flows(t *testing.T) {
	tests := []struct {
		name      string
		hosted    bool
		decisions []decision
		error     string // in the query on the way back; empty for a yes
		event     string
	}{
		{"hosted, agreed", true, []decision{chooses, asksBank, agrees}, "", "consent_authorised"},
		{"hosted, left before choosing", true, []decision{leaves}, "access_denied", ""},
		{"hosted, refused at the bank", true, []decision{chooses, refusesAtBank}, "access_denied", "consent_rejected"},
		{"hosted, refused under the LGPD", true, []decision{chooses, asksBank, disagrees}, "access_denied", "consent_rejected"},
		{"hosted, the bank failed", true, []decision{chooses, bankFails}, "server_error", "consent_error"},
		{"own screens, agreed", false, []decision{asksBank, agrees}, "", "consent_authorised"},
		{"own screens, refused at the bank", false, []decision{refusesAtBank}, "access_denied", "consent_rejected"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			tb := b.tab(t, look{})
			tb.createLink()
			if test.hosted {
				tb.click("#go-hosted")
			} else {
				tb.listInstitutions()
				tb.createConsent()
				tb.click("#go-bank")
			}
			tb.decide(test.decisions...)

			tb.untilAt("app", "/")
			tb.until(`document.activeElement.id === 'returned-title'`)
			if query := eval[string](tb, `location.search`); query != "" {
				t.Errorf("got %s in the address, want nothing left there", query)
			}
			wantError(t, tb, test.error)
			if test.event != "" {
				tb.until(`Array.from(document.querySelectorAll('#lane-events li.new > code'), (e) => e.textContent).includes('` + test.event + `')`)
			}
			if test.error != "" {
				for _, lane := range []string{"lane-checking", "lane-cards", "lane-archive"} {
					if got := tb.arrived(lane); len(got) != 0 {
						t.Errorf("%s: got %v without a yes", lane, got)
					}
				}
				return
			}
			tb.wantReports()
		})
	}
}

// wantError compares what the page shows of the query with which the person came back.
func wantError(t *testing.T, tb *tab, want string) {
	t.Helper()
	outcome := map[bool]string{true: "ok", false: "no"}[want == ""]
	if got := eval[string](tb, `document.getElementById('returned').dataset.outcome`); got != outcome {
		t.Errorf("the page shows %q, want %q", got, outcome)
	}
	values := eval[map[string]string](tb, `Object.fromEntries(Array.from(document.querySelectorAll('#returned-values dt'),
		(dt) => [dt.textContent, dt.nextElementSibling.querySelector('code').textContent]))`)
	link := eval[string](tb, `JSON.parse(document.getElementById('link-json').textContent).linkId`)
	if values["error"] != want || values["link_id"] != link {
		t.Errorf("got %v, want error %q and link_id %s", values, want, link)
	}
}

// wantReports waits for reports in every lane, each in that of its type. A report
// that is requested while the page is open comes into it without a reload.
func (tb *tab) wantReports() {
	tb.t.Helper()
	for lane := range lanes {
		tb.until(`document.querySelector('#` + lane + ` li.new')`)
	}
	opened := eval[float64](tb, `performance.timeOrigin`)
	shown := eval[int](tb, `document.querySelectorAll('#lane-cards li').length`)
	tb.want(tb.do("POST", tb.url("services", "/personal/institution-data"),
		`{"taxId":"52998224725","institutionCode":"001","products":["pf_credit_card"]}`), 200, "")
	tb.until(`document.querySelectorAll('#lane-cards li').length > ` + strconv.Itoa(shown))
	if got := eval[float64](tb, `performance.timeOrigin`); got != opened {
		tb.t.Error("the page was loaded again")
	}
	for lane, belongs := range lanes {
		for _, name := range tb.arrived(lane) {
			if !belongs.MatchString(name) || lane == "lane-archive" && slices.ContainsFunc([]string{"lane-checking", "lane-cards"},
				func(other string) bool { return lanes[other].MatchString(name) }) {
				tb.t.Errorf("%s got %s", lane, name)
			}
		}
	}
}
