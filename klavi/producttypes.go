package klavi

import (
	"slices"
	"strings"
)

// What a report type is called after its "pf_" (a person, CPF) or "pj_" (a business, CNPJ).
var reportTypeStems = []string{
	"balance",
	"bank_fixed_incomes",
	"categorized_checking_l2",
	"categorized_checking_l3",
	"categorized_creditcard_l2",
	"categorized_creditcard_l3",
	"categorized_savings_l2",
	"categorized_savings_l3",
	"checking_account",
	"credit_card",
	"credit_fixed_incomes",
	"financing",
	"funds",
	"invoice_financing",
	"loans",
	"savings_account",
	"treasure_titles",
	"unarranged_account_overdraft",
	"variable_incomes",
}

var knownReportTypes = func() []string {
	types := []string{"pf_credit_risk"}
	for _, stem := range reportTypeStems {
		types = append(types, "pf_"+stem, "pj_"+stem)
	}
	slices.Sort(types)
	return types
}()

var knownEventNames = []string{
	"consent_authorised",
	"consent_deleted_by_user",
	"consent_error",
	"consent_expired",
	"consent_rejected",
	"consent_revoked",
	"link_action_status",
	"link_created",
	"product_generated_failed",
	"product_generated_success",
	"product_request_received",
}

// KnownReportTypes returns, sorted, the report types that Klavi's documents or working integrations name. The list is
// not complete and Klavi adds to it: it serves to recognise typing errors, never to refuse a type.
func KnownReportTypes() []string { return slices.Clone(knownReportTypes) }

// KnownEventNames returns, sorted, the names of the events that Klavi documents (docs.klavi.ai/connect/api-events). As
// with report types, others can come.
func KnownEventNames() []string { return slices.Clone(knownEventNames) }

// ValidReportType reports whether s has the form of a report type: "pf_" or "pj_", then lower-case letters, digits
// and underscores; at most 128 bytes in all.
func ValidReportType(s string) bool {
	if len(s) > 128 {
		return false
	}
	stem, ok := strings.CutPrefix(s, "pf_")
	if !ok {
		stem, ok = strings.CutPrefix(s, "pj_")
	}
	if !ok || stem == "" {
		return false
	}
	for i := range len(stem) {
		c := stem[i]
		if !('a' <= c && c <= 'z' || '0' <= c && c <= '9' || c == '_') {
			return false
		}
	}
	return true
}
