package main

import (
	"os"
	"os/exec"
	"testing"
	"time"
)

func TestCPUTime(t *testing.T) {
	const stat = "4711 (a (strange) name) S 1 4711 4711 0 -1 4194560 100 0 0 0 150 25 0 0 20 0 8 0 12345 1000000 2000 18446744073709551615\n"
	got, err := cpuTime(stat)
	if err != nil || got != 1750*time.Millisecond {
		t.Errorf("got %v and error %v, want 1.75s", got, err)
	}
	for _, bad := range []string{"", "4711 (caddy) S 1", "1 (caddy) S 1 1 1 0 -1 1 1 0 0 0 much more 0 0"} {
		if got, err := cpuTime(bad); err == nil {
			t.Errorf("got %v of %q, want an error", got, bad)
		}
	}
}

func TestMemoryField(t *testing.T) {
	const status = "Name:\tcaddy\nVmHWM:\t   61234 kB\nVmRSS:\t    1024 kB\n"
	got, err := memoryField(status, "VmRSS")
	if err != nil || got != 1<<20 {
		t.Errorf("got %d and error %v, want %d", got, err, 1<<20)
	}
	if got, err := memoryField(status, "Vm"); err == nil {
		t.Errorf("got %d of a field that is not there, want an error", got)
	}
}

func TestCPUModel(t *testing.T) {
	if got := cpuModel("processor\t: 0\nmodel name\t: A CPU: fast\n\nprocessor\t: 1\nmodel name\t: Another\n"); got != "A CPU: fast" {
		t.Errorf("got %q, want the first name", got)
	}
	if got := cpuModel(""); got != "unknown CPU" {
		t.Errorf("got %q", got)
	}
}

// ourselves is the process of the tests.
func ourselves(t *testing.T) *process {
	t.Helper()
	self, err := os.FindProcess(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	p := &process{&exec.Cmd{Process: self}}
	if _, err := p.cpu(); err != nil {
		t.Skipf("the benchmark needs Linux: %v", err)
	}
	return p
}
