//go:build !klavi_nopostgres

package inbox

import (
	"context"
	"log/slog"
	"testing"

	"github.com/caddy-klavi/caddy-klavi/inbox/postgrestest"
)

// onPostgres returns the URL of an empty database, for the tests of what only
// PostgreSQL does. They run once, beside those of SQLite.
func onPostgres(t testing.TB) string {
	t.Helper()
	if testDatabase != "" {
		t.Skip("this runs without that")
	}
	return postgrestest.Shared(t).Database(t)
}

// nodeOptions are those of a node of a fleet, in which all goes four times as fast.
func nodeOptions(t testing.TB, url, name string) Options {
	o := testOptions(t, "")
	o.Node = name
	o.Postgres = &Postgres{URL: url, Schema: "inbox", PoolSize: 6, hurry: 4}
	return o
}

func openNode(t testing.TB, url, name string) *Store {
	t.Helper()
	return openTest(t, nodeOptions(t, url, name))
}

func waitingIn(t testing.TB, s *Store) int64 {
	t.Helper()
	st, err := s.Stats(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	return st.Waiting
}

// count returns the only number of the only row of a query.
func count(t testing.TB, url, query string, args ...any) int64 {
	t.Helper()
	return postgrestest.Query[int64](t, url, query, args...)[0]
}

// quietNode are the options of a node whose log is looked at.
func quietNode(t testing.TB, url, name string) (Options, *logBuffer) {
	o, log := nodeOptions(t, url, name), new(logBuffer)
	o.Logger = slog.New(slog.NewTextHandler(log, nil))
	return o, log
}
