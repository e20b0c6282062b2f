package main

import (
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
)

// describe writes on what machine, and with what, is measured.
func describe(w io.Writer) {
	cpus, _ := os.ReadFile("/proc/cpuinfo")
	load, _ := os.ReadFile("/proc/loadavg")
	fmt.Fprintf(w, "%s, %d CPUs, %s/%s, %s; load of the machine before: %s\n",
		cpuModel(string(cpus)), runtime.NumCPU(), runtime.GOOS, runtime.GOARCH, runtime.Version(), firstWord(string(load)))
}

// cpuModel reads /proc/cpuinfo.
func cpuModel(cpuinfo string) string {
	for line := range strings.Lines(cpuinfo) {
		name, value, _ := strings.Cut(line, ":")
		if strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return "unknown CPU"
}

func firstWord(text string) string {
	word, _, _ := strings.Cut(text, " ")
	return word
}
