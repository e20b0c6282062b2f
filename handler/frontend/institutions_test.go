package frontend

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/caddy-klavi/caddy-klavi/gateway"
)

func TestInstitutions(t *testing.T) {
	large := `["` + strings.Repeat("x", 1<<20) + `"]`
	for _, test := range []struct {
		name   string
		status int
		header http.Header
		body   string
		want   int
		kind   string
	}{
		{"a list", 200, nil, listAnswer, 200, ""},
		{"a long list", 200, nil, large, 200, ""},
		{"another success", 203, nil, listAnswer, 203, ""},
		{"with charset", 200, http.Header{"Content-Type": {"application/json; charset=utf-8"}}, listAnswer, 200, ""},
		{"cookies", 200, http.Header{"Set-Cookie": {"a=b"}, "Location": {"/x"}, "X-Internal": {"y"}}, listAnswer, 200, ""},
		{"a page", 200, http.Header{"Content-Type": {"text/html"}}, listAnswer, 502, "klavi-nonsense"},
		{"no type", 200, http.Header{"Content-Type": nil}, listAnswer, 502, "klavi-nonsense"},
		{"nearly JSON", 200, http.Header{"Content-Type": {"application/jsonp"}}, listAnswer, 502, "klavi-nonsense"},
		{"an encoding", 200, http.Header{"Content-Encoding": {"br"}}, listAnswer, 502, "klavi-nonsense"},
		{"nothing", 200, nil, ``, 502, "klavi-nonsense"},
		{"204", 204, nil, ``, 502, "klavi-nonsense"},
		{"a redirect", 302, http.Header{"Location": {"https://evil.example"}}, listAnswer, 502, "klavi-nonsense"},
		{"304", 304, nil, ``, 502, "klavi-nonsense"},
		{"401", 401, nil, `{"statusCode":401,"message":"Unauthorized"}`, 401, "link-expired"},
		{"403", 403, nil, `{"statusCode":403}`, 403, "klavi-refused"},
		{"416", 416, nil, `{"statusCode":4001}`, 422, "klavi-refused"},
		{"429", 429, http.Header{"Retry-After": {"9"}}, `{}`, 429, "rate-limited"},
		{"500", 500, nil, `oops`, 503, "klavi-unreachable"},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := newSite(t, publicSite())
			s.klavi.answer("GET /data/v1/links/institutions", test.status, test.header, test.body)
			w := s.get("/klavi/institutions", "Authorization", s.seal(t, gateway.LinkToken{}))
			for _, name := range []string{"Set-Cookie", "Location", "X-Internal"} {
				if got := w.Header().Get(name); got != "" {
					t.Errorf("got %s %q, want none", name, got)
				}
			}
			if test.kind != "" {
				wantProblem(t, w, test.want, test.kind, "")
				return
			}
			if w.Code != test.want || w.Body.String() != test.body || w.Header().Get("Cache-Control") != "no-store" ||
				!strings.HasPrefix(w.Header().Get("Content-Type"), "application/json") {
				t.Errorf("got status %d, %d bytes and %v", w.Code, w.Body.Len(), w.Header())
			}
		})
	}
}

// A list that breaks off must not look like a whole one.
func TestInstitutionsBreakOff(t *testing.T) {
	s := newSite(t, publicSite())
	s.klavi.mu.Lock()
	s.klavi.answers["GET /data/v1/links/institutions"] = func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `[{"institutionCode":`)
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	}
	s.klavi.mu.Unlock()
	server := httptest.NewServer(s)
	defer server.Close()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL+"/klavi/institutions", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", s.seal(t, gateway.LinkToken{}))
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		return // not even its beginning came through
	}
	defer res.Body.Close()
	if body, err := io.ReadAll(res.Body); err == nil {
		t.Errorf("got %q as if it were whole", body)
	}
}

func BenchmarkInstitutions(b *testing.B) {
	s := newSite(b, publicSite())
	s.klavi.answer("GET /data/v1/links/institutions", 200, nil, `["`+strings.Repeat("x", 20<<10)+`"]`)
	s.klavi.mu.Lock()
	answer := s.klavi.answers["GET /data/v1/links/institutions"]
	s.klavi.mu.Unlock()
	s.klavi.Config.Handler = answer // without keeping what was asked
	authorization := s.seal(b, gateway.LinkToken{PersonalTaxID: testCPF})
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if w := s.get("/klavi/institutions", "Authorization", authorization); w.Code != http.StatusOK {
				b.Errorf("got status %d: %s", w.Code, w.Body)
				return
			}
		}
	})
}
