package sandbox

import (
	"fmt"
	"html"
	"net/http"
	"strings"
)

// persona is how a simulated institution behaves.
type persona int

const (
	asks         persona = iota // a person decides on the bank's page
	authorises                  // authorises without asking
	refuses                     // refuses without asking
	outage                      // 416/4004
	limitReached                // 416/4003
	partial                     // reports carry code 204
	failing                     // reports carry code 5000
	silent                      // a report is promised and never comes
	huge                        // the first report of each request is 20 MB
	noReports                   // report requests are refused: 416/4007
	taskSucceeds                // Open Data
	taskAsksMFA                 // Open Data
	taskFails                   // Open Data
)

const hugeReport = 20_000_000

// institution is one element of GET /links/institutions (docs.klavi.ai/connect/get-institution-list).
type institution struct {
	Code           string   `json:"institutionCode"`
	Name           string   `json:"name"`
	Avatar         string   `json:"avatar"`
	IsBeta         bool     `json:"isBeta"`
	IsOutage       bool     `json:"isOutage"`
	Type           int      `json:"institutionType"`
	BusinessType   string   `json:"businessType,omitempty"`
	Resources      []string `json:"availableResources,omitempty"`
	ParentName     string   `json:"parentOrganizationName"`
	ParentID       string   `json:"parentOrganizationId"`
	Organization   string   `json:"organizationName"`
	OrganizationID string   `json:"organizationId"`

	persona persona
}

const (
	openFinance = 1
	openData    = 2
)

var allResources = []string{
	"REGISTRATION", "ACCOUNTS", "CREDIT_CARDS", "CREDIT_OPERATIONS:LOANS", "CREDIT_OPERATIONS:FINANCINGS",
	"CREDIT_OPERATIONS:UNARRANGED_ACCOUNTS_OVERDRAFT", "CREDIT_OPERATIONS:INVOICE_FINANCINGS",
	"INVESTMENTS:BANK_FIXED_INCOMES", "INVESTMENTS:CREDIT_FIXED_INCOMES", "INVESTMENTS:VARIABLE_INCOMES",
	"INVESTMENTS:TREASURE_TITLES", "INVESTMENTS:FUNDS",
}

// institutions are invented banks under real codes. docs/sandbox.md lists them for partners.
var institutions = []institution{
	bank("001", "Banco Exemplo", "BOTH", asks),
	bank("341", "Banco Sempre Sim", "BOTH", authorises),
	bank("033", "Banco Sempre Nao", "BOTH", refuses),
	bank("104", "Banco Fora do Ar", "BOTH", outage),
	bank("237", "Banco do Limite", "BOTH", limitReached),
	bank("260", "Banco Parcial", "BOTH", partial),
	bank("077", "Banco do Erro", "BOTH", failing),
	bank("336", "Banco Calado", "BOTH", silent),
	bank("208", "Banco Volumoso", "BOTH", huge),
	bank("655", "Banco Sem Relatorio", "BOTH", noReports),
	wallet("323", "Carteira Aberta", taskAsksMFA),
	wallet("290", "Carteira Simples", taskSucceeds),
	wallet("380", "Carteira Com Falha", taskFails),
}

func bank(code, name, business string, p persona) institution {
	return institution{
		Code: code, Name: name, IsOutage: p == outage, Type: openFinance, BusinessType: business, Resources: allResources,
		Organization: strings.ToUpper(name) + " S.A.", OrganizationID: "5f69111d-5cc3-43ea-ba97-30392654a" + code, persona: p,
	}
}

func wallet(code, name string, p persona) institution {
	return institution{
		Code: code, Name: name, IsBeta: p == taskFails, Type: openData,
		Organization: strings.ToUpper(name) + " S.A.", OrganizationID: "0b919e9b-bee0-4549-baa3-bb6d003ce" + code, persona: p,
	}
}

func findInstitution(code string) *institution {
	for i := range institutions {
		if institutions[i].Code == code {
			return &institutions[i]
		}
	}
	return nil
}

func personaOf(code string) persona {
	if i := findInstitution(code); i != nil {
		return i.persona
	}
	return asks
}

// getInstitutions is GET /links/institutions.
func (s *Sandbox) getInstitutions(c *call) (any, error) {
	base := baseURL(c.r)
	list := make([]institution, len(institutions))
	for i, inst := range institutions {
		inst.Avatar = base + avatarPrefix + inst.Code + ".svg"
		list[i] = inst
	}
	return list, nil
}

// getInstitutionStatus is GET /links/institutions/status: what has become of each institution that the link's user chose.
// Of several attempts with one institution, the last counts.
func (s *Sandbox) getInstitutionStatus(c *call) (any, error) {
	type status struct {
		Code   string `json:"institutionCode"`
		Name   string `json:"name"`
		Status string `json:"status"`
	}
	list := []status{}
	at := map[string]int{}
	add := func(code, text string) {
		if i, ok := at[code]; ok {
			list[i].Status = text
			return
		}
		at[code] = len(list)
		list = append(list, status{code, findInstitution(code).Name, text})
	}
	for _, con := range c.link.consents {
		add(con.institution, con.status)
	}
	for _, t := range c.link.tasks {
		add(t.institution, t.status)
	}
	return list, nil
}

const avatarPrefix = "/avatars/"

// serveAvatar draws an institution's logo, so that nothing is loaded from elsewhere.
func serveAvatar(w http.ResponseWriter, file string) {
	inst := findInstitution(strings.TrimSuffix(file, ".svg"))
	if inst == nil {
		writeJSON(w, http.StatusNotFound, notFound("no such avatar"))
		return
	}
	_, last, _ := strings.Cut(inst.Name, " ")
	w.Header().Set("Content-Type", "image/svg+xml")
	w.Header().Set("Cache-Control", "max-age=3600")
	hue := int(inst.Code[0])*37 + int(inst.Code[1])*71 + int(inst.Code[2])*113
	fmt.Fprintf(w, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 40 40"><rect width="40" height="40" rx="9" fill="hsl(%d 55%% 42%%)"/>`+
		`<text x="20" y="27" font-family="sans-serif" font-size="20" text-anchor="middle" fill="#fff">%s</text></svg>`,
		hue%360, html.EscapeString(last[:1]))
}
