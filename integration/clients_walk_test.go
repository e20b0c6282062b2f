package integration

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// walkStep is a request of a walk. The exported fields are for the programs.
type walkStep struct {
	Name    string            `json:"name"`
	Method  string            `json:"method"`
	Path    string            `json:"path"`
	Headers map[string]string `json:"headers"` // {token} stands for the link token that came last
	Body    *string           `json:"body"`    // null: there is none
	Stream  bool              `json:"stream"`  // the body goes out without a length

	low   bool // it has headers that neither pages nor Node's fetch can write
	again bool // it is answered as the step before it
	check func(answer) error
	klavi *request // what reaches the sandbox, if anything
}

func (s walkStep) lowLevel() walkStep { s.low = true; return s }

func (s walkStep) streamed() walkStep { s.Stream = true; return s }

func (s walkStep) query(query string) walkStep { s.Path += "?" + query; return s }

func (s walkStep) answered() walkStep { s.again, s.klavi = true, nil; return s }

// place is a site as it is reached from outside.
type place struct {
	base    string // the URL before the paths of the steps
	user    string // who is logged in there, empty if it has no logins
	renamed bool   // a proxy gives the gateway another Host than the client's
}

// program is something that makes requests.
type program struct {
	streams bool // it can send a body without a length
	low     bool // it lets one write any header
	ask     func(t *testing.T, base string, steps []walkStep) []answer
}

// visitor is a program at a place.
type visitor struct {
	name string
	place
	program
}

// can leaves out what the visitor cannot do. At a site with logins, Authorization
// is one; and behind a proxy that renames it, the gateway can know its own pages
// by Sec-Fetch-Site only.
func (v visitor) can(steps []walkStep) []walkStep {
	return slices.DeleteFunc(steps, func(s walkStep) bool {
		return s.low && !v.low || s.Stream && !v.streams || v.user != "" && s.Headers["Authorization"] != "" || v.renamed && s.Headers["Origin"] != ""
	})
}

// visit has a visitor take the steps, and looks at the answers and at what
// reached Klavi.
func (g *clientsGateway) visit(t *testing.T, v visitor, steps []walkStep) {
	t.Helper()
	g.news(t) // what a walk that failed has left
	steps = v.can(steps)
	answers := v.ask(t, v.base, steps)
	if len(answers) != len(steps) {
		t.Fatalf("got %d answers to %d requests", len(answers), len(steps))
	}
	for i, s := range steps {
		err := s.check(answers[i])
		if err == nil && s.again && answers[i].body != answers[i-1].body {
			err = fmt.Errorf("want the answer from before: %s", answers[i-1].body)
		}
		if err != nil {
			t.Errorf("%s: got %d %.300s: %v", s.Name, answers[i].status, answers[i].body, err)
		}
	}
	got := g.news(t)
	if !t.Failed() {
		wantAtKlavi(t, steps, got)
	}
}

// news returns what has reached Klavi since the last call, without logins.
func (g *clientsGateway) news(t *testing.T) []request {
	t.Helper()
	var all []struct {
		request
		Time string `json:"time"`
	}
	if err := json.Unmarshal([]byte(g.do("GET", g.url("klavi", "/_sandbox/requests"), "").body), &all); err != nil {
		t.Fatal(err)
	}
	var news []request
	for _, r := range slices.Backward(all) { // the journal forgets its oldest
		if r.Time == g.latest {
			break
		}
		if r.Target != "/data/v1/auth" {
			news = append(news, r.request)
		}
	}
	if len(all) > 0 {
		g.latest = all[len(all)-1].Time
	}
	slices.Reverse(news)
	return news
}

// madeUp stands for the externalTrackId that the gateway makes up.
const madeUp = "00000000-0000-0000-0000-000000000000"

var trackID = regexp.MustCompile(`"externalTrackId":"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"`)

// wantAtKlavi fails the test unless exactly what the steps say has reached Klavi.
func wantAtKlavi(t *testing.T, steps []walkStep, got []request) {
	t.Helper()
	steps = slices.DeleteFunc(slices.Clone(steps), func(s walkStep) bool { return s.klavi == nil })
	if len(got) != len(steps) {
		t.Fatalf("%d requests reached Klavi, want %d", len(got), len(steps))
	}
	for i, s := range steps {
		got, want := got[i], s.klavi
		got.Body = trackID.ReplaceAllString(got.Body, `"externalTrackId":"`+madeUp+`"`)
		if got.Method != want.Method || got.Target != want.Target || got.Token != want.Token || got.Body != want.Body {
			t.Errorf("%s: Klavi got %s %s with the token %s and\n%.500s, want %s %s with %s and\n%.500s", s.Name,
				got.Method, got.Target, got.Token, got.Body, want.Method, want.Target, want.Token, want.Body)
		}
		if err := checkHeaders(got.Headers, want.Headers); err != nil {
			t.Errorf("%s: %v", s.Name, err)
		}
	}
}

// checkHeaders accepts headers with the values that are wanted, any where nil is.
func checkHeaders(got, want http.Header) error {
	if a := got["Authorization"]; len(a) != 1 || !strings.HasPrefix(a[0], "Bearer ") {
		return errors.New("Klavi did not get exactly one Authorization, of type Bearer")
	}
	for name, values := range got {
		wanted, ok := want[name]
		if name != "Authorization" && (!ok || wanted != nil && !slices.Equal(values, wanted)) {
			return fmt.Errorf("Klavi got the header %s: %q, want %q", name, values, wanted)
		}
	}
	for name, values := range want {
		if values != nil && got[name] == nil {
			return fmt.Errorf("Klavi got no header %s, want %q", name, values)
		}
	}
	return nil
}

// members accepts a JSON object with those members.
func members(names ...string) func(answer) error {
	return func(a answer) error {
		for _, name := range names {
			if a.status != 200 || a.field(name) == "" {
				return errors.New("want 200 and " + name)
			}
		}
		return nil
	}
}

// bank accepts a list of institutions with that bank.
func bank(a answer) error {
	var list []struct {
		Code string `json:"institutionCode"`
		Name string `json:"name"`
	}
	err := json.Unmarshal([]byte(a.body), &list)
	for _, one := range list {
		if a.status == 200 && one.Code == "341" && one.Name != "" {
			return nil
		}
	}
	return errors.Join(errors.New("want 200 and the institution 341"), err)
}

// newStep returns one that reaches Klavi with that body. Further headers are
// given as name, value, name, value.
func newStep(name, method, path string, body *string, klavi *request, headers []string) walkStep {
	s := walkStep{Name: name, Method: method, Path: path, Headers: make(map[string]string), Body: body, klavi: klavi}
	if body != nil {
		s.Headers["Content-Type"] = "application/json"
	}
	for i := 0; i < len(headers); i += 2 {
		s.Headers[headers[i]] = headers[i+1]
	}
	return s
}

// ofGateway are the headers with which the frontend's requests reach Klavi.
func ofGateway(body string) http.Header {
	h := http.Header{"Accept": {"application/json"}, "Accept-Encoding": {"gzip"}, "User-Agent": {"caddy-klavi"}}
	if body != "" {
		maps.Copy(h, http.Header{"Content-Type": {"application/json"}, "Content-Length": {strconv.Itoa(len(body))}})
	}
	return h
}
