package inbox

import (
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"strings"
)

// Postgres says where the inbox of a fleet is: many processes have it open at
// once, and share all that is in it.
type Postgres struct {
	// URL is that of the database, postgres://user:password@host/database, with
	// the parameters of libpq: sslmode, sslrootcert, target_session_attrs. It may
	// name several hosts.
	URL string
	// Schema is where the tables are. It is made if it is not there. Two inboxes
	// in one database need two.
	Schema string
	// PoolSize is how many connections are used at most, one more aside that
	// listens. Default: 10.
	PoolSize int

	// deaf: it does not hear what others tell, and no batch waits for more. In the
	// time of a test, the one lets none pass, and the other takes some.
	deaf bool
	// hurry makes the intervals of the fleet so many times shorter. Default: 1.
	hurry int
}

// DefaultPoolSize is that of Postgres.
const DefaultPoolSize = 10

var schemaName = regexp.MustCompile(`^[a-z_][a-z0-9_]{0,62}$`)

// Check reports what is wrong with it. The texts of its errors hold nothing of
// the URL.
func (p *Postgres) Check() error {
	u, err := url.Parse(p.URL)
	switch {
	case errWithoutPostgres != nil:
		return errWithoutPostgres
	case err != nil || u.Scheme != "postgres" && u.Scheme != "postgresql":
		return errors.New("the URL of the database is not one such as postgres://user:password@host:5432/database?sslmode=verify-full")
	case strings.Contains(u.EscapedPath()+u.RawQuery+u.EscapedFragment(), "@"): // else a part of a password would be taken for a host
		return errors.New("the URL of the database has an @ behind its host: in a password, / is written %2F, ? %3F, # %23 and @ %40")
	case strings.Trim(u.Path, "/") == "":
		return errors.New("the URL names no database: it ends in one, as in postgres://user:password@host:5432/database")
	case !schemaName.MatchString(p.Schema):
		return fmt.Errorf("%q is no name of a schema: it has a-z, 0-9 and _, and at most 63 of them", p.Schema)
	case p.PoolSize < 0 || p.PoolSize == 1:
		return errors.New("the pool needs 2 connections or more")
	}
	return nil
}

// Place names the database and the schema, without any credentials.
func (p *Postgres) Place() string {
	u, err := url.Parse(p.URL)
	if err != nil {
		return p.Schema
	}
	return "postgres://" + u.Host + u.EscapedPath() + " schema " + p.Schema
}
