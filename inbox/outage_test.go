//go:build !klavi_nopostgres

package inbox

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/caddy-klavi/caddy-klavi/inbox/postgrestest"
)

// brokenNode is a node whose server a test may break.
type brokenNode struct {
	*Store
	t      *testing.T
	server *postgrestest.Server
	proxy  *postgrestest.Proxy
	url    string // beside the proxy
	log    *logBuffer
	routes *fakeRoutes

	mu     sync.Mutex
	stored map[string]string // uids by report id
}

func openBroken(t *testing.T) *brokenNode {
	t.Helper()
	if testDatabase != "" {
		t.Skip("this runs without that")
	}
	server := postgrestest.Start(t)
	url := server.Database(t)
	proxy := postgrestest.NewProxy(t, url)
	o, log := quietNode(t, proxy.URL, "a")
	b := &brokenNode{Store: openTest(t, o), t: t, server: server, proxy: proxy, url: url, log: log, stored: make(map[string]string)}
	b.routes = routesTo(func(_ context.Context, _ string, d *Delivery) Outcome {
		hash := sha256.New()
		body, err := d.Body()
		if err == nil {
			_, err = io.Copy(hash, body)
			_ = body.Close()
		}
		if err != nil {
			return Outcome{Status: 502}
		}
		if want := sha256.Sum256(bodyOf(d.Head.ReportID)); [32]byte(hash.Sum(nil)) != want || d.Digest != want {
			t.Errorf("%s: got another body than was stored", d.Head.ReportID)
		}
		return Outcome{Accepted: true, Status: 200}
	}, "a")
	t.Cleanup(b.Attach(b.routes))
	return b
}

// put stores a report, and remembers it if it is acknowledged.
func (b *brokenNode) put(id string) error {
	r, err := put(b.Store, headOf(b.Store, "a", id), bodyOf(id))
	if err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.stored[id] = r.UID
	return nil
}

// putMany begins to store n reports, and waits for their ends with the returned func.
func (b *brokenNode) putMany(prefix string, n int) (wait func() []error) {
	errs := make([]error, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { errs[i] = b.put(fmt.Sprint(prefix, i)) })
	}
	return func() []error {
		wg.Wait()
		return errs
	}
}

// check makes sure that all that was acknowledged is on record once, and delivered.
func (b *brokenNode) check() {
	b.t.Helper()
	eventually(b.t, "all is delivered", func() bool {
		st, err := b.Stats(b.t.Context())
		return err == nil && st.Waiting == 0
	})
	eventually(b.t, "it is ready", func() bool { return b.Ready() == nil })
	for id, uid := range b.stored {
		got := postgrestest.Query[string](b.t, b.url, `SELECT uid || ' ' || state FROM inbox.reports WHERE report_id = $1`, id)
		if len(got) != 1 || got[0] != uid+" delivered" {
			b.t.Errorf("%s: got %q on record, want %s delivered, once", id, got, uid)
		}
		if len(b.routes.of(id)) == 0 {
			b.t.Errorf("%s: got no delivery of it", id)
		}
	}
	if n := count(b.t, b.url, `SELECT count(*) FROM inbox.chunks`); n != 0 {
		b.t.Errorf("got %d parts of large bodies when all is delivered, want none", n)
	}
}

const (
	outageBegins = "the database of the inbox cannot be used"
	outageEnds   = "the database of the inbox can be used again"
)

// A database that is away for a moment costs no report and no restart: commits wait
// for it. However many do, the log says once that it is away, and once that it is
// back.
func TestOutage(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name       string
		begin, end func(*brokenNode)
	}{
		{"the network is away", func(b *brokenNode) { b.proxy.Cut() }, func(b *brokenNode) { b.proxy.Resume() }},
		{"it hangs", func(b *brokenNode) { b.proxy.Stall() }, func(b *brokenNode) { b.proxy.Resume() }},
		{"it is stopped", func(b *brokenNode) { b.server.Stop(b.t) }, func(b *brokenNode) { b.server.Restart(b.t) }},
		{"it crashes", func(b *brokenNode) { b.server.Crash(b.t) }, func(b *brokenNode) { b.server.Restart(b.t) }},
		{"it is killed", func(b *brokenNode) { b.server.Kill(b.t) }, func(b *brokenNode) { b.server.Restart(b.t) }},
		{
			"it is read-only",
			func(b *brokenNode) { b.server.Set(b.t, "default_transaction_read_only", "on") },
			func(b *brokenNode) { b.server.Set(b.t, "default_transaction_read_only", "off") },
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			b := openBroken(t)
			for _, err := range b.putMany("before", 20)() {
				if err != nil {
					t.Fatal(err)
				}
			}
			began := time.Now()
			test.begin(b)
			wait := b.putMany("meanwhile", 40)
			eventually(t, "it is not ready", func() bool { return errors.Is(b.Ready(), ErrUnavailable) })
			eventually(t, "it is noticed", func() bool { return strings.Contains(b.log.String(), outageBegins) })
			test.end(b)
			for i, err := range wait() {
				if err != nil && time.Since(began) >= transactTime { // as long as it may, on a machine that is slow: it is sent again
					err = b.put(fmt.Sprint("meanwhile", i))
				}
				if err != nil {
					t.Errorf("%d: got %v, want it to wait until the database is back", i, err)
				}
			}
			if err := b.put("afterwards"); err != nil {
				t.Error(err)
			}
			b.check()
			most := 1
			if test.name == "it is read-only" {
				most = 2 // its sessions learn of the end one after the other
			}
			for _, text := range []string{outageBegins, outageEnds} {
				if n := strings.Count(b.log.String(), text); n < 1 || n > most {
					t.Errorf("got %d times %q, want it %d times at most:\n%s", n, text, most, b.log)
				}
			}
		})
	}
}

// Nobody waits for longer than Klavi does.
func TestLongOutage(t *testing.T) {
	t.Parallel()
	b := openBroken(t)
	b.proxy.Cut()
	for i, err := range b.putMany("in vain", 20)() {
		if !errors.Is(err, ErrUnavailable) || errors.Is(err, ErrFull) {
			t.Errorf("%d: got %v, want %v", i, err, ErrUnavailable)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	d := draftOf(t, b.Store, "gone")
	if _, err := d.Commit(ctx, headOf(b.Store, "a", "gone"), [32]byte{}); err == nil {
		t.Error("got it stored")
	}
	b.proxy.Resume()
	if err := b.put("afterwards"); err != nil {
		t.Error(err)
	}
	b.check()
	if n := count(t, b.url, `SELECT count(*) FROM inbox.reports`); n != 1 {
		t.Errorf("got %d reports, want the one that was acknowledged", n)
	}
}

// A commit of which nobody knows whether it has come about is made good: it is there
// once.
func TestUncertainCommit(t *testing.T) {
	t.Parallel()
	b := openBroken(t)
	for _, query := range []string{
		`CREATE FUNCTION inbox.hold() RETURNS trigger AS $$ BEGIN PERFORM pg_advisory_xact_lock_shared(42); RETURN NULL; END $$ LANGUAGE plpgsql`,
		`CREATE CONSTRAINT TRIGGER hold AFTER INSERT ON inbox.bodies DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION inbox.hold()`,
	} {
		postgrestest.Exec(t, b.url, query)
	}
	rounds := soakRounds(4)
	for round := range rounds {
		// The commit is under way, comes about, and the answer is lost.
		conn, err := pgx.Connect(t.Context(), b.url)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close(t.Context())
		if _, err := conn.Exec(t.Context(), `SELECT pg_advisory_lock(42)`); err != nil {
			t.Fatal(err)
		}
		wait := b.putMany(fmt.Sprint(round, "-"), 10)
		eventually(t, "a commit is under way", func() bool {
			return count(t, b.url, `SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND query ILIKE 'commit%' AND wait_event = 'advisory'`) > 0
		})
		b.proxy.StallAnswers()
		_ = conn.Close(t.Context())
		eventually(t, "it has come about", func() bool {
			return count(t, b.url, `SELECT count(*) FROM inbox.reports`) > int64(10*round)
		})
		b.proxy.Cut()
		b.proxy.Resume()
		for _, err := range wait() {
			if err != nil {
				t.Error(err)
			}
		}
	}
	b.check()
	if got := count(t, b.url, `SELECT count(*) FROM inbox.reports`); got != int64(10*rounds) {
		t.Errorf("got %d reports, want %d", got, 10*rounds)
	}
}

// Connections that are cut while reports arrive and are delivered cost none.
func TestCutConnections(t *testing.T) {
	t.Parallel()
	b := openBroken(t)
	var done atomic.Bool
	var wg sync.WaitGroup
	for sender := range 4 {
		wg.Go(func() {
			for i := 0; !done.Load(); i++ {
				if err := b.put(fmt.Sprint(sender, "-", i)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for range soakRounds(8) {
		before := b.routes.attempts()
		eventually(t, "more is delivered", func() bool { return b.routes.attempts() > before+10 })
		b.server.CutConnections(t, b.url)
	}
	done.Store(true)
	wg.Wait()
	b.check()
}

// A full disk of the server is said as one here: it is nothing to wait for.
func TestServerDiskIsFull(t *testing.T) {
	t.Parallel()
	url := onPostgres(t)
	o, log := quietNode(t, url, "a")
	s := openTest(t, o)
	for _, query := range []string{
		`CREATE FUNCTION inbox.no_space() RETURNS trigger AS $$ BEGIN RAISE EXCEPTION 'could not extend file' USING ERRCODE = '53100'; END $$ LANGUAGE plpgsql`,
		`CREATE TRIGGER no_space BEFORE INSERT ON inbox.bodies FOR EACH ROW EXECUTE FUNCTION inbox.no_space()`,
	} {
		postgrestest.Exec(t, url, query)
	}
	if _, err := put(s, testHead("a"), randomBody(100)); !errors.Is(err, ErrFull) || errors.Is(err, ErrUnavailable) {
		t.Errorf("got %v, want %v", err, ErrFull)
	}
	if strings.Contains(log.String(), outageBegins) {
		t.Errorf("got %s, want nothing of a database that is away", log)
	}
	postgrestest.Exec(t, url, `DROP TRIGGER no_space ON inbox.bodies`)
	mustPut(t, s, testHead("a"), randomBody(100))
}
