package inbox

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"maps"
	"os"
	"slices"
)

// probe looks whether the file system can give back a part of a file.
func (p *packs) probe() {
	f, err := os.CreateTemp(p.f.path(tmpName), "probe-")
	if err == nil {
		err = errors.Join(deallocate(f, 0, packAlign), f.Close(), os.Remove(f.Name()))
	}
	p.able.Store(err == nil)
}

// adopt takes over the bodies that have a row, beside those that may get one.
func (p *packs) adopt(rows []place) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, k := range p.all {
		k.swept = false
		maps.DeleteFunc(k.live, func(at, _ int64) bool { return !k.coming[at] })
	}
	for _, b := range rows {
		k := p.all[b.pack]
		if k == nil {
			k = newPack(b.pack)
			k.swept = false
			p.all[k.name] = k
		}
		k.live[b.at] = b.size
		delete(k.gone, b.at)
		k.end = max(k.end, b.at+b.room())
	}
	maps.DeleteFunc(p.all, func(_ string, k *pack) bool { return k != p.current && len(k.live) == 0 })
}

// has says whether there is something in a pack.
func (p *packs) has(name string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.all[name] != nil
}

// sweep gives back what packs take up for no body. Where rows were lost, it is kept
// aside before, and what cannot be kept stays.
func (p *packs) sweep(rowsLost bool) {
	p.mu.Lock()
	names := slices.Collect(maps.Keys(p.all))
	p.mu.Unlock()
	for _, name := range names {
		p.mu.Lock()
		if k := p.all[name]; k != nil {
			p.sweepOne(k, rowsLost)
		}
		p.mu.Unlock()
	}
}

// sweepOne holds p.mu all the time: the store may be opened anew, and find more rows.
func (p *packs) sweepOne(k *pack, rowsLost bool) {
	gaps, err := p.gaps(k)
	if err != nil {
		p.log.Warn("a file of bodies cannot be swept; the next start will", "file", k.name, "error", err)
		return
	}
	if rowsLost && !p.keepGaps(gaps) {
		return
	}
	k.swept = true
	for _, gap := range gaps {
		p.giveBack(k, gap)
	}
	p.removeIfEmpty(k)
}

// gaps are the parts of a pack in which there is no body. What will be written stands
// behind all that is there.
func (p *packs) gaps(k *pack) ([]place, error) {
	info, err := os.Stat(p.f.body(k.name))
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
		return nil, err
	}
	used := maps.Clone(k.live)
	maps.Copy(used, k.gone) // they are being read
	var gaps []place
	var at int64
	for _, begin := range append(slices.Sorted(maps.Keys(used)), aligned(info.Size())) {
		if begin > at {
			gaps = append(gaps, place{k.name, at, begin - at})
		}
		at = max(at, begin+aligned(used[begin]))
	}
	return gaps, nil
}

// keepGaps keeps what is in gaps, if there is anything, and says whether it could.
func (p *packs) keepGaps(gaps []place) bool {
	for _, gap := range gaps {
		data, err := p.content(gap)
		if err == nil && len(bytes.Trim(data, "\x00")) > 0 {
			p.log.Error("what stands between stored bodies has lost its row, if it had one, and was set aside", "file", gap.name())
			err = p.keepAside(gap, data)
		}
		if err != nil {
			p.log.Error("what stands between stored bodies could not be set aside, and stays until the inbox is opened again", "file", gap.name(), "error", err)
			return false
		}
	}
	return true
}

func (p *packs) content(b place) ([]byte, error) {
	file, err := os.Open(p.f.body(b.pack))
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return io.ReadAll(io.NewSectionReader(file, b.at, b.size))
}

func (p *packs) keepAside(b place, data []byte) error {
	if err := p.f.makeDamaged(); err != nil {
		return err
	}
	if err := writeFileSync(p.f.path(damagedName, b.name()), data); err != nil {
		return err
	}
	return errors.Join(syncDir(p.f.path(damagedName)), syncDir(p.f.dir))
}

// setAside moves a body to damaged/. What cannot be read stays where it is.
func (p *packs) setAside(b place) error {
	data, err := p.content(b)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = p.keepAside(b, data)
	}
	if err == nil {
		p.release(b)
	}
	return err
}
