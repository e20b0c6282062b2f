package inbox

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// BenchmarkCommit stores bodies, beside bare files that are written and synced,
// one for each body.
func BenchmarkCommit(b *testing.B) {
	for _, c := range []struct{ size, senders int }{{4 << 10, 32}, {256 << 10, 16}, {8 << 20, 4}} {
		name := fmt.Sprintf("body=%dKiB", c.size>>10)
		body := randomBody(c.size)
		digest := sha256.Sum256(body)

		b.Run(name+"/in=file", func(b *testing.B) {
			dir := b.TempDir()
			var n atomic.Int64
			run(b, c.senders, c.size, func() error {
				return writeAndSync(filepath.Join(dir, fmt.Sprint(n.Add(1))), body)
			})
		})
		b.Run(name+"/in=inbox", func(b *testing.B) {
			s := openTest(b, testOptions(b, b.TempDir()))
			var n atomic.Int64
			run(b, c.senders, c.size, func() error {
				d, err := s.NewDraft()
				if err != nil {
					return err
				}
				if _, err := d.Write(body); err != nil {
					return err
				}
				id := fmt.Sprint(n.Add(1))
				head := testHead(id)
				head.LinkIDs, head.ConsentIDs = []string{"link-" + id}, []string{"consent-" + id}
				_, err = d.Commit(b.Context(), head, digest)
				return err
			})
		})
	}
}

// BenchmarkArrival measures how long after it was acknowledged a report arrives at
// a route that is idle. It may be there before.
func BenchmarkArrival(b *testing.B) {
	for _, size := range []int{4 << 10, 256 << 10} {
		b.Run(fmt.Sprintf("%dKiB", size>>10), func(b *testing.B) {
			s := openTest(b, testOptions(b, b.TempDir()))
			arrived := make(chan time.Time, 1)
			routes := benchRoutes(func(_ context.Context, _ string, d *Delivery) Outcome {
				arrived <- time.Now()
				return Outcome{Accepted: true, Status: 200}
			})
			defer s.Attach(routes)()
			body := randomBody(size)
			n := 0
			took := make([]time.Duration, 0, b.N)
			for b.Loop() {
				n++
				head := testHead(fmt.Sprint(n))
				head.Subjects = []string{"up"}
				if _, err := put(s, head, body); err != nil {
					b.Fatal(err)
				}
				acknowledged := time.Now()
				took = append(took, max(0, (<-arrived).Sub(acknowledged)))
				time.Sleep(2 * time.Millisecond) // idle again
			}
			reportTimes(b, took)
		})
	}
}

// BenchmarkRouteDown measures the rate of one route, with what is delivered on it,
// alone and while 100 000 reports wait for another.
func BenchmarkRouteDown(b *testing.B) {
	for _, bc := range []struct {
		name    string
		waiting int
		down    Outcome
	}{
		{"alone", 0, Outcome{}},
		{"down", 100_000, Outcome{Reason: "connection refused"}},
		{"answers_500", 100_000, Outcome{Status: 500}},
	} {
		b.Run(bc.name, func(b *testing.B) {
			s := openTest(b, testOptions(b, b.TempDir()))
			var delivered atomic.Int64
			fill(b, s, bc.waiting, 1000)
			defer s.Attach(benchRoutes(func(_ context.Context, route string, d *Delivery) Outcome {
				if route == "down" {
					return bc.down
				}
				delivered.Add(1)
				return Outcome{Accepted: true, Status: 200}
			}))()
			eventually(b, "the route is known to be down", func() bool {
				list, err := s.ListRoutes(b.Context())
				return bc.waiting == 0 || err == nil && !list[0].Failing.IsZero()
			})
			body := randomBody(4 << 10)
			var n atomic.Int64
			b.Run("4KiB", func(b *testing.B) {
				before := delivered.Load()
				run(b, 32, len(body), func() error {
					head := testHead(fmt.Sprint("up-", n.Add(1)))
					head.Subjects = []string{"up"}
					_, err := put(s, head, body)
					return err
				})
				b.StartTimer()
				for delivered.Load()-before < int64(b.N) {
					time.Sleep(time.Millisecond)
				}
				b.StopTimer()
				b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "delivered/s")
				var memory runtime.MemStats
				runtime.GC()
				runtime.ReadMemStats(&memory)
				b.ReportMetric(float64(memory.HeapAlloc)/(1<<20), "MiB-heap")
			})
		})
	}
}

// BenchmarkManyWaiting measures what has to be quick while 100 000 reports wait.
func BenchmarkManyWaiting(b *testing.B) {
	o := testOptions(b, b.TempDir())
	s := openTest(b, o)
	fill(b, s, 100_000, 1000)
	defer s.Attach(benchRoutes(func(context.Context, string, *Delivery) Outcome { return Outcome{} }))()
	b.Run("metrics", func(b *testing.B) {
		for b.Loop() {
			if _, err := s.Stats(b.Context()); err != nil {
				b.Fatal(err)
			}
			if _, err := s.ListRoutes(b.Context()); err != nil {
				b.Fatal(err)
			}
		}
	})
	_ = s.Close()
	b.Run("open", func(b *testing.B) {
		for b.Loop() {
			s := openTest(b, o)
			mustPut(b, s, testHead("a"), []byte("body"))
			b.StopTimer()
			_ = s.Close()
			b.StartTimer()
		}
	})
	for _, c := range []struct {
		name string
		fill func(*Store)
	}{
		{"of_8MiB", func(s *Store) { fillFiles(b, s, 1300, 8<<20) }},
		{"of_256KiB", func(s *Store) { fillPacks(b, s, 40_000, 256<<10) }},
	} {
		b.Run("open_10GiB_"+c.name, func(b *testing.B) {
			o := testOptions(b, b.TempDir())
			s := openTest(b, o)
			c.fill(s)
			_ = s.Close()
			for b.Loop() {
				s := openTest(b, o)
				mustPut(b, s, testHead("a"), []byte("body"))
				b.StopTimer()
				_ = s.Close()
				b.StartTimer()
			}
		})
	}
}

// benchRoutes are the routes up and down.
func benchRoutes(deliver deliverFunc) *fakeRoutes {
	r := routesTo(nil, "down", "up")
	r.deliver, r.forgetful = deliver, true
	return r
}

// fill stores n reports for the route down, many in one transaction.
func fill(b testing.TB, s *Store, n, size int) {
	b.Helper()
	body := randomBody(size)
	for i := 0; i < n; i += 500 {
		fillSome(b, s, i, 500, func(d *Draft) error {
			_, err := d.Write(body)
			return err
		})
	}
}

// fillFiles stores n reports with large bodies, which take up no room on the disk
// and could not be read.
func fillFiles(b testing.TB, s *Store, n int, size int64) {
	b.Helper()
	fillSome(b, s, 0, n, func(d *Draft) (err error) {
		if d.file, err = s.base.createDraft(d.uid); err != nil {
			return err
		}
		d.size = size
		return d.file.Truncate(sealedSize(size))
	})
}

// fillPacks is fillFiles for bodies that share files.
func fillPacks(b testing.TB, s *Store, n int, size int64) {
	b.Helper()
	fill(b, s, n, 1)
	room := aligned(sealedSize(size))
	each := packSize / room
	err := s.write(b.Context(), func(t *tx) error {
		return t.exec(`UPDATE bodies SET body = NULL, stored = ?1, file = printf('pack-%d+%d+%d', report / ?2, report % ?2 * ?3, ?1)`,
			sealedSize(size), each, room)
	})
	if err != nil {
		b.Fatal(err)
	}
	for i := range int64(n)/each + 1 {
		name := s.files.body(fmt.Sprint("pack-", i))
		if err := errors.Join(os.WriteFile(name, nil, 0o600), os.Truncate(name, each*room)); err != nil {
			b.Fatal(err)
		}
	}
}

func fillSome(b testing.TB, s *Store, from, n int, write func(*Draft) error) {
	b.Helper()
	err := s.write(b.Context(), func(t *tx) error {
		for i := range n {
			d, err := s.NewDraft()
			if err != nil {
				return err
			}
			defer d.Abort()
			if err := write(d); err != nil {
				return err
			}
			id := fmt.Sprint("down-", from+i)
			head := testHead(id)
			head.Subjects, head.LinkIDs, head.ConsentIDs = []string{"down"}, []string{"link-" + id}, []string{"consent-" + id}
			head.Received = s.now()
			r, err := s.newRecord(d.uid, d.sealer, s.keys.wrap(d.key, d.uid), head, [32]byte{}, d.size)
			if err != nil {
				return err
			}
			if _, err := d.keep(&r.file, &r.body); err != nil {
				return err
			}
			if _, err := s.store(t, r); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		b.Fatal(err)
	}
}

func writeAndSync(path string, body []byte) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.Write(body); err != nil {
		return err
	}
	return f.Sync()
}

// run has the senders do fn b.N times in all.
func run(b *testing.B, senders, size int, fn func() error) {
	b.SetBytes(int64(size))
	var left atomic.Int64
	left.Store(int64(b.N))
	var mu sync.Mutex
	took := make([]time.Duration, 0, b.N)
	var wg sync.WaitGroup
	b.ResetTimer()
	cpu := cpuTime()
	for range senders {
		wg.Go(func() {
			var mine []time.Duration
			for left.Add(-1) >= 0 {
				began := time.Now()
				if err := fn(); err != nil {
					b.Error(err)
					return
				}
				mine = append(mine, time.Since(began))
			}
			mu.Lock()
			took = append(took, mine...)
			mu.Unlock()
		})
	}
	wg.Wait()
	b.StopTimer()
	b.ReportMetric(float64((cpuTime()-cpu).Microseconds())/float64(b.N), "cpu-µs/body")
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "bodies/s")
	reportTimes(b, took)
}

func reportTimes(b *testing.B, took []time.Duration) {
	b.Helper()
	if len(took) == 0 {
		return
	}
	slices.Sort(took)
	for _, p := range []int{50, 99} {
		b.ReportMetric(float64(took[len(took)*p/100].Microseconds())/1000, fmt.Sprintf("p%d-ms", p))
	}
}

// cpuTime is what the process has used of its processors.
func cpuTime() time.Duration {
	var usage syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &usage)
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}
