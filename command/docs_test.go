package command

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

const docsPage = "../docs/commands.md"

func readPage(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return strings.ReplaceAll(string(text), "\r\n", "\n")
}

// Each command and each of its flags stands on the page, and no other.
func TestDocsAreComplete(t *testing.T) {
	page := readPage(t, docsPage)
	written := make(map[string]bool)
	for _, flag := range regexp.MustCompile(`--[a-z][a-z-]+`).FindAllString(page, -1) {
		written[flag] = false
	}
	known := map[string]bool{"--help": true}
	for _, parent := range []*cobra.Command{reportsCommand(), routesCommand(), inboxCommand()} {
		for _, cmd := range parent.Commands() {
			name := parent.Name() + " " + cmd.Name()
			output := regexp.MustCompile(`(?m)^\$ caddy klavi ` + name + ` --(dir|from) inbox`)
			if !strings.Contains(page, "`"+name+"`") || !output.MatchString(page) {
				t.Errorf("got no word or no output of %q, want both", name)
			}
			cmd.Flags().VisitAll(func(f *pflag.Flag) { known["--"+f.Name] = true })
		}
	}
	for flag := range known {
		if _, ok := written[flag]; !ok {
			t.Errorf("got nothing on %s, want what it is for", flag)
		}
	}
	for flag := range written {
		if !known[flag] {
			t.Errorf("got %s, which no command has", flag)
		}
	}
}

// The commands of its recipes take the flags that they are shown with.
func TestDocsRecipes(t *testing.T) {
	tried := 0
	for _, block := range regexp.MustCompile("(?s)\n```sh\n(.*?)```\n").FindAllStringSubmatch(readPage(t, docsPage), -1) {
		for line := range strings.Lines(block[1]) {
			args, ok := strings.CutPrefix(line, "caddy klavi ")
			if !ok {
				continue
			}
			for _, end := range []string{"#", " > ", " | "} {
				args, _, _ = strings.Cut(args, end)
			}
			tried++
			// The inbox is looked for when all else is right.
			_, _, stderr := klavi(t, append(words(args), "--dir", filepath.Join(t.TempDir(), "none"))...)
			if !strings.Contains(stderr, "there is no inbox in") {
				t.Errorf("%s: got %q, want that only the inbox is missing", args, stderr)
			}
		}
	}
	if tried < 10 {
		t.Errorf("got %d commands, want those of all recipes", tried)
	}
}

// words splits a line of a shell.
func words(line string) []string {
	var all []string
	for _, word := range regexp.MustCompile(`"[^"]*"|\S+`).FindAllString(line, -1) {
		all = append(all, strings.Trim(word, `"`))
	}
	return all
}

// What the page links to is there.
func TestDocsLinks(t *testing.T) {
	page := readPage(t, docsPage)
	anchors := func(text string) map[string]bool {
		found := make(map[string]bool)
		for _, heading := range regexp.MustCompile(`(?m)^#+ (.*)$`).FindAllStringSubmatch(text, -1) {
			kept := regexp.MustCompile("[^a-z0-9 _-]").ReplaceAllString(strings.ToLower(heading[1]), "")
			found[strings.ReplaceAll(kept, " ", "-")] = true
		}
		return found
	}
	links := regexp.MustCompile(`\]\(([^)#:]*)(?:#([^)]*))?\)`).FindAllStringSubmatch(page, -1)
	for _, link := range links {
		text := page
		if link[1] != "" {
			text = readPage(t, filepath.Join("../docs", link[1]))
		}
		if link[2] != "" && !anchors(text)[link[2]] {
			t.Errorf("got a link to %s#%s, which is not there", link[1], link[2])
		}
	}
	if len(links) < 10 {
		t.Errorf("got %d links, want those of the page", len(links))
	}
	if !strings.Contains(readPage(t, "../README.md"), "(docs/commands.md)") {
		t.Error("got no link to the page in README.md, want one")
	}
}
