package klavi

import "regexp"

var institutionCode = regexp.MustCompile(`^[A-Za-z0-9_-]{1,32}$`)

// ValidInstitutionCode reports whether s can be the institutionCode of a bank:
// 1 to 32 letters, digits, `_` or `-`. Which of them exist, only the list of
// institutions says (docs.klavi.ai/connect/get-institution-list).
func ValidInstitutionCode(s string) bool { return institutionCode.MatchString(s) }
