package klavi

import (
	"strings"
	"testing"
)

func TestNearest(t *testing.T) {
	fields := []string{"redirectURL", "productsCallbackURL", "personalTaxId", "all", "other"}
	tests := []struct {
		name  string
		known []string
		want  string
	}{
		{"pf_checking_acount", KnownReportTypes(), "pf_checking_account"},
		{"pf_cheking_acccount", KnownReportTypes(), "pf_checking_account"},
		{"pf_credti_card", KnownReportTypes(), "pf_credit_card"},
		{"pj_financings", KnownReportTypes(), "pj_financing"},
		{"pf-checking-account", KnownReportTypes(), "pf_checking_account"},
		{"consent_revokd", KnownEventNames(), "consent_revoked"},
		{"consent_authorized", KnownEventNames(), "consent_authorised"},
		{"redirectUrl", fields, "redirectURL"},
		{"productsCallbackUrl", fields, "productsCallbackURL"},
		{"personal_tax_id", fields, "personalTaxId"},
		{"al", fields, "all"},
		{"ALL", fields, "all"},
		{"other", fields, "other"},
		{"mother_of_all", fields, ""},
		{"pf_investment", KnownReportTypes(), ""},
		{"", fields, ""},
		{strings.Repeat("a", 1<<20), fields, ""},
		{"anything", nil, ""},
	}
	for _, test := range tests {
		got, ok := Nearest(test.name, test.known)
		if got != test.want || ok != (test.want != "") {
			t.Errorf("Nearest(%.40q): got %q, %v, want %q", test.name, got, ok, test.want)
		}
	}
}

func TestEditDistance(t *testing.T) {
	for _, test := range []struct {
		a, b string
		want int
	}{
		{"", "", 0}, {"a", "", 1}, {"", "abc", 3}, {"abc", "abc", 0}, {"abc", "abd", 1}, {"abc", "acb", 1}, {"abc", "ab", 1}, {"kitten", "sitting", 3},
	} {
		if got := editDistance(test.a, test.b); got != test.want {
			t.Errorf("editDistance(%q, %q): got %d, want %d", test.a, test.b, got, test.want)
		}
	}
}
