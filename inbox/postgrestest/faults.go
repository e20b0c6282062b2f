package postgrestest

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// Stop stops the server in order, as its operator does: connections are ended, and all
// is written down.
func (s *Server) Stop(t testing.TB) {
	t.Helper()
	s.mustEnd(t, sigInt)
}

// Crash stops the server at once: connections are ended, and it has to recover.
func (s *Server) Crash(t testing.TB) {
	t.Helper()
	s.mustEnd(t, sigQuit)
}

// Kill kills all processes of the server. None of them does anything any more.
func (s *Server) Kill(t testing.TB) {
	t.Helper()
	s.mustEnd(t, sigKillAll)
}

func (s *Server) mustEnd(t testing.TB, how ending) {
	t.Helper()
	if s.shared {
		t.Fatal("other tests need the shared server: this one has to start its own")
	}
	if err := s.end(how); err != nil {
		t.Fatal(err)
	}
}

// end ends the server, if it runs.
func (s *Server) end(how ending) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.process == nil {
		return nil
	}
	p := s.process
	s.process = nil
	return p.end(how)
}

func (s *Server) running() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.process != nil
}

// Restart starts the server again on its data and its port. If it runs, it is stopped
// in order before that.
func (s *Server) Restart(t testing.TB) {
	t.Helper()
	s.mustEnd(t, sigInt)
	deadline := time.Now().Add(patience)
	for {
		err := s.launch()
		if err == nil {
			return
		}
		// The processes of a killed server take a moment to go.
		going := strings.Contains(err.Error(), "is still in use")
		if !going || time.Now().After(deadline) {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// Set changes a setting of the server, and returns when it holds for all connections.
// What PostgreSQL reads at its start only holds after [Server.Restart].
func (s *Server) Set(t testing.TB, name, value string) {
	t.Helper()
	if s.shared {
		t.Fatal("other tests need the shared server as it is: this one has to start its own")
	}
	var before time.Time
	err := s.superuser(func(ctx context.Context, conn *pgx.Conn) error {
		if err := conn.QueryRow(ctx, "SELECT pg_conf_load_time()").Scan(&before); err != nil {
			return err
		}
		if _, err := conn.Exec(ctx, "ALTER SYSTEM SET "+name+" = '"+strings.ReplaceAll(value, "'", "''")+"'"); err != nil {
			return err
		}
		_, err := conn.Exec(ctx, "SELECT pg_reload_conf()")
		return err
	})
	if err != nil {
		t.Fatalf("setting %s: %v", name, err)
	}
	// The server tells all others to read it again before it takes the next connection.
	err = s.await(func(ctx context.Context, conn *pgx.Conn) (loaded bool, err error) {
		err = conn.QueryRow(ctx, "SELECT pg_conf_load_time() > $1", before).Scan(&loaded)
		return loaded, err
	})
	if err != nil {
		t.Fatalf("setting %s: %v", name, err)
	}
}

// CutConnections ends all connections to the database with a URL, and returns how many
// there were.
func (s *Server) CutConnections(t testing.TB, url string) int {
	t.Helper()
	database := databaseOf(t, url)
	var cut []int32
	err := s.superuser(func(ctx context.Context, conn *pgx.Conn) (err error) {
		cut, err = query[int32](ctx, conn, "SELECT pid FROM pg_stat_activity WHERE datname = $1 AND backend_type = 'client backend'", database)
		if err != nil {
			return err
		}
		_, err = conn.Exec(ctx, "SELECT pg_terminate_backend(pid) FROM unnest($1::int[]) AS pid", cut)
		return err
	})
	if err != nil {
		t.Fatalf("cutting connections: %v", err)
	}
	err = s.await(func(ctx context.Context, conn *pgx.Conn) (gone bool, err error) {
		err = conn.QueryRow(ctx, "SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE pid = ANY($1))", cut).Scan(&gone)
		return gone, err
	})
	if err != nil {
		t.Fatalf("cutting connections: %v", err)
	}
	return len(cut)
}

// await asks the server, each time on a new connection, until it says yes.
func (s *Server) await(ask func(context.Context, *pgx.Conn) (bool, error)) error {
	deadline := time.Now().Add(patience)
	for {
		var yes bool
		err := s.superuser(func(ctx context.Context, conn *pgx.Conn) (err error) {
			yes, err = ask(ctx, conn)
			return err
		})
		if err != nil || yes {
			return err
		}
		if time.Now().After(deadline) {
			return errors.New("the PostgreSQL server takes too long")
		}
		time.Sleep(5 * time.Millisecond)
	}
}
