//go:build unix

package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// process is a program that was started.
type process struct {
	cmd  *exec.Cmd
	log  string
	done chan struct{} // closed when it has ended
}

// start starts a program, which writes to a file what it says. Ctrl-C is not for it:
// it ends when it is told to.
func start(log string, cmd *exec.Cmd) (*process, error) {
	out, err := os.OpenFile(log, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer out.Close() // the program has its own
	cmd.Stdout, cmd.Stderr = out, out
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Setpgid = true
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	p := &process{cmd: cmd, log: log, done: make(chan struct{})}
	go func() {
		_ = cmd.Wait()
		close(p.done)
	}()
	return p, nil
}

// end asks the program to end, and waits for it. It may be nil.
func (p *process) end(how syscall.Signal) {
	if p == nil {
		return
	}
	_ = p.cmd.Process.Signal(how) // it may have ended
	select {
	case <-p.done:
	case <-time.After(30 * time.Second):
		_ = p.cmd.Process.Kill()
		<-p.done
	}
}

// failed is the error of a program that has ended by itself.
func (p *process) failed() error {
	text, _ := os.ReadFile(p.log)
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	return fmt.Errorf("%s has ended: %s", filepath.Base(p.cmd.Path), strings.Join(lines[max(len(lines)-3, 0):], "\n"))
}

// choosePorts takes the ports of the environment, and free ones for the others.
func (f *fleet) choosePorts() error {
	names := []string{"KLAVI_ADMIN_PORT", "KLAVI_HOOKS_PORT", "KLAVI_SANDBOX_PORT", "KLAVI_UPSTREAM_PORT"}
	for i := range gateways {
		names = append(names, portOf(i))
	}
	f.ports = make(map[string]string)
	for _, name := range names {
		address := "127.0.0.1:" + os.Getenv(name)
		l, err := net.Listen("tcp", address)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		defer l.Close() // all are open until all are chosen: no two are the same
		_, f.ports[name], _ = net.SplitHostPort(l.Addr().String())
	}
	for name, port := range f.ports {
		f.env = append(f.env, name+"="+port)
	}
	return nil
}

// startCaddy runs Caddy with a config of this example.
func (f *fleet) startCaddy(ctx context.Context, name, config, port string) (*process, error) {
	home := filepath.Join(f.dir, name)
	cmd := exec.CommandContext(context.WithoutCancel(ctx), f.caddy, "run", "--config", config)
	cmd.Env = append(os.Environ(), f.env...)
	cmd.Env = append(cmd.Env, "KLAVI_GATEWAY_PORT="+port, "KLAVI_DATABASE_URL="+f.database, "XDG_CONFIG_HOME="+home, "XDG_DATA_HOME="+home)
	return start(home+".log", cmd)
}
