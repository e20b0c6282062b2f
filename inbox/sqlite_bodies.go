package inbox

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
)

func (s *sqlite) packs() *packs { return s.packed }

func (s *sqlite) createDraft(uid string) (*os.File, error) { return s.files.create(uid) }

func (s *sqlite) dropDraft(d *Draft) { _ = s.files.remove(s.files.tmp(d.uid)) }

func (s *sqlite) keep(d *Draft) (*moved, error) {
	m, err := s.files.keep(d.file, d.uid)
	d.moved = m != nil
	return m, err
}

// insertBody has nothing to do: the file is in its place.
func (s *sqlite) insertBody(*tx, *Draft) error { return nil }

func (s *sqlite) openBody(name string) (io.ReadCloser, error) {
	if b, ok := asPlace(name); ok {
		return s.packed.read(b)
	}
	f, err := s.files.openBody(name)
	if err != nil {
		return nil, err
	}
	return f, nil
}

func (s *sqlite) removeBody(t *tx, name string) error {
	t.then(func() {
		b, ok := asPlace(name)
		err := fs.ErrNotExist
		if ok {
			s.packed.release(b)
		} else {
			err = os.Remove(s.files.body(name))
		}
		if errors.Is(err, fs.ErrNotExist) { // it may have been set aside
			err = s.files.remove(s.files.path(damagedName, name))
		}
		if err != nil {
			s.log.Warn("the body of a report that has ended could not be removed; the next start will", "file", name, "error", err)
		}
	})
	return nil
}

func (s *sqlite) dropBody(name string) {
	if b, ok := asPlace(name); ok {
		s.packed.release(b)
		return
	}
	_ = s.files.remove(s.files.body(name))
}

func (s *sqlite) setAside(name string) error {
	if b, ok := asPlace(name); ok {
		return s.packed.setAside(b)
	}
	return s.files.setAside(name)
}

// openBody opens the file of a body. Only a file that is missing from a folder
// that is there is damage; all else may pass.
func (f *files) openBody(name string) (*os.File, error) {
	file, err := os.Open(f.body(name))
	if !errors.Is(err, fs.ErrNotExist) {
		return file, failure(err)
	}
	if _, err := os.Stat(f.path(bodiesName)); err != nil {
		return nil, failure(err)
	}
	if _, err := os.Stat(f.path(damagedName, name)); err == nil {
		return nil, fmt.Errorf("%w: its file was set aside in %s/", ErrDamaged, damagedName)
	}
	return nil, fmt.Errorf("%w: its file is missing", ErrDamaged)
}

// fileBody is a body in a file.
type fileBody struct {
	io.Reader
	file io.Closer
}

func (b *fileBody) Close() error {
	if err := b.file.Close(); err != nil && !errors.Is(err, fs.ErrClosed) {
		return err
	}
	return nil
}
