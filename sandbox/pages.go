package sandbox

import (
	"bytes"
	"embed"
	"html/template"
	"net/http"
	"net/url"
	"time"

	"github.com/google/uuid"
)

// The hosted pages. linkURL is <host>/path?v=<linkToken> as at Klavi (docs.klavi.ai/connect/create-a-link); the others are the
// sandbox's own.
const (
	pageStart  = "/path"
	pageTicket = "/authorise" // consentRedirectURL
	pageBank   = "/bank"
	pageLGPD   = "/lgpd"
	pageDone   = "/done"
)

type page func(*Sandbox, *http.Request) screen

var pages = map[string]page{
	pageStart:  (*Sandbox).startPage,
	pageTicket: (*Sandbox).ticketPage,
	pageBank:   (*Sandbox).bankPage,
	pageLGPD:   (*Sandbox).lgpdPage,
	pageDone:   donePage,
}

//go:embed pages/*.html
var pageFiles embed.FS

var templates = template.Must(template.New("").Funcs(template.FuncMap{"taxID": punctuated}).ParseFS(pageFiles, "pages/*.html"))

// screen is what a page shows, or where it sends the browser.
type screen struct {
	to       string // a redirect
	status   int
	template string
	data     view
}

// view is what the templates know.
type view struct {
	Lang         string
	T            texts
	Place        string // "bank" on the bank's own page; Klavi's otherwise
	Step         int    // on the way from linkURL: 1 to 3
	Title        string
	Error        string
	Token        string // of the link
	Session      string
	Institutions []institution
	Institution  *institution
	Chosen       string // of the institutions, its code
	CPF, CNPJ    string
	AskCPF       bool
	TypedCPF     string
	Until        string
}

// ticket is a consentRedirectURL that was not opened yet.
type ticket struct {
	consent *consent
	until   time.Time
}

// session is one browser on its way through the bank.
type session struct {
	consent *consent
	hosted  bool   // came from linkURL
	base    string // as the browser reaches the sandbox
}

func (s *Sandbox) servePage(w http.ResponseWriter, r *http.Request, p page) {
	h := w.Header()
	h.Set("Cache-Control", "no-store")
	h.Set("Referrer-Policy", "no-referrer") // the link token is in the query
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; img-src 'self'; base-uri 'none'")
	if r.Method != http.MethodGet && r.Method != http.MethodPost {
		h.Set("Allow", "GET, POST")
		http.Error(w, "method not allowed", http.StatusMethodNotAllowed)
		return
	}
	r.Body = http.MaxBytesReader(w, r.Body, maxRequest)
	if err := r.ParseForm(); err != nil {
		http.Error(w, "the form cannot be read", http.StatusBadRequest)
		return
	}
	s.mu.Lock()
	show := p(s, r)
	s.mu.Unlock()
	if show.to != "" {
		seeOther(w, show.to)
		return
	}
	h.Set("Vary", "Accept-Language")
	var b bytes.Buffer
	if err := templates.ExecuteTemplate(&b, show.template, show.data); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	h.Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(show.status)
	w.Write(b.Bytes())
}

// newView is a page in the browser's language, whose title is the text of that name.
func newView(r *http.Request, title string) view {
	t := textsFor(r)
	return view{Lang: t["lang"], T: t, Title: t[title]}
}

// failure is a page that says what is wrong in the text of that name. What is added to it ends the sentence.
func failure(r *http.Request, status int, name, added string) screen {
	v := newView(r, name)
	v.Error = v.T[name+"Text"]
	if added != "" {
		v.Error += added + "."
	}
	return screen{status: status, template: "message.html", data: v}
}

func donePage(_ *Sandbox, r *http.Request) screen {
	if e := r.Form.Get("error"); e != "" {
		return failure(r, http.StatusOK, "notShared", e)
	}
	return failure(r, http.StatusOK, "done", "")
}

// punctuated writes a CPF or CNPJ as people do.
func punctuated(id string) string {
	switch len(id) {
	case 11:
		return id[:3] + "." + id[3:6] + "." + id[6:9] + "-" + id[9:]
	case 14:
		return id[:2] + "." + id[2:5] + "." + id[5:8] + "/" + id[8:12] + "-" + id[12:]
	}
	return id
}

// startPage is the page behind linkURL: choose an institution, say who you are.
func (s *Sandbox) startPage(r *http.Request) screen {
	t, ok := s.tokens.get(r.Form.Get("v"))
	if !ok || t.kind != linkToken {
		return failure(r, http.StatusNotFound, "unknownLink", "")
	}
	if !s.clock.now().Before(t.expires) {
		return failure(r, http.StatusGone, "linkExpired", "")
	}
	l := t.link
	v := newView(r, "startTitle")
	v.Step, v.Token, v.Institutions, v.Chosen = 1, r.Form.Get("v"), institutions, institutions[0].Code
	v.CPF, v.CNPJ, v.AskCPF = l.personal, l.business, l.personal == ""
	if inst := findInstitution(l.institution); inst != nil {
		v.Title, v.Institutions, v.Chosen = v.T["presetTitle"], []institution{*inst}, inst.Code
	}
	if r.Method == http.MethodGet {
		return screen{status: http.StatusOK, template: "start.html", data: v}
	}
	if r.PostForm.Get("decision") == "cancel" {
		return screen{to: (&consent{link: l}).returnURL(true, accessDenied, "The user left before choosing")}
	}
	con, err := s.chosen(l, r.PostForm.Get("institutionCode"), r.PostForm.Get("personalTaxId"))
	if err != nil {
		v.Error, v.TypedCPF = v.T.explain(err), r.PostForm.Get("personalTaxId")
		if l.institution == "" {
			v.Chosen = r.PostForm.Get("institutionCode")
		}
		return screen{status: http.StatusUnprocessableEntity, template: "start.html", data: v}
	}
	return s.enter(con, true, baseURL(r))
}

// chosen makes the consent that the hosted page's form asks for.
func (s *Sandbox) chosen(l *link, code, cpf string) (*consent, error) {
	if l.institution != "" {
		code = l.institution
	}
	if code == "" {
		return nil, pageError("chooseOne")
	}
	if l.personal != "" {
		cpf = l.personal
	}
	if cpf == "" {
		return nil, pageError("fillCPF")
	}
	return s.createConsent(l, consentRequest{
		ExternalTrackID: uuid.NewString(), PersonalTaxID: cpf, BusinessTaxID: l.business, InstitutionCode: code,
	})
}

// ticketPage is consentRedirectURL: single use, within 60 seconds.
func (s *Sandbox) ticketPage(r *http.Request) screen {
	t, ok := s.tickets.take(r.Form.Get("ticket"))
	if !ok {
		return failure(r, http.StatusGone, "used", "")
	}
	if !s.clock.now().Before(t.until) {
		return failure(r, http.StatusGone, "tooLate", "")
	}
	if !t.consent.pending() {
		return failure(r, http.StatusGone, "nothingToDo", t.consent.status)
	}
	return s.enter(t.consent, false, baseURL(r))
}

// The values of `error` in redirects are inferred; these two are OAuth's.
const (
	accessDenied = "access_denied"
	serverError  = "server_error"
)

// enter goes to the bank, unless the bank's persona has decided already.
func (s *Sandbox) enter(con *consent, hosted bool, base string) screen {
	switch personaOf(con.institution) {
	case authorises:
		s.move(con, authorised)
		return screen{to: con.returnURL(hosted, "", "")}
	case refuses:
		s.move(con, rejected)
		return screen{to: con.returnURL(hosted, accessDenied, "The institution refused")}
	}
	id := randomHex(24)
	s.sessions.put(id, &session{con, hosted, base})
	return screen{to: pageBank + "?session=" + id}
}

// visit finds the session of a page, whose consent must be in the state that the page is about.
func (s *Sandbox) visit(r *http.Request, state string) (*session, screen, bool) {
	se, ok := s.sessions.get(r.Form.Get("session"))
	if !ok {
		return nil, failure(r, http.StatusNotFound, "unknownSession", ""), false
	}
	if se.consent.status != state {
		return nil, failure(r, http.StatusConflict, "nothingToDo", se.consent.status), false
	}
	return se, screen{}, true
}

// ask shows a page that asks for a decision.
func (s *Sandbox) ask(r *http.Request, se *session, template, title string) screen {
	v := newView(r, title)
	v.Session, v.Institution = r.Form.Get("session"), findInstitution(se.consent.institution)
	v.CPF, v.CNPJ, v.Until = se.consent.personal, se.consent.business, v.T["revoked"]
	v.Place, v.Step = "bank", 2
	if se.consent.status == awaitingLGPD {
		v.Place, v.Step = "", 3
	}
	if !se.hosted {
		v.Step = 0
	}
	if !se.consent.expires.IsZero() {
		v.Until = se.consent.expires.Format(time.DateOnly)
	}
	return screen{status: http.StatusOK, template: template, data: v}
}

// afterBank jumps to the partner's app, which opens the next page in its web view, if the link was made for that
// (docs.klavi.ai/connect/integration-whitelabel-using-app2app-flow).
func (se *session) afterBank(next string) string {
	l := se.consent.link
	if !se.hosted || l.appLink == "" {
		return next
	}
	return addQuery(l.appLink, url.Values{l.appKey: {se.base + next}})
}

// bankPage is the institution's own consent.
func (s *Sandbox) bankPage(r *http.Request) screen {
	se, refusal, ok := s.visit(r, awaitingBank)
	if !ok {
		return refusal
	}
	if r.Method == http.MethodGet {
		return s.ask(r, se, "bank.html", "bankTitle")
	}
	switch r.PostForm.Get("decision") {
	case "approve":
		s.move(se.consent, awaitingLGPD)
		return screen{to: se.afterBank(pageLGPD + "?session=" + r.Form.Get("session"))}
	case "refuse":
		s.move(se.consent, rejected)
		return screen{to: se.consent.returnURL(se.hosted, accessDenied, "The user refused at the institution")}
	case "fail":
		s.move(se.consent, inError)
		return screen{to: se.consent.returnURL(se.hosted, serverError, "The institution failed")}
	}
	return failure(r, http.StatusBadRequest, "noDecision", "")
}

// lgpdPage is Klavi's own consent, under the Brazilian data protection law.
func (s *Sandbox) lgpdPage(r *http.Request) screen {
	se, refusal, ok := s.visit(r, awaitingLGPD)
	if !ok {
		return refusal
	}
	if r.Method == http.MethodGet {
		return s.ask(r, se, "lgpd.html", "lgpdTitle")
	}
	switch r.PostForm.Get("decision") {
	case "approve":
		s.move(se.consent, authorised)
		return screen{to: se.consent.returnURL(se.hosted, "", "")}
	case "refuse":
		s.move(se.consent, rejected)
		return screen{to: se.consent.returnURL(se.hosted, accessDenied, "The user did not agree to share")}
	}
	return failure(r, http.StatusBadRequest, "noDecision", "")
}
