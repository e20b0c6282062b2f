package inbox

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strconv"

	sqlite3 "modernc.org/sqlite/lib"
)

const (
	metaVersion = "version"
	metaCanary  = "canary"
)

// createTables makes the tables of an empty database.
func createTables(t *tx) error {
	for _, statement := range schema {
		if err := t.exec(statement); err != nil {
			return err
		}
	}
	return nil
}

func (s *Store) writeMeta(t *tx, version int) error {
	const insert = `INSERT INTO meta (key, value) VALUES (?, ?)`
	if err := t.exec(insert, metaVersion, []byte(strconv.Itoa(version))); err != nil {
		return err
	}
	return t.exec(insert, metaCanary, s.keys.canary())
}

func (s *sqlite) begin(t *tx) error { return s.writeMeta(t, sqliteVersion) }

// migrate has older versions refuse what this one may write.
func migrate(t *tx) error {
	version := []byte(strconv.Itoa(sqliteVersion))
	return t.exec(`UPDATE meta SET value = ?1 WHERE key = ?2 AND value <> ?1`, version, metaVersion)
}

// inspect reads the database without changing a byte of it. Its error is a
// damagedError where nobody can work with it as it is. It is empty if the one
// who began it did not get far.
func (s *sqlite) inspect(ctx context.Context, path string, log *walLog) (empty bool, err error) {
	if err := checkHeader(path); err != nil {
		return false, err
	}
	db, err := openToCheck(path)
	if err != nil {
		return false, err
	}
	defer db.Close()
	var tables, pages int
	err = db.QueryRowContext(ctx, `SELECT count(*), (SELECT page_count FROM pragma_page_count) FROM sqlite_schema`).Scan(&tables, &pages)
	if err != nil {
		return false, asDamage(err)
	}
	if tables == 0 && pages <= 2 && !log.broken {
		return true, nil
	}
	version, canary, err := readMeta(ctx, db)
	if err != nil {
		return false, asDamage(err)
	}
	if err := s.checkMeta(version, canary); err != nil {
		return false, err
	}
	if err := checkSchema(ctx, db); err != nil || !log.broken {
		return false, asDamage(err)
	}
	return false, asDamage(checkDatabase(ctx, db))
}

func readMeta(ctx context.Context, db *sql.DB) (version, canary []byte, err error) {
	for key, value := range map[string]*[]byte{metaVersion: &version, metaCanary: &canary} {
		err := db.QueryRowContext(ctx, `SELECT value FROM meta WHERE key = ? AND sum = rowsum('meta', id, key, value)`, key).Scan(value)
		if errors.Is(err, sql.ErrNoRows) {
			return nil, nil, damaged("it does not say what its %s is", key)
		}
		if err != nil {
			return nil, nil, err
		}
	}
	return version, canary, nil
}

// asDamage takes the errors with which SQLite says that it does not understand
// what it reads for damage.
func asDamage(err error) error {
	if isCorrupt(err) || sqliteCode(err) == sqlite3.SQLITE_ERROR {
		return damaged("%w", err)
	}
	return err
}

// isDamage reports whether an error says that the database is damaged.
func isDamage(err error) bool {
	return isCorrupt(err) || errors.As(err, new(*damagedError))
}

func (s *Store) checkMeta(version, canary []byte) error {
	number, err := strconv.Atoi(string(version))
	if err != nil {
		return damaged("its version is no number")
	}
	if number > sqliteVersion {
		return fmt.Errorf("%w: %s was written by a newer version (schema %d): this one reads up to %d",
			ErrUnavailable, s.files.path(dbName), number, sqliteVersion)
	}
	if err := s.keys.checkCanary(canary); err != nil {
		return fmt.Errorf("the inbox in %s: %w", s.dir, err)
	}
	return nil
}
