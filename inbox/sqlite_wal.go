package inbox

import (
	"encoding/binary"
	"errors"
	"io/fs"
	"os"
)

// SQLite's write-ahead log: a header, and a frame for each page that was
// written (https://www.sqlite.org/fileformat2.html#walformat). SQLite reads it
// up to the first frame whose check sum is wrong. That is right after a power
// cut, and wrong where a byte in the middle has changed: everything after it was
// acknowledged.
const (
	walHeaderSize   = 32
	frameHeaderSize = 24
	frameSize       = frameHeaderSize + pageSize
	// Each try takes some milliseconds.
	maxMended = 32
)

// frame is a page in the log.
type frame struct {
	page   uint32
	data   []byte
	commit bool // it ends a transaction
	sound  bool // its check sum is right, given the one before it, or was put right
	// flipped: one byte of it has changed.
	flipped bool
}

// walLog is what the file of a log holds, up to its last transaction that is
// complete.
type walLog struct {
	frames []frame
	// valid is how many of the frames SQLite reads: up to the last commit before
	// one that it does not take for sound.
	valid int
	// broken: there is such a frame.
	broken bool
	mended int // tries to put a frame right
}

// readLog reads a log. Frames of an earlier use of the file, which stand behind
// the others, are left out.
func readLog(path string) (*walLog, error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return new(walLog), nil
	}
	if err != nil {
		return nil, failure(err)
	}
	return parseLog(data), nil
}

func parseLog(data []byte) *walLog {
	l := new(walLog)
	if len(data) < walHeaderSize+frameSize {
		return l
	}
	header, first := data[:walHeaderSize], data[walHeaderSize:]
	// SQLite sums up in the byte order of the machine that began the log.
	order := binary.ByteOrder(binary.LittleEndian)
	if header[3]&1 == 1 {
		order = binary.BigEndian
	}
	sum := walSum(order, [2]uint32{}, header[:24])
	whole := sum == storedSum(header[24:]) && binary.BigEndian.Uint32(header)&^1 == 0x377f0682
	salts := header[16:24]
	if !whole {
		salts = first[8:16]
		order = binary.NativeEndian
		sum = walSum(order, [2]uint32{}, header[:24])
	}
	salt := storedSum(salts)

	// The sum with which the next frame goes on, as it is stored and as it was
	// reckoned: if either fits, that frame is sound.
	before := [2][2]uint32{sum, storedSum(header[24:])}
	wholes := 0
	for at := walHeaderSize; at+frameSize <= len(data); at += frameSize {
		head, page := data[at:at+frameHeaderSize], data[at+frameHeaderSize:at+frameSize]
		own := storedSum(head[8:])
		if own[0] != salt[0] && own[1] != salt[1] {
			break
		}
		want := storedSum(head[16:])
		reckoned := walSum(order, walSum(order, before[0], head[:8]), page)
		sound := reckoned == want
		whole = whole && sound && own == salt
		if !sound && before[1] != before[0] {
			sound = walSum(order, walSum(order, before[1], head[:8]), page) == want
		}
		if whole {
			wholes++
		}
		f := frame{page: binary.BigEndian.Uint32(head), data: page, commit: binary.BigEndian.Uint32(head[4:]) != 0, sound: sound}
		for i := 0; i < len(before) && !f.sound && !f.flipped && l.mended < maxMended; i++ {
			f.mend(order, before[i], head, page)
			l.mended++
		}
		l.frames = append(l.frames, f)
		before = [2][2]uint32{want, reckoned}
	}
	l.dropUnfinished()
	l.broken = wholes < len(l.frames)
	for i, f := range l.frames[:min(wholes, len(l.frames))] {
		if f.commit {
			l.valid = i + 1
		}
	}
	return l
}

// dropUnfinished drops what a kill or a power cut has left of transactions that
// were never acknowledged: those without an end, and at the end of the log those
// of which a part was not written. Such a part is another than one byte that has
// changed, which has been put right by now.
func (l *walLog) dropUnfinished() {
	for end := len(l.frames); end > 0; {
		if !l.frames[end-1].commit {
			end--
			l.frames = l.frames[:end]
			continue
		}
		begin, torn := end-1, l.frames[end-1].torn()
		for begin > 0 && !l.frames[begin-1].commit {
			begin--
			torn = torn || l.frames[begin].torn()
		}
		if !torn {
			return
		}
		end = begin
		l.frames = l.frames[:end]
	}
}

// torn tells whether the frame was not written whole.
func (f *frame) torn() bool { return !f.sound && !f.flipped }

// mend puts the one byte of a frame right whose change has made its check sum
// wrong, if it is one: then the frame is flipped. Which byte of some it is the
// check sum does not always say: then it is not sound.
func (f *frame) mend(order binary.ByteOrder, before [2]uint32, head, page []byte) {
	want := storedSum(head[16:])
	got := walSum(order, walSum(order, before, head[:8]), page)
	off := [2]uint32{got[0] - want[0], got[1] - want[1]}
	inSum := oneByte(got[0]^want[0]) && off[1] == 0 || oneByte(got[1]^want[1]) && off[0] == 0
	all := append(append([]byte{}, head[:8]...), page...)
	changes := oneByteChanges(len(all), off)
	f.flipped = inSum || len(changes) > 0
	f.sound = inSum && len(changes) == 0
	for _, c := range changes {
		place := all[c.at:]
		order.PutUint32(place, order.Uint32(place)-c.by)
		commit := binary.BigEndian.Uint32(all[4:]) != 0
		if len(changes) == 1 && !inSum {
			f.sound, f.page, f.commit, f.data = true, binary.BigEndian.Uint32(all), commit, all[8:]
			return
		}
		f.commit = f.commit || commit
		order.PutUint32(place, order.Uint32(place)+c.by)
	}
}

// change is what was added to a word.
type change struct {
	at int
	by uint32
}

// oneByteChanges returns what, done to one byte of size bytes, makes the sums wrong
// by so much. The sums are linear: a word that is larger by one adds first or
// second to them, as it is the first or the second of its pair.
func oneByteChanges(size int, off [2]uint32) (found []change) {
	first, second := [2]uint32{1, 1}, [2]uint32{0, 1}
	for at := size - 8; at >= 0; at -= 8 {
		for place, weight := range [][2]uint32{first, second} {
			for byteOf := range 4 {
				for n := int64(-255); n <= 255; n++ {
					by := uint32(n << (8 * byteOf)) //nolint:gosec // modulo 2^32
					if n != 0 && weight[0]*by == off[0] && weight[1]*by == off[1] {
						found = append(found, change{at + 4*place, by})
					}
				}
			}
		}
		first, second = nextWeight(first), nextWeight(second)
	}
	return found
}

// nextWeight is what a change of the sums becomes with the next pair of words.
func nextWeight(w [2]uint32) [2]uint32 {
	w[0] += w[1]
	w[1] += w[0]
	return w
}

func oneByte(difference uint32) bool {
	n := 0
	for ; difference != 0; difference >>= 8 {
		if difference&0xff != 0 {
			n++
		}
	}
	return n == 1
}

func storedSum(b []byte) [2]uint32 {
	return [2]uint32{binary.BigEndian.Uint32(b), binary.BigEndian.Uint32(b[4:])}
}

func walSum(order binary.ByteOrder, sum [2]uint32, data []byte) [2]uint32 {
	for i := 0; i+8 <= len(data); i += 8 {
		sum[0] += order.Uint32(data[i:]) + sum[1]
		sum[1] += order.Uint32(data[i+4:]) + sum[0]
	}
	return sum
}
