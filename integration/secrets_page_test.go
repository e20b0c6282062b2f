package integration

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// The page on security names tests. Each of them is there, and every file and
// heading that it links to.
func TestSecurityPageNamesTests(t *testing.T) {
	page := readFile(t, "../docs/security.md")
	namesTests(t, page, 50)

	for _, link := range regexp.MustCompile(`\]\(([^):]*)\)`).FindAllStringSubmatch(page, -1) {
		file, heading, _ := strings.Cut(link[1], "#")
		text := page
		if file != "" {
			text = readFile(t, filepath.Join("../docs", file))
		}
		if heading != "" && !headings(text)[heading] {
			t.Errorf("the page links to %s, which has no such heading", link[1])
		}
	}
	if !strings.Contains(readFile(t, "../SECURITY.md"), "docs/security.md#report-a-hole") || !headings(page)["report-a-hole"] {
		t.Error("SECURITY.md does not say where to report")
	}
}

// The pages on the inbox name tests, too: one for each failure.
func TestReportsPageNamesTests(t *testing.T) {
	namesTests(t, readFile(t, "../docs/reports.md"), 40)
	namesTests(t, readFile(t, "../docs/fleet.md"), 25)
}

// namesTests sees to it that all tests that a page names are there, and that it
// names so many.
func namesTests(t *testing.T, page string, least int) {
	t.Helper()
	there := testsByName(t, "..")
	named := regexp.MustCompile(`\b(?:([a-z]+)\.)?((?:Test|Fuzz)[A-Z]\w*)`).FindAllStringSubmatch(page, -1)
	if len(named) < least {
		t.Fatalf("found %d tests on the page, want its tables", len(named))
	}
	for _, name := range named {
		if !there[name[1]+"."+name[2]] {
			t.Errorf("the page names %s, which is not there", name[0])
		}
	}
}

// testsByName returns all tests below dir, as package.Name.
func testsByName(t *testing.T, dir string) map[string]bool {
	t.Helper()
	names := make(map[string]bool)
	err := fs.WalkDir(os.DirFS(dir), ".", func(path string, _ fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		file, err := parser.ParseFile(token.NewFileSet(), filepath.Join(dir, path), nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		for _, decl := range file.Decls {
			if f, ok := decl.(*ast.FuncDecl); ok && f.Recv == nil {
				names[strings.TrimSuffix(file.Name.Name, "_test")+"."+f.Name.Name] = true
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

// headings returns the headings of a page in the form that links have.
func headings(page string) map[string]bool {
	all := make(map[string]bool)
	for _, heading := range regexp.MustCompile(`(?m)^#+ (.*)$`).FindAllStringSubmatch(page, -1) {
		text := regexp.MustCompile(`[^\w -]`).ReplaceAllString(strings.ToLower(heading[1]), "")
		all[strings.ReplaceAll(text, " ", "-")] = true
	}
	return all
}
