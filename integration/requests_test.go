package integration

import (
	"encoding/json"
	"net/http"
	"strings"
)

// request is one that reached Klavi.
type request struct {
	Method  string      `json:"method"`
	Target  string      `json:"target"`
	Headers http.Header `json:"headers"`
	Body    string      `json:"body"`
	Token   string      `json:"token"`
	Status  int         `json:"status"`
}

// atKlavi returns what reached Klavi at that method and target.
func (g *gateway) atKlavi(method, target string) []request {
	g.t.Helper()
	var all, found []request
	text := g.do("GET", g.url("klavi", "/_sandbox/requests"), "").body
	if err := json.Unmarshal([]byte(text), &all); err != nil {
		g.t.Fatalf("%v in %.300s", err, text)
	}
	for _, r := range all {
		if r.Method == method && strings.HasPrefix(r.Target, "/data/v1"+target) {
			found = append(found, r)
		}
	}
	return found
}

func (g *gateway) wantLogins(want int) {
	g.t.Helper()
	if got := len(g.atKlavi("POST", "/auth")); got != want {
		g.t.Errorf("got %d logins, want %d", got, want)
	}
}
