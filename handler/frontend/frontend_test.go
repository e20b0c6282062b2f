package frontend

import (
	"context"
	"errors"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/go-json-experiment/json"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/caddy-klavi/caddy-klavi/gateway"
)

const (
	testCPF       = "52998224725"
	otherCPF      = "98765432100"
	testCNPJ      = "11222333000181"
	otherCNPJ     = "11444777000161"
	accessToken   = "SERVERTOKEN"
	rawLinkToken  = "klavi.link.token"
	testRedirect  = "https://app.example/connected"
	otherRedirect = "https://app.example/other?x=1"
	linkAnswer    = `{"linkId":"link-1","linkToken":"` + rawLinkToken + `","linkURL":"https://conecte.example/path?v=` + rawLinkToken + `","expireIn":1800}`
	listAnswer    = `[{"institutionCode":"341","name":"Banco"}]`
	bankAnswer    = `{"consentId":"c-1","consentRedirectUrl":"https://bank.example/","expireAt":"2027-01-01T00:00:00Z"}`
)

// fakeKlavi answers as Klavi does and keeps what it was asked.
type fakeKlavi struct {
	*httptest.Server
	mu       sync.Mutex
	requests []seen
	answers  map[string]http.HandlerFunc // by method and path, in place of the good answers
}

type seen struct {
	method, uri string
	header      http.Header
	body        string
}

func newFakeKlavi(t testing.TB) *fakeKlavi {
	t.Helper()
	k := &fakeKlavi{answers: make(map[string]http.HandlerFunc)}
	k.Server = httptest.NewServer(http.HandlerFunc(k.serve))
	t.Cleanup(k.Close)
	return k
}

func (k *fakeKlavi) serve(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	k.mu.Lock()
	if r.URL.Path != "/data/v1/auth" {
		k.requests = append(k.requests, seen{r.Method, r.RequestURI, r.Header.Clone(), string(body)})
	}
	answer := k.answers[r.Method+" "+r.URL.Path]
	k.mu.Unlock()
	if answer != nil {
		answer(w, r)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	switch r.Method + " " + r.URL.Path {
	case "POST /data/v1/auth":
		_, _ = io.WriteString(w, `{"accessToken":"`+accessToken+`","expireIn":1800}`)
	case "POST /data/v1/links":
		_, _ = io.WriteString(w, linkAnswer)
	case "GET /data/v1/links/institutions":
		_, _ = io.WriteString(w, listAnswer)
	case "POST /data/v1/consents":
		_, _ = io.WriteString(w, bankAnswer)
	default:
		w.WriteHeader(http.StatusNotFound)
	}
}

// answer has Klavi answer differently from now on.
func (k *fakeKlavi) answer(endpoint string, status int, header http.Header, body string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.answers[endpoint] = func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		maps.Copy(w.Header(), header)
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
}

// take returns the requests since the last call.
func (k *fakeKlavi) take() []seen {
	k.mu.Lock()
	defer k.mu.Unlock()
	requests := k.requests
	k.requests = nil
	return requests
}

// site is a Frontend as Caddy would run it.
type site struct {
	*Frontend
	klavi *fakeKlavi
	logs  *observer.ObservedLogs
	clock time.Time
}

func newSite(t testing.TB, f Frontend) *site {
	t.Helper()
	k := newFakeKlavi(t)
	s, err := load(t, k, f)
	if err != nil {
		t.Fatalf("provisioning: %v", err)
	}
	return s
}

func load(t testing.TB, k *fakeKlavi, f Frontend) (*site, error) {
	t.Helper()
	ctx, err := caddy.ProvisionContext(&caddy.Config{AppsRaw: caddy.ModuleMap{"klavi": klaviConfig(k)}})
	if err != nil {
		t.Fatalf("provisioning the klavi app: %v", err)
	}
	config, err := json.Marshal(f)
	if err != nil {
		t.Fatal(err)
	}
	mod, err := ctx.LoadModuleByID("http.handlers.klavi_frontend", config)
	if err != nil {
		return nil, err
	}
	s := &site{Frontend: mod.(*Frontend), klavi: k, clock: time.Date(2026, 11, 22, 13, 0, 0, 0, time.UTC)}
	core, logs := observer.New(zapcore.DebugLevel)
	s.logger, s.logs = zap.New(core), logs
	s.now = func() time.Time { return s.clock }
	return s, nil
}

func klaviConfig(k *fakeKlavi) []byte {
	return []byte(`{"accounts":{"default":{"base_url":"` + k.URL + `/data/v1","access_key":"access","secret_key":"secret-of-` +
		strings.TrimPrefix(k.URL, "http://127.0.0.1:") + `"}}}`)
}

func publicSite() Frontend {
	return Frontend{Prefix: "/klavi", Public: true, RedirectURLs: []string{testRedirect, otherRedirect}}
}

func userSite() Frontend {
	f := publicSite()
	f.Public, f.User = false, "{http.request.header.X-User}"
	return f
}

// passed marks what the next handler answered.
const passed = 299

func (s *site) do(r *http.Request) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	return w
}

// ServeHTTP runs the handler as a server of Caddy's would.
func (s *site) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	r = caddyhttp.PrepareRequest(r, caddy.NewReplacer(), w, &caddyhttp.Server{})
	err := s.Frontend.ServeHTTP(w, r, caddyhttp.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) error {
		w.WriteHeader(passed)
		return nil
	}))
	if refused, ok := errors.AsType[caddyhttp.HandlerError](err); ok {
		w.WriteHeader(refused.StatusCode)
	} else if err != nil {
		w.WriteHeader(http.StatusInternalServerError)
	}
}

func (s *site) post(path, body string, header ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodPost, path, strings.NewReader(body))
	r.Header.Set("Content-Type", "application/json")
	return s.do(withHeader(r, header))
}

func (s *site) get(path string, header ...string) *httptest.ResponseRecorder {
	return s.do(withHeader(httptest.NewRequest(http.MethodGet, path, nil), header))
}

func withHeader(r *http.Request, header []string) *http.Request {
	for i := 0; i < len(header); i += 2 {
		r.Header.Add(header[i], header[i+1])
	}
	return r
}

// seal returns the Authorization of a link.
func (s *site) seal(t testing.TB, link gateway.LinkToken) string {
	t.Helper()
	if link.Token == "" {
		link.Token = rawLinkToken
	}
	if link.LinkID == "" {
		link.LinkID = "link-1"
	}
	if link.Expires.IsZero() {
		link.Expires = s.clock.Add(30 * time.Minute)
	}
	text, err := s.account.SealLinkToken(link)
	if err != nil {
		t.Fatal(err)
	}
	return "Bearer " + text
}

func decodeAnswer(t *testing.T, w *httptest.ResponseRecorder) map[string]any {
	t.Helper()
	var answer map[string]any
	if err := json.Unmarshal(w.Body.Bytes(), &answer); err != nil {
		t.Fatalf("the answer %q is not JSON: %v", w.Body, err)
	}
	return answer
}

// wantProblem checks a refusal, and that it repeats nothing it must not.
func wantProblem(t *testing.T, w *httptest.ResponseRecorder, status int, name, field string) {
	t.Helper()
	if w.Code != status {
		t.Fatalf("got status %d (%s), want %d %s", w.Code, w.Body, status, name)
	}
	if got := w.Header().Get("Content-Type"); got != "application/problem+json" {
		t.Errorf("got content type %q, want application/problem+json", got)
	}
	answer := decodeAnswer(t, w)
	if answer["type"] != name {
		t.Errorf("got type %v (%v), want %s", answer["type"], answer["detail"], name)
	}
	if got, _ := answer["field"].(string); got != field {
		t.Errorf("got field %q, want %q", got, field)
	}
	for _, secret := range []string{testCPF, otherCPF, testCNPJ, accessToken, rawLinkToken} {
		if strings.Contains(w.Body.String(), secret) {
			t.Errorf("the problem repeats %s: %s", secret, w.Body)
		}
	}
}

func (s *site) wantNothingSent(t *testing.T) {
	t.Helper()
	if requests := s.klavi.take(); len(requests) != 0 {
		t.Errorf("got %d requests at klavi (%s %s), want none", len(requests), requests[0].method, requests[0].uri)
	}
}

// wantNoSecretsLogged checks every line that was logged.
func (s *site) wantNoSecretsLogged(t *testing.T) {
	t.Helper()
	for _, entry := range s.logs.All() {
		line, err := zapcore.NewJSONEncoder(zapcore.EncoderConfig{MessageKey: "msg"}).EncodeEntry(entry.Entry, entry.Context)
		if err != nil {
			t.Fatal(err)
		}
		for _, secret := range []string{testCPF, otherCPF, testCNPJ, accessToken, rawLinkToken, gateway.SealedPrefix} {
			if strings.Contains(line.String(), secret) {
				t.Errorf("the log repeats %s: %s", secret, line)
			}
		}
	}
}

func TestNextHandlerGetsTheRest(t *testing.T) {
	s := newSite(t, publicSite())
	for _, path := range []string{"/", "/klavi-docs", "/klavix/links", "/api/klavi/links", "/index.html?x=/klavi/links"} {
		if w := s.get(path); w.Code != passed {
			t.Errorf("GET %s: got status %d, want that of the next handler", path, w.Code)
		}
	}
}

func TestWholeFlow(t *testing.T) {
	s := newSite(t, userSite())
	w := s.post("/klavi/links", `{"personalTaxId":"529.982.247-25"}`, "X-User", "ana")
	if w.Code != http.StatusOK {
		t.Fatalf("links: got status %d: %s", w.Code, w.Body)
	}
	token, _ := decodeAnswer(t, w)["linkToken"].(string)
	if w := s.get("/klavi/institutions", "X-User", "ana", "Klavi-Link-Token", token, "Authorization", "Basic eDp5"); w.Code != http.StatusOK ||
		w.Body.String() != listAnswer {
		t.Fatalf("institutions: got status %d: %s", w.Code, w.Body)
	}
	w = s.post("/klavi/consents", `{"institutionCode":"341","validityPeriod":12}`, "X-User", "ana", "Authorization", "Bearer "+token)
	if w.Code != http.StatusOK || w.Body.String() != bankAnswer {
		t.Fatalf("consents: got status %d: %s", w.Code, w.Body)
	}
	wantTokens := []string{"Bearer " + accessToken, "Bearer " + rawLinkToken, "Bearer " + rawLinkToken}
	for i, request := range s.klavi.take() {
		if got := request.header["Authorization"]; len(got) != 1 || got[0] != wantTokens[i] {
			t.Errorf("%s %s: got Authorization %q, want %q", request.method, request.uri, got, wantTokens[i])
		}
	}
	s.wantNoSecretsLogged(t)
}

func TestGoneClient(t *testing.T) {
	s := newSite(t, publicSite())
	ctx, cancel := context.WithCancel(t.Context())
	s.klavi.mu.Lock()
	s.klavi.answers["GET /data/v1/links/institutions"] = func(_ http.ResponseWriter, r *http.Request) {
		cancel()
		<-r.Context().Done()
	}
	s.klavi.mu.Unlock()
	r := httptest.NewRequest(http.MethodGet, "/klavi/institutions", nil).WithContext(ctx)
	if w := s.do(withHeader(r, []string{"Authorization", s.seal(t, gateway.LinkToken{})})); w.Code != statusClientGone {
		t.Errorf("got status %d, want %d", w.Code, statusClientGone)
	}
}
