// Command bench loads the whole gateway and writes what it carried, beside what
// Caddy's plain reverse_proxy and nginx carry on the same machine: tables in
// Markdown, of which docs/performance.md has a copy. It needs Linux and Go.
//
//	go run ./bench
//
// Single runs say little: they differ by more than what is to be seen. So every
// face has ten runs, in turns with those of the others, and what is compared are
// the runs of one round.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"syscall"
	"time"
)

// options is what the flags say.
type options struct {
	rounds      int
	duration    time.Duration
	connections int
	profile     string
}

func main() {
	if len(os.Args) == 3 && os.Args[1] == "backend" {
		exit(serveBackend(os.Args[2]))
	}
	var o options
	flag.IntVar(&o.rounds, "rounds", 10, "runs of each face")
	flag.DurationVar(&o.duration, "duration", 2*time.Second, "how long a run is")
	flag.IntVar(&o.connections, "connections", 32, "how many requests are under way at a time")
	flag.StringVar(&o.profile, "profile", "", "write a CPU profile of each face of Caddy's into this folder, in a round more")
	flag.Parse()

	// Whatever ends this program ends those that it has started, too: also a
	// closed terminal, and a reader of the tables that has read enough.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGPIPE)
	defer stop()
	err := bench(ctx, o, os.Stdout)
	if err != nil && ctx.Err() != nil {
		err = ctx.Err() // and not what broke because of it
	}
	exit(err)
}

func exit(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// bench starts what is needed, measures, and ends what it has started.
func bench(ctx context.Context, o options, w io.Writer) error {
	h, err := newHouse()
	if err != nil {
		return err
	}
	defer os.RemoveAll(h.dir)
	describe(w)
	progress("building Caddy with the gateway")
	if err := h.build(ctx); err != nil {
		return err
	}

	ctx, cancel := context.WithCancel(ctx)
	backend, err := h.startBackend(ctx)
	defer backend.end(cancel)
	if err != nil {
		return err
	}
	if err := h.compare(ctx, o, w); err != nil {
		return err
	}
	return h.weigh(ctx, w)
}

// compare loads all faces in turns.
func (h *house) compare(ctx context.Context, o options, w io.Writer) error {
	ctx, cancel := context.WithCancel(ctx)
	plain, err := h.startPlain(ctx)
	defer plain.end(cancel)
	if err != nil {
		return err
	}
	gateway, err := h.startGateway(ctx)
	defer gateway.end(cancel)
	if err != nil {
		return err
	}
	nginx, err := h.startNginx(ctx)
	defer nginx.end(cancel)
	if err != nil {
		return err
	}
	if nginx == nil {
		progress("nginx is left out: it is not installed")
	}
	groups, err := h.groups(plain, gateway, nginx)
	if err != nil {
		return err
	}
	var faces []*face
	for _, g := range groups {
		faces = append(faces, g.faces...)
	}
	for _, f := range faces {
		if err := f.check(); err != nil {
			return err
		}
	}

	l := newLoad(o.connections)
	for round := range o.rounds + 1 {
		for _, f := range faces {
			if err := ctx.Err(); err != nil {
				return err
			}
			r, err := l.run(f, o.duration)
			if err != nil {
				return err
			}
			if round > 0 { // the first one is for warming up
				f.runs = append(f.runs, r)
			}
		}
		progress("round %d of %d is done", round, o.rounds)
		// What comes after what is not always the same.
		slices.Reverse(faces)
	}
	for _, g := range groups {
		writeTable(w, g)
	}
	if o.profile == "" {
		return nil
	}
	return h.profile(l, groups, o)
}

// weigh measures the memory of a Caddy that has done nothing else before.
func (h *house) weigh(ctx context.Context, w io.Writer) error {
	ctx, cancel := context.WithCancel(ctx)
	gateway, err := h.startGateway(ctx)
	defer gateway.end(cancel)
	if err != nil {
		return err
	}
	return h.measureReports(ctx, w, gateway)
}

// progress tells what is going on, apart from the result.
func progress(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) }
