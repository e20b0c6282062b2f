package klavi

import (
	"slices"
	"strings"
	"testing"
)

func TestKnownNames(t *testing.T) {
	for _, list := range []func() []string{KnownReportTypes, KnownEventNames} {
		known := list()
		if !slices.IsSorted(known) || len(slices.Compact(slices.Clone(known))) != len(known) {
			t.Errorf("not sorted, or with doubles: %q", known)
		}
		want := known[0]
		known[0] = "changed"
		if got := list()[0]; got != want {
			t.Errorf("after a caller changed its copy: got %q, want %q", got, want)
		}
	}
	for _, name := range KnownReportTypes() {
		if !ValidReportType(name) {
			t.Errorf("ValidReportType(%q): got false, want true", name)
		}
	}
	for _, name := range []string{"pf_checking_account", "pf_credit_risk", "pj_financing", "pj_categorized_creditcard_l3"} {
		if !slices.Contains(KnownReportTypes(), name) {
			t.Errorf("KnownReportTypes(): %q is missing", name)
		}
	}
	if slices.Contains(KnownReportTypes(), "pj_financings") {
		t.Error("KnownReportTypes(): has pj_financings, which Klavi refuses")
	}
}

func TestValidReportType(t *testing.T) {
	for name, want := range map[string]bool{
		"pf_checking_account": true, "pj_x": true, "pf_1": true, "pf__": true,
		"": false, "pf_": false, "pf": false, "pf_A": false, "PF_a": false, "px_a": false, "loans": false, "all": false,
		"pf_a-b": false, "pf_a b": false, "pf_a\n": false, "pf_é": false, " pf_a": false, "pf_*": false,
		"pf_" + strings.Repeat("a", 125): true,
		"pf_" + strings.Repeat("a", 126): false,
	} {
		if got := ValidReportType(name); got != want {
			t.Errorf("ValidReportType(%q): got %v, want %v", name, got, want)
		}
	}
}
