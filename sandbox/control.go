package sandbox

import (
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
)

// controlPrefix is where tests drive the sandbox. There is no login: serve it on the loopback interface or in CI only.
const controlPrefix = "/_sandbox/"

// maxControl bounds a control's body, that of a trigger among them.
const maxControl = maxReportSize + 1<<20

// controlError is the answer of a control that was asked for something odd.
type controlError struct {
	Error string `json:"error"`
}

const controlsHelp = "want POST reset, POST clock, PUT or DELETE faults, POST consents/{id}/{authorise|reject|error|expire|revoke|delete_by_user}, " +
	"POST trigger, GET requests, GET deliveries"

func (s *Sandbox) serveControl(w http.ResponseWriter, r *http.Request, name string) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxControl))
	if err != nil {
		writeJSON(w, http.StatusRequestEntityTooLarge, controlError{"the body is larger than 65 MiB"})
		return
	}
	status, reply := s.control(r.Method+" "+name, body)
	writeJSON(w, status, reply)
}

func (s *Sandbox) control(what string, body []byte) (int, any) {
	switch what {
	case "POST reset":
		s.reset()
		return http.StatusOK, ok200
	case "POST clock":
		return s.controlClock(body)
	case "PUT faults":
		return s.controlFaults(body)
	case "DELETE faults":
		s.mu.Lock()
		defer s.mu.Unlock()
		s.faults = faults{}
		return http.StatusOK, s.faults
	case "POST trigger":
		return s.controlTrigger(body)
	case "GET requests":
		return http.StatusOK, s.journal.list()
	case "GET deliveries":
		return http.StatusOK, s.listDeliveries()
	}
	if rest, ok := strings.CutPrefix(what, "POST consents/"); ok {
		if id, verb, ok := strings.Cut(rest, "/"); ok {
			return s.controlConsent(id, verb)
		}
	}
	return http.StatusNotFound, controlError{controlsHelp}
}

func (s *Sandbox) controlClock(body []byte) (int, any) {
	var in struct {
		Advance string `json:"advance"`
	}
	if err := json.Unmarshal(body, &in, json.RejectUnknownMembers(true)); err != nil {
		return http.StatusBadRequest, controlError{`want {"advance":"31m"}: ` + err.Error()}
	}
	d, err := time.ParseDuration(in.Advance)
	if err != nil || d < 0 {
		return http.StatusBadRequest, controlError{`advance: want a duration such as 31m or 8760h, not negative`}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.clock.advance(d)
	s.settle()
	return http.StatusOK, struct {
		Now string `json:"now"`
	}{s.clock.now().Format(milliTime)}
}

func (s *Sandbox) controlFaults(body []byte) (int, any) {
	f, err := parseFaults(body)
	if err != nil {
		return http.StatusBadRequest, controlError{err.Error()}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = f
	if f.RevokedToken {
		s.revokeAccessTokens()
	}
	return http.StatusOK, f
}

// consentVerbs says from which state each control moves a consent, and to which.
var consentVerbs = map[string]struct {
	fromPending bool
	to          string
}{
	"authorise":      {true, authorised},
	"reject":         {true, rejected},
	"error":          {true, inError},
	"expire":         {false, expired},
	"revoke":         {false, revoked},
	"delete_by_user": {false, deletedByUser},
}

// controlConsent does what the user or time would do. A consent that is there already stays, without a second event.
func (s *Sandbox) controlConsent(id, verb string) (int, any) {
	v, ok := consentVerbs[verb]
	if !ok {
		return http.StatusNotFound, controlError{"unknown verb " + verb + ": " + controlsHelp}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	con, ok := s.consents.get(id)
	if !ok {
		return http.StatusNotFound, controlError{"no consent " + id}
	}
	if con.status == v.to {
		return http.StatusOK, con.reply()
	}
	if v.fromPending && !con.pending() || !v.fromPending && con.status != authorised {
		return http.StatusConflict, controlError{"cannot " + verb + " a consent that is " + con.status}
	}
	s.move(con, v.to)
	return http.StatusOK, con.reply()
}

// listDeliveries copies the record, newest last.
func (s *Sandbox) listDeliveries() []delivery {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := []delivery{}
	for _, d := range s.deliveries.all() {
		one := *d
		one.Attempts = append([]attempt{}, d.Attempts...)
		list = append(list, one)
	}
	return list
}
