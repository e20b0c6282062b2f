package caddyfile

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
)

// The Caddyfiles of the pages on how to run it can be loaded, and are formatted. That
// for Kubernetes stands in a ConfigMap.
func TestPagesExamples(t *testing.T) {
	t.Setenv("CREDENTIALS_DIRECTORY", "/run/credentials/caddy.service")
	for page, want := range map[string]int{"fleet": 3, "systemd": 1, "kubernetes": 1} {
		data, err := os.ReadFile("../docs/" + page + ".md")
		if err != nil {
			t.Fatal(err)
		}
		text := strings.ReplaceAll(string(data), "\r\n", "\n")
		var found []string
		for _, match := range regexp.MustCompile("(?s)\n```caddyfile\n(.*?)```\n").FindAllStringSubmatch(text, -1) {
			found = append(found, match[1])
		}
		for _, match := range regexp.MustCompile(`(?m)^  Caddyfile: \|\n((?:    .*\n|\n)+)`).FindAllStringSubmatch(text, -1) {
			found = append(found, strings.TrimPrefix(strings.ReplaceAll("\n"+match[1], "\n    ", "\n"), "\n"))
		}
		if len(found) != want {
			t.Errorf("%s: got %d Caddyfiles, want %d", page, len(found), want)
		}
		for _, example := range found {
			adapt(t, example)
			if got := string(caddyfile.Format([]byte(example))); got != example {
				t.Errorf("%s: got an example that is not formatted:\n%s", page, example)
			}
		}
	}
}
