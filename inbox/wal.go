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
)

// frame is a page in the log.
type frame struct {
	page  uint32
	data  []byte
	sound bool // its check sum is right, given the one before it
}

// walLog is what the file of a log holds.
type walLog struct {
	frames []frame
	// valid is how many of the frames SQLite reads: up to the last commit before
	// one that it does not take for sound.
	valid int
	// broken: there is such a frame.
	broken bool
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
	for at := walHeaderSize; at+frameSize <= len(data); at += frameSize {
		head, page := data[at:at+frameHeaderSize], data[at+frameHeaderSize:at+frameSize]
		own := storedSum(head[8:])
		if own[0] != salt[0] && own[1] != salt[1] {
			break
		}
		f := frame{page: binary.BigEndian.Uint32(head), data: page}
		want := storedSum(head[16:])
		reckoned := walSum(order, walSum(order, before[0], head[:8]), page)
		f.sound = reckoned == want
		whole = whole && f.sound && own == salt
		if !f.sound && before[1] != before[0] {
			other := walSum(order, walSum(order, before[1], head[:8]), page)
			f.sound = other == want
		}
		l.frames = append(l.frames, f)
		l.broken = l.broken || !whole
		if commit := binary.BigEndian.Uint32(head[4:]); whole && commit != 0 {
			l.valid = len(l.frames)
		}
		before = [2][2]uint32{want, reckoned}
	}
	return l
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
