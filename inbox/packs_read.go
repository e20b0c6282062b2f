package inbox

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"sync"
)

// keep says that it is known whether a body has a row.
func (p *packs) keep(name string) {
	b, ok := asPlace(name)
	if !ok {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if k := p.all[b.pack]; k != nil {
		delete(k.coming, b.at)
	}
}

// release gives back the room of a body, once nobody reads it. It does nothing if
// that was given back.
func (p *packs) release(b place) {
	p.mu.Lock()
	defer p.mu.Unlock()
	k := p.all[b.pack]
	if k == nil || k.live[b.at] != b.size {
		return
	}
	delete(k.live, b.at)
	delete(k.coming, b.at)
	if k.reading[b.at] > 0 {
		k.gone[b.at] = b.size
		return
	}
	p.giveBack(k, b)
}

// giveBack gives a part of a pack back to the disk, or all of it.
func (p *packs) giveBack(k *pack, b place) {
	if k != p.current && len(k.live) == 0 && k.swept {
		p.removeIfEmpty(k)
		return
	}
	err := clearPart(p.f.body(k.name), b.at, b.room())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		p.left = append(p.left, b)
		p.log.Warn("what a body took up could not be given back to the disk: it is tried again", "file", b.name(), "error", err)
	}
}

// read opens a body.
func (p *packs) read(b place) (io.ReadCloser, error) {
	p.mu.Lock()
	k := p.all[b.pack]
	if k != nil {
		k.reading[b.at]++
	}
	p.mu.Unlock()
	file, err := p.f.openBody(b.pack)
	if err != nil {
		p.leave(k, b)
		return nil, err
	}
	return &packReader{Reader: io.NewSectionReader(file, b.at, b.size), file: file, leave: sync.OnceFunc(func() { p.leave(k, b) })}, nil
}

// leave ends the reading of a body.
func (p *packs) leave(k *pack, b place) {
	if k == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if k.reading[b.at]--; k.reading[b.at] > 0 {
		return
	}
	delete(k.reading, b.at)
	if size, gone := k.gone[b.at]; gone {
		delete(k.gone, b.at)
		if p.all[k.name] == k { // else the file is gone, or another's
			p.giveBack(k, place{k.name, b.at, size})
		}
	}
}

type packReader struct {
	io.Reader
	file  *os.File
	leave func()
}

func (r *packReader) Close() error {
	defer r.leave()
	return r.file.Close()
}

// clearPart gives a part of a file back to the disk, or overwrites it where that
// cannot be.
func clearPart(path string, at, size int64) error {
	file, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer file.Close()
	err = deallocate(file, at, size)
	if errors.Is(err, errors.ErrUnsupported) {
		_, err = file.WriteAt(make([]byte, size), at)
	}
	return err
}
