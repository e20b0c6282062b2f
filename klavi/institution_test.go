package klavi

import (
	"strings"
	"testing"
)

func TestValidInstitutionCode(t *testing.T) {
	for code, want := range map[string]bool{
		"341":                   true,
		"banco-do_brasil":       true,
		strings.Repeat("a", 32): true,
		"":                      false,
		strings.Repeat("a", 33): false,
		"34 1":                  false,
		"341\n":                 false,
		"../341":                false,
		"341?x=1":               false,
		"itaú":                  false,
	} {
		if got := ValidInstitutionCode(code); got != want {
			t.Errorf("%q: got %t, want %t", code, got, want)
		}
	}
}
