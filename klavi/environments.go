package klavi

import "net/netip"

// environment is one of Klavi's installations and the address of its API.
type environment struct {
	name    string
	baseURL string
}

var environments = []environment{
	{"sandbox", "https://api-sandbox.klavi.ai/data/v1"},
	{"testing", "https://api-testing.klavi.ai/data/v1"},
	{"production", "https://api.klavi.ai/data/v1"},
}

// BaseURL returns the address under which the API of an environment stands, "/data/v1" included and without a slash
// at its end. The second result is false for a name that [Environments] does not list.
func BaseURL(environment string) (string, bool) {
	for _, e := range environments {
		if e.name == environment {
			return e.baseURL, true
		}
	}
	return "", false
}

// Environments returns the names that [BaseURL] knows: "sandbox", "testing" and "production".
func Environments() []string {
	names := make([]string, len(environments))
	for i, e := range environments {
		names[i] = e.name
	}
	return names
}

// EgressAddrs returns the addresses from which Klavi sends webhooks, as docs.klavi.ai/connect/security publishes them:
// the one shared by sandbox and testing, then the one of production. They tell who is likely to be Klavi; the
// signature alone tells who is.
func EgressAddrs() []netip.Prefix {
	return []netip.Prefix{
		netip.MustParsePrefix("18.231.92.86/32"),
		netip.MustParsePrefix("18.230.43.17/32"),
	}
}
