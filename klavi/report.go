package klavi

// Report is what the header of a product webhook says: which report it is and where it belongs. The data of the report
// is not here (docs.klavi.ai/connect/common-format).
//
// Texts are printable ASCII without spaces, at most 256 bytes; ids that are not, or are missing, are left empty.
type Report struct {
	// Type is productName, such as "pf_categorized_checking_l3". Never empty.
	Type string
	// ID is productReportId, unique for each report.
	ID string
	// Code is Klavi's own status of the report, nothing of HTTP: 200 is complete, 204 says that some of the bank's
	// data was not to be had. Zero if it is missing or no whole number.
	Code int
	// RequestID is requestId, which the answer to the request for the report also had.
	RequestID string
	// LinkIDs and ConsentIDs are those found in links, in order, each once, at most 64.
	LinkIDs, ConsentIDs []string
}

// report reads the header of the report out of what an object says of itself.
func (h *header) report() *Report {
	return &Report{
		Type:       h.productName,
		ID:         h.productReportID,
		Code:       h.code,
		RequestID:  h.requestID,
		LinkIDs:    h.links.linkIDs,
		ConsentIDs: h.links.consentIDs,
	}
}
