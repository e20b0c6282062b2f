//go:build unix

// Command fleet runs three gateways that share an inbox in PostgreSQL, behind a load
// balancer, with a stand-in for Klavi before them and a service behind. With -kill,
// it kills one gateway after the other while reports arrive, and counts what became
// of them. README.md says more.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"
)

func main() {
	kill := flag.Duration("kill", 0, "send reports and kill gateways for so long, then say what became of the reports; 0 runs until Ctrl-C")
	senders := flag.Int("senders", 8, "how many reports are under way at a time, with -kill")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	if err := run(ctx, *kill, *senders); err != nil {
		fmt.Fprintln(os.Stderr, "fleet:", err)
		os.Exit(1)
	}
}

const gateways = 3

// fleet is all that runs.
type fleet struct {
	dir   string // of logs and of what Caddy leaves in a home
	env   []string
	ports map[string]string

	database string
	caddy    string // the program
	nodes    [gateways]*process
}

// run runs the fleet until ctx is done or the test has ended.
func run(ctx context.Context, kill time.Duration, senders int) (err error) {
	f := &fleet{database: os.Getenv("KLAVI_DATABASE_URL")}
	if f.dir, err = os.MkdirTemp("", "fleet"); err != nil {
		return err
	}
	defer os.RemoveAll(f.dir)
	if f.database == "" {
		server, err := startDatabase(f.dir)
		if err != nil {
			return err
		}
		defer server.end(syscall.SIGINT)
		f.database = server.url
	}
	if err := f.choosePorts(); err != nil {
		return err
	}
	fmt.Println("building Caddy: the first time, that takes minutes")
	f.caddy = filepath.Join(f.dir, "caddy")
	build := exec.CommandContext(ctx, "go", "build", "-o", f.caddy, "./cmd/caddy")
	if build.Stderr = os.Stderr; build.Run() != nil {
		return errors.New("cmd/caddy cannot be built: run this in the project's folder")
	}

	up := newUpstream()
	service, err := up.listen("127.0.0.1:" + f.ports["KLAVI_UPSTREAM_PORT"])
	if err != nil {
		return err
	}
	defer service.Close()
	defer func() {
		for _, node := range f.nodes {
			node.end(syscall.SIGTERM)
		}
	}()
	for i := range f.nodes {
		if err := f.start(ctx, i); err != nil {
			return err
		}
	}
	balancer, err := f.startCaddy(ctx, "balancer", "examples/fleet/Caddyfile", "")
	defer balancer.end(syscall.SIGTERM)
	if err != nil {
		return err
	}
	if err := f.wait(ctx, balancer, f.at("KLAVI_SANDBOX_PORT", "/_sandbox/requests")); err != nil {
		return err
	}
	say := func(url, what string) { fmt.Printf("  %-38s  %s\n", url, what) }
	fmt.Println()
	say(f.at("KLAVI_HOOKS_PORT", "/klavi/reports"), "the load balancer: Klavi delivers here")
	say(f.at("KLAVI_SANDBOX_PORT", ""), "a stand-in for Klavi")
	say(f.at("KLAVI_UPSTREAM_PORT", "/received"), "the reports that arrived, and how often")
	for i, node := range f.nodes {
		say(f.at(portOf(i), "/ready"), fmt.Sprintf("gateway %d, process %d", i+1, node.cmd.Process.Pid))
	}
	fmt.Println()
	if kill > 0 {
		return f.test(ctx, up, kill, senders)
	}
	fmt.Println("Ctrl-C ends it.")
	<-ctx.Done()
	return nil
}

// start starts a gateway, and waits until it is ready.
func (f *fleet) start(ctx context.Context, i int) (err error) {
	f.nodes[i], err = f.startCaddy(ctx, fmt.Sprint("gateway-", i+1), "examples/fleet/gateway/Caddyfile", f.ports[portOf(i)])
	if err != nil {
		return err
	}
	return f.wait(ctx, f.nodes[i], f.at(portOf(i), "/ready"))
}

func portOf(i int) string { return fmt.Sprintf("KLAVI_GATEWAY%d_PORT", i+1) }

func (f *fleet) at(port, path string) string { return "http://127.0.0.1:" + f.ports[port] + path }

// wait waits until a URL is answered with 200.
func (f *fleet) wait(ctx context.Context, p *process, url string) error {
	client := &http.Client{Timeout: 5 * time.Second}
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
		if err != nil {
			return err
		}
		if res, err := client.Do(req); err == nil {
			_ = res.Body.Close()
			if res.StatusCode == http.StatusOK {
				return nil
			}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-p.done:
			return p.failed()
		case <-time.After(100 * time.Millisecond):
		}
	}
}
