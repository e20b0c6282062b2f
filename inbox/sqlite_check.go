package inbox

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"
)

// checkWait is for how long an opening waits for the check of the database.
// That of a large one goes on while it is used.
const checkWait = 500 * time.Millisecond

// damagedError says that what is in the database is not what was written.
type damagedError struct{ error }

func (e *damagedError) Unwrap() error { return e.error }

func damaged(format string, args ...any) error {
	return &damagedError{fmt.Errorf(format, args...)}
}

// check begins to look for damage, and waits a little. When that is done, the
// channel gives its error once and is closed.
func (s *sqlite) check(ctx context.Context) (<-chan error, error) {
	checking, cancel := context.WithCancel(context.WithoutCancel(ctx))
	s.stopCheck = cancel
	done := make(chan error, 1)
	s.tasks.Go(func() {
		defer close(done)
		err := s.files.at(atCheck)
		if err == nil {
			err = s.readDB(func(db *sql.DB) error { return checkDatabase(checking, db) })
		}
		done <- asDamage(err)
	})
	timer := time.NewTimer(checkWait)
	defer timer.Stop()
	select {
	case err := <-done:
		return done, err
	case <-timer.C:
	case <-ctx.Done():
		cancel()
		return done, ctx.Err()
	}
	result := make(chan error, 1)
	s.tasks.Go(func() {
		defer close(result)
		err := <-done
		if isDamage(err) {
			s.suspect(err)
		}
		result <- err
	})
	return result, nil
}

// The bytes of the header of a database that never change.
var headerBytes = map[int]string{
	0:  "SQLite format 3\x00",
	16: "\x10\x00\x02\x02\x00\x40\x20\x20", // the size of a page, its log, how it is filled
}

func checkHeader(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return failure(err)
	}
	defer f.Close()
	header := make([]byte, 100)
	if n, err := f.ReadAt(header, 0); n < len(header) {
		return errors.Join(damaged("its header is cut off"), err)
	}
	for at, want := range headerBytes {
		if got := string(header[at : at+len(want)]); got != want {
			return damaged("byte %d of its header", at)
		}
	}
	return nil
}

// openToCheck opens the database so that nothing of it changes, not even when it
// is closed.
func openToCheck(path string) (*sql.DB, error) {
	return openSQLite(path, 1, url.Values{"mode": {"ro"}})
}

// checkDatabase looks for what has changed since it was written. It returns a
// damagedError if something has.
func checkDatabase(ctx context.Context, db *sql.DB) error {
	var result string
	if err := db.QueryRowContext(ctx, `PRAGMA integrity_check(1)`).Scan(&result); err != nil {
		return err
	}
	if result != "ok" {
		return damaged("%s", result)
	}
	tables, err := db.QueryContext(ctx, `SELECT t.name, group_concat(c.name) FROM sqlite_schema t, pragma_table_xinfo(t.name) c
		WHERE t.type = 'table' AND c.name NOT IN ('sum', 'body') GROUP BY t.name HAVING t.name <> 'refs'`)
	if err != nil {
		return err
	}
	defer tables.Close()
	queries := make(map[string]string)
	for tables.Next() {
		var name, columns string
		if err := tables.Scan(&name, &columns); err != nil {
			return err
		}
		queries[name] = fmt.Sprintf(`SELECT count(*) FROM %s WHERE sum <> rowsum('%[1]s', %s)`, name, columns)
	}
	if err := errors.Join(tables.Err(), tables.Close()); err != nil {
		return err
	}
	for name, query := range queries {
		var n int
		if err := db.QueryRowContext(ctx, query).Scan(&n); err != nil {
			return err
		}
		if n > 0 {
			return damaged("%d rows of %s", n, name)
		}
	}
	return checkRefs(ctx, db)
}

// checkRefs compares refs with what the reports say, at one time.
func checkRefs(ctx context.Context, db *sql.DB) error {
	now, err := db.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
	if err != nil {
		return err
	}
	defer func() { _ = now.Rollback() }()
	var want, got int64 // sums, whatever the order
	rows, err := now.QueryContext(ctx, `SELECT id, refs FROM reports`)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var id int64
		var text string
		if err := rows.Scan(&id, &text); err != nil {
			return err
		}
		var r refs
		if err := json.Unmarshal([]byte(text), &r); err != nil {
			return damaged("the refs of a report")
		}
		_ = r.each(func(kind, value string) error {
			want += rowSum([]driver.Value{kind, value, id})
			return nil
		})
	}
	if err := errors.Join(rows.Err(), rows.Close()); err != nil {
		return err
	}
	rows, err = now.QueryContext(ctx, `SELECT kind, value, report FROM refs`)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var kind, value string
		var id int64
		if err := rows.Scan(&kind, &value, &id); err != nil {
			return err
		}
		got += rowSum([]driver.Value{kind, value, id})
	}
	if err := rows.Err(); err != nil {
		return err
	}
	if got != want {
		return damaged("by what its reports are found")
	}
	return nil
}

// checkSchema compares the tables with those that this code makes.
func checkSchema(ctx context.Context, db *sql.DB) error {
	rows, err := db.QueryContext(ctx, `SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL`)
	if err != nil {
		return err
	}
	defer rows.Close()
	n := 0
	for rows.Next() {
		var text string
		if err := rows.Scan(&text); err != nil {
			return err
		}
		if !slices.Contains(schema, text) {
			name, _, _ := strings.Cut(text, "(")
			return damaged("%s has changed", strings.TrimSpace(name))
		}
		n++
	}
	if err := rows.Err(); err != nil {
		return err
	}
	if n != len(schema) {
		return damaged("%d of its %d tables and indexes are there", n, len(schema))
	}
	return nil
}
