package inbox

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"os"
	"sync"

	"github.com/google/uuid"
)

// Draft is a report that arrives. What is written to it is sealed at once: up to
// 64 KiB stay in memory, or 1 MiB on the way to a pack, and more goes to a file. It
// is used by one goroutine, and ends with Commit or Abort.
type Draft struct {
	s      *Store
	uid    string
	key    []byte
	sealer *sealer

	plain []byte // what is not sealed yet
	chunk uint32
	held  [][]byte // sealed chunks on the way to a pack
	holds int64    // how long they are
	pack  string   // the name of the body there
	file  *os.File
	moved bool // it is in bodies/
	size  int64
	grant grant

	complete bool
	ended    bool
	err      error // of an earlier call
}

var chunks = sync.Pool{New: func() any {
	b := make([]byte, 0, sealed)
	return &b
}}

// NewDraft begins a report. Its error is ErrFull or ErrUnavailable, and says why
// no report can be stored now.
func (s *Store) NewDraft() (*Draft, error) {
	if err := s.Admit(); err != nil {
		return nil, err
	}
	uid, err := uuid.NewV7()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	d := &Draft{s: s, uid: uid.String(), key: make([]byte, keySize), grant: grant{s: s}}
	_, _ = rand.Read(d.key)
	if d.sealer, err = newSealer(d.key, d.uid); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	s.drafts.Store(d.uid, nil)
	if s.draining.Load() > 0 { // who drains may not have seen this one
		d.Abort()
		return nil, ErrDraining
	}
	return d, nil
}

// Write adds to the body. Its error is ErrFull or ErrUnavailable, and ends the
// draft.
func (d *Draft) Write(p []byte) (int, error) {
	if d.err != nil {
		return 0, d.err
	}
	if d.complete || d.ended {
		return 0, fmt.Errorf("%w: the draft is complete", ErrUnavailable)
	}
	written := 0
	for len(p) > 0 {
		if len(d.plain) == chunkSize {
			if d.err = d.spill(false); d.err != nil {
				d.Abort()
				return written, d.err
			}
		}
		if d.plain == nil {
			d.plain = (*chunks.Get().(*[]byte))[:0]
		}
		n := min(len(p), chunkSize-len(d.plain))
		d.plain = append(d.plain, p[:n]...)
		p = p[n:]
		written += n
		d.size += int64(n)
	}
	return written, nil
}

// spill seals what is there, and has it go to a pack or to the file.
func (d *Draft) spill(last bool) error {
	out := d.sealer.seal((*chunks.Get().(*[]byte))[:0], d.plain, d.chunk, last)
	d.held = append(d.held, out)
	d.chunk++
	d.plain = d.plain[:0]
	n := int64(len(out))
	if err := d.grant.use(n); err != nil {
		return err
	}
	if d.file == nil && d.s.base.packs().hold(d.holds, n) {
		d.holds += n
		return failure(d.s.files.at(atWrite))
	}
	if d.file == nil {
		var err error
		if d.file, err = d.s.base.createDraft(d.uid); err != nil {
			return failure(err)
		}
	}
	for _, chunk := range d.held {
		if _, err := d.file.Write(chunk); err != nil {
			return failure(err)
		}
	}
	d.letGo()
	return failure(d.s.files.at(atWrite))
}

// letGo gives back the memory of sealed chunks.
func (d *Draft) letGo() {
	for _, chunk := range d.held {
		chunks.Put(&chunk)
	}
	d.s.base.packs().drop(d.holds)
	d.held, d.holds = nil, 0
}

// finish seals the last chunk of a body that has more than one.
func (d *Draft) finish() error {
	if d.err != nil || d.complete {
		return d.err
	}
	if d.ended {
		return fmt.Errorf("%w: the draft has ended", ErrUnavailable)
	}
	if d.file != nil || d.held != nil {
		if d.err = d.spill(true); d.err != nil {
			return d.err
		}
	}
	d.complete = true
	return nil
}

// Size returns how many bytes have been written.
func (d *Draft) Size() int64 { return d.size }

// Open reads back what was written. Nothing can be written afterwards. The body
// must be closed before Commit or Abort.
func (d *Draft) Open() (Body, error) {
	if err := d.finish(); err != nil {
		return nil, err
	}
	size := sealedSize(d.size)
	u := &unsealer{sealer: d.sealer, left: size}
	switch {
	case d.file != nil:
		u.src = io.NewSectionReader(d.file, 0, size)
	case d.held != nil:
		var held []io.Reader
		for _, chunk := range d.held {
			held = append(held, bytes.NewReader(chunk))
		}
		u.src = io.MultiReader(held...)
	default:
		return nopCloser{bytes.NewReader(d.plain)}, nil
	}
	return nopCloser{u}, nil
}

type nopCloser struct{ io.Reader }

func (nopCloser) Close() error { return nil }

// Commit stores the report. When it returns without an error, the report is on
// disk. With an error it is not stored, except after an ErrUnavailable from the
// disk, when it may be: a sender that sends it again is right in both cases. The
// draft has ended in any case.
func (d *Draft) Commit(ctx context.Context, head Head, digest [32]byte) (Receipt, error) {
	defer d.Abort()
	if err := d.finish(); err != nil {
		return Receipt{}, err
	}
	return d.s.commit(ctx, d, head, digest)
}

// keep makes the body ready for the row: in a file in bodies/, of its own or not, or
// sealed in memory.
func (d *Draft) keep(file *string, body *[]byte) (*moved, error) {
	stored := sealedSize(d.size)
	if d.held != nil {
		var err error
		d.pack, err = d.s.base.packs().add(d.held, stored)
		*file = d.pack
		return nil, failure(err)
	}
	if d.file == nil {
		if err := d.grant.use(stored); err != nil {
			return nil, err
		}
		*body = d.sealer.seal(make([]byte, 0, stored), d.plain, 0, true)
		return nil, nil
	}
	m, err := d.s.base.keep(d)
	if err != nil {
		d.s.base.dropBody(d.uid)
		return nil, failure(err)
	}
	*file = d.uid
	return m, nil
}

// isLarge says of a draft that was kept whether its body is written with its row, in
// parts.
func (d *Draft) isLarge(m *moved) bool { return d.file != nil && m == nil }

// Abort gives the draft up. It does nothing if it has ended.
func (d *Draft) Abort() {
	if d.ended {
		return
	}
	d.ended = true
	if d.file != nil {
		_ = d.file.Close()
		if !d.moved {
			d.s.base.dropDraft(d)
		}
	}
	d.letGo()
	if d.pack != "" {
		d.s.base.packs().keep(d.pack)
	}
	d.s.drafts.Delete(d.uid)
	if plain := d.plain; plain != nil {
		clear(plain[:cap(plain)])
		chunks.Put(&plain)
	}
	d.plain = nil
	clear(d.key)
}
