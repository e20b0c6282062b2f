package reports

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/caddy-klavi/caddy-klavi/klavi"
)

const (
	// A body up to this size stays in memory.
	maxInMemory = 1 << 20
	// The first piece of memory for a body; each next one is four times as
	// large. It is what one byte of a stranger's costs.
	firstPiece = 4 << 10
)

var (
	errTooLarge = errors.New("the body is larger than max_body")
	errTooSlow  = errors.New("the body did not arrive in time")
	errSpool    = errors.New("the body cannot be written to disk")
	errCut      = errors.New("the body is not as long as announced")
)

// body is a request's body that has arrived: in memory, or in a spool. It is
// given up when the last of its owners has released it.
type body struct {
	data    []byte
	spooled spool // in place of data, if not nil
	size    int64
	// identity is the same for the same body: its signature, or its digest if
	// it came without one.
	identity [sha256.Size]byte

	memory, spool share

	mu      sync.Mutex
	owners  int
	readers int                // that are not closed
	slab    *[maxInMemory]byte // if data is a part of one

	hashed sync.Once
	digest [sha256.Size]byte
	lost   bool // it could not be read to compute digest
}

// intake is how a body arrives.
type intake struct {
	source    io.Reader
	announced int64 // -1: unknown
	max       int64
	until     time.Time
	patience  patience
	limits    limits
	lane      lane
	check     io.Writer // gets the body as it arrives
	newSpool  func() (spool, error)
}

// receive reads a body to its end. Its caller owns it.
func (in *intake) receive(ctx context.Context) (*body, error) {
	b := &body{
		memory: share{room: in.limits.memory, lane: in.lane},
		spool:  share{room: in.limits.spool, lane: in.lane},
		owners: 1,
	}
	if err := in.read(ctx, b); err != nil {
		b.release()
		return nil, err
	}
	return b, nil
}

func (in *intake) read(ctx context.Context, b *body) error {
	// A full buffer may hold the whole body: one byte more tells, before room
	// is asked for.
	var probe [1]byte
	for {
		into := b.data[len(b.data):cap(b.data)]
		if len(into) == 0 {
			into = probe[:]
		}
		n, err := in.source.Read(into)
		b.size += int64(n)
		if b.size > in.max {
			return errTooLarge
		}
		if in.announced >= 0 && b.size > in.announced {
			return errCut
		}
		_, _ = in.check.Write(into[:n])
		if n > 0 && len(b.data) == cap(b.data) {
			if err := in.makeRoom(ctx, b); err != nil {
				return err
			}
			b.data = append(b.data, probe[0])
		} else {
			b.data = b.data[:len(b.data)+n]
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			return readError(err)
		}
		if time.Now().After(in.until) {
			return errTooSlow
		}
	}
	if b.size < in.announced {
		return errCut
	}
	if b.spooled == nil {
		return nil
	}
	if err := b.flush(ctx, &in.patience); err != nil {
		return err
	}
	b.freeMemory()
	return nil
}

// makeRoom makes the full buffer of b larger, or empties it into a file. Nobody
// waits for memory who has some: bodies that each hold a part of it, waiting for
// more, would wait for each other.
func (in *intake) makeRoom(ctx context.Context, b *body) error {
	has := int64(cap(b.data))
	if has < in.limits.inMemory && b.spooled == nil {
		want := min(max(firstPiece, 4*has), in.limits.inMemory)
		if in.announced >= 0 {
			want = min(want, in.announced)
		}
		if b.memory.tryGrow(want - has) {
			b.data = append(b.buffer(want), b.data...)
			return nil
		}
		if has == 0 {
			if err := b.memory.grow(ctx, want, &in.patience); err != nil {
				return err
			}
			b.data = b.buffer(want)
			return nil
		}
	}
	if b.spooled == nil {
		spooled, err := in.newSpool()
		if err != nil {
			return fmt.Errorf("%w: %w", errSpool, err)
		}
		b.spooled = spooled
	}
	return b.flush(ctx, &in.patience)
}

// slabs are the memory of bodies that are gone: to get that of a large body from
// the system takes about as long as its signature.
var slabs = sync.Pool{New: func() any { return new([maxInMemory]byte) }}

// buffer returns an empty buffer for n bytes.
func (b *body) buffer(n int64) []byte {
	if n <= maxInMemory/2 || n > maxInMemory {
		return make([]byte, 0, n)
	}
	b.slab = slabs.Get().(*[maxInMemory]byte)
	return b.slab[:0:n]
}

// flush empties the buffer into the spool.
func (b *body) flush(ctx context.Context, p *patience) error {
	if err := b.spool.grow(ctx, int64(len(b.data)), p); err != nil {
		return err
	}
	if _, err := b.spooled.Write(b.data); err != nil {
		return fmt.Errorf("%w: %w", errSpool, err)
	}
	b.data = b.data[:0]
	return nil
}

func readError(err error) error {
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		return errTooLarge
	case errors.Is(err, os.ErrDeadlineExceeded):
		return errTooSlow
	case errors.Is(err, io.ErrUnexpectedEOF):
		return errCut
	default:
		return err
	}
}

// retain makes the caller one more owner. It is false if b has been given up.
func (b *body) retain() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.owners == 0 {
		return false
	}
	b.owners++
	return true
}

func (b *body) release() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.owners--; b.owners > 0 {
		return
	}
	if b.spooled != nil {
		b.spooled.discard()
	}
	b.freeMemory()
	b.spool.release()
}

// freeMemory gives the buffer up. One that somebody may still read is not used
// again: they would read another body.
func (b *body) freeMemory() {
	if b.slab != nil && b.readers == 0 {
		slabs.Put(b.slab)
	}
	b.data, b.slab = nil, nil
	b.memory.release()
}

// sum returns the digest. Most direct reports never need it, and their signature
// has been computed already.
func (b *body) sum() ([sha256.Size]byte, bool) {
	b.hashed.Do(func() {
		hash := sha256.New()
		r := b.reader()
		defer r.Close()
		_, err := io.Copy(hash, r)
		hash.Sum(b.digest[:0])
		b.lost = err != nil
	})
	return b.digest, !b.lost
}

// setSum sets the digest that was computed as the body arrived.
func (b *body) setSum(digest hash.Hash) {
	b.hashed.Do(func() { digest.Sum(b.digest[:0]) })
}

// sha256 returns the digest in hexadecimal digits.
func (b *body) sha256() string {
	digest, ok := b.sum()
	if !ok {
		return ""
	}
	return hex.EncodeToString(digest[:])
}

// envelope reads the envelope. The reader of a body in memory is a buffer, which
// is read in place.
func (b *body) envelope() (klavi.Envelope, error) {
	if b.spooled == nil {
		return klavi.ReadEnvelope(bytes.NewBuffer(b.data))
	}
	r := b.reader()
	defer r.Close()
	return klavi.ReadEnvelope(r)
}

// reader returns a reader that begins at the first byte.
func (b *body) reader() io.ReadCloser {
	if b.spooled != nil {
		r, err := b.spooled.open()
		return &bodyReader{r: r, err: err}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.readers++
	return &bodyReader{r: &memoryReader{*bytes.NewReader(b.data), b}}
}

// memoryReader reads a body in memory.
type memoryReader struct {
	bytes.Reader
	body *body
}

func (r *memoryReader) Close() error {
	r.Reset(nil)
	r.body.mu.Lock()
	defer r.body.mu.Unlock()
	r.body.readers--
	return nil
}

// bodyReader ends with an error when it has been closed, so that nobody takes
// the rest of a body for a body. It may be closed while it is read.
type bodyReader struct {
	mu  sync.Mutex
	r   io.ReadCloser
	err error // if not nil, r is closed
}

func (br *bodyReader) Read(p []byte) (int, error) {
	br.mu.Lock()
	defer br.mu.Unlock()
	if br.err != nil {
		return 0, br.err
	}
	return br.r.Read(p)
}

func (br *bodyReader) Close() error {
	br.mu.Lock()
	defer br.mu.Unlock()
	if br.err != nil {
		return nil
	}
	br.err = http.ErrBodyReadAfterClose
	return br.r.Close()
}
