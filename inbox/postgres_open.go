//go:build !klavi_nopostgres

package inbox

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// postgresVersion is the version of the schema that this code reads and writes.
const postgresVersion = 1

// postgresMigrations are the steps from each version of the schema to the next.
// Nothing goes back.
var postgresMigrations = [postgresVersion][]string{
	0: postgresSchema,
}

// planning has the server search with indexes: all searches have theirs. A plan that was
// made while the tables were empty would be to read all of them, and be kept until they
// are analyzed. That it costs too much, by this reckoning, is no reason to compile it.
const planning = `SET enable_seqscan = off; SET jit = off`

// connected makes sure that a commit on this connection waits for the disk.
func (p *postgres) connected(ctx context.Context, conn *pgx.Conn) error {
	// Another server than PostgreSQL may have no such settings.
	if _, err := conn.PgConn().Exec(ctx, planning).ReadAll(); err != nil && pgCode(err) == "" {
		return err
	}
	var mode string
	if err := conn.QueryRow(ctx, `SHOW synchronous_commit`).Scan(&mode); err != nil || mode != "off" {
		return err
	}
	_, err := conn.Exec(ctx, `SET synchronous_commit = on`)
	return err
}

// migrate brings the schema to the version of this code, one node at a time. A
// visit changes nothing.
func (p *postgres) migrate(ctx context.Context, visit bool) error {
	said, about := "", []any{"inbox", p.place}
	err := p.inTx(ctx, func(t *tx) error {
		if err := t.exec(`SELECT pg_advisory_xact_lock(?)`, p.lockKey("schema", "")); err != nil {
			return err
		}
		version, canary, err := p.readMeta(t)
		switch {
		case err != nil:
			return err
		case version > postgresVersion:
			return fmt.Errorf("%w: %s was written by a newer version (schema %d): this one reads up to %d", ErrUnavailable, p.place, version, postgresVersion)
		case version == 0 && visit:
			return fmt.Errorf("%w: there is no inbox in %s", ErrNotFound, p.place)
		case version > 0:
			if err := p.keys.checkCanary(canary); err != nil {
				return fmt.Errorf("the inbox in %s: %w", p.place, err)
			}
		}
		if version == postgresVersion || visit {
			return nil
		}
		if version == 0 {
			if err := p.makeSchema(t); err != nil {
				return err
			}
		}
		for _, step := range postgresMigrations[version:] {
			for _, statement := range step {
				if _, err := t.count(statement); err != nil {
					return fmt.Errorf("%w: its tables cannot be made: %s", ErrUnavailable, reason(err))
				}
			}
		}
		if version == 0 {
			said = "a new inbox was begun: there was none in its database"
			return p.writeMeta(t, postgresVersion)
		}
		said, about = "the tables of the inbox are those of this version now", append(about, "from", version, "to", postgresVersion)
		return t.exec(`UPDATE meta SET value = ? WHERE key = ?`, []byte(strconv.Itoa(postgresVersion)), metaVersion)
	})
	if err == nil && said != "" {
		p.log.Info(said, about...)
	}
	return err
}

// makeSchema makes the schema, unless somebody else has: then this role need not
// be one that could.
func (p *postgres) makeSchema(t *tx) error {
	var there bool
	err := t.get([]any{&there}, `SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = ?)`, p.schema)
	if err != nil || there {
		return err
	}
	if _, err := t.count(`CREATE SCHEMA "` + p.schema + `"`); err != nil {
		return fmt.Errorf("%w: %s: the schema cannot be made: let somebody else do CREATE SCHEMA %s AUTHORIZATION %s: %s",
			ErrUnavailable, p.place, p.schema, p.config.User, reason(err))
	}
	return nil
}

// readMeta returns the version of what is there, 0 for nothing.
func (p *postgres) readMeta(t *tx) (version int, canary []byte, err error) {
	var there bool
	// The views of information_schema leave out what this role may not read.
	err = t.get([]any{&there}, `SELECT EXISTS (SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
		WHERE n.nspname = ? AND c.relname = 'meta')`, p.schema)
	if err != nil || !there {
		return 0, nil, err
	}
	var text []byte
	for key, value := range map[string]*[]byte{metaVersion: &text, metaCanary: &canary} {
		err := t.get([]any{value}, `SELECT value FROM meta WHERE key = ?`, key)
		if errors.Is(err, sql.ErrNoRows) {
			return 0, nil, fmt.Errorf("%w: the table meta in %s does not say what its %s is: is it an inbox?", ErrUnavailable, p.place, key)
		}
		if err != nil {
			return 0, nil, err
		}
	}
	if version, err = strconv.Atoi(string(text)); err != nil || version < 1 {
		return 0, nil, fmt.Errorf("%w: the version in %s is no number", ErrUnavailable, p.place)
	}
	return version, canary, nil
}

// recount reads what is kept in memory of the database: other nodes change it.
func (p *postgres) recount(ctx context.Context) error {
	return p.inTx(ctx, p.count)
}

// sayWeakness says what weakens the promise that a report that was acknowledged
// is safe, and what to do about it.
func (p *postgres) sayWeakness(ctx context.Context) {
	if inClear(p.config) {
		p.log.Warn("what the inbox sends to its database can be read on the way: add sslmode=verify-full to its URL", "inbox", p.place)
	}
	for name, what := range map[string]string{
		"fsync":              "a crash of the database's machine may lose reports that were acknowledged, or all of them: set it to on",
		"full_page_writes":   "a crash of the database's machine may damage it: set it to on",
		"synchronous_commit": "the gateway turns it on for what it writes; set it to on, or grant its role no weaker one",
	} {
		var value string
		err := p.db.QueryRowContext(ctx, `SELECT coalesce((SELECT setting FROM pg_settings WHERE name = $1), '')`, name).Scan(&value)
		if name == "synchronous_commit" { // this connection has its own
			err = p.db.QueryRowContext(ctx, `SELECT coalesce((SELECT reset_val FROM pg_settings WHERE name = $1), '')`, name).Scan(&value)
		}
		if err == nil && value == "off" {
			p.log.Warn("the database of the inbox is set up too weakly: "+what, "inbox", p.place, "setting", name+" = off")
		}
	}
	var seconds float64
	err := p.db.QueryRowContext(ctx, `SELECT extract(epoch FROM clock_timestamp())::float8`).Scan(&seconds)
	if err != nil {
		return
	}
	if off := time.UnixMilli(int64(seconds * 1000)).Sub(p.now()); off.Abs() > clockOff {
		p.log.Warn("the clock of this machine is not that of its database: nodes whose clocks differ by more may deliver reports twice",
			"inbox", p.place, "difference", off.Round(time.Second))
	}
}

// clockOff is less than the margin of a claim.
const clockOff = 10 * time.Second

// inClear says whether a connection may be made over a network without TLS: that is
// so by default where the server has none.
func inClear(config *pgx.ConnConfig) bool {
	if config.TLSConfig == nil && !isLocal(config.Host) {
		return true
	}
	return slices.ContainsFunc(config.Fallbacks, func(f *pgconn.FallbackConfig) bool { return f.TLSConfig == nil && !isLocal(f.Host) })
}

func isLocal(host string) bool {
	if strings.HasPrefix(host, "/") || host == "localhost" {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}
