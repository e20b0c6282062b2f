package faults

import (
	"encoding/hex"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/caddy-klavi/caddy-klavi/inbox"
	"github.com/caddy-klavi/caddy-klavi/inbox/postgrestest"
)

// fleet is Caddys that share an inbox in a database.
type fleet struct {
	t        testing.TB
	server   *postgrestest.Server
	database string // its URL, without any proxy
	setups   []setup
	nodes    []*process
	urls     []string // of klavi_reports, of each
	turn     atomic.Int64
}

// newFleet has two nodes and a server of its own. The first node reaches that through
// a proxy.
func newFleet(t testing.TB, routes string) (*fleet, *postgrestest.Proxy) {
	t.Helper()
	server := postgrestest.Start(t)
	f := &fleet{t: t, server: server, database: server.Database(t)}
	proxy := postgrestest.NewProxy(t, f.database)
	f.add(proxy.URL, routes)
	f.add(f.database, routes)
	eventually(t, "both nodes to be there", func() bool { return f.members() == 2 })
	return f, proxy
}

// add adds a node that reaches the database at a URL.
func (f *fleet) add(database, routes string) {
	f.t.Helper()
	config := newSetup(f.t, "")
	config.database, config.routes = database, routes
	config.global = "grace_period 5s"
	f.setups, f.nodes = append(f.setups, config), append(f.nodes, nil)
	i := len(f.nodes) - 1
	f.start(i)
	f.urls = append(f.urls, f.nodes[i].url)
}

// newFleetSender has no more patience than Klavi.
func newFleetSender(t *testing.T) *sender {
	s := newSender(t)
	s.fresh.Timeout = 10 * time.Second
	return s
}

// start starts a node that does not run.
func (f *fleet) start(i int) {
	f.t.Helper()
	// What it writes to a directory for temporary files goes with the test.
	f.nodes[i] = start(f.t, f.setups[i], "TMPDIR="+f.t.TempDir())
}

// next is the URL of one node after the other, as a load balancer chooses them.
func (f *fleet) next() string { return f.urls[f.turn.Add(1)%int64(len(f.urls))] }

// post sends a report as Klavi does: each try gets to another node.
func (f *fleet) post(s *sender) func(id string, body []byte) int {
	return func(id string, body []byte) int {
		i := int(f.turn.Add(1))
		return s.tryAgain(func() int {
			i++
			return s.once(f.urls[i%len(f.urls)], id, body)
		})
	}
}

// look looks into the database.
func (f *fleet) look() *inbox.Store {
	f.t.Helper()
	key, err := hex.DecodeString(inboxKey)
	if err != nil {
		f.t.Fatal(err)
	}
	store, err := inbox.Open(f.t.Context(), inbox.Options{
		Postgres: &inbox.Postgres{URL: f.database, Schema: "klavi", PoolSize: 2}, Visit: true, EncryptionKey: key,
	})
	if err != nil {
		f.t.Fatal(err)
	}
	return store
}

func (f *fleet) records() map[string]inbox.Record {
	store := f.look()
	defer store.Close()
	return recordsOf(f.t, store)
}

// drain has everything delivered. Then nothing is left of a body.
func (f *fleet) drain(s *sender, u *upstream) {
	f.t.Helper()
	store := f.look()
	defer store.Close()
	s.deliver(store, f, u)
	for _, table := range []string{"bodies", "chunks"} {
		if n := postgrestest.Query[int64](f.t, f.database, "SELECT count(*) FROM klavi."+table)[0]; n != 0 {
			f.t.Errorf("got %d rows in %s after everything was delivered, want none", n, table)
		}
	}
}

// members is how many nodes are there, as they see it.
func (f *fleet) members() int64 {
	f.t.Helper()
	if !postgrestest.Query[bool](f.t, f.database, "SELECT to_regclass('klavi.nodes') IS NOT NULL")[0] {
		return 0
	}
	return postgrestest.Query[int64](f.t, f.database, "SELECT count(*) FROM klavi.nodes")[0]
}

// more waits until some more reports have been taken.
func (s *sender) more(n int) {
	s.t.Helper()
	before := s.taken()
	eventually(s.t, "reports to be taken", func() bool { return s.taken() >= before+n })
}

// wantAllTaken says that what was sent as Klavi does was taken in one of its tries.
func (s *sender) wantAllTaken() {
	s.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	for id := range s.open {
		s.t.Errorf("%s was not taken in all tries of Klavi's", id)
	}
}

// One node after the other is killed and started again. What one does not take, the
// other does, and what it had begun is delivered by the other.
func TestFleetKilled(t *testing.T) {
	t.Parallel()
	u, s := newUpstream(t), newFleetSender(t)
	f, _ := newFleet(t, "all "+u.URL)
	stop := s.load("report", f.post(s))
	rounds := soakRounds(4)
	for round := range rounds {
		s.more(30)
		f.nodes[round%2].kill()
		s.more(30) // by the other
		f.start(round % 2)
	}
	s.more(30)
	stop()
	s.wantAllTaken()
	f.drain(s, u)
	if again := u.again(); again > most*rounds {
		t.Errorf("got %d reports twice after %d kills, want at most %d for each", again, rounds, most)
	}
	t.Logf("%d reports, %d kills, %d delivered again", s.taken(), rounds, u.again())
}

// The database is stopped, crashes and is killed, and comes back each time.
func TestFleetDatabaseRestarts(t *testing.T) {
	t.Parallel()
	u, s := newUpstream(t), newFleetSender(t)
	f, _ := newFleet(t, "all "+u.URL)
	stop := s.load("report", f.post(s))
	for round := range soakRounds(3) {
		s.more(30)
		[]func(testing.TB){f.server.Stop, f.server.Crash, f.server.Kill}[round%3](t)
		f.server.Restart(t)
	}
	s.more(30)
	stop()
	s.check(f, u)
	s.again(f.next())
	f.drain(s, u)
	t.Logf("%d reports, %d delivered again", s.taken(), u.again())
}

// Connections to the database are ended, all at once; and the network between it and
// one node is away, with an end of connections or without.
func TestFleetLosesConnections(t *testing.T) {
	t.Parallel()
	u, s := newUpstream(t), newFleetSender(t)
	f, proxy := newFleet(t, "all "+u.URL)
	stop := s.load("report", f.post(s))
	for range soakRounds(1) {
		for range 3 {
			s.more(20)
			f.server.CutConnections(t, f.database)
		}
		s.more(20)
		proxy.Cut()
		s.more(8) // those that choose this node wait for its database
		proxy.Resume()
		s.more(20)
		proxy.StallAnswers()
		s.more(4)
		proxy.Resume()
	}
	s.more(20)
	stop()
	s.wantAllTaken()
	f.drain(s, u)
	t.Logf("%d reports, %d delivered again", s.taken(), u.again())
}

// A node that the database has not heard of for long is none any more, and is one
// again when it is back. It leaves nothing behind that would be in the way of the
// other, and what it delivers meanwhile is not lost.
func TestFleetTakesOver(t *testing.T) {
	t.Parallel()
	signal := func(s syscall.Signal) func(*fleet, *postgrestest.Proxy) {
		return func(f *fleet, _ *postgrestest.Proxy) {
			if err := f.nodes[0].cmd.Process.Signal(s); err != nil {
				f.t.Error(err)
			}
		}
	}
	for name, fault := range map[string]struct {
		begin, end func(*fleet, *postgrestest.Proxy)
	}{
		"its network is away": {
			func(_ *fleet, p *postgrestest.Proxy) { p.Stall() },
			func(_ *fleet, p *postgrestest.Proxy) { p.Resume() },
		},
		"it stands still": {signal(syscall.SIGSTOP), signal(syscall.SIGCONT)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			u, s := newUpstream(t), newFleetSender(t)
			f, proxy := newFleet(t, "all "+u.URL)
			stop := s.load("report", func(id string, body []byte) int {
				return s.tryAgain(func() int { // few choose the node that does not answer
					return s.once(f.urls[min(f.turn.Add(1)%8, 1)], id, body)
				})
			})
			s.more(20)
			fault.begin(f, proxy)
			eventually(t, "one node", func() bool { return f.members() == 1 })
			s.more(20)
			fault.end(f, proxy)
			eventually(t, "two nodes", func() bool { return f.members() == 2 })
			s.more(20)
			stop()
			s.wantAllTaken()
			f.drain(s, u)
			t.Logf("%d reports, %d delivered again", s.taken(), u.again())
		})
	}
}

// A node is asked to end: what reaches it is taken, what does not is taken by the
// other at once, and nothing is delivered twice.
func TestFleetNodeEnds(t *testing.T) {
	t.Parallel()
	u, s := newUpstream(t), newFleetSender(t)
	f, _ := newFleet(t, "all "+u.URL)
	stop := s.load("report", func(id string, body []byte) int {
		i := f.turn.Add(1) % 2
		status := s.once(f.urls[i], id, body)
		if status == 0 { // there is no connection
			status = s.once(f.urls[1-i], id, body)
		}
		if status != http.StatusOK {
			t.Errorf("got status %d for %s, want 200 from one node or the other", status, id)
		}
		return status
	})
	for round := range soakRounds(3) {
		s.more(30)
		f.nodes[round%2].stop()
		if n := f.members(); n != 1 {
			t.Errorf("got %d nodes after one has ended, want 1", n)
		}
		s.more(30)
		f.start(round % 2)
	}
	stop()
	f.drain(s, u)
	if n := u.again(); n != 0 {
		t.Errorf("got %d reports twice, want none", n)
	}
	t.Logf("%d reports", s.taken())
}

// An array of events goes to each route that one of its events names. Two of them may
// accept it at the same time, on two nodes.
func TestFleetEventsOfTwoRoutes(t *testing.T) {
	t.Parallel()
	var got atomic.Int64
	u := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { got.Add(1) }))
	t.Cleanup(u.Close)
	s := newFleetSender(t)
	f, _ := newFleet(t, fmt.Sprintf("all %s\nevent link_created %[1]s as one\nevent consent_error %[1]s as two", u.URL))
	var n atomic.Int64
	stop := s.load("events", func(id string, _ []byte) int {
		n.Add(1)
		return s.once(f.next(), id, fmt.Appendf(nil, `[{"eventName":"link_created","eventId":"1-%s"},{"eventName":"consent_error","eventId":"2-%[1]s"}]`, id))
	})
	for range 8 {
		s.more(50)
	}
	stop()
	eventually(t, "all events at both routes", func() bool { return got.Load() >= 2*n.Load() })
	store := f.look()
	defer store.Close()
	eventually(t, "nothing to be left", func() bool {
		st, err := store.Stats(t.Context())
		return err == nil && st == inbox.Stats{}
	})
	for id, r := range recordsOf(t, store) {
		if r.State != inbox.Delivered {
			t.Errorf("%s is %s, want that it is delivered", id, r.State)
		}
	}
}

// A Caddy that was built without PostgreSQL has none of it, and refuses a config that
// asks for it, in place of waiting for what never comes.
func TestBuiltWithoutPostgres(t *testing.T) {
	t.Parallel()
	const tags = "-tags=nobadger,nomysql,nopgx,klavi_nopostgres"
	without := filepath.Join(t.TempDir(), "caddy")
	if out, err := exec.CommandContext(t.Context(), "go", "build", tags, "-o", without, "../cmd/caddy").CombinedOutput(); err != nil {
		t.Fatalf("building it: %v\n%s", err, out)
	}
	modules, err := exec.CommandContext(t.Context(), "go", "version", "-m", without).Output()
	if err != nil || !strings.Contains(string(modules), "modernc.org/sqlite") || strings.Contains(string(modules), "jackc/pgx") {
		t.Errorf("got %v and these modules, want SQLite and not pgx:\n%s", err, modules)
	}
	config := newSetup(t, "http://127.0.0.1:1")
	for _, database := range []string{"postgres://user@127.0.0.1/database", "{env.DATABASE}"} {
		config.database = database
		path := filepath.Join(t.TempDir(), "Caddyfile")
		writeFile(t, path, config.caddyfile())
		cmd := exec.CommandContext(t.Context(), without, "validate", "--config", path)
		cmd.Env = append(os.Environ(), "DATABASE=postgres://user@127.0.0.1/database")
		out, err := cmd.CombinedOutput()
		if want := "postgres: this Caddy was built without PostgreSQL"; err == nil || !strings.Contains(string(out), want) {
			t.Errorf("postgres %s: got %v and\n%s\nwant an error with %q", database, err, out, want)
		}
	}
	config.database = ""
	p := begin(t, config, exec.Command(without))
	p.wantAlive()
	newSender(t).mustPost(p.url, "a", reportOf("pf_loans", "a", 300))
}
