package klavi

// Event is what an event webhook says of one thing that happened (docs.klavi.ai/connect/api-events).
//
// Texts are printable ASCII without spaces, at most 256 bytes; ids that are not, or are missing, are left empty.
type Event struct {
	// Name is eventName, such as "consent_authorised". Never empty.
	Name string
	// ID is eventId, unique for each event; Klavi's documents spell it eventID too.
	ID string
	// LinkID is the payload's linkId.
	LinkID string
	// ConsentIDs are those found in the payload, in order, each once, at most 64.
	ConsentIDs []string
}

func (h *header) event() Event {
	e := Event{Name: h.eventName, ID: h.eventID, ConsentIDs: h.payload.consentIDs}
	if len(h.payload.linkIDs) > 0 {
		e.LinkID = h.payload.linkIDs[0]
	}
	return e
}
