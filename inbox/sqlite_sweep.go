package inbox

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"time"
)

// These begin with what is still there. The records of what has ended may be very many
// more. A row that is damaged may say another's place, which would go with its report; and
// a body whose report cannot be found may be one's that is found when all is mended.
const (
	updateClaimed = `UPDATE deliveries SET claimed_by = NULL, claimed_until = NULL WHERE state = 'waiting' AND claimed_by IS NOT NULL`
	selectFiles   = `SELECT CASE WHEN r.id IS NULL OR r.state = 'damaged' THEN 0 ELSE b.report END, b.file
		FROM bodies b LEFT JOIN reports r ON r.id = b.report WHERE b.file IS NOT NULL AND b.sum = rowsum('bodies', b.report, b.key, b.head, b.file, b.stored)
		UNION ALL SELECT 0, file FROM quarantine WHERE file IS NOT NULL
		AND sum = rowsum('quarantine', id, uid, received, signature, key, head, file, size, stored)`
)

// sweep brings the directory in order before it is used: what an end without a
// close has left is removed, what is missing is named.
func (s *sqlite) sweep(ctx context.Context, checked <-chan error) error {
	if err := s.removeDrafts(); err != nil {
		return err
	}
	present, err := s.files.list(bodiesName)
	if err != nil {
		return err
	}
	var missing []int64
	err = s.w.transact([]*op{{fn: func(t *tx) error {
		if err := t.exec(updateClaimed); err != nil {
			return err
		}
		if err := s.count(t); err != nil {
			return err
		}
		var inPacks []place
		if missing, inPacks, err = matchFiles(t, present); err != nil {
			return err
		}
		s.packed.adopt(inPacks)
		maps.DeleteFunc(present, func(name string, _ bool) bool { return s.packed.has(name) })
		// These get their rows after this, or are removed by who began them.
		s.drafts.Range(func(uid, _ any) bool {
			delete(present, uid.(string))
			return true
		})
		for _, id := range missing {
			if err := s.markDamaged(t, id, "its file is missing"); err != nil {
				return err
			}
		}
		return ctx.Err()
	}}})
	if err != nil {
		return err
	}
	salvaged := s.salvaged
	s.salvaged = false
	select {
	case err := <-checked:
		if err != nil {
			return nil //nolint:nilerr // what cannot be checked stays: nobody knows which files it names
		}
		return s.removeOrphans(ctx, present, salvaged)
	default:
	}
	// A row that is damaged could name another file than it did.
	s.tasks.Go(func() {
		if <-checked == nil {
			if err := s.removeOrphans(context.Background(), present, salvaged); err != nil {
				s.log.Warn("files that nobody needs could not be removed from the inbox", "error", err)
			}
		}
	})
	return nil
}

// removeDrafts removes what has never been committed.
func (s *sqlite) removeDrafts() error {
	names, err := s.files.list(tmpName)
	if err != nil {
		return err
	}
	for name := range names {
		if _, underWay := s.drafts.Load(name); underWay {
			continue
		}
		if err := s.files.remove(s.files.tmp(name)); err != nil {
			return err
		}
	}
	return nil
}

// removeOrphans removes the files that no row refers to: their reports have not
// been acknowledged, or have ended. Where rows were lost, they are kept aside.
func (s *sqlite) removeOrphans(ctx context.Context, names map[string]bool, salvaged bool) error {
	s.packed.sweep(salvaged)
	for name := range names {
		if salvaged && !s.hasEnded(ctx, name) {
			s.log.Error("stored bodies have lost their rows and were set aside", "file", name)
			if err := s.files.setAside(name); err != nil {
				return err
			}
			// It is kept from now on.
			_ = os.Chtimes(s.files.path(damagedName, name), time.Time{}, s.now())
			continue
		}
		if err := s.files.remove(s.files.body(name)); err != nil {
			return err
		}
	}
	return nil
}

// hasEnded says whether a report is on record, and has no body any more.
func (s *sqlite) hasEnded(ctx context.Context, uid string) bool {
	var n int
	err := s.read(ctx, func(db reads) error {
		return db.QueryRowContext(ctx, `SELECT count(*) FROM reports WHERE uid = ? AND state IN ('delivered', 'dropped', 'erased')`, uid).Scan(&n)
	})
	return err == nil && n > 0
}

func (f *files) list(folder string) (map[string]bool, error) {
	dir, err := os.Open(f.path(folder))
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	list, err := dir.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	names := make(map[string]bool, len(list))
	for _, name := range list {
		names[name] = true
	}
	return names, nil
}

// matchFiles takes the files that rows refer to out of names. It returns the reports
// whose files are not there, and the bodies in packs.
func matchFiles(t *tx, names map[string]bool) (missing []int64, inPacks []place, err error) {
	err = t.each(func(r row) error {
		var id int64
		var name string
		if err := r.Scan(&id, &name); err != nil {
			return err
		}
		file := name
		b, inPack := asPlace(name)
		if inPack {
			file = b.pack
			inPacks = append(inPacks, b)
		}
		if !names[file] && id != 0 {
			missing = append(missing, id)
		}
		if !inPack {
			delete(names, name)
		}
		return nil
	}, selectFiles)
	return missing, inPacks, err
}

// setAside moves a body to damaged/. It is no error if it is not there.
func (f *files) setAside(name string) error {
	if err := f.makeDamaged(); err != nil {
		return err
	}
	err := os.Rename(f.body(name), f.path(damagedName, name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

func (f *files) makeDamaged() error {
	err := os.Mkdir(f.path(damagedName), 0o700)
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	return nil
}
