package integration

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// Every file and heading that a page links to is there, and README.md knows each page.
func TestPagesLink(t *testing.T) {
	pages, err := filepath.Glob("../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	readme := readFile(t, "../README.md")
	for _, page := range pages {
		if name := "docs/" + filepath.Base(page); !strings.Contains(readme, "("+name+")") {
			t.Errorf("README.md has no link to %s", name)
		}
	}
	links := 0
	for _, page := range append(pages, "../README.md", "../xcaddy.md", "../CONTRIBUTING.md", "../SECURITY.md") {
		text := readFile(t, page)
		for _, link := range regexp.MustCompile(`\]\(([^):\s]*)\)`).FindAllStringSubmatch(text, -1) {
			links++
			file, heading, _ := strings.Cut(link[1], "#")
			target := page
			if file != "" {
				target = filepath.Join(filepath.Dir(page), file)
			}
			if _, err := os.Stat(target); err != nil {
				t.Errorf("%s links to %s, which is not there", page, link[1])
				continue
			}
			if heading != "" && strings.HasSuffix(target, ".md") && !headings(readFile(t, target))[heading] {
				t.Errorf("%s links to %s, which has no such heading", page, link[1])
			}
		}
	}
	if links < 300 {
		t.Errorf("found %d links, want those of all pages", links)
	}
}
