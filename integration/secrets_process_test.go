package integration

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
)

// quiet leaves out of the loud gateway what only this package has.
var quiet = strings.NewReplacer(
	"\t\ttest_panic @around {\n\t\t\tafter\n\t\t}\n", "",
	"\t\ttest_panic /below/*\n", "",
	"test_panic {\n\t\t\t\tabort\n\t\t\t}", "respond 503",
	"test_panic", "respond 503",
	"output file {{log}}\n", "output stderr\n",
)

// process is a Caddy in a process of its own.
type process struct {
	*exec.Cmd
	config, said, home string
}

// startProcess builds Caddy and runs the loud gateway in it.
func startProcess(t *testing.T, g *gateway) *process {
	t.Helper()
	dir := t.TempDir()
	program := filepath.Join(dir, "caddy")
	if out, err := exec.Command("go", "build", "-o", program, "../cmd/caddy").CombinedOutput(); err != nil {
		t.Fatalf("building Caddy: %v\n%s", err, out)
	}
	setSecrets(t)
	p := &process{config: filepath.Join(dir, "Caddyfile"), said: filepath.Join(dir, "said"), home: t.TempDir()}
	if err := os.WriteFile(p.config, []byte(g.expand(quiet.Replace(loud+outside))), 0o600); err != nil {
		t.Fatal(err)
	}
	said, err := os.Create(p.said)
	if err != nil {
		t.Fatal(err)
	}
	defer said.Close() // the process has its own
	p.Cmd = exec.Command(program, "run", "--config", p.config)
	p.Env = append(os.Environ(), "XDG_CONFIG_HOME="+p.home, "XDG_DATA_HOME="+p.home, "GOTRACEBACK=all")
	p.Stdout, p.Stderr = said, said
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = p.Process.Kill() // it may have ended
		_ = p.Wait()
	})
	g.eventually("Caddy to start", func() bool {
		_, err := try("GET", g.url("admin", "/config/"), "")
		return err == nil
	})
	return p
}

// run runs another command of the same Caddy and returns all that it says.
func (p *process) run(t *testing.T, args ...string) string {
	t.Helper()
	cmd := exec.Command(p.Path, args...)
	cmd.Env = p.Env
	out, err := cmd.CombinedOutput()
	if _, ended := errors.AsType[*exec.ExitError](err); err != nil && !ended {
		t.Fatal(err)
	}
	return string(out)
}

// A real Caddy says no secret, token or tax id on its standard output and error,
// at debug level, through the whole flow, when it is asked to load what it cannot,
// and when it crashes; nor does what it saves, nor its other commands.
func TestProcessSaysNoSecrets(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("a crash is asked for with a signal, which Windows does not have: not run")
	}
	w := &witness{gateway: &gateway{t: t, ports: make(map[string]string), logs: filepath.Join(t.TempDir(), "log")}}
	p := startProcess(t, w.gateway)
	w.walk()
	w.wantSeenNothing()
	w.add("a key", literalSecret)

	bad := filepath.Join(p.home, "bad.caddyfile")
	if err := os.WriteFile(bad, []byte("{\nklavi {\nenvironment sandbox\nsecret_key "+literalSecret+" x\n}\n}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	admin := "127.0.0.1:" + w.port("admin")
	for _, command := range []struct{ args, says string }{
		{"validate --config " + p.config, "Valid configuration"},
		{"adapt --pretty --config " + p.config, "{env.TEST_SECRET_KEY}"},
		{"reload --force --config " + p.config + " --address " + admin, "adapted config to JSON"},
		{"reload --config " + bad + " --address " + admin, "wrong arguments for secret_key"},
		{"validate --config " + bad, "wrong arguments for secret_key"},
		{"run --config " + bad, "wrong arguments for secret_key"},
		{"version", "v"},
		{"build-info", "github.com/caddy-klavi/caddy-klavi"},
	} {
		said := p.run(t, strings.Fields(command.args)...)
		if !strings.Contains(said, command.says) {
			t.Errorf("caddy %.20s: got %.300s, want %q", command.args, said, command.says)
		}
		w.wantNone(t, "caddy "+command.args, said)
	}
	text, err := os.ReadFile(bad)
	if err != nil {
		t.Fatal(err)
	}
	a, err := try("POST", w.url("admin", "/load"), string(text), "Content-Type", "text/caddyfile")
	if err != nil || a.status != 400 {
		t.Errorf("loading what cannot be: got %d, %v, want 400", a.status, err)
	}
	w.wantNone(t, "the answer of /load", a.body)
	w.wantNone(t, "the saved config", readFile(t, filepath.Join(p.home, "caddy", "autosave.json")))

	if err := p.Process.Signal(syscall.SIGABRT); err != nil {
		t.Fatal(err)
	}
	_ = p.Wait() // it crashed
	said := readFile(t, p.said)
	for _, text := range []string{`"level":"debug"`, "http.reverse_proxy.transport.klavi", "SIGABRT", "goroutine ", `"logger":"admin.api","msg":"request error"`} {
		if !strings.Contains(said, text) {
			t.Errorf("Caddy said nothing of %q: this test shows less than it says", text)
		}
	}
	w.wantNone(t, "what Caddy says", said)
	for _, name := range []string{".console", ".access", ".rest", ".appended"} {
		w.wantNone(t, "the log"+name, readFile(t, w.logs+name))
	}
}
