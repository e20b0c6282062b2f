//go:build !klavi_nopostgres

package inbox

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"os"
	"time"
)

// bodyPart is how much of a sealed body stands in one row.
const bodyPart = 1 << 20

func (p *postgres) packs() *packs { return nil }

// keep leaves the file where it is, until insertBody has read it.
func (p *postgres) keep(*Draft) (*moved, error) { return nil, nil }

// insertBody writes the file of a draft to rows.
func (p *postgres) insertBody(t *tx, d *Draft) error {
	size := sealedSize(d.size)
	src := io.NewSectionReader(d.file, 0, size)
	part := make([]byte, min(size, bodyPart))
	for n := 0; ; n++ {
		read, err := io.ReadFull(src, part)
		if read > 0 {
			// At once: part is read into again.
			if _, err := t.count(`INSERT INTO chunks (uid, n, data) VALUES (?, ?, ?)`, d.uid, n, part[:read]); err != nil {
				return err
			}
		}
		if err := p.files.at(atPart); err != nil {
			return err
		}
		size -= int64(read)
		switch {
		case size == 0:
			return nil
		case err != nil:
			return failure(err)
		}
	}
}

func (p *postgres) openBody(name string) (io.ReadCloser, error) {
	return &chunkReader{p: p, uid: name}, nil
}

// chunkReader reads a body row by row.
type chunkReader struct {
	p    *postgres
	uid  string
	next int
	part []byte
	rest []byte
}

func (r *chunkReader) Read(b []byte) (int, error) {
	if len(r.rest) == 0 {
		ctx, cancel := context.WithTimeout(context.Background(), transactTime)
		defer cancel()
		err := r.p.read(ctx, func(db reads) error {
			return db.QueryRowContext(ctx, `SELECT data FROM chunks WHERE uid = ? AND n = ?`, r.uid, r.next).Scan(&r.part)
		})
		if errors.Is(err, sql.ErrNoRows) {
			if r.next == 0 {
				return 0, fmt.Errorf("%w: its body is missing", ErrDamaged)
			}
			return 0, io.EOF // unsealing says whether it is too early
		}
		if err != nil {
			return 0, err
		}
		r.next++
		r.rest = r.part
	}
	n := copy(b, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}

func (r *chunkReader) Close() error { return nil }

func (p *postgres) removeBody(t *tx, name string) error {
	return t.exec(`DELETE FROM chunks WHERE uid = ?`, name)
}

// dropBody has nothing to do: what no transaction has stored is not there.
func (p *postgres) dropBody(string) {}

// setAside leaves what is damaged where it is.
func (p *postgres) setAside(string) error { return nil }

// forget cannot reach what the server keeps of what was erased: its log, its
// backups, the rows that no vacuum has removed yet. They hold the sealed body
// and its wrapped key.
func (p *postgres) forget(context.Context) ([]string, error) { return nil, nil }

func (p *postgres) removeAside(context.Context, time.Time) error { return nil }

// createDraft makes a file without a name, so that nothing is left of it whatever
// happens. What is in it is sealed with a key that is nowhere else. Where there is a
// spool, the file is to be one of its bodies, perhaps.
func (p *postgres) createDraft(uid string) (*os.File, error) {
	if p.sp != nil {
		if f, err := p.sp.create(uid); err == nil {
			return f, nil
		}
	}
	if f, ok := nameless(p.files.dir); ok {
		return f, nil
	}
	f, err := os.CreateTemp(p.files.dir, "klavi-inbox-")
	if err == nil {
		_ = os.Remove(f.Name()) // where that cannot be yet, dropDraft does it
	}
	return f, err
}

func (p *postgres) dropDraft(d *Draft) {
	_ = os.Remove(d.file.Name())
	if p.sp != nil {
		p.sp.drop(d)
	}
}
