package inbox

import (
	"errors"
	"os"
	"syscall"

	"github.com/google/uuid"
)

// packing is a body on its way to a pack.
type packing struct {
	chunks [][]byte
	size   int64
	body   place
	done   bool
	err    error
}

// hold says whether a draft that holds so much may have n bytes more in memory, on
// the way to a pack. What it had is given back with drop.
func (p *packs) hold(has, n int64) bool {
	if p == nil || !p.able.Load() || has+n > maxPacked {
		return false
	}
	if p.held.Add(n) > maxHeld {
		p.held.Add(-n)
		return false
	}
	return true
}

func (p *packs) drop(n int64) {
	if n > 0 {
		p.held.Add(-n)
	}
}

// add writes a sealed body, and returns its name when it is on disk. It is kept until
// release is called; keep must be, once it is known whether it has a row.
func (p *packs) add(chunks [][]byte, size int64) (string, error) {
	b := &packing{chunks: chunks, size: size}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.waiting = append(p.waiting, b)
	for !b.done {
		if p.writing {
			p.written.Wait()
			continue
		}
		p.writing = true
		p.writeSome()
		p.writing = false
		p.written.Broadcast()
	}
	if b.err != nil {
		return "", b.err
	}
	return b.body.name(), nil
}

// writeSome writes what waits, as far as it is written at once. p.mu is unlocked
// meanwhile.
func (p *packs) writeSome() {
	var n int
	var size int64
	for n < len(p.waiting) && size+aligned(p.waiting[n].size) <= packBatch {
		size += aligned(p.waiting[n].size)
		n++
	}
	batch := p.waiting[:n]
	p.waiting = p.waiting[n:]
	err := p.put(batch)
	if errors.Is(err, syscall.EINVAL) && !p.cached {
		p.cached = true
		err = p.put(batch)
	}
	for _, b := range batch {
		b.done, b.err = true, err
	}
	clear(batch) // or it would keep their memory
}

// put gives each body its place, and writes them. Before there is a file, it is known
// that it is somebody's.
func (p *packs) put(batch []*packing) error {
	if p.closed {
		return errClosed
	}
	if p.current == nil {
		uid, err := uuid.NewV7()
		if err != nil {
			return err
		}
		p.current = newPack(uid.String())
		p.all[p.current.name] = p.current
	}
	k := p.current
	from := k.end
	for _, b := range batch {
		b.body = place{k.name, k.end, b.size}
		k.live[k.end], k.coming[k.end] = b.size, true
		k.end += b.body.room()
	}
	p.mu.Unlock()
	err := p.write(k, from, batch)
	p.mu.Lock()
	if err != nil {
		for _, b := range batch {
			delete(k.live, b.body.at)
			delete(k.coming, b.body.at)
		}
	}
	if err != nil || k.end >= packSize {
		p.rest()
	}
	if err != nil && len(k.live) > 0 {
		p.giveBack(k, place{k.name, from, k.end - from})
	}
	return err
}

// create makes the file of a pack, and has its name on disk.
func (p *packs) create(k *pack) (err error) {
	made := moved{p.f.folderFailures.Load()}
	flags := os.O_CREATE | os.O_EXCL | os.O_RDWR
	if !p.cached {
		flags |= uncached
	}
	if k.file, err = os.OpenFile(p.f.body(k.name), flags, 0o600); err != nil {
		return err
	}
	if err := p.f.syncBodies(); err != nil {
		return err
	}
	if p.f.stale(&made) { // what failed may have been this one's name
		return errStale
	}
	return nil
}

// write writes bodies one after the other, and syncs them. An error is final: the
// kernel forgets what it could not write, and says so only once.
func (p *packs) write(k *pack, at int64, batch []*packing) error {
	if p.buf == nil {
		var err error
		if p.buf, err = pages(packBatch); err != nil {
			return err
		}
	}
	if k.file == nil {
		if err := p.create(k); err != nil {
			return err
		}
	}
	buf := p.buf[:0]
	for _, b := range batch {
		for _, chunk := range b.chunks {
			buf = append(buf, chunk...)
		}
		end := len(buf)
		buf = buf[:aligned(int64(end))]
		clear(buf[end:])
	}
	if err := p.f.at(atWritten); err != nil {
		return err
	}
	if _, err := k.file.WriteAt(buf, at); err != nil {
		return err
	}
	if err := k.file.Sync(); err != nil {
		return err
	}
	if err := p.f.at(atSynced); err != nil {
		return err
	}
	return p.f.sameBody(k.name, k.file)
}
