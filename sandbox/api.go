package sandbox

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

const (
	apiPrefix   = "/data/v1"
	maxRequest  = 1 << 20
	contentJSON = "application/json; charset=utf-8"
)

// endpoint is one row of Klavi's API with the kind of token that it takes.
type endpoint struct {
	method, path string // {id} stands for one segment
	token        tokenKind
	serve        func(*Sandbox, *call) (any, error)
}

var endpoints = []endpoint{
	{"POST", "/auth", noToken, (*Sandbox).login},
	{"GET", "/refresh", accessToken, (*Sandbox).refresh},
	{"POST", "/links", accessToken, (*Sandbox).postLink},
	{"GET", "/links/institutions", linkToken, (*Sandbox).getInstitutions},
	{"GET", "/links/institutions/status", linkToken, (*Sandbox).getInstitutionStatus},
	{"GET", "/links/{id}", accessToken, (*Sandbox).getLink},
	{"POST", "/consents", linkToken, (*Sandbox).postConsent},
	{"GET", "/consents", accessToken, (*Sandbox).getConsents},
	{"GET", "/consents/{id}", accessToken, (*Sandbox).getConsent},
	{"DELETE", "/consents/{id}/revoke", accessToken, (*Sandbox).revokeConsent},
	{"POST", "/personal/institution-data", accessToken, reportRequest("pf_", true)},
	{"POST", "/personal/user-data", accessToken, reportRequest("pf_", false)},
	{"POST", "/business/institution-data", accessToken, reportRequest("pj_", true)},
	{"POST", "/business/user-data", accessToken, reportRequest("pj_", false)},
	{"POST", "/tasks", linkToken, (*Sandbox).postTask},
	{"GET", "/tasks/{id}/status", linkToken, (*Sandbox).getTaskStatus},
	{"POST", "/tasks/{id}/mfa", linkToken, (*Sandbox).postMFA},
	{"GET", "/basic-links/{id}", noToken, (*Sandbox).basicLink},
}

// match compares byte for byte: what a proxy has changed on the way shows as a 404.
func (e *endpoint) match(path string) (id string, ok bool) {
	before, after, variable := strings.Cut(e.path, "{id}")
	if !variable {
		return "", path == e.path
	}
	id, ok = strings.CutPrefix(path, before)
	if !ok {
		return "", false
	}
	id, ok = strings.CutSuffix(id, after)
	return id, ok && id != "" && !strings.Contains(id, "/")
}

func findEndpoint(method, path string) (*endpoint, string) {
	path, ok := strings.CutPrefix(path, apiPrefix)
	if !ok {
		return nil, ""
	}
	for i := range endpoints {
		e := &endpoints[i]
		if e.method != method {
			continue
		}
		if id, ok := e.match(path); ok {
			return e, id
		}
	}
	return nil, ""
}

// call is a request to an endpoint.
type call struct {
	r    *http.Request
	body []byte
	id   string // what stood for {id}
	link *link  // of the link token
}

// decode reads the body as Klavi seems to: names match exactly, unknown ones are ignored, of doubled ones the last counts.
func (c *call) decode(v any) error {
	body := bytes.TrimSpace(c.body)
	if len(body) == 0 {
		body = []byte("{}")
	}
	err := json.Unmarshal(body, v, jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))
	if err == nil {
		return nil
	}
	if semantic, ok := errors.AsType[*json.SemanticError](err); ok {
		if name := strings.TrimPrefix(string(semantic.JSONPointer), "/"); name != "" {
			return badRequest(name + " has the wrong type")
		}
		return badRequest("the body must be a JSON object")
	}
	return badRequest("the body is not valid JSON")
}

// redirect is the answer of an endpoint for browsers.
type redirect string

func (s *Sandbox) serveAPI(w http.ResponseWriter, r *http.Request, path string) {
	s.mu.Lock()
	f := s.faults
	t, kind := s.presented(r)
	s.mu.Unlock()

	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxRequest))
	entry := s.journal.add(r, body, kind, s.clock.now())
	if err != nil {
		s.answer(w, entry, nil, httpError(http.StatusRequestEntityTooLarge, "request entity too large"))
		return
	}
	if !wait(r.Context(), f.latency) {
		return
	}
	if f.outage != 0 {
		s.answer(w, entry, nil, httpError(f.outage, "fault: outage"))
		return
	}
	if f.Nonsense {
		w.Header().Set("Content-Type", "text/html")
		entry.answered(http.StatusOK)
		io.WriteString(w, "<html><body>It works!</body></html>\n")
		return
	}
	e, id := findEndpoint(r.Method, path)
	if e == nil {
		s.answer(w, entry, nil, notFound("Cannot "+r.Method+" "+path))
		return
	}
	c := &call{r: r, body: body, id: id}
	if t != nil {
		c.link = t.link
	}
	s.mu.Lock()
	reply, err := s.dispatch(e, c, t)
	s.mu.Unlock()
	s.answer(w, entry, reply, err)
}

func (s *Sandbox) dispatch(e *endpoint, c *call, t *token) (any, error) {
	if err := s.authorise(t, e.token); err != nil {
		return nil, err
	}
	return e.serve(s, c)
}

// answer writes what an endpoint returned.
func (s *Sandbox) answer(w http.ResponseWriter, entry *entry, reply any, err error) {
	status := http.StatusOK
	if err != nil {
		e, ok := errors.AsType[*apiError](err)
		if !ok {
			e = &apiError{http.StatusInternalServerError, http.StatusInternalServerError, "Internal Server Error", err.Error()}
		}
		status, reply = e.status, e
	}
	if to, ok := reply.(redirect); ok {
		entry.answered(http.StatusFound)
		w.Header().Set("Location", string(to))
		w.Header().Set("Cache-Control", "no-store")
		w.WriteHeader(http.StatusFound)
		return
	}
	entry.answered(status)
	writeJSON(w, status, reply)
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	body, err := json.Marshal(v, jsontext.AllowInvalidUTF8(true), json.Deterministic(true))
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	h := w.Header()
	h.Set("Content-Type", contentJSON)
	h.Set("Content-Length", strconv.Itoa(len(body)))
	h.Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	w.Write(body)
}
