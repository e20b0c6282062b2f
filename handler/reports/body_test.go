package reports

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"os"
	"sync"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"
)

func TestReceive(t *testing.T) {
	content := bytes.Repeat([]byte("0123456789"), 10_000)
	lost := errors.New("connection lost")
	tests := []struct {
		name      string
		source    io.Reader
		announced int64
		max       int64
		want      error
	}{
		{"as announced", bytes.NewReader(content), 100_000, 100_000, nil},
		{"not announced", bytes.NewReader(content), -1, 100_000, nil},
		{"byte by byte", iotest.OneByteReader(bytes.NewReader(content)), -1, 100_000, nil},
		{"end with the last bytes", iotest.DataErrReader(bytes.NewReader(content)), 100_000, 100_000, nil},
		{"end with the only byte", iotest.DataErrReader(bytes.NewReader(content[:1])), 1, 100_000, nil},
		{"too short", bytes.NewReader(content), 100_001, 200_000, errCut},
		{"too long", bytes.NewReader(content), 99_999, 200_000, errCut},
		{"too large", bytes.NewReader(content), -1, 99_999, errTooLarge},
		{"too large for another handler", http.MaxBytesReader(nil, io.NopCloser(bytes.NewReader(content)), 10), -1, 200_000, errTooLarge},
		{"cut", io.MultiReader(bytes.NewReader(content), iotest.ErrReader(io.ErrUnexpectedEOF)), -1, 200_000, errCut},
		{"late", io.MultiReader(bytes.NewReader(content), iotest.ErrReader(os.ErrDeadlineExceeded)), -1, 200_000, errTooSlow},
		{"lost", io.MultiReader(bytes.NewReader(content), iotest.ErrReader(lost)), -1, 200_000, lost},
	}
	for _, tt := range tests {
		for _, inMemory := range []int64{20_000, 1 << 20} { // spooled, and not
			var checked bytes.Buffer
			memory, spool := newRoom(1<<20), newRoom(1<<20)
			in := intake{
				source: tt.source, announced: tt.announced, max: tt.max, until: time.Now().Add(time.Hour), check: &checked,
				limits: limits{inMemory: inMemory, memory: memory, spool: spool}, newSpool: spoolsIn(t.TempDir()),
			}
			if seeker, ok := tt.source.(io.Seeker); ok {
				_, _ = seeker.Seek(0, io.SeekStart)
			} else if inMemory > 20_000 {
				continue // has been read
			}
			b, err := in.receive(t.Context())
			if !errors.Is(err, tt.want) {
				t.Errorf("%s: got %v, want %v", tt.name, err, tt.want)
			}
			if b != nil {
				got, err := io.ReadAll(b.reader())
				if want := content[:max(tt.announced, min(tt.max, b.size))]; err != nil || !bytes.Equal(got, want) || !bytes.Equal(checked.Bytes(), want) {
					t.Errorf("%s: got %d bytes (%v), checked %d, want %d", tt.name, len(got), err, checked.Len(), len(want))
				}
				b.release()
			}
			if memory.free != 1<<20 || spool.free != 1<<20 {
				t.Errorf("%s: got room %d and %d after all, want all of it", tt.name, memory.free, spool.free)
			}
		}
	}
}

// Whoever reads on after the delivery gets an error, and never an end.
func TestReaderAfterClose(t *testing.T) {
	b := &body{data: []byte("content"), size: 7, owners: 1}
	r := b.reader()
	_, _ = r.Read(make([]byte, 3))
	r.Close()
	if _, err := io.ReadAll(r); !errors.Is(err, http.ErrBodyReadAfterClose) {
		t.Errorf("got %v, want %v", err, http.ErrBodyReadAfterClose)
	}
	if !b.retain() {
		t.Error("got no second owner of a body that has one")
	}
}

func TestRetainAfterRelease(t *testing.T) {
	b := &body{owners: 1}
	b.release()
	if b.retain() {
		t.Error("got a body that had been given up")
	}
}

// trickle gives a body in pieces, with a pause before each.
type trickle struct{ left int }

func (s *trickle) Read(p []byte) (int, error) {
	if s.left == 0 {
		return 0, io.EOF
	}
	time.Sleep(time.Millisecond)
	n := min(len(p), s.left, 1000)
	s.left -= n
	return n, nil
}

// Bodies that together need more memory than there is go on by way of the disk:
// none waits for memory that another one holds while it waits too.
func TestBodiesDoNotWaitForEachOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const size = 40_000
		memory, spool := newRoom(64_000), newRoom(10<<20)
		var wg sync.WaitGroup
		for i := range 12 {
			wg.Go(func() {
				in := intake{
					source: &trickle{size}, announced: size, max: size, until: time.Now().Add(time.Hour),
					patience: patience{time.Second}, lane: klaviLane, check: io.Discard,
					limits: limits{inMemory: 1 << 20, memory: memory, spool: spool}, newSpool: spoolsIn(t.TempDir()),
				}
				b, err := in.receive(t.Context())
				if err != nil {
					t.Errorf("body %d: got %v, want it whole", i, err)
					return
				}
				if got, err := io.Copy(io.Discard, b.reader()); got != size || err != nil {
					t.Errorf("body %d: got %d bytes, %v, want %d", i, got, err, size)
				}
				b.release()
			})
		}
		wg.Wait()
		if memory.free != 64_000 || spool.free != 10<<20 {
			t.Errorf("got %d and %d bytes free afterwards, want all", memory.free, spool.free)
		}
	})
}

// A service's connection may still be read from when its report is done with.
// Whoever reads on must never get to see the body that came next.
func TestBuffersAreNotSharedWithReaders(t *testing.T) {
	receive := func(letter byte) *body {
		in := intake{
			source: bytes.NewReader(bytes.Repeat([]byte{letter}, maxInMemory)), announced: maxInMemory, max: maxInMemory,
			until: time.Now().Add(time.Hour), check: io.Discard,
			limits: limits{inMemory: maxInMemory, memory: newRoom(4 * maxInMemory), spool: newRoom(0)},
		}
		b, err := in.receive(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	first := receive('a')
	slow, closed := first.reader(), first.reader()
	_ = closed.Close()
	first.release()
	defer receive('b').release()

	if got, err := io.ReadAll(slow); err != nil || !bytes.Equal(got, bytes.Repeat([]byte{'a'}, maxInMemory)) {
		t.Errorf("got %d bytes that end in %q (%v), want the body that was opened", len(got), got[len(got)-1:], err)
	}
	if n, err := closed.Read(make([]byte, 1)); n != 0 || !errors.Is(err, http.ErrBodyReadAfterClose) {
		t.Errorf("got %d bytes and %v from a closed reader, want %v", n, err, http.ErrBodyReadAfterClose)
	}
}

func spoolsIn(dir string) func() (spool, error) {
	return func() (spool, error) { return newTempFile(dir) }
}
