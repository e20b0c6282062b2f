package integration

import (
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// step is a command of the README and what it is said to print.
type step struct{ command, output string }

// walk returns the set-up and the steps that the README shows under "Try it".
func walk(t *testing.T) (setUp string, steps []step) {
	t.Helper()
	readme := readFile(t, "README.md")
	_, section, _ := strings.Cut(readme, "\n## Try it\n")
	section, _, _ = strings.Cut(section, "\n## ")
	for _, block := range regexp.MustCompile("(?s)```(sh|console)\n(.*?)```").FindAllStringSubmatch(section, -1) {
		language, text := block[1], block[2]
		if language == "sh" {
			if strings.Contains(text, "APP=") {
				setUp = text
			}
			continue
		}
		for _, part := range strings.Split("\n"+text, "\n$ ")[1:] {
			lines := strings.Split(part, "\n")
			n := 1
			for strings.HasSuffix(lines[n-1], `\`) {
				n++
			}
			steps = append(steps, step{strings.Join(lines[:n], "\n"), strings.Join(lines[n:], "\n")})
		}
	}
	if setUp == "" || len(steps) < 8 {
		t.Fatalf("found %d steps in the README, want its walk", len(steps))
	}
	return setUp, steps
}

// varying is what is another at each run: ids, tokens, times, sizes and digests, and
// what the README leaves out.
var varying = regexp.MustCompile(`\.\.\.|[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.]+Z|[0-9a-f]{8}-[0-9a-f-]{27}|[0-9a-f]{8}-|` +
	`"[0-9a-f]{16,64}"|"size": [0-9]+|KLT1[\w-]*|eyJ[\w.-]*|ticket=[0-9a-f]*`)

// mismatch returns the first piece of what the README shows that got does not
// have, in the same order.
func (s step) mismatch(got string) string {
	for _, piece := range varying.Split(s.output, -1) {
		piece = strings.TrimSpace(piece)
		i := strings.Index(got, piece)
		if i < 0 {
			return piece
		}
		got = got[i+len(piece):]
	}
	return ""
}

// missingEntry is mismatch for a list of what has arrived: routes deliver beside each
// other, so its order is another at each run.
func (s step) missingEntry(got string) string {
	const begin = "\n  {\n"
	entries := strings.Split(got, begin)
	for _, want := range strings.Split(s.output, begin)[1:] {
		if !slices.ContainsFunc(entries, func(entry string) bool { return step{output: want}.mismatch(entry) == "" }) {
			return want
		}
	}
	return ""
}

// The README's walk is run as it stands there, on other ports.
func TestReadmeWalk(t *testing.T) {
	for _, tool := range []string{"bash", "curl", "sed"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("the README's walk needs %s, which is not there: not run", tool)
		}
	}
	g := quickstart(t)
	var ports []string
	for readme, name := range map[string]string{"8080": "app", "8081": "hooks", "8082": "services", "9090": "sandbox", "9091": "upstream"} {
		ports = append(ports, "localhost:"+readme, "localhost:"+g.port(name), "127.0.0.1:"+readme, "127.0.0.1:"+g.port(name))
	}
	elsewhere := strings.NewReplacer(ports...)

	setUp, steps := walk(t)
	script := elsewhere.Replace(setUp)
	for _, s := range steps {
		s.command, s.output = elsewhere.Replace(s.command), elsewhere.Replace(s.output)
		var got, missing string
		received := strings.Contains(s.command, "/received")
		run := func() bool {
			const mark = "---- what the steps have assigned"
			out, err := exec.Command("bash", "-c", script+"\n"+s.command+"\necho '"+mark+"'\ndeclare -p LINK TOKEN CONSENT 2>/dev/null; true").CombinedOutput()
			if err != nil {
				t.Fatalf("$ %s: %v\n%s", s.command, err, out)
			}
			printed, assigned, _ := strings.Cut(string(out), mark)
			got, missing = printed, s.mismatch(printed)
			if received {
				missing = s.missingEntry(printed)
			}
			script = elsewhere.Replace(setUp) + assigned
			return missing == ""
		}
		if received {
			g.eventually("the reports that the README shows", run)
		} else if !run() {
			t.Fatalf("$ %s\ngot\n%s\nwithout %q; the README shows\n%s", s.command, got, missing, s.output)
		}
	}
}
