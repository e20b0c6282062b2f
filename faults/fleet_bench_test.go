package faults

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/caddy-klavi/caddy-klavi/inbox/postgrestest"
	"github.com/caddy-klavi/caddy-klavi/klavi"
)

// BenchmarkFleet measures how many reports of 4 KB one gateway, and two, acknowledge
// and deliver with one database, all on this machine. As this has no core for each of
// them, they are measured again with only a part of the time for each gateway, so that
// none takes any from the other, nor much from the database.
func BenchmarkFleet(b *testing.B) {
	server := postgrestest.Start(b)
	for _, c := range []struct{ percent, nodes int }{{100, 1}, {100, 2}, {20, 1}, {20, 2}} {
		nodes := c.nodes
		b.Run(fmt.Sprintf("time=%d%%/gateways=%d", c.percent, nodes), func(b *testing.B) {
			var delivered atomic.Int64
			u := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				_, _ = io.Copy(io.Discard, r.Body)
				delivered.Add(1)
			}))
			defer u.Close()
			f := &fleet{t: b, server: server, database: server.Database(b)}
			for range nodes {
				f.add(f.database, "all "+u.URL)
			}
			eventually(b, "all nodes to be there", func() bool { return f.members() == int64(nodes) })
			eventually(b, "all nodes to share the route", func() bool {
				return postgrestest.Query[int64](b, f.database, "SELECT count(DISTINCT node) FROM klavi.slots WHERE n > 0")[0] == int64(nodes)
			})
			client := &http.Client{Timeout: time.Minute, Transport: &http.Transport{MaxIdleConnsPerHost: 64}}
			post := func(n int64) error {
				body := reportOf("pf_loans", fmt.Sprint("report-", n), 4<<10)
				req, err := http.NewRequestWithContext(b.Context(), http.MethodPost, f.next(), bytes.NewReader(body))
				if err != nil {
					return err
				}
				req.Header.Set(klavi.SignatureHeader, klavi.Sign([]byte(secret), body))
				res, err := client.Do(req)
				if err != nil {
					return err
				}
				defer res.Body.Close()
				if res.StatusCode != http.StatusOK {
					return fmt.Errorf("got status %d, want 200", res.StatusCode)
				}
				_, err = io.Copy(io.Discard, res.Body)
				return err
			}
			for _, p := range f.nodes {
				defer slow(p, c.percent)()
			}
			var senders sync.WaitGroup
			var sent atomic.Int64
			b.ResetTimer()
			for range 32 {
				senders.Go(func() {
					for n := sent.Add(1); n <= int64(b.N); n = sent.Add(1) {
						if err := post(n); err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			senders.Wait()
			acknowledged := b.Elapsed()
			for delivered.Load() < int64(b.N) && !b.Failed() {
				time.Sleep(time.Millisecond)
			}
			b.StopTimer()
			b.ReportMetric(float64(b.N)/acknowledged.Seconds(), "acknowledged/s")
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "delivered/s")
			client.CloseIdleConnections()
		})
	}
}

// slow has a process run for so many percent of the time, until it is called off.
func slow(p *process, percent int) (undo func()) {
	if percent == 100 {
		return func() {}
	}
	const period = 10 * time.Millisecond
	runs := period * time.Duration(percent) / 100
	var ended sync.WaitGroup
	end := make(chan struct{})
	ended.Go(func() {
		for {
			select {
			case <-end:
				return
			case <-time.After(runs):
			}
			_ = p.cmd.Process.Signal(syscall.SIGSTOP)
			time.Sleep(period - runs)
			_ = p.cmd.Process.Signal(syscall.SIGCONT)
		}
	})
	return func() {
		close(end)
		ended.Wait()
	}
}
