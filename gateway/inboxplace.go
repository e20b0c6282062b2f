package gateway

import (
	"cmp"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-klavi/caddy-klavi/inbox"
)

// PostgresInbox is the database that an inbox of several processes is in.
//
// The URL is that of the process that is running: what a reload changes in it,
// or in PoolSize, is in force after a restart, unless it names another database.
type PostgresInbox struct {
	// URL is that of the database, with the parameters of libpq: best a
	// placeholder, or with one for the password, as in
	// `postgres://klavi:{env.KLAVI_DB_PASSWORD}@db.internal:5432/klavi?sslmode=verify-full`.
	// What is no letter or digit is percent-encoded in a password, also behind a
	// placeholder. It can name several hosts, with commas between them. Required.
	URL string `json:"url,omitempty"`

	// Schema is where the tables are. It is made if it is not there. Two accounts
	// cannot have the same in one database. Default: `klavi` for the account
	// `default`, else `klavi_<account>`.
	Schema string `json:"schema,omitempty"`

	// PoolSize is how many connections this process uses at most, 2 or more, beside
	// one that listens. Default: 10.
	PoolSize int `json:"pool_size,omitempty"`
}

const (
	defaultSchema = "klavi"
	// maxSchema is how long PostgreSQL lets the name of a schema be.
	maxSchema = 63
)

// Resolve returns the database for the inbox of an account, without placeholders.
// Its errors show nothing of the URL.
func (p *PostgresInbox) Resolve(account string) (*inbox.Postgres, error) {
	text, err := resolve(caddy.NewReplacer(), "url", p.URL)
	if err != nil {
		return nil, err
	}
	schema := p.Schema
	if schema == "" {
		if schema = schemaOf(account); schema == "" {
			return nil, fmt.Errorf("schema is needed: none can be called after the account %q", account)
		}
	}
	db := &inbox.Postgres{URL: text, Schema: schema, PoolSize: cmp.Or(p.PoolSize, inbox.DefaultPoolSize)}
	return db, db.Check()
}

// schemaOf returns the schema of an account that names none, empty if it must.
func schemaOf(account string) string {
	name := defaultSchema + "_" + account
	switch {
	case account == DefaultAccount:
		return defaultSchema
	case len(name) > maxSchema, strings.Trim(account, "abcdefghijklmnopqrstuvwxyz0123456789_") != "":
		return ""
	}
	return name
}

// hasPassword reports whether a password is written out in the URL.
func (p *PostgresInbox) hasPassword() bool {
	_, rest, _ := strings.Cut(p.URL, "://")
	user := rest[:max(strings.LastIndex(rest, "@"), 0)]
	_, password, _ := strings.Cut(user, ":")
	return password != "" && !strings.Contains(password, "{")
}

// inboxPlace is where an inbox is: in a directory, or in a database.
type inboxPlace struct {
	dir      string // that of the spool, if there is a database
	postgres *inbox.Postgres
}

// findInbox returns where the account's inbox is.
func (a *Account) findInbox() (inboxPlace, error) {
	p := inboxPlace{postgres: a.postgres}
	if a.postgres != nil && !a.Inbox.Spool {
		return p, nil
	}
	dir, err := InboxDir(a.name, a.Inbox.Dir)
	p.dir = realPath(dir)
	return p, err
}

// String names it for people, without any credentials.
func (p inboxPlace) String() string {
	if p.postgres != nil {
		return p.postgres.Place()
	}
	return p.dir
}

// field is the name of its field in a log.
func (p inboxPlace) field() string {
	if p.postgres != nil {
		return "database"
	}
	return "dir"
}

// key is the same for all ways to one inbox: a database has other credentials and
// parameters tomorrow.
func (p inboxPlace) key() string {
	if p.postgres == nil {
		return p.dir
	}
	u, err := url.Parse(p.postgres.URL)
	if err != nil { // it was checked
		return p.String()
	}
	hosts := strings.Split(strings.ToLower(u.Host), ",")
	for i := range hosts {
		hosts[i] = strings.TrimSuffix(hosts[i], ":5432")
	}
	return "postgres://" + strings.Join(hosts, ",") + "/" + strings.Trim(u.Path, "/") + "\x00" + p.postgres.Schema
}

// conflict says what two accounts cannot both have, if there is such a thing.
func (p inboxPlace) conflict(other inboxPlace) string {
	switch {
	case p.dir != "" && p.dir == other.dir:
		return "dir"
	case p.key() == other.key():
		return "schema"
	}
	return ""
}

// sameWay reports whether two ways to one inbox are the same.
func (p inboxPlace) sameWay(other inboxPlace) bool {
	if p.postgres == nil || other.postgres == nil {
		return p == other
	}
	return p.dir == other.dir && *p.postgres == *other.postgres
}

// InboxDir returns the directory of an account's inbox: the one that the config
// names, whose placeholders it replaces, or the default one.
func InboxDir(account, dir string) (string, error) {
	if dir != "" {
		dir, err := resolve(caddy.NewReplacer(), "dir", dir)
		if err != nil {
			return "", err
		}
		return filepath.Abs(dir)
	}
	if !isFileName(account) {
		return "", fmt.Errorf("dir is needed: a directory cannot be called after the account %q", account)
	}
	return filepath.Join(caddy.AppDataDir(), "klavi", "inbox", account), nil
}

func isFileName(name string) bool {
	return name != "" && name[0] != '.' &&
		strings.Trim(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.") == ""
}

// realPath follows the links of a path, of which the end need not be there.
func realPath(path string) string {
	rest := ""
	for at := path; ; at = filepath.Dir(at) {
		if real, err := filepath.EvalSymlinks(at); err == nil {
			return filepath.Join(real, rest)
		}
		if _, err := os.Lstat(at); err == nil || at == filepath.Dir(at) {
			return path // a link that leads nowhere
		}
		rest = filepath.Join(filepath.Base(at), rest)
	}
}
