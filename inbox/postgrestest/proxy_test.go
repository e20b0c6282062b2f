package postgrestest

import (
	"context"
	"errors"
	"strings"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"
)

// A network that is away ends what is under way and refuses what is new, until it is back.
func TestProxyCut(t *testing.T) {
	url := Shared(t).Database(t)
	p := NewProxy(t, url)
	Exec(t, p.URL, "CREATE TABLE notes (n int)")
	direct := dial(t, url)
	conn := dial(t, p.URL)
	p.Cut()
	if err := conn.Ping(t.Context()); err == nil {
		t.Error("got an answer through a network that is away")
	}
	if err := connectError(t, p.URL); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("got %v, want %v", err, syscall.ECONNREFUSED)
	}
	if err := direct.Ping(t.Context()); err != nil {
		t.Errorf("got %v beside the proxy, want none", err)
	}
	p.Resume()
	Exec(t, p.URL, "INSERT INTO notes VALUES (1)")
	checkNotes(t, url, 1)
}

// A network that hangs delays what is under way and what is new, and loses nothing.
func TestProxyStall(t *testing.T) {
	url := Shared(t).Database(t)
	p := NewProxy(t, url)
	Exec(t, url, "CREATE TABLE notes (n int)")
	conn := dial(t, p.URL)
	p.Stall()
	answer := insert(conn, 1)
	connected := make(chan error, 1)
	go func() { connected <- connectError(t, p.URL) }()
	// What comes to pass beside the proxy has had the time to come through it.
	for range 20 {
		checkNotes(t, url)
	}
	select {
	case err := <-answer:
		t.Fatalf("got the answer %v while the network hangs, want none", err)
	case err := <-connected:
		t.Fatalf("got a connection, or %v, while the network hangs, want neither", err)
	default:
	}
	p.Resume()
	if err := <-answer; err != nil {
		t.Errorf("got the answer %v when the network is back, want none", err)
	}
	if err := <-connected; err != nil {
		t.Errorf("got %v for what connected meanwhile, want none", err)
	}
	checkNotes(t, url, 1)
}

// The server has committed, and nobody knows.
func TestProxyStallAnswers(t *testing.T) {
	url := Shared(t).Database(t)
	p := NewProxy(t, url)
	Exec(t, url, "CREATE TABLE notes (n int)")
	conn := dial(t, p.URL)
	p.StallAnswers()
	answer := insert(conn, 1)
	eventually(t, "the row to be committed", func() bool { return len(Query[int32](t, url, "SELECT n FROM notes")) == 1 })
	select {
	case err := <-answer:
		t.Fatalf("got the answer %v, want none", err)
	default:
	}
	p.Cut()
	if err := <-answer; err == nil {
		t.Error("got a commit, want an error")
	}
	checkNotes(t, url, 1)
}

// The server does not learn of clients that leave while the network hangs.
func TestProxyStallHidesClients(t *testing.T) {
	s := Shared(t)
	url := s.Database(t)
	p := NewProxy(t, url)
	conn := dial(t, p.URL)
	pid := conn.PgConn().PID()
	there := func() bool {
		return Query[int](t, url, "SELECT count(*) FROM pg_stat_activity WHERE pid = $1", pid)[0] == 1
	}
	p.Stall()
	// This is a client that dies: it says no word.
	if err := conn.PgConn().Conn().Close(); err != nil {
		t.Fatal(err)
	}
	for range 20 {
		if !there() {
			t.Fatal("got the connection ended at the server, want it there")
		}
	}
	p.Resume()
	eventually(t, "the server to learn of it", func() bool { return !there() })
}

// A server that is away looks so through the proxy, and TLS goes through it.
func TestProxyServer(t *testing.T) {
	s := StartTLS(t)
	p := NewProxy(t, s.Database(t))
	if !strings.Contains(p.URL, "sslmode=verify-full") {
		t.Fatal("want a URL that verifies the server")
	}
	if err := connectError(t, p.URL); err != nil {
		t.Fatal(err)
	}
	s.Kill(t)
	if err := connectError(t, p.URL); err == nil {
		t.Error("got a connection to a server that is away")
	}
	s.Restart(t)
	if err := connectError(t, p.URL); err != nil {
		t.Errorf("got %v from a server that is back, want none", err)
	}
}

// insert adds a row, without asking the server about it first, and gives the answer when there is one.
func insert(conn *pgx.Conn, n int) <-chan error {
	answer := make(chan error, 1)
	go func() {
		_, err := conn.Exec(context.Background(), "INSERT INTO notes VALUES ($1)", pgx.QueryExecModeExec, n)
		answer <- err
	}()
	return answer
}
