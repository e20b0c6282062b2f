package conformance

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"path"
	"strings"
	"sync/atomic"
)

const testToken = "KLT1LinkTokenOfThisTest"

// gateway is a klavi_frontend in a few lines, with a Klavi behind it. Its fields
// are what it does wrong.
type gateway struct {
	plainProxy  bool // forwards all that is below the prefix
	cleansPaths bool
	anyMethod   bool
	anyOrigin   bool
	anyToken    bool
	lenientJSON bool
	keepsBody   bool // takes a GET that has a body
	fixed       bool // the link is for an institution
	overrides   bool // and the gateway puts it in place of what the body says
	fills       bool // or where the body names none

	before   func(w http.ResponseWriter, r *http.Request) bool // answers, if it says so
	consents atomic.Int64
}

func (g *gateway) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if g.before != nil && g.before(w, r) {
		return
	}
	target, query, _ := strings.Cut(r.RequestURI, "?")
	if g.cleansPaths {
		target = path.Clean(r.URL.Path)
	}
	if !strings.HasPrefix(r.Host, "127.0.0.1:") || !strings.HasPrefix(strings.ToLower(path.Clean(r.URL.Path)), "/klavi") {
		w.Header().Set("Content-Type", "text/html")
		io.WriteString(w, "<html>the app</html>")
		return
	}
	if g.plainProxy {
		g.klavi(w, r, strings.TrimPrefix(r.URL.Path, "/klavi"))
		return
	}
	method := map[string]string{"/klavi/institutions": "GET", "/klavi/consents": "POST"}[target]
	switch {
	case !g.anyOrigin && foreign(r):
		refuse(w, 403, "origin", "")
	case method == "":
		refuse(w, 404, "not-found", "")
	case r.Method != method && !g.anyMethod:
		refuse(w, 405, "method-not-allowed", "")
	case len(r.Header["Authorization"]) > 1 || strings.Contains(strings.ToLower(query), "method=") && !strings.Contains(query, ";"),
		strings.Contains(strings.ToLower(strings.Join(r.Header["Connection"], ",")), "authorization"),
		strings.Contains(strings.ToLower(strings.Join(r.Header["Connection"], ",")), "klavi-link-token"),
		!g.keepsBody && method == "GET" && r.ContentLength != 0, len(r.Header["Klavi-Link-Token"]) > 1, strings.Contains(query, "%5f%6d"):
		refuse(w, 400, "invalid-request", "")
	case !g.anyToken && bearer(r) != testToken:
		refuse(w, 401, "link-invalid", "")
	case method == "GET":
		g.klavi(w, r, "/links/institutions")
	default:
		g.consent(w, r)
	}
}

func bearer(r *http.Request) string {
	if values, ok := r.Header["Klavi-Link-Token"]; ok {
		return values[0]
	}
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return ""
	}
	return token
}

func foreign(r *http.Request) bool {
	origins, sites := r.Header["Origin"], r.Header["Sec-Fetch-Site"]
	own := len(origins) == 0 || len(origins) == 1 && (origins[0] == "" || strings.HasSuffix(origins[0], "://"+r.Host) && strings.HasPrefix(origins[0], "http"))
	same := len(sites) == 0 || len(sites) == 1 && (sites[0] == "same-origin" || sites[0] == "none")
	return !own || !same
}

// consent knows what Klavi is asked by the probe, and that nothing else of a
// corpus sent without leave should reach it.
func (g *gateway) consent(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	var fields map[string]any
	if err != nil || r.Header.Get("Content-Type") != "application/json" || json.Unmarshal(body, &fields) != nil && !g.lenientJSON {
		refuse(w, 400, "invalid-request", "")
		return
	}
	if string(body) != probeBody && !g.lenientJSON {
		refuse(w, 400, "unknown-field", "phone")
		return
	}
	switch {
	case g.overrides:
		g.consents.Add(1)
		answerJSON(w, 200, `{"consentId":"1"}`)
	case g.fills && fields[institutionField] == nil:
		g.consents.Add(1)
		answerJSON(w, 200, `{"consentId":"1"}`)
	case g.fixed && fields[institutionField] != nil:
		refuse(w, 403, "consent-mismatch", institutionField)
	case g.fixed:
		g.consents.Add(1)
		answerJSON(w, 200, `{"consentId":"1"}`)
	case fields[institutionField] == nil:
		refuse(w, 400, "invalid-field", institutionField)
	default:
		w.Header().Set("Content-Type", problemJSON)
		w.WriteHeader(422)
		io.WriteString(w, `{"type":"institution-unavailable","statusCode":4004}`)
	}
}

// klavi answers as Klavi does.
func (g *gateway) klavi(w http.ResponseWriter, r *http.Request, at string) {
	body, _ := io.ReadAll(r.Body)
	switch {
	case !g.anyToken && r.Header.Get("Authorization") != "Bearer "+testToken && !strings.Contains(fmt.Sprint(r.Header), testToken):
		answerJSON(w, 401, `{"statusCode":401,"error":"Unauthorized","message":"Invalid token"}`)
	case at == "/links/institutions" || at == "/institutions":
		answerJSON(w, 200, institutionsList)
	case at == "/consents" && r.Method == "POST" && !strings.Contains(string(body), institutionField):
		answerJSON(w, 400, `{"statusCode":400,"message":"institutionCode should not be empty"}`)
	case at == "/consents" && r.Method == "POST":
		answerJSON(w, 416, `{"statusCode":4004,"message":"The institution is in outage"}`)
	default:
		answerJSON(w, 404, `{"statusCode":404,"message":"Cannot do that"}`)
	}
}

func answerJSON(w http.ResponseWriter, status int, body string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	io.WriteString(w, body)
}

func refuse(w http.ResponseWriter, status int, kind, field string) {
	w.Header().Set("Content-Type", problemJSON)
	w.WriteHeader(status)
	fmt.Fprintf(w, `{"type":%q,"field":%q}`, kind, field)
}
