package inbox

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
)

// nameOf returns where the body of a report is, according to its row.
func nameOf(t testing.TB, s *Store, uid string) string {
	t.Helper()
	var name string
	err := s.write(t.Context(), func(tx *tx) error {
		return tx.get([]any{&name}, `SELECT coalesce(b.file, '') FROM bodies b JOIN reports r ON r.id = b.report WHERE r.uid = ?`, uid)
	})
	if err != nil {
		t.Fatal(err)
	}
	return name
}

// inPack returns the place in a pack of a report's body.
func inPack(t testing.TB, s *Store, uid string) place {
	t.Helper()
	b, ok := asPlace(nameOf(t, s, uid))
	if !ok {
		t.Fatalf("got %q, want a place in a pack", nameOf(t, s, uid))
	}
	return b
}

// rawAt reads what stands in a pack, which may be gone.
func rawAt(t testing.TB, s *Store, b place) []byte {
	t.Helper()
	f, err := os.Open(s.files.body(b.pack))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	data := make([]byte, b.size)
	if _, err := f.ReadAt(data, b.at); err != nil {
		t.Fatal(err)
	}
	return data
}

func isClear(data []byte) bool { return len(bytes.Trim(data, "\x00")) == 0 }

// openPacks opens a store where bodies can share files.
func openPacks(t testing.TB, o Options) *Store {
	t.Helper()
	onlySQLite(t)
	s := openTest(t, o)
	if !s.base.packs().able.Load() {
		t.Skip("this file system cannot give back a part of a file")
	}
	return s
}

func TestWhereBodiesAre(t *testing.T) {
	s := openPacks(t, testOptions(t, t.TempDir()))
	largest := maxPacked - int(sealedSize(maxPacked)-maxPacked)
	bodies := make(map[string][]byte)
	for size, want := range map[int]string{0: "row", chunkSize: "row", chunkSize + 1: "pack", 3 * chunkSize: "pack", largest: "pack", largest + 1: "file", 3 << 20: "file"} {
		id := fmt.Sprint(size)
		bodies[id] = randomBody(size)
		uid := mustPut(t, s, testHead(id), bodies[id]).UID
		got := "pack"
		switch name := nameOf(t, s, uid); name {
		case "":
			got = "row"
		case uid:
			got = "file"
		default:
			inPack(t, s, uid)
		}
		if got != want {
			t.Errorf("%d bytes: got them in a %s, want a %s", size, got, want)
		}
	}
	checkStored(t, s, bodies)
}

// Many senders at once share files, and each gets its own body back.
func TestManyInPacks(t *testing.T) {
	o := testOptions(t, t.TempDir())
	s := openPacks(t, o)
	bodies := make(map[string][]byte)
	var mu sync.Mutex
	var wg sync.WaitGroup
	for sender := range 16 {
		wg.Go(func() {
			for i := range 12 {
				id := fmt.Sprint(sender, "-", i)
				body := randomBody(chunkSize + 1 + 5003*(sender+i))
				mustPut(t, s, testHead(id), body)
				mu.Lock()
				bodies[id] = body
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	checkStored(t, s, bodies)
	if n := len(entriesOf(t, s, bodiesName)); n > 4 {
		t.Errorf("got %d files, want few", n)
	}
	_ = s.Close()
	s = openTest(t, o)
	checkStored(t, s, bodies)
	if held := s.base.packs().held.Load(); held != 0 {
		t.Errorf("got %d bytes held by no draft, want none", held)
	}
}

func entriesOf(t testing.TB, s *Store, folder string) []string {
	t.Helper()
	entries, err := os.ReadDir(s.files.path(folder))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// A body that goes is gone from its pack at once, and the pack goes with the last.
func TestPackGivesBackRoom(t *testing.T) {
	s := openPacks(t, testOptions(t, t.TempDir()))
	var uids []string
	bodies := make(map[string][]byte)
	for i := range 5 {
		id := fmt.Sprint(i)
		bodies[id] = randomBody(200_000 + i)
		uids = append(uids, mustPut(t, s, testHead(id), bodies[id]).UID)
	}
	for i, uid := range uids {
		place := inPack(t, s, uid)
		end(t, s, uid, "delivered")
		delete(bodies, fmt.Sprint(i))
		if data := rawAt(t, s, place); !isClear(data) {
			t.Errorf("%d: got something where the body was, want nothing", i)
		}
		checkStored(t, s, bodies)
	}
	s.base.packs().tidy()
	if names := entriesOf(t, s, bodiesName); len(names) > 0 {
		t.Errorf("got %v, want no file when all is delivered", names)
	}
	if buf := s.base.packs().buf; buf != nil {
		t.Errorf("got %d bytes of memory, want none when all is delivered", len(buf))
	}
}

// A full pack is followed by another, and goes with its last body.
func TestPacksFollow(t *testing.T) {
	s := openPacks(t, testOptions(t, t.TempDir()))
	var first, uids []string
	for len(entriesOf(t, s, bodiesName)) < 2 {
		uids = append(uids, mustPut(t, s, testHead(fmt.Sprint(len(uids))), make([]byte, 900_000)).UID)
	}
	pack := inPack(t, s, uids[0]).pack
	for _, uid := range uids {
		if inPack(t, s, uid).pack == pack {
			first = append(first, uid)
		}
	}
	if n := len(first); n != (packSize+900_000-1)/int(aligned(sealedSize(900_000))) && n != len(uids)-1 {
		t.Errorf("got %d bodies in the first pack, want it full", n)
	}
	for i, uid := range first {
		if _, err := os.Stat(s.files.body(pack)); err != nil {
			t.Fatalf("got %v with %d bodies left, want the pack there", err, len(first)-i)
		}
		end(t, s, uid, "delivered")
	}
	if _, err := os.Stat(s.files.body(pack)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v, want the first pack gone with its last body", err)
	}
	checkStored(t, s, map[string][]byte{fmt.Sprint(len(uids) - 1): make([]byte, 900_000)})
}

// Who reads a body when it ends gets all of it.
func TestPackIsReadToTheEnd(t *testing.T) {
	s := openPacks(t, testOptions(t, t.TempDir()))
	body := randomBody(300_000)
	uid := mustPut(t, s, testHead("a"), body).UID
	mustPut(t, s, testHead("b"), body)
	place := inPack(t, s, uid)
	var readers []io.ReadCloser
	for range 2 {
		r, err := s.Export(t.Context(), uid, "ann", "test")
		if err != nil {
			t.Fatal(err)
		}
		readers = append(readers, r)
	}
	first := make([]byte, 100_000)
	if _, err := io.ReadFull(readers[0], first); err != nil {
		t.Fatal(err)
	}
	end(t, s, uid, "erased")
	rest, err := io.ReadAll(readers[0])
	if err != nil || !bytes.Equal(append(first, rest...), body) {
		t.Errorf("got %d bytes and %v, want the body", len(first)+len(rest), err)
	}
	_ = readers[0].Close()
	_ = readers[0].Close() // once more does nothing
	if isClear(rawAt(t, s, place)) {
		t.Error("got it cleared, want it there for who still reads it")
	}
	if got, err := io.ReadAll(readers[1]); err != nil || !bytes.Equal(got, body) {
		t.Errorf("got %d bytes and %v, want the body", len(got), err)
	}
	_ = readers[1].Close()
	if !isClear(rawAt(t, s, place)) {
		t.Error("got something where the body was, want nothing")
	}
	checkStored(t, s, map[string][]byte{"b": body})
}

// A pack that could not be written or synced is not written to again; what it has is
// still there.
func TestPackFails(t *testing.T) {
	for _, point := range []string{atWritten, atSynced, atFolder} {
		t.Run(strings.ReplaceAll(point, " ", "_"), func(t *testing.T) {
			o, _ := quietOptions(t.TempDir())
			s := openPacks(t, o)
			body := randomBody(200_000)
			bodies := map[string][]byte{"after": body}
			var before string
			if point != atFolder { // that is for the first in a pack
				bodies["before"] = body
				before = inPack(t, s, mustPut(t, s, testHead("before"), body).UID).pack
			}
			failed := 0
			s.files.fault = func(at string) error {
				if at == point && failed == 0 {
					failed++
					return errDisk
				}
				return nil
			}
			if _, err := put(s, testHead("fails"), body); !errors.Is(err, ErrUnavailable) || failed != 1 {
				t.Errorf("got %v after %d failures, want %v after one", err, failed, ErrUnavailable)
			}
			if n := countFiles(t, s); n != len(bodies)-1 { // and nothing more is taken up
				t.Errorf("got %d bodies, want %d", n, len(bodies)-1)
			}
			after := inPack(t, s, mustPut(t, s, testHead("after"), body).UID).pack
			if after == before {
				t.Error("got the body in the pack that failed, want another")
			}
			checkStored(t, s, bodies)
			_ = s.Close()
			s = openTest(t, o)
			checkStored(t, s, bodies)
		})
	}
}

// Somebody removes the pack that is written to, or its folder.
func TestPackVanishes(t *testing.T) {
	for _, folder := range []bool{false, true} {
		t.Run(fmt.Sprint(folder), func(t *testing.T) {
			o, _ := quietOptions(t.TempDir())
			s := openPacks(t, o)
			body := randomBody(200_000)
			pack := inPack(t, s, mustPut(t, s, testHead("gone"), body).UID).pack
			path := s.files.body(pack)
			if folder {
				path = filepath.Dir(path)
			}
			if err := os.RemoveAll(path); err != nil {
				t.Fatal(err)
			}
			if _, err := put(s, testHead("a"), body); !errors.Is(err, ErrUnavailable) {
				t.Errorf("got %v, want %v: nobody could read it", err, ErrUnavailable)
			}
			if folder {
				if err := os.Mkdir(path, 0o700); err != nil {
					t.Fatal(err)
				}
			}
			eventually(t, "reports are taken again", func() bool {
				_, err := put(s, testHead("b"), body)
				return err == nil
			})
			if got := readAll(t, s)["b"]; !bytes.Equal(got, body) {
				t.Errorf("got %d bytes, want the body", len(got))
			}
		})
	}
}

// Where a file cannot give back a part, each body has its own.
func TestWithoutPacks(t *testing.T) {
	o := testOptions(t, t.TempDir())
	s := openPacks(t, o)
	body := randomBody(200_000)
	bodies := map[string][]byte{"a": body, "b": body}
	mustPut(t, s, testHead("a"), body)
	s.base.packs().able.Store(false)
	uid := mustPut(t, s, testHead("b"), body).UID
	if name := nameOf(t, s, uid); name != uid {
		t.Errorf("got %q, want a file of its own", name)
	}
	checkStored(t, s, bodies)
}

// Drafts that wait do not fill the memory: more of them go to files.
func TestDraftsHoldLittle(t *testing.T) {
	s := openPacks(t, testOptions(t, t.TempDir()))
	body := randomBody(900_000)
	bodies := make(map[string][]byte)
	var drafts []*Draft
	for range 24 {
		d, err := s.NewDraft()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := d.Write(body); err != nil {
			t.Fatal(err)
		}
		drafts = append(drafts, d)
	}
	if held := s.base.packs().held.Load(); held > maxHeld || held < maxHeld/2 {
		t.Errorf("got %d bytes held, want up to %d", held, maxHeld)
	}
	for i, d := range drafts {
		id := fmt.Sprint(i)
		bodies[id] = body
		b, err := d.Open()
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(b); err != nil || !bytes.Equal(got, body) {
			t.Errorf("%d: got %d bytes and %v, want what was written", i, len(got), err)
		}
		if _, err := d.Commit(t.Context(), testHead(id), [32]byte{}); err != nil {
			t.Fatal(err)
		}
	}
	if held := s.base.packs().held.Load(); held != 0 {
		t.Errorf("got %d bytes held when all is stored, want none", held)
	}
	checkStored(t, s, bodies)
}

// A file system that wants to cache what is written gets its will.
func TestPacksThroughTheCache(t *testing.T) {
	s := openPacks(t, testOptions(t, t.TempDir()))
	refused := false
	s.files.fault = func(at string) error {
		if at == atWritten && !refused {
			refused = true
			return syscall.EINVAL
		}
		return nil
	}
	body := randomBody(200_000)
	mustPut(t, s, testHead("a"), body)
	if !s.base.packs().cached || !refused {
		t.Error("got it written as before, want it written through the cache")
	}
	checkStored(t, s, map[string][]byte{"a": body})
}

func TestPlaceNames(t *testing.T) {
	for name, ok := range map[string]bool{
		"0198c9be-0000-7000-8000-000000000000+4096+65553": true, "a+0+1": true,
		"": false, "0198c9be-0000-7000-8000-000000000000": false, "a+1": false, "a+01+1": false, "a+-1+1": false, "a+1+ 1": false, "a+1+1+1": false,
	} {
		if b, got := asPlace(name); got != ok || ok && b.name() != name {
			t.Errorf("%q: got %+v and %t, want %t", name, b, got, ok)
		}
	}
}

// An inbox of a version without packs is taken over, and refused by that one then.
func TestDirectoryOfAnOlderVersion(t *testing.T) {
	onlySQLite(t)
	o := testOptions(t, t.TempDir())
	s := openTest(t, o)
	mustPut(t, s, testHead("a"), []byte("body"))
	err := s.write(t.Context(), func(tx *tx) error { return tx.exec(`UPDATE meta SET value = x'31' WHERE key = 'version'`) })
	if err != nil {
		t.Fatal(err)
	}
	_ = s.Close()
	s = openTest(t, o)
	checkStored(t, s, map[string][]byte{"a": []byte("body")})
	var version []byte
	err = s.write(t.Context(), func(tx *tx) error { return tx.get([]any{&version}, `SELECT value FROM meta WHERE key = 'version'`) })
	if err != nil || string(version) != "2" {
		t.Errorf("got version %s and %v, want 2: who knows 1 only would remove packs", version, err)
	}
}

// A sync of the folder that failed for somebody else may have been about the pack.
func TestFolderSyncOfAnotherFails(t *testing.T) {
	o, _ := quietOptions(t.TempDir())
	s := openPacks(t, o)
	var once atomic.Bool
	s.files.fault = func(at string) error {
		if at == atFolder && once.CompareAndSwap(false, true) {
			s.files.folderFailures.Add(1)
		}
		return nil
	}
	body := randomBody(200_000)
	if _, err := put(s, testHead("a"), body); !errors.Is(err, ErrUnavailable) {
		t.Errorf("got %v, want %v: its name may not be on disk", err, ErrUnavailable)
	}
	mustPut(t, s, testHead("b"), body)
	checkStored(t, s, map[string][]byte{"b": body})
}

// Who comes after the end leaves nothing behind.
func TestPackAfterClose(t *testing.T) {
	o, _ := quietOptions(t.TempDir())
	s := openPacks(t, o)
	d, err := s.NewDraft()
	if err == nil {
		_, err = d.Write(randomBody(200_000))
	}
	if err != nil {
		t.Fatal(err)
	}
	_ = s.Close()
	if _, err := d.Commit(t.Context(), testHead("late"), [32]byte{}); !errors.Is(err, ErrUnavailable) {
		t.Errorf("got %v, want %v", err, ErrUnavailable)
	}
	if p := s.base.packs(); p.current != nil || p.buf != nil || len(entriesOf(t, s, bodiesName)) > 0 {
		t.Errorf("got %v in bodies/, want no file and no memory left behind", entriesOf(t, s, bodiesName))
	}
}

// A copy of what is quarantined takes up nothing.
func TestQuarantineOfACopyInAPack(t *testing.T) {
	s := openPacks(t, testOptions(t, t.TempDir()))
	body := randomBody(100_000)
	for range 2 {
		if err := quarantine(t, s, "one", body); err != nil {
			t.Fatal(err)
		}
	}
	if n := countFiles(t, s); n != 1 {
		t.Errorf("got %d bodies, want one", n)
	}
}

// The pack that is written to is known also while it is empty.
func TestEmptyPackIsKnown(t *testing.T) {
	s := openPacks(t, testOptions(t, t.TempDir()))
	p := s.base.packs()
	chunks, size := [][]byte{randomBody(chunkSize)}, int64(chunkSize)
	for range 2 {
		name, err := p.add(chunks, size)
		if err != nil {
			t.Fatal(err)
		}
		b, _ := asPlace(name)
		p.mu.Lock()
		known := p.all[b.pack] == p.current
		p.mu.Unlock()
		if !known || !p.has(b.pack) {
			t.Errorf("got a body in a pack that is not known")
		}
		p.release(b)
		p.adopt(nil)
	}
}
