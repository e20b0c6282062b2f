package integration

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// Every example starts as it stands, on other ports, and its sandbox answers.
func TestExamplesStart(t *testing.T) {
	t.Chdir("..")
	files, err := filepath.Glob("examples/*/Caddyfile")
	if err != nil || len(files) < 5 {
		t.Fatalf("got %v, %v, want the examples", files, err)
	}
	variable := regexp.MustCompile(`\{\$(KLAVI_[A-Z0-9_]+_PORT):[0-9]+\}`)
	for _, file := range files {
		t.Run(filepath.Base(filepath.Dir(file)), func(t *testing.T) {
			g := &gateway{t: t, ports: make(map[string]string)}
			text := readFile(t, file)
			for _, name := range variable.FindAllStringSubmatch(text, -1) {
				t.Setenv(name[1], g.port(name[1]))
			}
			for _, name := range regexp.MustCompile(`\{env\.([A-Z_]+)\}`).FindAllStringSubmatch(text, -1) {
				if os.Getenv(name[1]) == "" {
					t.Setenv(name[1], "sandbox-secret-key")
				}
			}
			start(t, text)
			if a := g.do("GET", g.url("KLAVI_SANDBOX_PORT", "/_sandbox/requests"), ""); a.status != 200 || !strings.HasPrefix(a.body, "[") {
				t.Errorf("the sandbox: got %d %.200s", a.status, a.body)
			}
		})
	}
}
