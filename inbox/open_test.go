package inbox

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

// fingerprint is what stands in the files of a directory, without what a lock
// and a reader leave there.
func fingerprint(t testing.TB, dir string) string {
	t.Helper()
	var all strings.Builder
	for _, name := range filesIn(t, dir) {
		if name == lockName || strings.HasSuffix(name, "-shm") {
			continue
		}
		data, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if len(data) == 0 && strings.HasSuffix(name, "-wal") {
			continue
		}
		fmt.Fprintf(&all, "%s %x\n", name, sha256.Sum256(data))
	}
	return all.String()
}

// killed returns a copy of the directory of a store, as a kill would leave it.
func killed(t testing.TB, s *Store) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "killed")
	copyFiles(t, dir, s.dir)
	return dir
}

// A key that is not the one of the store is refused, and nothing has changed
// when the right one comes.
func TestWrongKey(t *testing.T) {
	onlySQLite(t)
	other := bytes.Repeat([]byte{8}, keySize)
	for _, test := range []struct {
		name         string
		stored, open []byte // nil: unencrypted
		want         string
	}{
		{"another key", testKey, other, "under the key"},
		{"unencrypted over a key", testKey, nil, "unencrypted is set"},
		{"a key over unencrypted", nil, testKey, "an encryption key is set"},
	} {
		t.Run(test.name, func(t *testing.T) {
			for _, damage := range []bool{false, true} {
				o, _ := quietOptions(t.TempDir())
				o.EncryptionKey, o.Unencrypted = test.stored, test.stored == nil
				s := openTest(t, o)
				body := randomBody(100_000)
				mustPut(t, s, testHead("a"), body)
				mustPut(t, s, testHead("b"), body[:100])
				o.Dir = killed(t, s)
				if damage { // then it is found out in another way
					data, err := os.ReadFile(filepath.Join(o.Dir, dbName))
					if err != nil {
						t.Fatal(err)
					}
					at := bytes.Index(data, []byte("CREATE TABLE reports"))
					flip(t, filepath.Join(o.Dir, dbName), int64(at), 0x20)
				}
				before := fingerprint(t, o.Dir)

				wrong := o
				wrong.EncryptionKey, wrong.Unencrypted = test.open, test.open == nil
				_, err := Open(t.Context(), wrong)
				if !errors.Is(err, ErrKey) || !strings.Contains(err.Error(), test.want) {
					t.Errorf("got %v, want %v and %q", err, ErrKey, test.want)
				}
				if after := fingerprint(t, o.Dir); after != before {
					t.Errorf("got the files changed from\n%s to\n%s", before, after)
				}
				s = openTest(t, o)
				checkStored(t, s, map[string][]byte{"a": body, "b": body[:100]})
			}
		})
	}
}

func TestOpeningRefuses(t *testing.T) {
	onlySQLite(t)
	run := func(s *Store, query string) error {
		return s.write(context.Background(), func(tx *tx) error {
			return tx.exec(query)
		})
	}
	for _, test := range []struct {
		name  string
		spoil func(*Store) error // before it is closed
		after func(dir string) error
		want  string
	}{
		{
			name:  "a newer version",
			spoil: func(s *Store) error { return run(s, `UPDATE meta SET value = x'37' WHERE key = 'version'`) },
			want:  "newer version (schema 7)",
		},
		{
			name:  "bodies without their database",
			after: func(dir string) error { return os.Remove(filepath.Join(dir, dbName)) },
			want:  "holds 1 files of bodies, but no inbox.db",
		},
		{
			name: "a log without its database",
			after: func(dir string) error {
				return errors.Join(os.RemoveAll(filepath.Join(dir, bodiesName)), os.Truncate(filepath.Join(dir, dbName), 0),
					os.WriteFile(filepath.Join(dir, dbName+"-wal"), make([]byte, 8192), 0o600))
			},
			want: "holds inbox.db-wal, but no inbox.db",
		},
		{
			name: "a file in the place of a folder",
			after: func(dir string) error {
				return errors.Join(os.RemoveAll(filepath.Join(dir, tmpName)), os.WriteFile(filepath.Join(dir, tmpName), nil, 0o600))
			},
			want: "not a directory",
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			o, _ := quietOptions(t.TempDir())
			s := openTest(t, o)
			body := randomBody(100_000)
			mustPut(t, s, testHead("a"), body)
			if test.spoil != nil {
				if err := test.spoil(s); err != nil {
					t.Fatal(err)
				}
			}
			_ = s.Close()
			if test.after != nil {
				if err := test.after(o.Dir); err != nil {
					t.Fatal(err)
				}
			}
			before := fingerprint(t, o.Dir)
			if _, err := Open(t.Context(), o); !errors.Is(err, ErrUnavailable) || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %q", err, test.want)
			}
			if after := fingerprint(t, o.Dir); after != before {
				t.Errorf("got the files changed from\n%s to\n%s", before, after)
			}
		})
	}
}

func TestOptions(t *testing.T) {
	for _, o := range []Options{
		{},
		{Dir: t.TempDir()},
		{Dir: t.TempDir(), EncryptionKey: testKey[1:]},
		{Dir: t.TempDir(), EncryptionKey: testKey, Unencrypted: true},
	} {
		if _, err := Open(t.Context(), o); err == nil {
			t.Errorf("got %+v opened, want it refused", o)
		}
	}
}

// Whoever begins a store may be killed before it is complete.
func TestBegunAndKilled(t *testing.T) {
	onlySQLite(t)
	o, _ := quietOptions(t.TempDir())
	w, err := newWriter(filepath.Join(o.Dir, dbName))
	if err != nil {
		t.Fatal(err)
	}
	_ = w.close()
	s := openTest(t, o)
	mustPut(t, s, testHead("a"), []byte("body"))
	_ = s.Close()
	s = openTest(t, o)
	checkStored(t, s, map[string][]byte{"a": []byte("body")})
}

func TestOpenedAndClosedOften(t *testing.T) {
	n := 50
	if testing.Short() {
		n = 10
	}
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	o, _ := quietOptions(t.TempDir())
	bodies := make(map[string][]byte)
	for i := range n {
		s, err := Open(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		id := fmt.Sprint(i)
		bodies[id] = randomBody(i * 1500)
		mustPut(t, s, testHead(id), bodies[id])
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	s := openTest(t, o)
	checkStored(t, s, bodies)
	_ = s.Close()
}

// Somebody takes the directory away, puts another in its place, and brings it
// back.
func TestDirectoryGoesAndComesBack(t *testing.T) {
	onlySQLite(t)
	dir := filepath.Join(t.TempDir(), "inbox")
	o, log := quietOptions(dir)
	s := openTest(t, o)
	mustPut(t, s, testHead("a"), []byte("body of a"))

	away := dir + "-away"
	if err := os.Rename(dir, away); err != nil {
		t.Fatal(err)
	}
	if _, err := put(s, testHead("b"), []byte("body of b")); !errors.Is(err, ErrUnavailable) {
		t.Errorf("got %v without a directory, want %v", err, ErrUnavailable)
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it says what to do", func() bool {
		err := s.Ready()
		return err != nil && strings.Contains(err.Error(), "put it back")
	})
	if _, err := put(s, testHead("b"), []byte("body of b")); !errors.Is(err, ErrUnavailable) {
		t.Errorf("got %v with another directory, want %v", err, ErrUnavailable)
	}
	if files := filesIn(t, dir); len(files) > 0 {
		t.Errorf("got %v in it, want that nobody begins an inbox there", files)
	}
	if err := errors.Join(os.Remove(dir), os.Rename(away, dir)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the store is ready again", func() bool { return s.Ready() == nil })
	mustPut(t, s, testHead("c"), []byte("body of c"))
	checkStored(t, s, map[string][]byte{"a": []byte("body of a"), "c": []byte("body of c")})
	if n := strings.Count(log.String(), "level=ERROR"); n != 1 {
		t.Errorf("got %d errors in the log, want one:\n%s", n, log)
	}
}

// What a sync that failed would have written is not believed to be there.
func TestSyncFails(t *testing.T) {
	onlySQLite(t)
	disk := errors.New("input/output error")
	for _, point := range []string{atWrite, atWritten, atSynced, atRenamed, atFolder, atCommit, atCommitted} {
		t.Run(strings.ReplaceAll(point, " ", "_"), func(t *testing.T) {
			o, _ := quietOptions(t.TempDir())
			s := openTest(t, o)
			failed := 0
			s.files.fault = func(at string) error {
				if at != point || failed > 0 {
					return nil
				}
				failed++
				return disk
			}
			large := randomBody(ownFile)
			if _, err := put(s, testHead("a"), large); !errors.Is(err, ErrUnavailable) || failed != 1 {
				t.Errorf("got %v after %d failures, want %v after one", err, failed, ErrUnavailable)
			}
			eventually(t, "the store is ready again", func() bool { return s.Ready() == nil })
			if _, err := put(s, testHead("a"), large); err != nil {
				t.Errorf("got %v when it is sent again, want it stored", err)
			}
			checkStored(t, s, map[string][]byte{"a": large})
			_ = s.Close()
			s = openTest(t, o)
			if n := countFiles(t, s); n != len(reportIDs(t, s)) {
				t.Errorf("got %d bodies, want as many as reports (%d)", n, len(reportIDs(t, s)))
			}
		})
	}
}

// A body file that was cut, lengthened, exchanged or removed costs its report
// only, and is not deleted.
func TestDamagedBodies(t *testing.T) {
	onlySQLite(t)
	for _, test := range []struct {
		name  string
		spoil func(path, other string) error
		early bool // it is found at the opening
	}{
		{"cut", func(path, _ string) error { return os.Truncate(path, 100_000) }, false},
		{"cut at a chunk", func(path, _ string) error { return os.Truncate(path, sealed) }, false},
		{"empty", func(path, _ string) error { return os.Truncate(path, 0) }, false},
		{"exchanged", os.Rename, false},
		{"removed", func(path, _ string) error { return os.Remove(path) }, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			o, log := quietOptions(t.TempDir())
			s := openTest(t, o)
			body := randomBody(ownFile)
			uid := mustPut(t, s, testHead("a"), body).UID
			second := mustPut(t, s, testHead("b"), body).UID
			third := mustPut(t, s, testHead("c"), body)
			_ = s.Close()
			if test.name == "exchanged" {
				uid, second = second, uid // it is written over
			}
			if err := test.spoil(s.files.body(uid), s.files.body(second)); err != nil {
				t.Fatal(err)
			}
			s = openTest(t, o)
			for _, lost := range []string{uid, second} {
				if test.name != "exchanged" && lost == second {
					continue
				}
				if strings.Contains(log.String(), lost) {
					continue
				}
				if err := s.setAsideUnread(t.Context(), lost); err != nil {
					t.Error(err)
				}
			}
			if !strings.Contains(log.String(), uid) {
				t.Errorf("got %s, want that it names %s", log, uid)
			}
			if d, err := s.load(t.Context(), 3); err != nil || d.UID != third.UID {
				t.Errorf("got %v and %v, want the report that is whole", d, err)
			}
			if !test.early {
				if _, err := os.Stat(s.files.path(damagedName, second)); test.name == "exchanged" && err != nil {
					t.Errorf("got %v, want that the file is kept aside", err)
				}
			}
			st, err := s.Stats(t.Context())
			if err != nil || st.Damaged == 0 {
				t.Errorf("got %+v and %v, want the damaged one counted", st, err)
			}
			_ = s.Close()
			s = openTest(t, o) // the damage is known now
			if again, _ := s.Stats(t.Context()); again != st {
				t.Errorf("got %+v after another opening, want %+v", again, st)
			}
		})
	}
}

// Nothing of a report can be read in the files of a store, with or without a key,
// while it is there and when it is gone.
func TestFilesTellNothing(t *testing.T) {
	onlySQLite(t)
	const taxID = "529.982.247-25"
	for _, unencrypted := range []bool{false, true} {
		o, _ := quietOptions(t.TempDir())
		o.Unencrypted = unencrypted
		if unencrypted {
			o.EncryptionKey = nil
		}
		s := openTest(t, o)
		var uids []string
		for i := range 20 {
			body := []byte(strings.Repeat(`{"taxId":"`+taxID+`"},`, 1+i*500))
			head := testHead(fmt.Sprint(i))
			head.Meta = []byte(taxID)
			uids = append(uids, mustPut(t, s, head, body).UID)
		}
		search := func(when string) {
			t.Helper()
			for _, name := range filesIn(t, o.Dir) {
				data, err := os.ReadFile(filepath.Join(o.Dir, name))
				if err != nil {
					t.Fatal(err)
				}
				if bytes.Contains(data, []byte(taxID)) {
					t.Errorf("got a tax id in %s %s", name, when)
				}
				if info, err := os.Stat(filepath.Join(o.Dir, name)); err != nil || info.Mode().Perm()&0o077 != 0 {
					t.Errorf("got %v and %v for %s %s, want it for its owner only", info.Mode(), err, name, when)
				}
			}
		}
		search("while it is open")
		for _, uid := range uids {
			end(t, s, uid, "delivered")
		}
		s.base.(*sqlite).tidy(t.Context())
		s.base.packs().tidy()
		search("after it was delivered")
		var size int64
		for _, name := range filesIn(t, o.Dir) {
			if info, err := os.Stat(filepath.Join(o.Dir, name)); err == nil && !strings.HasSuffix(name, "-shm") {
				size += info.Size()
			}
		}
		if size > 300_000 {
			t.Errorf("got %d bytes when everything is delivered, want a small directory", size)
		}
		_ = s.Close()
		search("when it is closed")
	}
}

func TestDrafts(t *testing.T) {
	onlySQLite(t)
	o, _ := quietOptions(t.TempDir())
	s := openTest(t, o)
	d, err := s.NewDraft()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.Write(randomBody(200_000)); err != nil {
		t.Fatal(err)
	}
	d.Abort()
	d.Abort()
	if _, err := d.Write([]byte("more")); err == nil {
		t.Error("got bytes written to a draft that was given up, want an error")
	}
	if _, err := d.Open(); err == nil {
		t.Error("got a draft opened that was given up, want an error")
	}
	if _, err := d.Commit(t.Context(), testHead("a"), [32]byte{}); err == nil {
		t.Error("got a draft committed that was given up, want an error")
	}
	checkKept(t, s, nil)
	if s.room.committing != 0 {
		t.Errorf("got room for %d bytes taken, want none", s.room.committing)
	}

	d, err = s.NewDraft()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.Write(randomBody(200_000)); err != nil {
		t.Fatal(err)
	}
	_ = s.Close()
	if _, err := d.Commit(t.Context(), testHead("a"), [32]byte{}); !errors.Is(err, ErrUnavailable) {
		t.Errorf("got %v after the store has closed, want %v", err, ErrUnavailable)
	}
	if _, err := s.NewDraft(); !errors.Is(err, ErrUnavailable) {
		t.Errorf("got %v after the store has closed, want %v", err, ErrUnavailable)
	}
	s = openTest(t, o)
	checkKept(t, s, nil)
}
