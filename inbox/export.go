package inbox

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
)

// Export opens the body of a report for a person. Who it is and why stands in
// the record, on disk, before there is a first byte of it. Once a report is
// delivered, dropped or erased, there is none: that is ErrGone.
func (s *Store) Export(ctx context.Context, uid, who, why string) (io.ReadCloser, error) {
	if who == "" || why == "" {
		return nil, errors.New("inbox: a report is exported for somebody and for a reason: say who and why")
	}
	var id int64
	err := s.read(ctx, func(db reads) error {
		return db.QueryRowContext(ctx, `SELECT id FROM reports WHERE uid = ?`, uid).Scan(&id)
	})
	if errors.Is(err, sql.ErrNoRows) {
		return nil, fmt.Errorf("%w: no report has the uid %s", ErrNotFound, uid)
	}
	if err != nil {
		return nil, err
	}
	d, err := s.load(ctx, id)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, s.explain(ctx, Filter{UID: uid})
	}
	if err != nil {
		return nil, err
	}
	if err := s.write(ctx, func(t *tx) error { return s.noteAction(t, who, "export", uid, why) }); err != nil {
		return nil, err
	}
	return d.Body()
}
