package inbox

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/caddy-klavi/caddy-klavi/inbox/postgrestest"
)

// The test binary is its own second process: with this in the environment, it
// stores reports until it is killed.
const helperEnv = "INBOX_TEST_HELPER"

func TestMain(m *testing.M) {
	if os.Getenv(helperEnv) != "" {
		if err := helper(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(postgrestest.Main(m))
}

// bodyOf is the body that belongs to an id.
func bodyOf(id string) []byte {
	random := rand.NewChaCha8(sha256.Sum256([]byte(id)))
	sizes := []int{10, 3000, 20_000, chunkSize, chunkSize + 1, 200_000}
	size := sizes[random.Uint64()%uint64(len(sizes))]
	if random.Uint64()%16 == 0 {
		size = ownFile
	}
	body := make([]byte, size)
	_, _ = random.Read(body)
	return body
}

// helper stores reports, and writes the id of each that is acknowledged to its
// output. HELPER_POINT is where it kills itself, when it comes there for the
// HELPER_COUNTth time.
func helper() error {
	if os.Getenv("HELPER_MOVE") != "" {
		return moveHelper()
	}
	o := hurried(testOptions(nil, os.Getenv(helperEnv)))
	if os.Getenv("HELPER_SPOOL") != "" {
		o = spoolHelper(o.Dir)
	}
	o.Node, o.Logger = "helper", slog.New(slog.NewTextHandler(os.Stderr, nil))
	s, err := Open(context.Background(), o)
	if err != nil {
		return err
	}
	fmt.Println("open")
	if point := os.Getenv("HELPER_POINT"); point != "" {
		count, err := strconv.ParseInt(os.Getenv("HELPER_COUNT"), 10, 64)
		if err != nil {
			return err
		}
		var n atomic.Int64
		s.files.fault = func(at string) error {
			if at == point && n.Add(1) == count {
				_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
				select {}
			}
			return nil
		}
		if sp := s.base.spool(); sp != nil {
			sp.store.files.fault = s.files.fault
		}
	}
	if os.Getenv("HELPER_DELIVER") != "" {
		s.Attach(helperRoutes())
	}
	prefix := os.Getenv("HELPER_PREFIX")
	handles := os.Getenv("HELPER_HANDLES") != ""
	var done atomic.Bool
	var count atomic.Int64
	var wg sync.WaitGroup
	for sender := range 4 {
		wg.Go(func() {
			for i := 0; !done.Load(); i++ {
				id := fmt.Sprintf("%s-%d-%d", prefix, sender, i)
				_, err := put(s, testHead(id), bodyOf(id))
				if err != nil {
					fmt.Fprintln(os.Stderr, err)
					time.Sleep(time.Millisecond)
				} else {
					fmt.Println("stored", id)
				}
				if handles && limitHandles(count.Add(1)) {
					done.Store(true)
				}
			}
		})
	}
	wg.Wait()
	return s.Close()
}

// helperRoutes refuse one report in three at first, and say of each that they take
// how it was.
func helperRoutes() Routes {
	return &fakeRoutes{
		list: []Route{{Name: "a", Concurrency: 4, Timeout: time.Minute}}, table: func(Kind, string) string { return "a" },
		deliver: func(_ context.Context, _ string, d *Delivery) Outcome {
			if d.Attempt == 1 && d.Digest[0]%3 == 0 {
				return Outcome{Status: 500}
			}
			hash := sha256.New()
			body, err := d.Body()
			if err == nil {
				_, err = io.Copy(hash, body)
				_ = body.Close()
			}
			if err != nil {
				return Outcome{Status: 502}
			}
			fmt.Printf("took %s %x\n", d.Head.ReportID, hash.Sum(nil))
			return Outcome{Accepted: true, Status: 200}
		},
	}
}

// limitHandles takes the file handles away for a while, and says when it is
// enough.
func limitHandles(n int64) bool {
	switch n {
	case 30:
		_ = syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: 5, Max: 1 << 10})
	case 90:
		_ = syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: 1 << 10, Max: 1 << 10})
		fmt.Fprintln(os.Stderr, "handles are back")
	case 150:
		return true
	}
	return false
}

// process is a helper that runs.
type process struct {
	cmd    *exec.Cmd
	stderr logBuffer
	stored chan string
	opened chan struct{}
	took   map[string][]string // the digests with which a report was taken, when it has ended
}

// startHelper has another process store reports in dir.
func startHelper(t testing.TB, dir string, env ...string) *process {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return startProcess(t, exe, dir, nil, env...)
}

func startProcess(t testing.TB, exe, dir string, attr *syscall.SysProcAttr, env ...string) *process {
	t.Helper()
	p := &process{
		stored: make(chan string, 200_000), opened: make(chan struct{}),
		took: make(map[string][]string),
	}
	p.cmd = exec.Command(exe)
	p.cmd.Env = append(append(os.Environ(), helperEnv+"="+dir), env...)
	p.cmd.Stderr = &p.stderr
	p.cmd.SysProcAttr = attr
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(p.stored)
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			switch line := strings.Fields(lines.Text()); line[0] {
			case "stored":
				p.stored <- line[1]
			case "took":
				if len(line) == 3 && len(line[2]) == 64 { // a kill may have cut it off
					p.took[line[1]] = append(p.took[line[1]], line[2])
				}
			default:
				close(p.opened)
			}
		}
	}()
	return p
}

// seen returns the ids of those that it has stored and that nobody has asked for
// yet.
func (p *process) seen() (ids []string) {
	for {
		select {
		case id, more := <-p.stored:
			if !more {
				return ids
			}
			ids = append(ids, id)
		default:
			return ids
		}
	}
}

// kill ends the process, after it has stored n reports or ended by itself, and
// returns the ids of all that it has stored.
func (p *process) kill(n int) []string {
	var ids []string
	for len(ids) < n {
		id, more := <-p.stored
		if !more {
			break
		}
		ids = append(ids, id)
	}
	_ = p.cmd.Process.Kill()
	for id := range p.stored {
		ids = append(ids, id)
	}
	_ = p.cmd.Wait()
	return ids
}

// checkKept makes sure that all of these reports are in the store, as they were,
// and that nothing else is wrong with it.
func checkKept(t testing.TB, s *Store, ids []string) {
	t.Helper()
	got := make(map[string]bool)
	for _, id := range reportIDs(t, s) {
		d, err := s.load(context.Background(), id)
		if err != nil {
			t.Errorf("report %d: %v", id, err)
			continue
		}
		body, err := d.Body()
		if err != nil {
			t.Errorf("%s: %v", d.Head.ReportID, err)
			continue
		}
		hash := sha256.New()
		_, err = io.Copy(hash, body)
		_ = body.Close()
		want := sha256.Sum256(bodyOf(d.Head.ReportID))
		if err != nil || !bytes.Equal(hash.Sum(nil), want[:]) || d.Digest != want {
			t.Errorf("%s: got %s and %v, want the body that was stored", d.Head.ReportID, hex.EncodeToString(hash.Sum(nil)), err)
		}
		got[d.Head.ReportID] = true
	}
	for _, id := range ids {
		if !got[id] {
			t.Errorf("%s was acknowledged and is missing", id)
		}
	}
	st, err := s.Stats(context.Background())
	if err != nil || st.Waiting != int64(len(got)) || st.Damaged != 0 {
		t.Errorf("got %+v and %v, want %d waiting and none damaged", st, err, len(got))
	}
	var large, inRows int
	_ = s.write(context.Background(), func(t *tx) error {
		return t.get([]any{&inRows}, `SELECT count(*) FROM bodies WHERE file IS NOT NULL`)
	})
	if s.base.shared() {
		err = s.read(context.Background(), func(db reads) error {
			return db.QueryRowContext(context.Background(), `SELECT count(DISTINCT uid) FROM chunks`).Scan(&large)
		})
	} else {
		large = countFiles(t, s)
	}
	if err != nil || large != inRows {
		t.Errorf("got %d large bodies for %d rows (%v)", large, inRows, err)
	}
}

// ownFile is the size of a body that has a file of its own.
const ownFile = maxPacked + 1

// countFiles counts the bodies that lie in files, and wants nothing else in them.
func countFiles(t testing.TB, s *Store) int {
	t.Helper()
	names, err := s.files.list(bodiesName)
	if err != nil {
		t.Fatal(err)
	}
	if left, err := s.files.list(tmpName); err != nil || len(left) > 0 {
		t.Errorf("got %d drafts left over and %v, want none", len(left), err)
	}
	p := s.base.packs()
	p.mu.Lock()
	defer p.mu.Unlock()
	n := len(names)
	for name, k := range p.all {
		if !names[name] {
			t.Errorf("the pack %s is missing", name)
			continue
		}
		n += len(k.live) - 1
		var room int64
		for _, size := range k.live {
			room += aligned(size)
		}
		if info, err := os.Stat(s.files.body(name)); err != nil || takenUp(info) >= room+chunkSize {
			t.Errorf("got %d bytes taken up by a pack and %v, want those of its bodies (%d)", takenUp(info), err, room)
		}
	}
	return n
}

// takenUp is what a file takes up on the disk.
func takenUp(info os.FileInfo) int64 {
	if stat, ok := info.Sys().(*syscall.Stat_t); ok {
		return stat.Blocks * 512
	}
	return info.Size()
}

// soakRounds is how often a test does what it does: n times, or as often as
// INBOX_SOAK says (make soak).
func soakRounds(n int) int {
	if rounds, err := strconv.Atoi(os.Getenv("INBOX_SOAK")); err == nil {
		return rounds
	}
	if testing.Short() {
		return 1
	}
	return n
}

// eventually waits until something is true.
func eventually(t testing.TB, what string, fn func() bool) {
	t.Helper()
	for range 6000 { // half a minute: machines can be busy
		if fn() {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Fatalf("it did not come about that %s", what)
}
