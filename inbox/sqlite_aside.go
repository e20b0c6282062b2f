package inbox

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"strings"
	"time"
)

// forget empties the log of the database, and returns the databases that were set
// aside.
func (s *sqlite) forget(ctx context.Context) ([]string, error) {
	emptied := s.emptyLog(ctx)
	copies, err := s.files.copies()
	if err == nil && !emptied {
		copies = append(copies, s.files.path(dbName)+"-wal")
	}
	return copies, err
}

// emptyLog removes what the rows that were erased held from the log of the
// database. Somebody who reads for long keeps it from that; then maintain does it
// later.
func (s *sqlite) emptyLog(ctx context.Context) bool {
	const patience, pause = 20, 100 * time.Millisecond
	for range patience {
		if !s.untidy.Load() || s.tidy(ctx) == nil {
			return true
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return false
		}
	}
	return false
}

// removeAside removes what was set aside before a time: databases, and bodies
// without a row. Those that have one go with it.
func (s *sqlite) removeAside(ctx context.Context, before time.Time) error {
	entries, err := os.ReadDir(s.files.path(damagedName))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for _, entry := range entries {
		name := entry.Name()
		info, statErr := entry.Info()
		if statErr != nil || !info.ModTime().Before(before) {
			continue
		}
		if strings.HasPrefix(name, dbName) || s.hasNoBody(ctx, name) {
			err = errors.Join(err, s.files.remove(s.files.path(damagedName, name)))
		}
	}
	return err
}

// hasNoBody says whether no report that is on record has the body in a file that was
// set aside.
func (s *sqlite) hasNoBody(ctx context.Context, name string) bool {
	query := `SELECT count(*) FROM bodies b JOIN reports r ON r.id = b.report WHERE r.uid = ?`
	if _, ok := asPlace(name); ok {
		query = `SELECT count(*) FROM bodies WHERE file = ?`
	}
	n := 1
	err := s.read(ctx, func(db reads) error { return db.QueryRowContext(ctx, query, name).Scan(&n) })
	return err == nil && n == 0
}

// copies are the databases that were set aside.
func (f *files) copies() ([]string, error) {
	entries, err := os.ReadDir(f.path(damagedName))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var names []string
	for _, entry := range entries {
		if strings.HasPrefix(entry.Name(), dbName) {
			names = append(names, f.path(damagedName, entry.Name()))
		}
	}
	return names, err
}
