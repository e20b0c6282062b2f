// Package faults has what goes wrong happen to a Caddy in a process of its own:
// it is killed, reloaded, starved and filled up while reports arrive. Whatever
// happens, what was answered 200 is delivered, waits or is dead, as it was sent.
package faults

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/caddy-klavi/caddy-klavi/inbox/postgrestest"
)

// program is the Caddy that was built for the tests.
var program string

func TestMain(m *testing.M) {
	if runtime.GOOS != "linux" {
		fmt.Println("these tests need signals, ulimit and /proc, as Linux has them: not run")
		os.Exit(0)
	}
	dir, err := os.MkdirTemp("", "caddy-klavi-faults")
	if err != nil {
		panic(err)
	}
	program = filepath.Join(dir, "caddy")
	code := 1
	build := append(append([]string{"build"}, buildFlags...), "-o", program, "../cmd/caddy")
	if out, err := exec.Command("go", build...).CombinedOutput(); err != nil {
		fmt.Printf("building Caddy: %v\n%s", err, out)
	} else {
		_ = flag.Set("test.parallel", "8") // most of them wait
		code = postgrestest.Main(m).Run()
	}
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

// soakRounds is how often a test does what it does: n times, or as often as
// INBOX_SOAK says (make soak).
func soakRounds(n int) int {
	if rounds, err := strconv.Atoi(os.Getenv("INBOX_SOAK")); err == nil {
		return max(n, rounds)
	}
	if testing.Short() {
		return 1
	}
	return n
}

// soaking tells whether tests may take their time.
func soaking() bool { return os.Getenv("INBOX_SOAK") != "" }

const (
	secret    = "a-secret-key"
	nextKey   = "the-secret-key-of-tomorrow"
	inboxKey  = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"
	otherKey  = "ff0102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"
	testCPF   = "25872252137"
	testWords = "PIX para Maria Aparecida"
)

// setup is a Caddyfile with one klavi_reports. Texts are lines in a block, and
// empty ones are left out.
type setup struct {
	dir, key               string // of the inbox
	klavi, secret          string // the address of Klavi's API, and the secret key
	database               string // in place of dir
	port, admin            string
	global, account, inbox string
	reports, sites         string
	routes                 string
}

// newSetup has ports and a directory of its own, and sends all to url.
func newSetup(t testing.TB, url string) setup {
	return setup{
		dir: filepath.Join(t.TempDir(), "inbox"), key: inboxKey, klavi: "http://127.0.0.1:1", secret: secret,
		port: freePort(t), admin: freePort(t),
		inbox:  "retry_max_interval 1s",
		routes: "all " + url + "\nevent * " + url,
	}
}

func (s *setup) caddyfile() string {
	place := "dir " + s.dir
	if s.database != "" {
		place = "postgres " + s.database
	}
	return fmt.Sprintf(`{
	admin 127.0.0.1:%s
	auto_https off
	persist_config off
	%s
	klavi {
		base_url %s/data/v1
		access_key an-access-key
		secret_key %s
		%s
		inbox {
			%s
			encryption_key %s
			%s
		}
	}
}

http://:%s {
	bind 127.0.0.1
	klavi_reports /klavi/reports {
		%s
		%s
	}
	respond /alive 204
}
%s
`, s.admin, s.global, s.klavi, s.secret, s.account, place, s.key, s.inbox, s.port, s.reports, s.routes, s.sites)
}

// Below the range from which systems take the ports of outgoing connections.
func freePort(t testing.TB) string {
	t.Helper()
	for range 100 {
		port := strconv.Itoa(20000 + rand.IntN(10000))
		l, err := net.Listen("tcp", "127.0.0.1:"+port)
		if err != nil {
			continue
		}
		l.Close()
		if _, used := usedPorts.LoadOrStore(port, true); used {
			continue
		}
		return port
	}
	t.Fatal("found no free port")
	return ""
}

// usedPorts are those of all tests: none gets what another one may still be closing.
var usedPorts sync.Map

// process is a Caddy that runs.
type process struct {
	t     testing.TB
	setup setup
	cmd   *exec.Cmd
	url   string // of klavi_reports
	said  string // the file with what it says
	ended chan struct{}
	home  string
}

// start runs Caddy until the test ends. It is there when it returns.
func start(t testing.TB, s setup, env ...string) *process {
	t.Helper()
	p := begin(t, s, exec.Command(program), env...)
	p.wantAlive()
	return p
}

// begin runs a command of Caddy, which may stand behind another program.
func begin(t testing.TB, s setup, cmd *exec.Cmd, env ...string) *process {
	t.Helper()
	home := t.TempDir()
	p := &process{
		t: t, setup: s, cmd: cmd, url: "http://127.0.0.1:" + s.port + "/klavi/reports",
		said: filepath.Join(home, "said"), ended: make(chan struct{}), home: home,
	}
	config := filepath.Join(home, "Caddyfile")
	writeFile(t, config, s.caddyfile())
	said, err := os.Create(p.said)
	if err != nil {
		t.Fatal(err)
	}
	defer said.Close() // the process has its own
	cmd.Args = append(cmd.Args, "run", "--config", config)
	cmd.Env = append(append(os.Environ(), "XDG_CONFIG_HOME="+home, "XDG_DATA_HOME="+home), env...)
	cmd.Stdout, cmd.Stderr = said, said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = cmd.Wait() // killed, most often
		close(p.ended)
	}()
	t.Cleanup(func() {
		p.kill()
		if t.Failed() {
			t.Logf("what Caddy said:\n%.20000s", p.complaints())
		}
		for _, word := range []string{testCPF, testWords, secret, nextKey, s.key, postgrestest.Password} {
			if strings.Contains(p.log(), word) {
				t.Errorf("Caddy says %q in its log", word)
			}
		}
		for _, word := range []string{"panic:", "DATA RACE"} {
			if strings.Contains(p.log(), word) {
				t.Errorf("got %q in Caddy's log, want it nowhere:\n%s", word, p.log())
			}
		}
	})
	return p
}

func (p *process) log() string {
	text, err := os.ReadFile(p.said)
	if err != nil {
		p.t.Error(err)
	}
	return string(text)
}

// complaints is what it says above level info.
func (p *process) complaints() string {
	var b strings.Builder
	for line := range strings.Lines(p.log()) {
		if !strings.Contains(line, `"level":"info"`) && !strings.Contains(line, "because it requires TLS") {
			b.WriteString(line)
		}
	}
	return b.String()
}

// kill ends it as kill -9 does.
func (p *process) kill() {
	_ = p.cmd.Process.Kill() // it may have ended
	<-p.ended
}

// term asks it to end.
func (p *process) term() {
	p.t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		p.t.Fatal(err)
	}
}

// wait waits until it has ended.
func (p *process) wait() {
	p.t.Helper()
	select {
	case <-p.ended:
	case <-time.After(60 * time.Second):
		p.t.Fatal("Caddy does not end")
	}
}

func (p *process) stop() {
	p.t.Helper()
	p.term()
	p.wait()
}

func (p *process) pid() string { return strconv.Itoa(p.cmd.Process.Pid) }

// wantAlive waits until Caddy answers.
func (p *process) wantAlive() {
	p.t.Helper()
	eventually(p.t, "Caddy to answer", func() bool {
		select {
		case <-p.ended:
			p.t.Fatal("Caddy has ended")
		default:
		}
		res, err := http.Get(strings.Replace(p.url, "/klavi/reports", "/alive", 1))
		if err != nil {
			return false
		}
		res.Body.Close()
		return res.StatusCode == http.StatusNoContent
	})
}

// load has Caddy run another config.
func (p *process) load(s setup) error {
	p.t.Helper()
	req, err := http.NewRequest(http.MethodPost, "http://127.0.0.1:"+p.setup.admin+"/load", strings.NewReader(s.caddyfile()))
	if err != nil {
		p.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "text/caddyfile")
	req.Header.Set("Cache-Control", "must-revalidate") // also what is equal
	client := &http.Client{Timeout: time.Minute, Transport: &http.Transport{DisableKeepAlives: true}}
	res, err := client.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if res.StatusCode != http.StatusOK {
		err = errors.New(string(text))
	}
	return err
}

// run runs another command of the same Caddy, and returns what it says.
func (p *process) run(args ...string) string {
	p.t.Helper()
	cmd := exec.Command(program, args...)
	cmd.Env = p.cmd.Env
	var complaint bytes.Buffer
	cmd.Stderr = &complaint
	out, err := cmd.Output()
	if err != nil {
		p.t.Fatalf("caddy %s: %v: %s", strings.Join(args, " "), err, complaint.String())
	}
	return string(out)
}

// handles are the files that the process has open, with how often.
func (p *process) handles() map[string]int {
	p.t.Helper()
	dir := "/proc/" + p.pid() + "/fd"
	entries, err := os.ReadDir(dir)
	if err != nil {
		p.t.Fatal(err)
	}
	open := make(map[string]int)
	for _, entry := range entries {
		target, err := os.Readlink(filepath.Join(dir, entry.Name()))
		if err != nil {
			continue // closed just now
		}
		kind, _, _ := strings.Cut(target, ":[")
		open[kind]++
	}
	return open
}

// goroutines are how many there are, those of the request that asks included.
func (p *process) goroutines() int {
	p.t.Helper()
	res, err := http.Get("http://127.0.0.1:" + p.setup.admin + "/debug/pprof/goroutine?debug=1")
	if err != nil {
		p.t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		p.t.Fatal(err)
	}
	var n int
	if _, err := fmt.Sscanf(string(text), "goroutine profile: total %d", &n); err != nil {
		p.t.Fatalf("%v: %.100s", err, text)
	}
	return n
}

// heap is how many bytes of memory are in use, without what nobody needs any more.
func (p *process) heap() int {
	p.t.Helper()
	res, err := http.Get("http://127.0.0.1:" + p.setup.admin + "/debug/pprof/heap?debug=1&gc=1")
	if err != nil {
		p.t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		p.t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "# HeapAlloc = ")
	var n int
	if _, err := fmt.Sscan(rest, &n); err != nil {
		p.t.Fatalf("%v: %.100s", err, text)
	}
	return n
}

// status is a number of kB in the process's status, such as VmHWM.
func (p *process) status(name string) int {
	p.t.Helper()
	text, err := os.ReadFile("/proc/" + p.pid() + "/status")
	if err != nil {
		p.t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), name+":")
	var n int
	if _, err := fmt.Sscan(rest, &n); err != nil {
		p.t.Fatalf("%s: %v", name, err)
	}
	return n
}

// eventually asks until ok says yes. It is for what happens in the background;
// no test depends on how long it takes.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(60 * time.Second); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if ok() {
			return
		}
	}
	t.Fatalf("waited in vain for %s", what)
}

// filesIn returns the contents of all files below a directory, by path.
func filesIn(t testing.TB, dir string) map[string][]byte {
	t.Helper()
	files := make(map[string][]byte)
	err := filepath.WalkDir(dir, func(path string, entry os.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		files[path], err = os.ReadFile(path)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// limited is a command of Caddy that can have no more than n files open.
func limited(n int) *exec.Cmd {
	return exec.Command("sh", "-c", fmt.Sprintf(`ulimit -n %d && exec "$0" "$@"`, n), program)
}

// confined is a command of Caddy that is killed if it needs more than n bytes of
// memory, where tests may have a control group for that.
func confined(t testing.TB, n int) *exec.Cmd {
	for root, limit := range map[string]string{
		"/sys/fs/cgroup": "memory.max", "/sys/fs/cgroup/memory": "memory.limit_in_bytes",
	} {
		group, err := os.MkdirTemp(root, "caddy-klavi-faults")
		if err != nil {
			continue
		}
		t.Cleanup(func() { _ = os.Remove(group) }) // once Caddy has ended
		// It is there, or this is no control group.
		f, err := os.OpenFile(filepath.Join(group, limit), os.O_WRONLY, 0)
		if err != nil {
			continue
		}
		_, err = f.WriteString(strconv.Itoa(n))
		if f.Close(); err == nil {
			return exec.Command("sh", "-c", `echo $$ >"$0/cgroup.procs" && exec "$@"`, group, program)
		}
	}
	t.Log("memory has no hard limit: no control group can be had")
	return exec.Command(program)
}

// listenAt has a server listen at an address. Other packages look for free ports.
func listenAt(t testing.TB, server *httptest.Server, address string) {
	t.Helper()
	var l net.Listener
	eventually(t, "nobody to try whether "+address+" is free", func() bool {
		var err error
		l, err = net.Listen("tcp", address)
		return err == nil
	})
	server.Listener.Close()
	server.Listener = l
}

func writeFile(t testing.TB, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
