package caddyfile

import (
	"bytes"
	"encoding/json"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
)

func reference(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("../docs/caddyfile.md")
	if err != nil {
		t.Fatal(err)
	}
	return strings.ReplaceAll(string(text), "\r\n", "\n")
}

// examples returns the Caddyfiles of the reference.
func examples(t *testing.T) []string {
	t.Helper()
	var all []string
	for _, match := range regexp.MustCompile("(?s)\n```caddyfile\n(.*?)```\n").FindAllStringSubmatch(reference(t), -1) {
		all = append(all, match[1])
	}
	if len(all) == 0 {
		t.Fatal("the reference has no examples")
	}
	return all
}

// accounts stands before examples that show only a site.
const accounts = `{
	klavi {
		environment sandbox
		access_key {env.KLAVI_ACCESS_KEY}
		secret_key {env.KLAVI_SECRET_KEY}
	}
	klavi partner {
		environment sandbox
		access_key {env.PARTNER_ACCESS_KEY}
		secret_key {env.PARTNER_SECRET_KEY}
	}
}
`

func adapt(t *testing.T, text string) []byte {
	t.Helper()
	if !strings.HasPrefix(text, "{") {
		text = accounts + text
	}
	config, warnings, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(text), nil)
	if err != nil {
		t.Fatalf("adapting\n%s\ngot %v", text, err)
	}
	for _, w := range warnings {
		t.Errorf("adapting\n%s\ngot the warning %s", text, w)
	}
	return config
}

func TestReferenceExamples(t *testing.T) {
	for _, text := range examples(t) {
		adapt(t, text)
		if got := string(caddyfile.Format([]byte(text))); got != text {
			t.Errorf("got an example that is not formatted:\n%s", text)
		}
	}
}

// The examples that the reference calls equivalent are so.
func TestReferenceExpansions(t *testing.T) {
	var proxies, targets []string
	for _, text := range examples(t) {
		switch {
		case strings.HasPrefix(text, "http://:8082 {"):
			proxies = append(proxies, text)
		case strings.HasPrefix(text, "hooks.example.com {"):
			targets = append(targets, text)
		}
	}
	if len(proxies) != 2 || len(targets) != 2 {
		t.Fatalf("got %d and %d examples, want a pair of each", len(proxies), len(targets))
	}
	if got, want := adapt(t, proxies[0]), adapt(t, proxies[1]); !bytes.Equal(got, want) {
		t.Errorf("klavi_proxy: got\n%s\nwant\n%s", got, want)
	}

	// A block becomes a subroute, with a route for each of its directives.
	short, block := reportRoute(t, adapt(t, targets[0])), reportRoute(t, adapt(t, targets[1]))
	if len(block.Handle) != 1 || block.Handle[0].Handler != "subroute" {
		t.Fatalf("got %+v, want one subroute", block)
	}
	var want []node
	for _, route := range block.Handle[0].Routes {
		want = append(want, route.Handle...)
	}
	if len(short.Handle) != len(want) {
		t.Fatalf("got %d handlers, want %d", len(short.Handle), len(want))
	}
	for i, handler := range short.Handle {
		if handler.text != want[i].text {
			t.Errorf("klavi_reports: got the handler\n%s\nwant\n%s", handler.text, want[i].text)
		}
	}
	if short.Name != block.Name {
		t.Errorf("got the name %s, want %s", short.Name, block.Name)
	}
}

// node is a route or a handler of a config.
type node struct {
	Handler string `json:"handler"`
	Name    string `json:"name"`
	Routes  []node `json:"routes"`
	Handle  []node `json:"handle"`
	text    string
}

func (n *node) UnmarshalJSON(data []byte) error {
	type plain node
	n.text = string(data)
	return json.Unmarshal(data, (*plain)(n))
}

// reportRoute returns the only route of the only klavi_reports of a config.
func reportRoute(t *testing.T, config []byte) node {
	t.Helper()
	var all struct {
		Apps struct {
			HTTP struct {
				Servers map[string]node `json:"servers"`
			} `json:"http"`
		} `json:"apps"`
	}
	if err := json.Unmarshal(config, &all); err != nil {
		t.Fatal(err)
	}
	site := all.Apps.HTTP.Servers["srv0"].Routes[0].Handle[0]
	return site.Routes[0].Handle[0].Routes[0]
}

// Each option stands in the syntax of its directive and has a line in a table.
func TestReferenceIsComplete(t *testing.T) {
	sections := make(map[string]string)
	for _, section := range strings.Split(reference(t), "\n## ")[1:] {
		title, text, _ := strings.Cut(section, "\n")
		sections[title] = text
	}
	for directive, options := range map[string][]string{
		"klavi":          names(accountOptions),
		"inbox":          append(names(inboxOptions), names(postgresOptions)...),
		"klavi_frontend": names(frontendOptions),
		"klavi_proxy":    names(transportOptions),
		"klavi_reports":  names(reportsOptions),
	} {
		for _, option := range options {
			if !regexp.MustCompile(`(?m)^\t+` + option + `\b`).MatchString(sections[directive]) {
				t.Errorf("%s: the syntax does not have %s", directive, option)
			}
			if !regexp.MustCompile("(?m)^\\| `" + option + `\b`).MatchString(sections[directive]) {
				t.Errorf("%s: no table has %s", directive, option)
			}
		}
	}
}
