package postgrestest

import (
	"context"
	"crypto/x509"
	"errors"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(Main(m)) }

// A database is empty, takes what its owner writes, and is gone after its test.
func TestDatabase(t *testing.T) {
	s, outer := Shared(t), t
	var name string
	t.Run("test", func(t *testing.T) {
		a, b := s.Database(t), s.Database(t)
		name = databaseOf(t, a)
		for _, url := range []string{a, b} {
			Exec(t, url, "CREATE TABLE notes (n int)")
			Exec(t, url, "INSERT INTO notes VALUES (1), (2)")
			checkNotes(t, url, 1, 2)
		}
		if got := Query[string](t, a, "SELECT current_user::text || ' ' || current_setting('is_superuser')"); !slices.Equal(got, []string{User + " off"}) {
			t.Errorf("got the user %q, want %s, who is no superuser", got, User)
		}
		dial(outer, a) // it is still connected then
	})
	if got := s.databases(t); slices.Contains(got, name) {
		t.Errorf("got the databases %q after the test, want %q dropped", got, name)
	}
}

// It is as durable as PostgreSQL is by default, and its port is none that the system
// gives away.
func TestSettings(t *testing.T) {
	s := Shared(t)
	url := s.Database(t)
	for _, setting := range []struct{ name, want string }{
		{"fsync", "on"},
		{"synchronous_commit", "on"},
		{"full_page_writes", "on"},
		{"max_connections", "200"},
		{"listen_addresses", "127.0.0.1"},
	} {
		if got := Query[string](t, url, "SELECT current_setting($1)", setting.name); !slices.Equal(got, []string{setting.want}) {
			t.Errorf("got %s %q, want %s", setting.name, got, setting.want)
		}
	}
	if s.Port < 1024 || s.Port >= 32768 {
		t.Errorf("got port %d, want one below 32768", s.Port)
	}
	if _, err := os.Stat(filepath.Join(s.dir, ".s.PGSQL."+strconv.Itoa(s.Port))); err != nil {
		t.Errorf("got %v, want a socket in the server's directory", err)
	}
}

// What is committed is there again, however the server has ended, and on the same port.
func TestRestart(t *testing.T) {
	s := Start(t)
	url := s.Database(t)
	Exec(t, url, "CREATE TABLE notes (n int)")
	var want []int32
	for n, end := range []func(testing.TB){s.Restart, s.Stop, s.Crash, s.Kill} {
		conn := dial(t, url)
		if _, err := conn.Exec(t.Context(), "INSERT INTO notes VALUES ($1)", n); err != nil {
			t.Fatal(err)
		}
		want = append(want, int32(n))
		open, err := conn.Begin(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := open.Exec(t.Context(), "INSERT INTO notes VALUES (-1)"); err != nil {
			t.Fatal(err)
		}
		end(t)
		if err := open.Commit(t.Context()); err == nil {
			t.Errorf("%d: got a commit by a server that has ended", n)
		}
		if s.running() != (n == 0) {
			t.Fatalf("%d: got running %v after it has ended", n, s.running())
		}
		if n > 0 {
			if err := connectError(t, url); err == nil {
				t.Errorf("%d: got a connection to a server that has ended", n)
			}
			s.Restart(t)
		}
		checkNotes(t, url, want...)
	}
}

// No process of a killed server is left, not even a busy one, and no memory after the
// test.
func TestKill(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("processes and memory are looked for where Linux shows them")
	}
	needCluster(t)
	var memory string
	t.Run("test", func(t *testing.T) {
		s := Start(t)
		url := s.Database(t)
		conn := dial(t, url)
		ended := make(chan error, 1)
		go func() {
			_, err := conn.Exec(context.Background(), "SET statement_timeout = '1min'; SELECT count(*) FROM generate_series(1, 1e12)")
			ended <- err
		}()
		eventually(t, "the query to run", func() bool {
			return len(Query[int32](t, url, "SELECT pid FROM pg_stat_activity WHERE state = 'active' AND pid = $1", conn.PgConn().PID())) == 1
		})
		pids := Query[int32](t, url, "SELECT pid FROM pg_stat_activity")
		if len(pids) < 4 {
			t.Fatalf("got %d processes, want the connections and those of the server", len(pids))
		}
		memory = s.memory()
		s.Kill(t)
		for _, pid := range pids {
			eventually(t, "process "+strconv.Itoa(int(pid))+" to be gone", func() bool { return !alive(int(pid)) })
		}
		if err := <-ended; err == nil {
			t.Error("got the query done, want it ended")
		}
	})
	segments, err := os.ReadFile("/proc/sysvipc/shm")
	if err != nil {
		t.Fatal(err)
	}
	if memory == "" || slices.Contains(strings.Fields(string(segments)), memory) {
		t.Errorf("got the memory %q of the server left, want it given back:\n%s", memory, segments)
	}
}

// A setting holds for connections that are there already, and for new ones.
func TestSet(t *testing.T) {
	s := Start(t)
	url := s.Database(t)
	conn := dial(t, url)
	if _, err := conn.Exec(t.Context(), "CREATE TABLE notes (n int)"); err != nil {
		t.Fatal(err)
	}
	const readOnly = "25006"
	for range 20 {
		s.Set(t, "default_transaction_read_only", "on")
		if _, err := conn.Exec(t.Context(), "INSERT INTO notes VALUES (1)"); code(err) != readOnly {
			t.Fatalf("got %v, want SQLSTATE %s", err, readOnly)
		}
		if _, err := dial(t, url).Exec(t.Context(), "INSERT INTO notes VALUES (1)"); code(err) != readOnly {
			t.Fatalf("got %v on a new connection, want SQLSTATE %s", err, readOnly)
		}
		s.Set(t, "default_transaction_read_only", "off")
		if _, err := conn.Exec(t.Context(), "INSERT INTO notes VALUES (1)"); err != nil {
			t.Fatal(err)
		}
	}
	s.Set(t, "application_name", "it's quoted")
	if got := Query[string](t, url, "SHOW application_name"); !slices.Equal(got, []string{"it's quoted"}) {
		t.Errorf("got the setting %q, want it as it was given", got)
	}
	s.Set(t, "fsync", "off")
	s.Set(t, "max_connections", "50")
	s.Restart(t)
	if got := Query[string](t, url, "SELECT current_setting('fsync') || ' ' || current_setting('max_connections')"); !slices.Equal(got, []string{"off 50"}) {
		t.Errorf("got the settings %q after a restart, want fsync off and 50 connections", got)
	}
}

// Connections to other databases stay.
func TestCutConnections(t *testing.T) {
	s := Shared(t)
	url := s.Database(t)
	other := dial(t, s.Database(t))
	conns := []*pgx.Conn{dial(t, url), dial(t, url)}
	if got := s.CutConnections(t, url); got != len(conns) {
		t.Errorf("got %d connections cut, want %d", got, len(conns))
	}
	for _, conn := range conns {
		if err := conn.Ping(t.Context()); code(err) != "57P01" {
			t.Errorf("got %v, want SQLSTATE 57P01", err)
		}
	}
	if err := other.Ping(t.Context()); err != nil {
		t.Errorf("got %v on a connection to another database, want none", err)
	}
	if err := connectError(t, url); err != nil {
		t.Errorf("got %v for a new connection, want none", err)
	}
}

// The server insists on TLS, and can be verified.
func TestTLS(t *testing.T) {
	s := StartTLS(t)
	to := s.Database(t)
	if got := Query[bool](t, to, "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"); !slices.Equal(got, []bool{true}) {
		t.Errorf("got ssl %v, want true", got)
	}
	u, err := url.Parse(to)
	if err != nil {
		t.Fatal(err)
	}
	if q := u.Query(); q.Get("sslmode") != "verify-full" || q.Get("sslrootcert") != s.RootCert {
		t.Errorf("got the URL with %s, want it to verify the server", u.RawQuery)
	}
	u.Host = net.JoinHostPort("localhost", u.Port())
	if err := connectError(t, u.String()); err != nil {
		t.Errorf("got %v for localhost, want none", err)
	}
	u.RawQuery = "sslmode=disable"
	const invalidAuthorization = "28000"
	if err := connectError(t, u.String()); code(err) != invalidAuthorization || !strings.Contains(err.Error(), "no encryption") {
		t.Errorf("got %v without TLS, want SQLSTATE %s for want of encryption", err, invalidAuthorization)
	}
	u.RawQuery = url.Values{"sslmode": {"verify-full"}, "sslrootcert": {StartTLS(t).RootCert}}.Encode()
	unknown := x509.UnknownAuthorityError{}
	if err := connectError(t, u.String()); !errors.As(err, &unknown) {
		t.Errorf("got %v with the certificate of another server, want %v", err, unknown)
	}
	if s.Restart(t); connectError(t, to) != nil {
		t.Errorf("got %v after a restart, want none", connectError(t, to))
	}
}

// dial connects until the end of the test.
func dial(t testing.TB, url string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(context.Background(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

// connectError returns why nobody can connect.
func connectError(t testing.TB, url string) error {
	return connected(url, func(context.Context, *pgx.Conn) error { return nil })
}

// code returns the SQLSTATE of an error.
func code(err error) string {
	if e, ok := errors.AsType[*pgconn.PgError](err); ok {
		return e.Code
	}
	return ""
}

func checkNotes(t testing.TB, url string, want ...int32) {
	t.Helper()
	if got := Query[int32](t, url, "SELECT n FROM notes ORDER BY n"); !slices.Equal(got, want) {
		t.Errorf("got the rows %d, want %d", got, want)
	}
}

func (s *Server) databases(t testing.TB) (names []string) {
	t.Helper()
	err := s.superuser(func(ctx context.Context, conn *pgx.Conn) (err error) {
		names, err = query[string](ctx, conn, "SELECT datname FROM pg_database")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

func eventually(t testing.TB, what string, fn func() bool) {
	t.Helper()
	for range 2000 {
		if fn() {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Fatalf("waited for %s in vain", what)
}
