//go:build !klavi_nopostgres

package inbox

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/caddy-klavi/caddy-klavi/inbox/postgrestest"
)

// databaseState is all that there is in a database, but for what a node says of
// itself.
func databaseState(t testing.TB, url string) string {
	t.Helper()
	state := postgrestest.Query[string](t, url, `SELECT nspname::text FROM pg_namespace WHERE nspname NOT LIKE 'pg_%' ORDER BY 1`)
	tables := postgrestest.Query[string](t, url, `SELECT schemaname || '.' || tablename FROM pg_tables WHERE schemaname NOT IN ('pg_catalog', 'information_schema') ORDER BY 1`)
	for _, table := range tables {
		rows := postgrestest.Query[string](t, url, `SELECT r::text FROM `+table+` r ORDER BY 1`)
		state = append(state, table, strings.Join(rows, "\n"))
	}
	return strings.Join(state, "\n")
}

// Many nodes that begin at once make one inbox.
func TestSchemaIsMadeOnce(t *testing.T) {
	t.Parallel()
	url := onPostgres(t)
	o, log := quietNode(t, url, "a")
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			s, err := Open(context.Background(), o)
			if err != nil {
				t.Error(err)
				return
			}
			_ = s.Close()
		})
	}
	wg.Wait()
	if n := strings.Count(log.String(), "a new inbox was begun"); n != 1 {
		t.Errorf("got %d inboxes begun, want one:\n%s", n, log)
	}
	if n := count(t, url, `SELECT count(*) FROM inbox.meta WHERE key IN ('version', 'canary')`); n != 2 {
		t.Errorf("got %d rows of meta, want its version and its canary", n)
	}
}

// What this version or this key cannot read is left as it is.
func TestPostgresOpeningRefuses(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name   string
		spoil  string
		change func(*Options)
		is     error
		want   string
	}{
		{"a newer version", `UPDATE inbox.meta SET value = '7' WHERE key = 'version'`, nil, ErrUnavailable, "was written by a newer version (schema 7)"},
		{"no version", `DELETE FROM inbox.meta WHERE key = 'version'`, nil, ErrUnavailable, "is it an inbox?"},
		{"a version that is no number", `UPDATE inbox.meta SET value = 'x' WHERE key = 'version'`, nil, ErrUnavailable, "is no number"},
		{"another key", ``, func(o *Options) { o.EncryptionKey = bytes.Repeat([]byte{8}, keySize) }, ErrKey, "under the key"},
		{"unencrypted", ``, func(o *Options) { o.EncryptionKey, o.Unencrypted = nil, true }, ErrKey, "unencrypted is set"},
		{"an altered canary", `UPDATE inbox.meta SET value = set_byte(value, 40, 255 - get_byte(value, 40)) WHERE key = 'canary'`, nil, ErrDamaged, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			url := onPostgres(t)
			s := openNode(t, url, "a")
			mustPut(t, s, testHead("a"), randomBody(100_000))
			_ = s.Close()
			if test.spoil != "" {
				postgrestest.Exec(t, url, test.spoil)
			}
			before := databaseState(t, url)
			for _, visit := range []bool{false, true} {
				o := nodeOptions(t, url, "b")
				o.Visit = visit
				if test.change != nil {
					test.change(&o)
				}
				s, err := Open(t.Context(), o)
				if err == nil {
					_ = s.Close()
				}
				if !errors.Is(err, test.is) || !strings.Contains(fmt.Sprint(err), test.want) {
					t.Errorf("got %v, want %v and %q", err, test.is, test.want)
				}
			}
			if after := databaseState(t, url); after != before {
				t.Errorf("got the database changed from\n%s to\n%s", before, after)
			}
		})
	}
}

// A visitor finds what is there, changes nothing of it, and is no node.
func TestPostgresVisit(t *testing.T) {
	t.Parallel()
	url := onPostgres(t)
	o := nodeOptions(t, url, "visitor")
	o.Visit = true
	empty := databaseState(t, url)
	if _, err := Open(t.Context(), o); !errors.Is(err, ErrNotFound) {
		t.Errorf("got %v from a database without an inbox, want %v", err, ErrNotFound)
	}
	if after := databaseState(t, url); after != empty {
		t.Errorf("got %s in it, want nothing", after)
	}

	s := openNode(t, url, "a")
	arrive(t, s, "a", "1")
	_ = s.Close()
	before := databaseState(t, url)
	visitor := openTest(t, o)
	routes := routesTo(accept, "a")
	defer visitor.Attach(routes)()
	if got := mustList(t, visitor); len(got) != 1 || got[0].ReportID != "1" {
		t.Errorf("got %+v, want the report that is there", got)
	}
	if after := databaseState(t, url); after != before {
		t.Errorf("got the database changed from\n%s to\n%s", before, after)
	}
	s = openNode(t, url, "b")
	defer s.Attach(routesTo(accept, "a"))()
	eventually(t, "it is delivered", func() bool { return waitingIn(t, s) == 0 })
	if n := routes.attempts(); n != 0 {
		t.Errorf("got %d attempts by a visitor, want none", n)
	}
	if got := postgrestest.Query[string](t, url, `SELECT name FROM inbox.nodes`); !slices.Equal(got, []string{"b"}) {
		t.Errorf("got the nodes %q, want the one that is none of the visitors", got)
	}
}

// A role that may not make the schema is told what somebody else has to do, and that
// is enough.
func TestRoleWithoutPrivileges(t *testing.T) {
	t.Parallel()
	owner := onPostgres(t)
	server := postgrestest.Shared(t)
	server.Exec(t, `CREATE ROLE limited LOGIN PASSWORD 'limited'`)
	t.Cleanup(func() { server.Exec(t, `DROP ROLE limited`) })
	t.Cleanup(func() { postgrestest.Exec(t, owner, `DROP SCHEMA IF EXISTS inbox CASCADE`) })
	server.Exec(t, `GRANT limited TO `+postgrestest.User)
	u, err := url.Parse(owner)
	if err != nil {
		t.Fatal(err)
	}
	u.User = url.UserPassword("limited", "limited")
	o := nodeOptions(t, u.String(), "a")
	o.Visit = true
	if _, err := Open(t.Context(), o); !errors.Is(err, ErrNotFound) {
		t.Errorf("got %v for a visitor, want %v", err, ErrNotFound)
	}
	o.Visit = false
	_, err = Open(t.Context(), o)
	const want = "CREATE SCHEMA inbox AUTHORIZATION limited"
	if !errors.Is(err, ErrUnavailable) || !strings.Contains(fmt.Sprint(err), want) {
		t.Fatalf("got %v, want %q", err, want)
	}
	postgrestest.Exec(t, owner, want)
	s := openTest(t, o)
	arrive(t, s, "a", "1")
	_ = s.Close()
}

// Two inboxes of one database know nothing of each other.
func TestSchemasAreApart(t *testing.T) {
	t.Parallel()
	url := onPostgres(t)
	open := func(schema string) *Store {
		o := nodeOptions(t, url, schema)
		o.Postgres.Schema = schema
		return openTest(t, o)
	}
	a, b := open("one"), open("other")
	routes := routesTo(accept, "a")
	defer b.Attach(routes)()
	arrive(t, a, "a", "1")
	if r := arrive(t, b, "a", "1"); r.Duplicate {
		t.Error("got a duplicate of what the other has")
	}
	if err := a.Pause(t.Context(), "a", "an operator"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it is delivered", func() bool { return waitingIn(t, b) == 0 })
	if n := waitingIn(t, a); n != 1 || routes.attempts() != 1 {
		t.Errorf("got %d waiting in the first, and %d deliveries of the other, want one each", n, routes.attempts())
	}
}

// Both engines have the same tables, apart from the check sums of one and the nodes
// and large bodies of the other.
func TestSchemasAreTheSame(t *testing.T) {
	t.Parallel()
	url := onPostgres(t)
	_ = openNode(t, url, "a").Close()
	s := openTest(t, testOptions(t, t.TempDir()))
	lines := func(query string) (list []string) {
		err := s.write(t.Context(), func(tx *tx) (err error) {
			list, err = tx.texts(query)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		slices.Sort(list)
		return list
	}
	const line = `%s || ' ' || %s || ' ' || %s || ' ' || %s || ' ' || coalesce(%s, '')`
	sqlite := lines(`SELECT ` + fmt.Sprintf(line, "m.name", "c.name", "CASE c.type WHEN 'INTEGER' THEN 'bigint' WHEN 'BLOB' THEN 'bytea' ELSE 'text' END",
		"(c.\"notnull\" OR c.pk > 0)", "c.dflt_value") + ` FROM sqlite_master m JOIN pragma_table_info(m.name) c WHERE m.type = 'table' AND m.name NOT LIKE 'sqlite_%'`)
	postgres := postgrestest.Query[string](t, url, `SELECT `+fmt.Sprintf(line, "table_name", "column_name", "data_type",
		"(is_nullable = 'NO')::int", "column_default")+` FROM information_schema.columns WHERE table_schema = 'inbox' AND table_name NOT IN ('nodes', 'slots', 'chunks')`)
	slices.Sort(postgres)
	if len(sqlite) < 50 || !slices.Equal(sqlite, postgres) {
		t.Errorf("got the columns in SQLite\n%s\nand in PostgreSQL\n%s\nwant the same", strings.Join(sqlite, "\n"), strings.Join(postgres, "\n"))
	}
	sqlite = lines(`SELECT tbl_name || ' ' || name FROM sqlite_master WHERE type = 'index' AND name NOT LIKE 'sqlite_%'`)
	postgres = postgrestest.Query[string](t, url, `SELECT tablename || ' ' || indexname FROM pg_indexes
		WHERE schemaname = 'inbox' AND indexname NOT LIKE '%_pkey' AND indexname NOT LIKE '%_key'`)
	slices.Sort(postgres)
	if len(sqlite) < 5 || !slices.Equal(sqlite, postgres) {
		t.Errorf("got the indexes in SQLite %q, and in PostgreSQL %q, want the same", sqlite, postgres)
	}
}

// What weakens the promise that nothing is lost is said at the start, and what this
// role can change itself it does.
func TestWeakness(t *testing.T) {
	if testDatabase != "" {
		t.Skip("this runs without that")
	}
	t.Parallel()
	server := postgrestest.Start(t)
	url := server.Database(t)
	settings := []string{"fsync", "full_page_writes", "synchronous_commit"}
	says := func(now func() time.Time) (log string) {
		o, buf := quietNode(t, url, "a")
		o.Now = now
		s := openTest(t, o)
		arrive(t, s, "a", fmt.Sprint(len(postgrestest.Query[string](t, url, `SELECT uid FROM inbox.reports`))))
		for _, lazy := range []bool{false, true} { // afterwards, too
			if got := postgresSetting(t, s, "synchronous_commit"); got != "on" {
				t.Errorf("got synchronous_commit %s (after one that need not be: %v), want on", got, lazy)
			}
			if err := s.writeLazy(t.Context(), func(*tx) error { return nil }); err != nil {
				t.Fatal(err)
			}
		}
		_ = s.Close()
		return buf.String()
	}
	if log := says(time.Now); strings.Contains(log, "level=WARN") {
		t.Errorf("got %s, want no warning of a server that is as it should be", log)
	}
	for _, name := range settings {
		server.Set(t, name, "off")
	}
	log := says(time.Now)
	for _, name := range settings {
		if n := strings.Count(log, `setting="`+name+` = off"`); n != 1 {
			t.Errorf("got %d warnings of %s, want one:\n%s", n, name, log)
		}
	}
	for _, off := range []time.Duration{-time.Minute, time.Minute} {
		if log := says(func() time.Time { return time.Now().Add(off) }); !strings.Contains(log, "the clock of this machine") || !strings.Contains(log, "1m0s") {
			t.Errorf("got %s, want how far the clock is off", log)
		}
	}
}

// postgresSetting is what a setting is on a connection that writes.
func postgresSetting(t testing.TB, s *Store, name string) (value string) {
	t.Helper()
	err := s.write(context.Background(), func(tx *tx) error { return tx.get([]any{&value}, `SHOW `+name) })
	if err != nil {
		t.Fatal(err)
	}
	return value
}

func TestInClear(t *testing.T) {
	for url, want := range map[string]bool{
		"postgres://u:p@db.example.com/x":                                                 true, // without TLS where the server has none
		"postgres://u:p@db.example.com/x?sslmode=disable":                                 true,
		"postgres://u:p@db.example.com/x?sslmode=allow":                                   true,
		"postgres://u:p@db.example.com/x?sslmode=prefer":                                  true,
		"postgres://u:p@db.example.com/x?sslmode=require":                                 false,
		"postgres://u:p@db.example.com/x?sslmode=verify-full":                             false,
		"postgres://u:p@127.0.0.1/x":                                                      false,
		"postgres://u:p@127.1.2.3/x?sslmode=disable":                                      false,
		"postgres://u:p@[::1]/x?sslmode=disable":                                          false,
		"postgres://u:p@localhost/x?sslmode=disable":                                      false,
		"postgres:///x?host=/run/postgresql":                                              false,
		"postgres://u:p@10.0.0.1/x?sslmode=disable":                                       true,
		"postgres://u:p@localhost,db.example.com/x?sslmode=disable":                       true,
		"postgres://u:p@a.example.com,b.example.com/x?sslmode=verify-full":                false,
		"postgres://u:p@localhost.example.com/x?sslmode=disable&target_session_attrs=any": true,
	} {
		config, err := pgx.ParseConfig(url)
		if err != nil {
			t.Fatal(err)
		}
		if got := inClear(config); got != want {
			t.Errorf("%s: got %v, want %v", url, got, want)
		}
	}
}

// Whatever is wrong, nothing of the password is in an error or in the log.
func TestPasswordIsNotShown(t *testing.T) {
	t.Parallel()
	good, err := url.Parse(onPostgres(t))
	if err != nil {
		t.Fatal(err)
	}
	const marker = "swordfish"
	with := func(change func(*url.URL)) string {
		u := *good
		u.User = url.UserPassword(postgrestest.User, marker)
		if change != nil {
			change(&u)
		}
		return u.String()
	}
	for name, url := range map[string]string{
		"wrong":                       with(nil),
		"of nobody":                   with(func(u *url.URL) { u.User = url.UserPassword("nobody", marker) }),
		"at a host that is not there": with(func(u *url.URL) { u.Host = "host.invalid:5432" }),
		"at a port that is closed":    with(func(u *url.URL) { u.Host = "127.0.0.1:1" }),
		"an unknown parameter":        with(func(u *url.URL) { u.RawQuery = "unheard_of=1" }),
		"a wrong parameter":           with(func(u *url.URL) { u.RawQuery = "sslmode=perhaps" }),
		"no TLS":                      with(func(u *url.URL) { u.RawQuery = "sslmode=require" }),
		"in a parameter":              "postgres://" + good.Host + "/x?user=gateway&password=" + marker,
		"with a #":                    "postgres://gateway:12#" + marker + "@" + good.Host + "/x",
		"with a ?":                    "postgres://gateway:12?" + marker + "@" + good.Host + "/x",
		"with a /":                    "postgres://gateway:12/" + marker + "@" + good.Host + "/x",
		"with a / after letters":      "postgres://gateway:" + marker + "/12@" + good.Host + "/x",
		"with a %":                    "postgres://gateway:" + marker + "%zz@" + good.Host + "/x",
		"of something else":           "mysql://gateway:" + marker + "@" + good.Host + "/x",
	} {
		o, log := quietNode(t, url, "a")
		s, err := Open(t.Context(), o)
		if err == nil {
			_ = s.Close()
			t.Errorf("%s: got it open, want an error", name)
			continue
		}
		if text := err.Error() + log.String(); strings.Contains(text, marker) || strings.Contains(text, "12") && strings.HasPrefix(name, "with") && strings.Contains(text, "gateway") {
			t.Errorf("%s: got %s, want nothing of the password", name, text)
		}
	}
}

// Over TLS, the server is who its certificate says.
func TestPostgresTLS(t *testing.T) {
	if testDatabase != "" {
		t.Skip("this runs without that")
	}
	t.Parallel()
	server := postgrestest.StartTLS(t)
	verified := server.Database(t)
	if !strings.Contains(verified, "sslmode=verify-full") {
		t.Fatal("want a URL that verifies the server")
	}
	s := openNode(t, verified, "a")
	routes := routesTo(accept, "a")
	defer s.Attach(routes)()
	arrive(t, s, "a", "1")
	eventually(t, "it is delivered", func() bool { return len(routes.of("1")) == 1 })
	u, err := url.Parse(verified)
	if err != nil {
		t.Fatal(err)
	}
	q := u.Query()
	for name, change := range map[string]func(){
		"no TLS":             func() { q = url.Values{"sslmode": {"disable"}} },
		"nobody who vouches": func() { q = url.Values{"sslmode": {"verify-full"}} },
	} {
		change()
		u.RawQuery = q.Encode()
		if s, err := Open(t.Context(), nodeOptions(t, u.String(), "b")); err == nil {
			_ = s.Close()
			t.Errorf("%s: got it open, want an error", name)
		}
	}
}
