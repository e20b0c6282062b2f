package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// process is a program that was started, and what Linux knows of it.
type process struct {
	cmd *exec.Cmd
}

// start runs a program until ctx is done. What it says goes to the file log, and
// what Caddy would leave in a home beside that.
func start(ctx context.Context, log, name string, args ...string) (*process, error) {
	out, err := os.Create(log)
	if err != nil {
		return nil, err
	}
	defer out.Close() // the program has its own
	p := &process{exec.CommandContext(ctx, name, args...)}
	p.cmd.Stdout, p.cmd.Stderr = out, out
	p.cmd.Env = append(os.Environ(), "XDG_CONFIG_HOME="+filepath.Dir(log), "XDG_DATA_HOME="+filepath.Dir(log))
	p.cmd.Cancel = func() error { return p.cmd.Process.Signal(syscall.SIGTERM) }
	p.cmd.WaitDelay = 5 * time.Second
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting %s: %w", filepath.Base(name), err)
	}
	return p, nil
}

// end calls cancel, and waits until the program has ended. It may be nil.
func (p *process) end(cancel context.CancelFunc) {
	cancel()
	if p != nil {
		_ = p.cmd.Wait() // it was told to end
	}
}

// ticksPerSecond is the unit of times in /proc, the same on all of Linux's
// platforms that Go runs on.
const ticksPerSecond = 100

// cpu returns how much CPU time the program has taken, in user and kernel.
func (p *process) cpu() (time.Duration, error) {
	stat, err := p.proc("stat")
	if err != nil {
		return 0, err
	}
	return cpuTime(stat)
}

// cpuTime reads /proc/<pid>/stat. The second field is the program's name in
// parentheses and may hold anything; utime and stime are the 14th and 15th.
func cpuTime(stat string) (time.Duration, error) {
	fields := strings.Fields(stat[strings.LastIndexByte(stat, ')')+1:])
	if len(fields) < 13 {
		return 0, fmt.Errorf("/proc/<pid>/stat has too few fields: %q", stat)
	}
	user, err1 := strconv.ParseInt(fields[11], 10, 64)
	system, err2 := strconv.ParseInt(fields[12], 10, 64)
	return time.Duration(user+system) * (time.Second / ticksPerSecond), errors.Join(err1, err2)
}

// memory returns the resident memory of the program in bytes: VmRSS is that of
// now, VmHWM the most since the last resetPeak.
func (p *process) memory(field string) (int64, error) {
	status, err := p.proc("status")
	if err != nil {
		return 0, err
	}
	return memoryField(status, field)
}

// memoryField reads a field of /proc/<pid>/status such as "VmRSS:   123 kB".
func memoryField(status, name string) (int64, error) {
	for line := range strings.Lines(status) {
		value, ok := strings.CutPrefix(line, name+":")
		if !ok {
			continue
		}
		kib, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(value), "kB")), 10, 64)
		return kib << 10, err
	}
	return 0, fmt.Errorf("/proc/<pid>/status has no %s", name)
}

// resetPeak sets VmHWM back to VmRSS (proc(5), clear_refs).
func (p *process) resetPeak() error {
	return os.WriteFile(p.path("clear_refs"), []byte("5"), 0)
}

func (p *process) proc(name string) (string, error) {
	text, err := os.ReadFile(p.path(name))
	return string(text), err
}

func (p *process) path(name string) string {
	return filepath.Join("/proc", strconv.Itoa(p.cmd.Process.Pid), name)
}
