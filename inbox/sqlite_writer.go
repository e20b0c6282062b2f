package inbox

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"

	sqlite3 "modernc.org/sqlite/lib"
)

var (
	errBusy  = errors.New("inbox: somebody reads")
	errStale = fmt.Errorf("%w: a sync of its folder has failed since it was written", ErrUnavailable)
)

// writer is the one connection that writes, and its prepared statements. Only
// the goroutine of Store.writeLoop uses it.
type writer struct {
	db    *sql.DB
	conn  *sql.Conn
	info  os.FileInfo // of the file
	stmts map[string]*sql.Stmt
	lazy  bool // synchronous is NORMAL
}

func newWriter(path string) (*writer, error) {
	db, err := openWriter(path)
	if err != nil {
		return nil, err
	}
	conn, err := db.Conn(context.Background())
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	info, err := os.Stat(path)
	if err != nil {
		return nil, errors.Join(err, conn.Close(), db.Close())
	}
	return &writer{db: db, conn: conn, info: info, stmts: make(map[string]*sql.Stmt)}, nil
}

func (w *writer) close() error {
	for _, stmt := range w.stmts {
		_ = stmt.Close()
	}
	_ = w.conn.Close()
	return w.db.Close()
}

func (w *writer) sameFile(path string) bool {
	info, err := os.Stat(path)
	return err == nil && os.SameFile(info, w.info)
}

func (w *writer) exec(query string, args ...any) error {
	_, err := w.count(query, args...)
	return err
}

func (w *writer) count(query string, args ...any) (int64, error) {
	stmt, err := w.prepare(query) //nolint:sqlclosecheck // it is kept
	if err != nil {
		return 0, err
	}
	result, err := stmt.Exec(args...)
	if err != nil {
		return 0, err
	}
	return result.RowsAffected()
}

func (w *writer) each(scan func(row) error, query string, args ...any) error {
	stmt, err := w.prepare(query) //nolint:sqlclosecheck // it is kept
	if err != nil {
		return err
	}
	rows, err := stmt.Query(args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := scan(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}

func (w *writer) get(dest []any, query string, args ...any) error {
	stmt, err := w.prepare(query) //nolint:sqlclosecheck // it is kept
	if err != nil {
		return err
	}
	return stmt.QueryRow(args...).Scan(dest...)
}

// prepare keeps what it has prepared: the texts of all statements stand in this
// package, so there are only so many.
func (w *writer) prepare(query string) (*sql.Stmt, error) {
	if stmt := w.stmts[query]; stmt != nil {
		return stmt, nil
	}
	stmt, err := w.conn.PrepareContext(context.Background(), query)
	if err != nil {
		return nil, err
	}
	w.stmts[query] = stmt
	return stmt, nil
}

func (w *writer) run(query string) error {
	stmt, err := w.prepare(query) //nolint:sqlclosecheck // it is kept
	if err != nil {
		return err
	}
	_, err = stmt.Exec()
	return err
}

// pragma runs what must not be prepared: it takes effect when it is compiled.
func (w *writer) pragma(query string, result ...any) error {
	if len(result) == 0 {
		_, err := w.conn.ExecContext(context.Background(), query)
		return err
	}
	return w.conn.QueryRowContext(context.Background(), query).Scan(result...)
}

// checkpoint writes the log to the database and makes it empty.
func (w *writer) checkpoint() error {
	if err := w.pragma("PRAGMA busy_timeout = 0"); err != nil {
		return err
	}
	var busy, frames, done int
	err := w.pragma("PRAGMA wal_checkpoint(TRUNCATE)", &busy, &frames, &done)
	if err == nil && busy != 0 {
		err = errBusy
	}
	return errors.Join(err, w.pragma(fmt.Sprintf("PRAGMA busy_timeout = %d", busyTimeout)))
}

// vacuum gives up to n pages back, and says whether there are more.
func (w *writer) vacuum(n int) (more bool, err error) {
	var free int
	if err := w.pragma("PRAGMA freelist_count", &free); err != nil || free == 0 {
		return false, err
	}
	return free > n, w.pragma(fmt.Sprintf("PRAGMA incremental_vacuum(%d)", n))
}

// transact runs the operations in one transaction. It is an uncertainError that
// comes from the commit.
func (w *writer) transact(ops []*op) error {
	lazy := true
	for _, o := range ops {
		lazy = lazy && o.lazy
	}
	if lazy != w.lazy {
		mode := "PRAGMA synchronous = FULL"
		if lazy {
			mode = "PRAGMA synchronous = NORMAL"
		}
		if err := w.pragma(mode); err != nil {
			return err
		}
		w.lazy = lazy
	}
	if err := w.run("BEGIN IMMEDIATE"); err != nil {
		return err
	}
	t := &tx{statements: w}
	if err := t.run(ops); err != nil {
		return errors.Join(err, w.rollback())
	}
	if err := w.run("COMMIT"); err != nil {
		_ = w.rollback()
		if code := sqliteCode(err); code == sqlite3.SQLITE_FULL || code == sqlite3.SQLITE_BUSY {
			return err
		}
		return uncertainError{err}
	}
	for _, fn := range t.after {
		fn()
	}
	return nil
}

// rollback does nothing where SQLite has rolled back already.
func (w *writer) rollback() error {
	err := w.run("ROLLBACK")
	if sqliteCode(err) == sqlite3.SQLITE_ERROR { // no transaction is active
		return nil
	}
	return err
}

func (s *sqlite) runRaw(o *op) error {
	if err := s.repair(); err != nil {
		return err
	}
	err := o.raw(s.w)
	s.note(err)
	return failure(err)
}

// transact writes one batch.
func (s *sqlite) transact(ops []*op) error {
	if ops[0].raw != nil {
		return s.runRaw(ops[0])
	}
	if err := s.repair(); err != nil {
		return err
	}
	if err := s.owns(); err != nil {
		s.note(err)
		return err
	}
	var intake, moved bool
	for _, o := range ops {
		intake = intake || o.intake
		moved = moved || o.moved != nil
	}
	if moved {
		if err := s.files.syncBodies(); err != nil {
			return failure(err)
		}
		for _, o := range ops {
			if o.moved != nil && s.files.stale(o.moved) {
				return errStale
			}
		}
	}
	if err := s.files.at(atCommit); err != nil {
		return failure(err)
	}
	err := s.w.transact(ops)
	for _, makeRoom := range []func() bool{s.useLog, s.useReserve} {
		if sqliteCode(err) == sqlite3.SQLITE_FULL && !intake && makeRoom() {
			err = s.w.transact(ops)
		}
	}
	if err == nil {
		if err = errors.Join(s.files.at(atCommitted), s.owns()); err != nil {
			err = uncertainError{err}
		}
	}
	s.note(err)
	return failure(err)
}

// retryAlone is true where one of them is wrong, and must not take the others with it.
func (s *sqlite) retryAlone(error) bool { return s.trouble.get() == nil }

func (s *sqlite) read(_ context.Context, fn func(reads) error) error {
	return s.readDB(func(db *sql.DB) error { return fn(reads{db: db}) })
}

func (s *sqlite) readDB(fn func(*sql.DB) error) error {
	s.swap.RLock()
	defer s.swap.RUnlock()
	if s.readers == nil {
		if err := s.trouble.get(); err != nil {
			return err
		}
		return errClosed
	}
	err := fn(s.readers)
	if isCorrupt(err) {
		s.suspect(err)
	}
	return err
}
