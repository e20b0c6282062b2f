package inbox

import (
	"errors"
	"fmt"
	"syscall"

	modernc "modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// Why a report was not stored. Errors wrap one of them; their texts name files
// and limits, and nothing of a report.
var (
	// ErrFull: a limit is reached, or the disk is full. It passes alone when
	// reports have been delivered or there is space again.
	ErrFull = errors.New("inbox: full")
	// ErrUnavailable: the store cannot be written, or is closed.
	ErrUnavailable = errors.New("inbox: unavailable")
	// ErrDamaged: the body that was stored cannot be read back.
	ErrDamaged = errors.New("inbox: damaged")
	// ErrLocked: the directory belongs to another process.
	ErrLocked = errors.New("inbox: locked")
	// ErrKey: the store was made with another key.
	ErrKey = errors.New("inbox: wrong encryption key")
)

var errClosed = fmt.Errorf("%w: it is closed", ErrUnavailable)

// uncertainError is what a commit ended with: nobody knows whether what it
// wrote will be there after the next opening.
type uncertainError struct{ error }

func (e uncertainError) Unwrap() error { return e.error }

// failure returns err, which a file or the database has caused, as one of the
// errors that callers know.
func failure(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, ErrFull), errors.Is(err, ErrUnavailable), errors.Is(err, ErrDamaged):
		return err
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT), isFull(err):
		return fmt.Errorf("%w: no space is left on the disk: %w", ErrFull, err)
	default:
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
}

// sqliteCode returns SQLite's primary result code, 0 if err is not SQLite's.
func sqliteCode(err error) int {
	var e *modernc.Error
	if !errors.As(err, &e) {
		return 0
	}
	return e.Code() & 0xff
}

// isFull reports whether the database says that there is no space: for its pages,
// or for the small file with which its connections agree on what is in the log.
func isFull(err error) bool {
	var e *modernc.Error
	return errors.As(err, &e) && (e.Code()&0xff == sqlite3.SQLITE_FULL || e.Code() == sqlite3.SQLITE_IOERR_SHMSIZE)
}

// isCorrupt reports whether the database says that its pages are damaged.
func isCorrupt(err error) bool {
	code := sqliteCode(err)
	return code == sqlite3.SQLITE_CORRUPT || code == sqlite3.SQLITE_NOTADB
}
