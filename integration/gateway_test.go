// Package integration runs the whole gateway in this process: Caddy with a
// Caddyfile, the sandbox as Klavi, and upstreams that keep what they get.
package integration

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	_ "github.com/caddyserver/caddy/v2/modules/standard"

	_ "github.com/caddy-klavi/caddy-klavi"
	"github.com/caddy-klavi/caddy-klavi/inbox/postgrestest"
	_ "github.com/caddy-klavi/caddy-klavi/sandbox"
	_ "github.com/caddy-klavi/caddy-klavi/sandbox/demo"
)

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "caddy-klavi-test")
	if err != nil {
		panic(err)
	}
	caddy.ConfigAutosavePath = filepath.Join(dir, "autosave.json")
	code := postgrestest.Main(m).Run()
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

// gateway is a running Caddy with ports of its own, by name: {{app}} in a
// Caddyfile becomes the port called app.
type gateway struct {
	t     testing.TB
	ports map[string]string
	logs  string // path of the log file
	loads int    // how often it was loaded
}

// start runs Caddy with that Caddyfile until the test ends. Tests of this
// package share one process, and Caddy is one per process: no two run at once.
// ports are names and numbers of those that are open already.
func start(t testing.TB, caddyfile string, ports ...string) *gateway {
	t.Helper()
	g := &gateway{t: t, ports: make(map[string]string), logs: filepath.Join(t.TempDir(), "log")}
	t.Setenv("XDG_DATA_HOME", t.TempDir()) // where the inbox is, if nothing is said
	for i := 0; i+1 < len(ports); i += 2 {
		g.ports[ports[i]] = ports[i+1]
	}
	if err := g.load(caddyfile); err != nil {
		t.Fatalf("starting: %v", err)
	}
	t.Cleanup(func() {
		if err := caddy.Stop(); err != nil {
			t.Errorf("stopping: %v", err)
		}
		// A report of Klavi's may be under way still. Its inbox closes after it.
		g.eventually("the inboxes to close", func() bool {
			stacks := make([]byte, 1<<20)
			return !bytes.Contains(stacks[:runtime.Stack(stacks, true)], []byte("gateway.(*keeper)"))
		})
	})
	return g
}

// load makes Caddy run that Caddyfile; the ports stay.
func (g *gateway) load(caddyfile string) error {
	g.t.Helper()
	config, err := adapt(g.expand(caddyfile))
	if err != nil {
		return err
	}
	g.loads++
	return caddy.Load(config, true)
}

// expand puts ports in place of their names.
func (g *gateway) expand(caddyfile string) string {
	g.t.Helper()
	for {
		i := strings.Index(caddyfile, "{{")
		if i < 0 {
			return caddyfile
		}
		end := strings.Index(caddyfile[i:], "}}") + i
		name := caddyfile[i+2 : end]
		value := g.logs
		if name != "log" {
			value = g.port(name)
		}
		caddyfile = caddyfile[:i] + value + caddyfile[end+2:]
	}
}

// used are the ports of all tests: none gets what another one may still be closing.
var used = make(map[string]bool)

func (g *gateway) port(name string) string {
	g.t.Helper()
	if p, ok := g.ports[name]; ok {
		return p
	}
	// Below the range from which systems take the ports of outgoing
	// connections, so that none of those gets in between.
	for range 100 {
		p := strconv.Itoa(20000 + rand.IntN(10000))
		l, err := net.Listen("tcp", "127.0.0.1:"+p)
		if err != nil {
			continue
		}
		l.Close()
		if used[p] {
			continue
		}
		used[p] = true
		g.ports[name] = p
		return p
	}
	g.t.Fatal("found no free port")
	return ""
}

func (g *gateway) url(name, path string) string {
	return "http://127.0.0.1:" + g.port(name) + path
}

func adapt(caddyfile string) ([]byte, error) {
	config, _, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(caddyfile), map[string]any{"filename": "Caddyfile"})
	return config, err
}

// answer is a response that has been read.
type answer struct {
	status int
	header http.Header
	body   string
}

// field returns a member of a JSON body as text, empty if there is none.
func (a answer) field(name string) string {
	var members map[string]any
	if json.Unmarshal([]byte(a.body), &members) != nil || members[name] == nil {
		return ""
	}
	return fmt.Sprint(members[name])
}

// client makes a connection for each request, so that no reload closes one
// under a request that was about to use it.
var client = &http.Client{
	Timeout:       30 * time.Second,
	Transport:     &http.Transport{DisableKeepAlives: true},
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
}

// do makes a request; headers are given as name, value, name, value. After a
// reload, the listener of the old config may still take a connection, which is
// closed unread: such a request is made again.
func (g *gateway) do(method, url, body string, headers ...string) answer {
	g.t.Helper()
	a, err := try(method, url, body, headers...)
	for n := 0; n < 3 && g.loads > 1 && errors.Is(err, io.EOF); n++ {
		a, err = try(method, url, body, headers...)
	}
	if err != nil {
		g.t.Fatalf("%s %s: %v", method, url, err)
	}
	return a
}

func try(method, url, body string, headers ...string) (answer, error) {
	var rd io.Reader
	if body != "" {
		rd = strings.NewReader(body)
	}
	req, err := http.NewRequest(method, url, rd)
	if err != nil {
		return answer{}, err
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	res, err := client.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	return answer{res.StatusCode, res.Header, string(text)}, err
}

// want fails the test if the answer has another status or, for a problem, type.
func (g *gateway) want(a answer, status int, problem string) {
	g.t.Helper()
	if a.status != status || a.field("type") != problem {
		g.t.Fatalf("got %d %s, want %d %s", a.status, a.body, status, problem)
	}
}

// eventually asks until ok says yes. It is for what happens in the background;
// no test depends on how long it takes.
func (g *gateway) eventually(what string, ok func() bool) {
	g.t.Helper()
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if ok() {
			return
		}
	}
	g.t.Fatalf("waited in vain for %s", what)
}

// wantNowhere fails the test if one of the words is in text.
func wantNowhere(t testing.TB, where, text string, words ...string) {
	t.Helper()
	for _, word := range words {
		if i := strings.Index(text, word); i >= 0 {
			t.Errorf("%s shows %q: …%s…", where, word, text[max(0, i-200):min(len(text), i+len(word)+100)])
		}
	}
}

func readFile(t testing.TB, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(bytes.ToValidUTF8(text, nil))
}
