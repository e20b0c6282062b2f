package inbox

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// logOf returns a copy of a store that has a report in each of some transactions,
// and its log.
func logOf(t testing.TB, n int) (dir string, uids []string, log []byte) {
	t.Helper()
	o, _ := quietOptions(filepath.Join(t.TempDir(), "origin"))
	s := openTest(t, o)
	for i := range n {
		uids = append(uids, mustPut(t, s, testHead(fmt.Sprint(i)), randomBody(10_000)).UID)
	}
	dir = killed(t, s)
	_ = s.Close()
	log, err := os.ReadFile(filepath.Join(dir, dbName+"-wal"))
	if err != nil {
		t.Fatal(err)
	}
	return dir, uids, log
}

func sameFrame(a, b frame) bool {
	return a.page == b.page && a.commit == b.commit && a.sound == b.sound && bytes.Equal(a.data, b.data)
}

// Wherever one byte of the log has changed, all that it said is known.
func TestOneByteOfTheLog(t *testing.T) {
	onlySQLite(t)
	_, _, log := logOf(t, 5)
	want := parseLog(log)
	if want.broken || want.valid != len(want.frames) || len(want.frames) < 10 {
		t.Fatalf("got %d of %d frames valid, want a log without fault", want.valid, len(want.frames))
	}
	random := rand.New(rand.NewPCG(1, 2))
	end := walHeaderSize + len(want.frames)*frameSize
	n, unclear := 300*soakRounds(1), 0
	for i := range n {
		at := random.IntN(end)
		if i < walHeaderSize+frameHeaderSize {
			at = i
		} else if i%3 == 0 { // in the last
			at = end - 1 - random.IntN(frameSize)
		}
		changed := bytes.Clone(log)
		changed[at] ^= byte(1 + random.IntN(255))
		got := parseLog(changed)
		if !got.broken && (at < 4 || at >= 8) && (at < 8 || at >= 12) { // the version of SQLite's code, and the size of a page
			t.Errorf("byte %d: got a log without fault", at)
		}
		// Where two changes make the sum wrong by as much, it is known only that it
		// is one of them.
		same := func(a, b frame) bool { return sameFrame(a, b) || a.flipped && !a.sound && (a.commit || !b.commit) }
		if !slices.EqualFunc(got.frames, want.frames, same) {
			t.Errorf("byte %d: got other frames than there were", at)
		}
		for _, f := range got.frames {
			if f.flipped && !f.sound {
				unclear++
			}
		}
	}
	if unclear > n*2/5 {
		t.Errorf("got %d of %d that could not be put right, want a quarter", unclear, n)
	}
}

// What a kill or a power cut leaves of a transaction is none, and no damage.
func TestUnfinishedTransactions(t *testing.T) {
	onlySQLite(t)
	origin, uids, log := logOf(t, 4)
	frames := parseLog(log).frames
	var ends []int
	for i, f := range frames {
		if f.commit {
			ends = append(ends, i)
		}
	}
	last := ends[len(ends)-1]
	if before := ends[len(ends)-2]; last-before < 3 {
		t.Fatalf("got a transaction of %d frames, want a longer one", last-before)
	}
	frameAt := func(log []byte, n int) []byte { return log[walHeaderSize+n*frameSize:][:frameSize] }
	stale := randomBody(pageSize)
	for _, test := range []struct {
		name  string
		leave func(log []byte) []byte
		lost  int
	}{
		{"its last page is an old one", func(log []byte) []byte {
			copy(frameAt(log, last)[frameHeaderSize:], stale)
			return log
		}, 1},
		{"its last page is cut off", func(log []byte) []byte {
			return log[:walHeaderSize+last*frameSize+frameHeaderSize+100]
		}, 1},
		{"its last frame is missing", func(log []byte) []byte { return log[:walHeaderSize+last*frameSize] }, 1},
		{"its last frame is one of before", func(log []byte) []byte {
			frameAt(log, last)[8]++
			frameAt(log, last)[12]++
			return log
		}, 1},
		{"a page in it is an old one, and its end is missing", func(log []byte) []byte {
			copy(frameAt(log, last-1)[frameHeaderSize:], stale)
			return log[:walHeaderSize+last*frameSize]
		}, 1},
		{"a page in it is an old one", func(log []byte) []byte {
			copy(frameAt(log, last-1)[frameHeaderSize:], stale)
			return log
		}, 1},
		{"the page of the one before it, too", func(log []byte) []byte {
			copy(frameAt(log, last-1)[frameHeaderSize:], stale)
			copy(frameAt(log, ends[len(ends)-2])[frameHeaderSize:], stale)
			return log
		}, 2},
	} {
		t.Run(test.name, func(t *testing.T) {
			o, logged := quietOptions(filepath.Join(t.TempDir(), "copy"))
			copyFiles(t, o.Dir, origin)
			if err := os.WriteFile(filepath.Join(o.Dir, dbName+"-wal"), test.leave(bytes.Clone(log)), 0o600); err != nil {
				t.Fatal(err)
			}
			s := openTest(t, o)
			st, err := s.Stats(t.Context())
			if err != nil || st.Waiting != int64(len(uids)-test.lost) || st.Damaged != 0 {
				t.Errorf("got %+v and %v, want %d waiting and nothing else", st, err, len(uids)-test.lost)
			}
			if got := logged.String(); strings.Contains(got, "level=ERROR") {
				t.Errorf("got %s, want nothing said of it", got)
			}
			if _, err := os.Stat(s.files.path(damagedName)); err == nil {
				t.Error("got something set aside, want nothing")
			}
		})
	}
}
