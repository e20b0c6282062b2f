package inbox

import (
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
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
		name := fmt.Sprintf("%dKiB", c.size>>10)
		body := randomBody(c.size)
		digest := sha256.Sum256(body)

		b.Run("file/"+name, func(b *testing.B) {
			dir := b.TempDir()
			var n atomic.Int64
			run(b, c.senders, c.size, func() error {
				return writeAndSync(filepath.Join(dir, fmt.Sprint(n.Add(1))), body)
			})
		})
		b.Run("inbox/"+name, func(b *testing.B) {
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
	if len(took) == 0 {
		return
	}
	slices.Sort(took)
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "bodies/s")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds())/1000, "p99-ms")
}

// cpuTime is what the process has used of its processors.
func cpuTime() time.Duration {
	var usage syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &usage)
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}
