package inbox

import (
	"fmt"
	"log/slog"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
)

const (
	// A sealed body above this has a file of its own.
	maxPacked = 1 << 20
	// So much of drafts may be in memory, all of them together.
	maxHeld = 16 << 20
	// A pack that is as large is followed by another.
	packSize = 16 << 20
	// What is written at once.
	packBatch = 4 << 20
	// Bodies begin at multiples of this: it is what is given back to the disk, and what
	// can be written past its cache.
	packAlign = 4096
)

// packs are files that bodies of middling size share. To make and to name a file
// takes longer than to write such a body, and what several senders bring is written
// and synced together. A body that goes gives its room back at once, and the file
// goes with the last. No place in it is written twice.
type packs struct {
	f   *files
	log *slog.Logger
	// able says whether the file system can give back a part of a file. Without that,
	// each body has a file of its own.
	able atomic.Bool
	held atomic.Int64 // by drafts

	mu      sync.Mutex
	written *sync.Cond
	all     map[string]*pack
	current *pack // which is written to
	waiting []*packing
	closed  bool
	left    []place // what has gone, and could not be given back yet
	writing bool    // somebody writes, who has these:
	buf     []byte
	cached  bool // it cannot be written to past the cache of the file system
}

// pack is a file with bodies.
type pack struct {
	name string
	end  int64
	file *os.File // of the current one, once there is one
	// live are the bodies that it has, by where they begin: those with a row, and those
	// that are on the way to one. The latter are in coming, too.
	live   map[int64]int64
	coming map[int64]bool
	// swept: nothing is in it but these. Until then, it stays.
	swept bool
	// reading is how many read a body, and gone what has gone meanwhile.
	reading map[int64]int
	gone    map[int64]int64
}

// place is where a body is in a pack. Its name stands in its row, as that of a file.
type place struct {
	pack     string
	at, size int64
}

func (b place) name() string { return fmt.Sprintf("%s+%d+%d", b.pack, b.at, b.size) }
func (b place) room() int64  { return aligned(b.size) }

func aligned(n int64) int64 { return (n + packAlign - 1) &^ (packAlign - 1) }

// asPlace says whether a name is that of a place in a pack.
func asPlace(name string) (b place, ok bool) {
	parts := strings.Split(name, "+")
	if len(parts) != 3 {
		return b, false
	}
	at, err1 := strconv.ParseInt(parts[1], 10, 64)
	size, err2 := strconv.ParseInt(parts[2], 10, 64)
	b = place{parts[0], at, size}
	return b, err1 == nil && err2 == nil && at >= 0 && size >= 0 && b.name() == name
}

func newPack(name string) *pack {
	return &pack{
		name: name, swept: true, live: make(map[int64]int64), coming: make(map[int64]bool),
		reading: make(map[int64]int), gone: make(map[int64]int64),
	}
}

func newPacks(f *files, log *slog.Logger) *packs {
	p := &packs{f: f, log: log, all: make(map[string]*pack)}
	p.written = sync.NewCond(&p.mu)
	return p
}

// rest ends the writing to a pack. It goes if there is nothing in it.
func (p *packs) rest() {
	k := p.current
	if k == nil {
		return
	}
	p.current = nil
	if k.file != nil {
		_ = k.file.Close()
	}
	p.removeIfEmpty(k)
}

// tidy gives back what nobody needs any more: a pack that is written to and has nothing
// in it, memory, and what could not be given back before.
func (p *packs) tidy() {
	p.mu.Lock()
	defer p.mu.Unlock()
	left := p.left
	p.left = nil
	for _, b := range left {
		if k := p.all[b.pack]; k != nil && k.live[b.at] == 0 && clearPart(p.f.body(b.pack), b.at, b.room()) != nil {
			p.left = append(p.left, b)
		}
	}
	if p.writing {
		return
	}
	if k := p.current; k != nil && len(k.live) == 0 {
		p.rest()
	}
	if p.buf != nil {
		freePages(p.buf)
		p.buf = nil
	}
}

// close ends the writing to packs, until there is another body.
func (p *packs) close() {
	p.mu.Lock()
	for p.writing {
		p.written.Wait()
	}
	p.rest()
	p.mu.Unlock()
	p.tidy()
}

// end is close, and nothing is written any more.
func (p *packs) end() {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.close()
}

func (p *packs) removeIfEmpty(k *pack) {
	if k == p.current || len(k.live) > 0 || p.all[k.name] != k {
		return
	}
	delete(p.all, k.name)
	if err := p.f.remove(p.f.body(k.name)); err != nil {
		p.log.Warn("a file of bodies that have ended could not be removed; the next start will", "file", k.name, "error", err)
	}
}
