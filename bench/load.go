package main

import (
	"errors"
	"fmt"
	"sync"
	"time"
)

// face is one way to the backend that is measured.
type face struct {
	name    string
	address string
	request []byte
	body    []byte   // what it must answer
	gateway *process // whose CPU time is counted

	// What is aimed at, beside the first face of its group: requests per
	// second, and the 99th percentile. 0 is no aim.
	atLeast, p99AtMost float64

	runs []run
}

// run is what one run brought.
type run struct {
	perSecond float64
	cpu       float64 // microseconds of the gateway per request
	p99       float64 // microseconds
}

// load sends requests over a number of connections, each as soon as the answer
// to the one before is there.
type load struct {
	connections int
	// latencies of each connection, kept from run to run.
	latencies [][]time.Duration
}

func newLoad(connections int) *load {
	return &load{connections, make([][]time.Duration, connections)}
}

// run loads a face for as long as given.
func (l *load) run(f *face, duration time.Duration) (run, error) {
	clients := make([]*client, 0, l.connections)
	defer func() {
		for _, c := range clients {
			c.close()
		}
	}()
	for range l.connections {
		c, err := dial(f.address)
		if err != nil {
			return run{}, err
		}
		clients = append(clients, c)
		if err := f.ask(c); err != nil {
			return run{}, err
		}
	}

	before, err := f.gateway.cpu()
	if err != nil {
		return run{}, err
	}
	began := time.Now()
	failures := make([]error, len(clients))
	var wg sync.WaitGroup
	for i, c := range clients {
		wg.Go(func() {
			l.latencies[i], failures[i] = f.repeat(c, began.Add(duration), l.latencies[i][:0])
		})
	}
	wg.Wait()
	elapsed := time.Since(began)
	after, err := f.gateway.cpu()
	if err := errors.Join(append(failures, err)...); err != nil {
		return run{}, err
	}

	var all []time.Duration
	for _, latencies := range l.latencies {
		all = append(all, latencies...)
	}
	return run{
		perSecond: float64(len(all)) / elapsed.Seconds(),
		cpu:       microseconds(after-before) / float64(len(all)),
		p99:       microseconds(percentile(all, 99)),
	}, nil
}

// repeat asks until the deadline, once at least, and appends how long each
// answer took.
func (f *face) repeat(c *client, deadline time.Time, latencies []time.Duration) ([]time.Duration, error) {
	for began := time.Now(); ; {
		if err := f.ask(c); err != nil {
			return latencies, err
		}
		now := time.Now()
		latencies = append(latencies, now.Sub(began))
		if now.After(deadline) {
			return latencies, nil
		}
		began = now
	}
}

func (f *face) ask(c *client) error {
	n, err := c.do(f.request, nil)
	if err != nil {
		return fmt.Errorf("%s: %w", f.name, err)
	}
	if n != len(f.body) {
		return fmt.Errorf("%s: got an answer of %d bytes, want %d", f.name, n, len(f.body))
	}
	return nil
}
