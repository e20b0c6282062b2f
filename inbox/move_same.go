package inbox

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"
)

// metaMove is a mark by which a store is known again for a moment.
const metaMove = "move"

// differ returns an error if both are one store: all that is in it would be found in
// the other one, and removed. A database has more than one name.
func differ(ctx context.Context, from, to *Store) error {
	mark := []byte(uuid.NewString())
	err := from.write(ctx, func(t *tx) error {
		return t.exec(`INSERT INTO meta (key, value) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value`, metaMove, mark)
	})
	if err != nil {
		return failure(err)
	}
	n := 0
	err = to.read(ctx, func(db reads) error {
		return db.QueryRowContext(ctx, `SELECT count(*) FROM meta WHERE key = ? AND value = ?`, metaMove, mark).Scan(&n)
	})
	err = errors.Join(err, from.write(ctx, func(t *tx) error {
		return t.exec(`DELETE FROM meta WHERE key = ? AND value = ?`, metaMove, mark)
	}))
	switch {
	case err != nil:
		return failure(err)
	case n > 0:
		return fmt.Errorf("inbox: %s is the same inbox as %s: nothing is moved", from.place, to.place)
	}
	return nil
}
