package inbox

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync/atomic"
)

// The names in the directory of a store.
const (
	dbName      = "inbox.db"
	bodiesName  = "bodies"
	tmpName     = "tmp"
	damagedName = "damaged"
)

// The places where tests make something fail.
const (
	atWrite     = "a body is written"
	atWritten   = "a body is complete"
	atSynced    = "a body is synced"
	atRenamed   = "a body is in its place"
	atFolder    = "the folder is synced"
	atCommit    = "a transaction begins"
	atPart      = "a part of a body is in a transaction"
	atCommitted = "a transaction is on disk"
	atCheck     = "the database is checked"
	atAttempt   = "an attempt begins"
	atAnswered  = "a route has answered"
	atSettled   = "an attempt is on record"
	atMoved     = "a report is in the other store, too"
)

// files are the bodies that do not stand in the database.
type files struct {
	dir string
	// folderFailures is how often a sync of bodies/ has failed. What was moved
	// there before must be moved there anew: another sync says nothing of it.
	folderFailures atomic.Int64
	// fault, in tests, makes an operation fail, or the process end.
	fault func(point string) error
}

func (f *files) path(name ...string) string {
	return filepath.Join(append([]string{f.dir}, name...)...)
}

func (f *files) body(name string) string { return f.path(bodiesName, name) }
func (f *files) tmp(uid string) string   { return f.path(tmpName, uid) }

func (f *files) at(point string) error {
	if f.fault == nil {
		return nil
	}
	return f.fault(point)
}

// present returns ErrNotFound if there is no store in a directory.
func (f *files) present() error {
	for _, name := range []string{dbName, salvagedName} {
		_, err := os.Stat(f.path(name))
		if err == nil {
			return nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("%w: %w", ErrUnavailable, err)
		}
	}
	return fmt.Errorf("%w: there is no inbox in %s (is its disk mounted?)", ErrNotFound, f.dir)
}

func (f *files) makeFolders() error {
	for _, name := range []string{bodiesName, tmpName} {
		err := os.Mkdir(f.path(name), 0o700)
		if errors.Is(err, fs.ErrExist) {
			_, err = f.list(name)
		}
		if err != nil {
			return err
		}
	}
	return syncDir(f.dir)
}

// create begins the file of a body.
func (f *files) create(uid string) (*os.File, error) {
	return os.OpenFile(f.tmp(uid), os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
}

// keep makes a file that is complete one of the bodies. It is not durable
// before syncBodies has returned. An error of Sync is final: the kernel forgets
// what it could not write, and says so only once.
func (f *files) keep(file *os.File, uid string) (*moved, error) {
	if err := f.at(atWritten); err != nil {
		return nil, err
	}
	if err := file.Sync(); err != nil {
		return nil, err
	}
	if err := f.at(atSynced); err != nil {
		return nil, err
	}
	m := &moved{f.folderFailures.Load()}
	if err := os.Rename(f.tmp(uid), f.body(uid)); err != nil {
		return nil, err
	}
	return m, f.at(atRenamed)
}

// sameBody makes sure that a file that is open is still one of the bodies.
func (f *files) sameBody(name string, file *os.File) error {
	is, err := file.Stat()
	if err != nil {
		return err
	}
	ought, err := os.Stat(f.body(name))
	if err == nil && !os.SameFile(is, ought) {
		err = fmt.Errorf("%s is another file than before", f.body(name))
	}
	return err
}

// remove removes a file of the store; that it is gone already is no error.
func (f *files) remove(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

func (f *files) syncBodies() error {
	err := f.at(atFolder)
	if err == nil {
		err = syncDir(f.path(bodiesName))
	}
	if err != nil {
		f.folderFailures.Add(1)
	}
	return err
}

// moved is a file that was moved to bodies/.
type moved struct{ failures int64 }

// stale reports whether a sync of bodies/ has failed since the file was moved
// there.
func (f *files) stale(m *moved) bool { return m.failures != f.folderFailures.Load() }

func syncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	defer dir.Close()
	if err := dir.Sync(); err != nil {
		return fmt.Errorf("sync %s: %w", path, err)
	}
	return nil
}
