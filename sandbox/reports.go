package sandbox

import (
	"slices"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/google/uuid"
)

// reportRequest serves one of the four report requests (docs.klavi.ai/connect/vDAe-user-level-report). The answer only says
// that the work is queued; reports come by webhook.
func reportRequest(prefix string, institutionLevel bool) func(*Sandbox, *call) (any, error) {
	return func(s *Sandbox, c *call) (any, error) {
		var in struct {
			TaxID               string         `json:"taxId"`
			InstitutionCode     string         `json:"institutionCode"`
			LinkID              string         `json:"linkId"`
			ConsentIDs          []string       `json:"consentIds"`
			Products            []string       `json:"products"`
			ProductsCallbackURL jsontext.Value `json:"productsCallbackURL"`
			ExternalInfo        jsontext.Value `json:"externalInfo"`
		}
		if err := c.decode(&in); err != nil {
			return nil, err
		}
		taxID, err := checkTaxID(prefix, in.TaxID)
		if err != nil {
			return nil, err
		}
		if institutionLevel {
			if in.InstitutionCode == "" {
				return nil, missing("institutionCode")
			}
			inst := findInstitution(in.InstitutionCode)
			if inst == nil || inst.persona == outage {
				return nil, businessError(invalidInstitution)
			}
		} else {
			in.InstitutionCode = "" // not a field of this level
		}
		products, err := s.checkProducts(prefix, institutionLevel, in.Products)
		if err != nil {
			return nil, err
		}
		targets, err := parseCallbacks(in.ProductsCallbackURL)
		if err != nil {
			return nil, err
		}
		info, err := parseInfo(in.ExternalInfo)
		if err != nil {
			return nil, err
		}
		consents := s.consentsFor(prefix, taxID, in.InstitutionCode, in.LinkID, in.ConsentIDs)
		if len(consents) == 0 {
			return nil, businessError(invalidAuthorisation)
		}
		if personaOf(consents[0].institution) == noReports {
			return nil, businessError(requestFailed)
		}
		l := consents[0].link
		if info == nil {
			info = l.externalInfo
		}
		id := newRequestID()
		payload := productPayload{linkPayload: linkPayload{l.personal, l.business, l.id}, RequestID: id, Products: products}
		s.sendEvent("product_request_received", payload, info)
		s.sendReports(reportJob{
			requestID: id, taxID: taxID, products: products, consents: consents, callbacks: targets, externalInfo: info,
		})
		return struct {
			RequestID string `json:"requestId"`
			Message   string `json:"message"`
		}{id, "ok"}, nil
	}
}

func checkTaxID(prefix, taxID string) (string, error) {
	if taxID == "" {
		return "", missing("taxId")
	}
	cpf, cnpj := taxID, ""
	if prefix == "pj_" {
		cpf, cnpj = "", taxID
	}
	cpf, cnpj, err := checkPerson(cpf, cnpj, "", "")
	if err != nil {
		return "", badRequest("Invalid taxId")
	}
	return cpf + cnpj, nil
}

// checkProducts refuses what was not bought or belongs to the other level. `all` is a word of the user level only.
func (s *Sandbox) checkProducts(prefix string, institutionLevel bool, asked []string) ([]string, error) {
	if len(asked) == 0 {
		return nil, businessError(noProducts)
	}
	if !institutionLevel && slices.Equal(asked, []string{"all"}) {
		var all []string
		for _, p := range s.opts.Products {
			if strings.HasPrefix(p, prefix) {
				all = append(all, p)
			}
		}
		return all, nil
	}
	for _, p := range asked {
		if !strings.HasPrefix(p, prefix) || !slices.Contains(s.opts.Products, p) {
			return nil, businessError(invalidProduct)
		}
	}
	return asked, nil
}

// consentsFor finds the authorised consents that a request covers. Without a link or consents it is one: the latest
// (docs.klavi.ai/link/common-format; at user level Klavi takes the one with the widest permissions, and here all are equal).
func (s *Sandbox) consentsFor(prefix, taxID, institution, linkID string, ids []string) []*consent {
	var found []*consent
	for _, con := range s.consents.all() {
		owner := con.personal
		if prefix == "pj_" {
			owner = con.business
		}
		if con.status == authorised && owner == taxID &&
			(institution == "" || con.institution == institution) &&
			(linkID == "" || con.link.id == linkID) &&
			(len(ids) == 0 || slices.Contains(ids, con.id)) {
			found = append(found, con)
		}
	}
	if linkID == "" && len(ids) == 0 && len(found) > 1 {
		found = found[len(found)-1:]
	}
	return found
}

// reportJob is a set of reports about one person.
type reportJob struct {
	requestID    string
	taxID        string
	products     []string
	consents     []*consent
	callbacks    callbacks
	externalInfo jsontext.Value
}

// sendReports generates one report for each product, as the institution's persona wants them. The caller holds the lock.
func (s *Sandbox) sendReports(job reportJob) {
	con := job.consents[0]
	p := personaOf(con.institution)
	if p == silent || p == noReports {
		return
	}
	for i, product := range job.products {
		r := s.newReport(product, job)
		switch {
		case p == partial:
			r.Code, r.Message = 204, "Some bank-side APIs are not available"
		case p == failing:
			r.Code, r.Message = 5000, "Report generation failed"
		case p == huge && i == 0:
			r.size = hugeReport
		}
		name := "product_generated_success"
		outcome := productPayload{
			linkPayload: linkPayload{con.personal, con.business, con.link.id}, RequestID: job.requestID,
			ProductName: product, ProductReportID: r.ProductReportID,
		}
		if p == failing {
			name, outcome.Code, outcome.Message = "product_generated_failed", r.Code, r.Message
		}
		s.sendEvent(name, outcome, job.externalInfo)
		target := reportURL(product, job.callbacks, con.link.callbacks, s.opts.ReportsURL)
		s.sendReport(r, target, 1)
	}
}

func (s *Sandbox) sendReport(r *report, target string, copies int) []string {
	d := delivery{Kind: "report", Name: r.ProductName, ReportID: r.ProductReportID, URL: target, open: r.open}
	return s.enqueue(d, copies)
}

func newRequestID() string { return randomHex(8) }

func (s *Sandbox) newReport(product string, job reportJob) *report {
	r := &report{
		header: header{
			Code: 200, Message: "OK", RequestID: job.requestID, ProductName: product, ProductVersion: "V3",
			ProductReportID: uuid.NewString(), ProductReportTime: s.clock.now().Format(reportTime),
		},
		taxID: job.taxID, externalInfo: orEmptyObject(job.externalInfo), size: s.opts.ReportSize,
	}
	if strings.HasPrefix(product, "pj_") {
		r.EnquiryCnpj = job.taxID
	} else {
		r.EnquiryCpf = job.taxID
	}
	for _, con := range job.consents {
		r.addConsent(con)
	}
	r.seed = seedOf(s.opts.Seed, job.taxID, r.institution(), product)
	r.loadFixture(s.opts.Fixtures)
	return r
}
