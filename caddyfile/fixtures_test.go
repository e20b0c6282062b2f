package caddyfile_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	_ "github.com/caddyserver/caddy/v2/modules/standard"

	_ "github.com/caddy-klavi/caddy-klavi/caddyfile"
)

var update = flag.Bool("update", false, "write what the fixtures adapt to into them")

const separator = "\n----------\n"

// TestMain keeps Caddy out of the folders of whoever runs the tests.
func TestMain(m *testing.M) {
	flag.Parse()
	dir, err := os.MkdirTemp("", "caddyfile")
	if err != nil {
		panic(err)
	}
	for _, name := range []string{"HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME"} {
		os.Setenv(name, dir)
	}
	caddy.DefaultStorage.Path = dir
	caddy.ConfigAutosavePath = filepath.Join(dir, "autosave.json")
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

// fixture is a file of testdata: a Caddyfile, a line of ten dashes, and the JSON
// or the error that it becomes. Those whose names begin with bad_ are errors.
type fixture struct {
	name, path, caddyfile, want string
}

func fixtures(t *testing.T) []fixture {
	t.Helper()
	paths, err := filepath.Glob("testdata/*.caddyfiletest")
	if err != nil || len(paths) == 0 {
		t.Fatalf("no fixtures: %v", err)
	}
	var all []fixture
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		input, want, ok := strings.Cut(strings.ReplaceAll(string(text), "\r\n", "\n"), separator)
		if !ok {
			t.Fatalf("%s has no line of ten dashes", path)
		}
		name := strings.TrimSuffix(filepath.Base(path), ".caddyfiletest")
		all = append(all, fixture{name, path, input + "\n", strings.TrimSuffix(want, "\n")})
	}
	return all
}

func (f fixture) bad() bool { return strings.HasPrefix(f.name, "bad_") }

func TestFixtures(t *testing.T) {
	for _, f := range fixtures(t) {
		t.Run(f.name, func(t *testing.T) {
			var got string
			result, warnings, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(f.caddyfile), nil)
			switch {
			case f.bad() && err == nil:
				t.Fatalf("got no error, want %s", f.want)
			case !f.bad() && err != nil:
				t.Fatalf("got the error %v, want JSON", err)
			case f.bad():
				got = err.Error()
			default:
				var indented bytes.Buffer
				if err := json.Indent(&indented, result, "", "\t"); err != nil {
					t.Fatal(err)
				}
				got = indented.String()
			}
			if *update {
				if err := os.WriteFile(f.path, []byte(strings.TrimSuffix(f.caddyfile, "\n")+separator+got+"\n"), 0o600); err != nil {
					t.Fatal(err)
				}
				return
			}
			if got != f.want {
				t.Errorf("got\n%s\n\nwant\n%s", got, f.want)
			}
			for _, w := range warnings {
				t.Errorf("got the warning %s", w)
			}
		})
	}
}

// An error that does not say where it is leaves its reader to search.
func TestErrorsHaveALine(t *testing.T) {
	for _, f := range fixtures(t) {
		if f.bad() && !strings.Contains(f.want, "at Caddyfile:") {
			t.Errorf("%s has no line: %s", f.name, f.want)
		}
	}
}

func TestFixturesAreFormatted(t *testing.T) {
	for _, f := range fixtures(t) {
		if got := string(caddyfile.Format([]byte(f.caddyfile))); got != f.caddyfile {
			t.Errorf("%s: got\n%s\nwant\n%s", f.name, f.caddyfile, got)
		}
	}
}
