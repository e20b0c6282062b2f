package gateway

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-klavi/caddy-klavi/inbox"
)

func TestPostgresInbox(t *testing.T) {
	t.Setenv("TEST_PASSWORD", "hunter2")
	t.Setenv("TEST_ODD_PASSWORD", "12/hunter2")
	t.Setenv("TEST_DATABASE", "postgres://klavi:hunter2@a:5432,b:5432/klavi?target_session_attrs=read-write")
	const db = "postgres://klavi@db/klavi"
	long := strings.Repeat("a", 57)
	for _, tt := range []struct {
		account     string
		in          PostgresInbox
		want, fails string
	}{
		{"default", PostgresInbox{URL: db}, db + " klavi 10", ""},
		{"partner_2", PostgresInbox{URL: db}, db + " klavi_partner_2 10", ""},
		{long, PostgresInbox{URL: db}, db + " klavi_" + long + " 10", ""},
		{"Partner-2", PostgresInbox{URL: db, Schema: "p2", PoolSize: 20}, db + " p2 20", ""},
		{"default", PostgresInbox{URL: "postgres://klavi:{env.TEST_PASSWORD}@db/klavi"}, "postgres://klavi:hunter2@db/klavi klavi 10", ""},
		{"default", PostgresInbox{URL: "{env.TEST_DATABASE}"}, "postgres://klavi:hunter2@a:5432,b:5432/klavi?target_session_attrs=read-write klavi 10", ""},
		{"default", PostgresInbox{URL: "postgres:///klavi?host=/run/postgresql"}, "postgres:///klavi?host=/run/postgresql klavi 10", ""},
		{"Partner-2", PostgresInbox{URL: db}, "", `schema is needed: none can be called after the account "Partner-2"`},
		{long + "a", PostgresInbox{URL: db}, "", "schema is needed"},
		{"default", PostgresInbox{URL: "postgres://klavi:{env.TEST_PASSWORD}@db"}, "", "the URL names no database"},
		{"default", PostgresInbox{URL: "postgres://klavi:{env.TEST_ODD_PASSWORD}@db/klavi"}, "", "in a password, / is written %2F"},
		{"default", PostgresInbox{URL: "postgres://klavi:12?hunter2@db/klavi"}, "", "in a password, / is written %2F"},
		{"default", PostgresInbox{URL: "postgres://klavi:12#hunter2@db/klavi"}, "", "in a password, / is written %2F"},
		{"default", PostgresInbox{URL: "postgres://klavi:a@b/hunter2@db/klavi"}, "", "in a password, / is written %2F"},
		{"default", PostgresInbox{URL: "postgres://klavi:hunter2/@db/klavi"}, "", "the URL of the database is not one such as"},
		{"default", PostgresInbox{URL: "mysql://klavi:hunter2@db/klavi"}, "", "the URL of the database is not one such as"},
		{"default", PostgresInbox{URL: db, PoolSize: -2}, "", "the pool needs 2 connections or more"},
	} {
		got, err := tt.in.Resolve(tt.account)
		if tt.fails != "" {
			if err == nil || !strings.Contains(err.Error(), tt.fails) || strings.Contains(err.Error(), "hunter2") {
				t.Errorf("%s, %+v: got %v, want %q and no password", tt.account, tt.in, err, tt.fails)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s, %+v: got %v, want no error", tt.account, tt.in, err)
			continue
		}
		if text := got.URL + " " + got.Schema + " " + slog.IntValue(got.PoolSize).String(); text != tt.want {
			t.Errorf("%s, %+v: got %s, want %s", tt.account, tt.in, text, tt.want)
		}
	}
}

func TestPasswordWrittenOut(t *testing.T) {
	for url, want := range map[string]bool{
		"postgres://klavi:hunter2@db/klavi":                      true,
		"postgres://{env.USER}:hunter2@{env.HOST}/klavi":         true,
		"postgres://klavi:hunter2@db/klavi?sslrootcert={env.CA}": true,
		"postgres://klavi:{env.PASSWORD}@db/klavi":               false,
		"postgres://klavi:{file./run/secrets/db}@db:5432/klavi":  false,
		"postgres://klavi@db:5432/klavi":                         false,
		"postgres://db:5432/klavi":                               false,
		"{env.DATABASE_URL}":                                     false,
		"{file./run/secrets/db}":                                 false,
		"":                                                       false,
	} {
		if got := (&PostgresInbox{URL: url}).hasPassword(); got != want {
			t.Errorf("%q: got %v, want %v", url, got, want)
		}
	}
}

// A reload with other credentials keeps the inbox open as it is, and says so. One
// that is not open yet is opened with them: the ones before may be why it is not.
func TestKeeperOfDatabase(t *testing.T) {
	place := func(url string, pool int) inboxPlace {
		return inboxPlace{postgres: &inbox.Postgres{URL: url, Schema: "klavi", PoolSize: pool}}
	}
	before := place("postgres://klavi:hunter2@db:5432/klavi", 10)
	acquire := func(p inboxPlace) *keeper {
		t.Helper()
		k, err := acquireKeeper("database", p)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { giveBack(t, k) })
		return k
	}
	k := acquire(before)
	if other := acquire(place("postgres://klavi:hunter2@other/klavi", 10)); other == k {
		t.Error("got one keeper for two databases, want two")
	}
	var log bytes.Buffer
	config := func(p inboxPlace) *startedConfig {
		log.Reset()
		return &startedConfig{account: &Account{place: p}, reports: &fakeReports{route: "it"}, log: slog.NewTextHandler(&log, nil)}
	}
	expect := func(name string, says bool) {
		t.Helper()
		const want = `in force after a restart of Caddy" database="postgres://db:5432/klavi schema klavi"`
		if got := log.String(); strings.Contains(got, want) != says || (got != "") != says || strings.Contains(got, "hunter") {
			t.Errorf("%s: got %q, want that it says so: %v", name, got, says)
		}
	}
	reloads := []struct {
		name string
		next inboxPlace
		says bool
	}{
		{"the same", before, false},
		{"another password", place("postgres://klavi:hunter3@db:5432/klavi", 10), true},
		{"another pool", place("postgres://klavi:hunter2@db:5432/klavi", 20), true},
		{"another parameter", place("postgres://klavi:hunter2@db/klavi?sslmode=require", 10), true},
		{"a spool", inboxPlace{dir: t.TempDir(), postgres: before.postgres}, true},
	}
	for _, r := range reloads {
		if acquire(r.next) != k {
			t.Errorf("%s: got a second keeper for one database, want the first", r.name)
		}
		k.setNewest(config(r.next))
		if o := k.options(); o.Postgres != r.next.postgres || o.Dir != r.next.dir || o.Spool != (r.next.dir != "") {
			t.Errorf("%s: got %+v, want it opened as the newest config has it", r.name, o)
		}
	}

	// What is open meanwhile is not what the newest config has.
	store, err := inbox.Open(t.Context(), inbox.Options{Dir: t.TempDir(), Unencrypted: true, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	log.Reset()
	if !k.use(store, inbox.Options{Postgres: before.postgres}) {
		t.Fatal("got a store that is not used, want it used")
	}
	expect("a reload while it is opened", true)
	for _, r := range reloads {
		c := config(r.next)
		if err := k.start(c); err != nil {
			t.Fatal(err)
		}
		expect(r.name, r.says)
		k.stop(c)
	}
}

func TestInboxDir(t *testing.T) {
	t.Setenv("TEST_STATE", "/var/lib/klavi")
	t.Setenv("XDG_DATA_HOME", "/data")
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	byDefault := filepath.Join(caddy.AppDataDir(), "klavi", "inbox")
	for _, tt := range []struct{ account, dir, want, fails string }{
		{"default", "", filepath.Join(byDefault, "default"), ""},
		{"Partner-2_b.example", "", filepath.Join(byDefault, "Partner-2_b.example"), ""},
		{"default", "/srv/inbox/", "/srv/inbox", ""},
		{"default", "inbox", filepath.Join(here, "inbox"), ""},
		{"default", "{env.TEST_STATE}/inbox", "/var/lib/klavi/inbox", ""},
		{"default", "{env.TEST_UNSET}/inbox", "", "dir: evaluated placeholder {env.TEST_UNSET} is empty"},
		{"default", "{nope}/inbox", "", "dir: unrecognized placeholder {nope}"},
		{"ação", "/srv/inbox", "/srv/inbox", ""},
		{"ação", "", "", `dir is needed: a directory cannot be called after the account "ação"`},
		{"../default", "", "", `dir is needed: a directory cannot be called after the account "../default"`},
		{".hidden", "", "", "dir is needed"},
		{"", "", "", "dir is needed"},
	} {
		got, err := InboxDir(tt.account, tt.dir)
		if got != tt.want || (err == nil) != (tt.fails == "") || err != nil && !strings.Contains(err.Error(), tt.fails) {
			t.Errorf("%q, %q: got %q, %v, want %q, %q", tt.account, tt.dir, got, err, tt.want, tt.fails)
		}
	}
}

func TestRealPath(t *testing.T) {
	base, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	there := filepath.Join(base, "there")
	if err := os.Mkdir(there, 0o700); err != nil {
		t.Fatal(err)
	}
	for name, target := range map[string]string{"link": there, "nowhere": filepath.Join(base, "gone")} {
		if err := os.Symlink(target, filepath.Join(base, name)); err != nil {
			t.Fatal(err)
		}
	}
	for path, want := range map[string]string{
		"there": there, "link": there, "link/a/b": filepath.Join(there, "a/b"), "a/b": filepath.Join(base, "a/b"),
		"nowhere/a": filepath.Join(base, "nowhere/a"),
	} {
		if got := realPath(filepath.Join(base, path)); got != want {
			t.Errorf("%s: got %s, want %s", path, got, want)
		}
	}
}
