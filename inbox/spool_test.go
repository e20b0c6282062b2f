package inbox

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddy-klavi/caddy-klavi/inbox/postgrestest"
)

// spoolOptions are those of a store in the database with this URL, with its spool in
// dir.
func spoolOptions(dir, url string, log io.Writer) Options {
	return Options{
		Dir: dir, Spool: true, EncryptionKey: testKey, Node: "test", Logger: slog.New(slog.NewTextHandler(log, nil)),
		Postgres: &Postgres{URL: url, Schema: "spooled", PoolSize: 4, hurry: 10},
	}
}

// spoolTest has a database behind a proxy.
func spoolTest(t *testing.T) (proxy *postgrestest.Proxy, direct string) {
	onlySQLite(t)
	t.Parallel()
	direct = postgrestest.Shared(t).Database(t)
	return postgrestest.NewProxy(t, direct), direct
}

// taker takes reports, and remembers which.
type taker struct {
	mu    sync.Mutex
	times map[string]int // by uid
	wrong []string
}

func (k *taker) routes() *fakeRoutes {
	return &fakeRoutes{
		list: []Route{{Name: "a", Concurrency: 4, Timeout: time.Minute}}, table: func(Kind, string) string { return "a" },
		deliver: func(_ context.Context, _ string, d *Delivery) Outcome {
			body, err := d.Body()
			if err != nil {
				return Outcome{Status: 502}
			}
			defer body.Close()
			data, err := io.ReadAll(body)
			if err != nil { // it is tried again
				return Outcome{Status: 502}
			}
			k.mu.Lock()
			defer k.mu.Unlock()
			k.times[d.UID]++
			if want := bodyOf(d.Head.ReportID); !bytes.Equal(data, want) || d.Digest != sha256.Sum256(want) {
				k.wrong = append(k.wrong, d.UID)
			}
			return Outcome{Accepted: true, Status: 200}
		},
	}
}

// check waits until all of these are delivered, and wants each once.
func (k *taker) check(t testing.TB, uids []string) {
	t.Helper()
	var missing []string
	eventuallyLong(t, "all are delivered", func() bool {
		k.mu.Lock()
		defer k.mu.Unlock()
		missing = nil
		for _, uid := range uids {
			if k.times[uid] == 0 {
				missing = append(missing, uid)
			}
		}
		return len(missing) == 0
	}, func() { t.Errorf("got %d of %d not delivered: %.5v", len(missing), len(uids), missing) })
	k.mu.Lock()
	defer k.mu.Unlock()
	for uid, n := range k.times {
		if n != 1 {
			t.Errorf("got %s delivered %d times, want once", uid, n)
		}
	}
	if len(k.wrong) > 0 {
		t.Errorf("got other bodies for %v", k.wrong)
	}
}

// eventuallyLong is eventually for what a database keeps from coming about for a
// while. Otherwise tells why it has not.
func eventuallyLong(t testing.TB, what string, fn func() bool, otherwise func()) {
	t.Helper()
	for range 6000 {
		if fn() {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	otherwise()
	t.Fatalf("it did not come about that %s", what)
}

// senders store reports without an end.
type senders struct {
	done   atomic.Bool
	wg     sync.WaitGroup
	mu     sync.Mutex
	uids   []string
	failed []error
}

func (k *senders) start(s *Store, n int, prefix string) {
	for i := range n {
		k.wg.Go(func() {
			for j := 0; !k.done.Load(); j++ {
				id := fmt.Sprintf("%s-%d-%d", prefix, i, j)
				head := testHead(id)
				head.Received = time.Now()
				receipt, err := put(s, head, bodyOf(id))
				k.mu.Lock()
				if err != nil {
					k.failed = append(k.failed, err)
				} else {
					k.uids = append(k.uids, receipt.UID)
				}
				k.mu.Unlock()
				time.Sleep(time.Millisecond)
			}
		})
	}
}

func (k *senders) stored() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return len(k.uids)
}

// wait waits until so many more are stored.
func (k *senders) wait(t testing.TB, n int) {
	t.Helper()
	n += k.stored()
	eventuallyLong(t, "reports are stored", func() bool { return k.stored() >= n }, func() {
		t.Errorf("got %d stored, want %d, and %v", k.stored(), n, k.failed)
	})
}

func (k *senders) stop(t testing.TB) []string {
	t.Helper()
	k.done.Store(true)
	k.wg.Wait()
	if len(k.failed) > 0 {
		t.Errorf("got %d reports refused, want none: %v", len(k.failed), k.failed[0])
	}
	return k.uids
}

// handedOver waits until nothing is in the spool any more.
func handedOver(t testing.TB, s *Store) {
	t.Helper()
	var st Stats
	var err error
	eventuallyLong(t, "all is handed over", func() bool {
		st, err = s.Stats(context.Background())
		return err == nil && st.Spooled == 0 && !s.base.spool().left.Load()
	}, func() { t.Errorf("got %+v and %v", st, err) })
}

// spooling waits until reports go to the spool.
func spooling(t testing.TB, s *Store) {
	t.Helper()
	eventually(t, "reports go to the spool", func() bool { return s.base.spool().away.Load() })
}

// What is acknowledged while the database comes and goes is delivered, once and as
// it was.
func TestSpoolWhileTheDatabaseIsAway(t *testing.T) {
	t.Parallel()
	for _, how := range []string{"cut", "stall", "stall answers"} {
		t.Run(strings.ReplaceAll(how, " ", "_"), func(t *testing.T) {
			proxy, direct := spoolTest(t)
			log := new(logBuffer)
			s := openTest(t, spoolOptions(t.TempDir(), proxy.URL, log))
			k := &taker{times: make(map[string]int)}
			s.Attach(k.routes())
			var send senders
			send.start(s, 4, "r")
			for _, n := range []int{0, 1, 100, 20} {
				send.wait(t, 20)
				switch how {
				case "cut":
					proxy.Cut()
				case "stall":
					proxy.Stall()
				default:
					proxy.StallAnswers()
				}
				if n > 0 {
					spooling(t, s)
					if err := s.Ready(); err != nil {
						t.Errorf("got %v, want it ready while the spool takes reports", err)
					}
				}
				send.wait(t, n)
				proxy.Resume()
				if n > 1 {
					handedOver(t, s)
				}
			}
			uids := send.stop(t)
			k.check(t, uids)
			handedOver(t, s)
			if got := postgrestest.Query[int64](t, direct, `SELECT count(*) FROM spooled.reports`); got[0] != int64(len(uids)) {
				t.Errorf("got %d records, want one for each of %d reports", got[0], len(uids))
			}
			began, ended := strings.Count(log.String(), "reports are kept in the spool, and so"), strings.Count(log.String(), "all that was in the spool")
			if began < 2 || began > 4 || ended != began {
				t.Errorf("got it said %d times that the spool is used, and %d times that no longer, want so for each of 3 times:\n%s", began, ended, log)
			}
			_ = s.Close()
			checkSpoolEmpty(t, s.dir)
		})
	}
}

func checkSpoolEmpty(t testing.TB, dir string) {
	t.Helper()
	in := openTest(t, Options{Dir: dir, EncryptionKey: testKey, Logger: slog.New(slog.DiscardHandler)})
	defer in.Close()
	checkNothing(t, in)
}

// A process that starts, and starts again, while the database is away takes reports
// all the same, and hands them over when it is back, whoever it is then.
func TestSpoolAtTheStart(t *testing.T) {
	t.Parallel()
	for _, before := range []bool{false, true} {
		t.Run(fmt.Sprint("database_known_", before), func(t *testing.T) {
			proxy, direct := spoolTest(t)
			dir := t.TempDir()
			var uids []string
			if before {
				s := openTest(t, spoolOptions(dir, proxy.URL, testLog{t}))
				uids = append(uids, putOf(t, s, "before"))
				if err := s.Pause(t.Context(), "paused", "ana"); err != nil {
					t.Fatal(err)
				}
				_ = s.Close()
			}
			proxy.Cut()
			for i := range 2 {
				s := openTest(t, spoolOptions(dir, proxy.URL, testLog{t}))
				if err := s.Ready(); err != nil {
					t.Errorf("got %v, want it ready", err)
				}
				for j := range 10 {
					uids = append(uids, putOf(t, s, fmt.Sprint(i, "-", j)))
				}
				if n, err := s.base.spool().count(t.Context()); err != nil || n != int64(10*(i+1)) {
					t.Errorf("got %d spooled and %v, want %d", n, err, 10*(i+1))
				}
				_ = s.Close()
			}
			log := new(logBuffer)
			s := openTest(t, spoolOptions(dir, proxy.URL, log))
			k := &taker{times: make(map[string]int)}
			s.Attach(k.routes())
			uids = append(uids, putOf(t, s, "last"))
			proxy.Resume()
			k.check(t, uids)
			handedOver(t, s)
			if routes, err := s.readPauses(t.Context()); err != nil || before != (routes["paused"].By == "ana") {
				t.Errorf("got %v and %v, want what was paused before", routes, err)
			}
			if got := postgrestest.Query[string](t, direct, `SELECT state FROM spooled.reports`); len(got) != len(uids) {
				t.Errorf("got %d records, want %d", len(got), len(uids))
			}
			if !strings.Contains(log.String(), "all that was in the spool is in the database of the inbox now") {
				t.Errorf("got %s, want it said that all is handed over", log)
			}
		})
	}
}

func putOf(t testing.TB, s *Store, id string) string {
	t.Helper()
	head := testHead(id)
	head.Received = time.Now()
	return mustPut(t, s, head, bodyOf(id)).UID
}

// A database that turns out to be another than it should be gets nothing, and
// nothing is lost.
func TestSpoolBeforeAWrongDatabase(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ name, spoil, mend, want string }{
		{
			"a wrong key", `UPDATE spooled.meta SET value = value || '\x00'::bytea WHERE key = 'canary'`,
			`UPDATE spooled.meta SET value = substr(value, 1, length(value) - 1) WHERE key = 'canary'`, "its key cannot be read",
		},
		{"a newer schema", `UPDATE spooled.meta SET value = '99' WHERE key = 'version'`, `UPDATE spooled.meta SET value = '1' WHERE key = 'version'`, "was written by a newer version"},
	} {
		t.Run(strings.ReplaceAll(test.name, " ", "_"), func(t *testing.T) {
			proxy, direct := spoolTest(t)
			_ = openTest(t, spoolOptions(t.TempDir(), proxy.URL, testLog{t})).Close()
			postgrestest.Exec(t, direct, test.spoil)
			proxy.Cut()
			log := new(logBuffer)
			s := openTest(t, spoolOptions(t.TempDir(), proxy.URL, log))
			k := &taker{times: make(map[string]int)}
			s.Attach(k.routes())
			uids := []string{putOf(t, s, "a")}
			proxy.Resume()
			eventually(t, "it is said", func() bool { return strings.Contains(log.String(), test.want) })
			uids = append(uids, putOf(t, s, "b"))
			if err := s.Ready(); err != nil {
				t.Errorf("got %v, want it ready", err)
			}
			for _, table := range []string{"reports", "nodes"} {
				if got := postgrestest.Query[int64](t, direct, `SELECT count(*) FROM spooled.`+table); got[0] != 0 {
					t.Errorf("got %d rows of %s, want it left alone", got[0], table)
				}
			}
			if n := strings.Count(log.String(), test.want); n != 1 {
				t.Errorf("got it said %d times, want once", n)
			}
			postgrestest.Exec(t, direct, test.mend)
			k.check(t, uids)
			handedOver(t, s)
		})
	}
}

func TestSpoolIsBounded(t *testing.T) {
	proxy, _ := spoolTest(t)
	o := spoolOptions(t.TempDir(), proxy.URL, testLog{t})
	o.MaxSize = 1000
	s := openTest(t, o)
	proxy.Cut()
	mustPut(t, s, testHead("a"), make([]byte, 600))
	if _, err := put(s, testHead("b"), make([]byte, 600)); !errors.Is(err, ErrFull) {
		t.Errorf("got %v, want %v", err, ErrFull)
	}
	if err := s.Ready(); !errors.Is(err, ErrFull) {
		t.Errorf("got %v, want it not ready: %v", err, ErrFull)
	}
	st := s.settings()
	st.MaxSize = 2000
	s.Configure(st)
	mustPut(t, s, testHead("b"), make([]byte, 600))
}

func TestSpoolQuarantines(t *testing.T) {
	proxy, _ := spoolTest(t)
	s := openTest(t, spoolOptions(t.TempDir(), proxy.URL, testLog{t}))
	proxy.Cut()
	for _, size := range []int{10, 200_000} {
		d, err := s.NewDraft()
		if err != nil {
			t.Fatal(err)
		}
		body := randomBody(size)
		_, _ = d.Write(body)
		if err := d.Quarantine(t.Context(), fmt.Sprint("signature-", size), time.Now(), nil, sha256.Sum256(body)); err != nil {
			t.Fatal(err)
		}
	}
	proxy.Resume()
	eventuallyLong(t, "it is in the database", func() bool {
		st, err := s.Stats(t.Context())
		return err == nil && st.Quarantined == 2
	}, func() {})
	var got []string
	_, err := s.Release(t.Context(), func(q *Quarantined) (*Head, error) {
		if digest := digestOf(t, q.Body); digest != fmt.Sprintf("%x", q.Digest) {
			t.Errorf("got the digest %s, want %x", digest, q.Digest)
		}
		got = append(got, q.Signature)
		return nil, nil
	})
	if want := []string{"signature-10", "signature-200000"}; err != nil || !slices.Equal(got, want) {
		t.Errorf("got %v and %v, want %v", got, err, want)
	}
}

// A process that is killed while reports are in its spool, go there or are handed
// over has lost none of them.
func TestKilledWhileSpooling(t *testing.T) {
	t.Parallel()
	for _, point := range []string{"", atWrite, atRenamed, atCommit, atCommitted, atMoved} {
		t.Run(strings.ReplaceAll(point, " ", "_"), func(t *testing.T) {
			proxy, direct := spoolTest(t)
			dir := t.TempDir()
			var ids []string
			for round := range soakRounds(3) {
				env := []string{"HELPER_SPOOL=" + proxy.URL, fmt.Sprint("HELPER_PREFIX=", round)}
				if point != "" {
					env = append(env, "HELPER_POINT="+point, fmt.Sprint("HELPER_COUNT=", 10+25*(round%5)))
				}
				if round%3 == 1 {
					proxy.Cut()
				}
				p := startHelper(t, dir, env...)
				<-p.opened
				if round%3 == 0 {
					proxy.Cut()
				}
				for len(ids) < 30*(round+1) {
					id, more := <-p.stored
					if !more {
						break
					}
					ids = append(ids, id)
				}
				proxy.Resume()
				ids = append(ids, p.kill(40)...)
			}
			s := openTest(t, spoolOptions(dir, proxy.URL, testLog{t}))
			handedOver(t, s)
			checkKept(t, s, ids)
			checkOnce(t, s, ids, nil)
			if got := postgrestest.Query[int64](t, direct, `SELECT count(*) - count(DISTINCT report_id) FROM spooled.reports`); got[0] != 0 {
				t.Errorf("got %d more records than reports", got[0])
			}
			_ = s.Close()
			checkSpoolEmpty(t, dir)
		})
	}
}

// spoolHelper is that of a helper whose database is behind HELPER_SPOOL.
func spoolHelper(dir string) Options {
	return spoolOptions(dir, os.Getenv("HELPER_SPOOL"), os.Stderr)
}
