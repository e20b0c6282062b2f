package inbox

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// logBuffer keeps what is logged.
type logBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

func quietOptions(dir string) (Options, *logBuffer) {
	buf := new(logBuffer)
	o := testOptions(nil, dir)
	o.Logger = slog.New(slog.NewTextHandler(buf, nil))
	return o, buf
}

// inventory is what a store was given.
type inventory struct {
	bodies map[string][]byte // that wait, by report id
	uids   map[string]string // by report id
	ended  []string          // uids of those that were delivered
}

// furnish gives a store reports of all sizes, some of which have been delivered.
func furnish(t testing.TB, s *Store, n int) inventory {
	t.Helper()
	in := inventory{bodies: make(map[string][]byte), uids: make(map[string]string)}
	for i := range n {
		id := fmt.Sprintf("report-%03d", i)
		size := 100 + 37*i
		switch {
		case i%10 == 3:
			size = 5000 + 700*i
		case i%16 == 5:
			size = chunkSize + 1000*i
		case i == 20:
			size = ownFile
		}
		body := randomBody(size)
		head := testHead(id)
		head.ConsentIDs = []string{fmt.Sprintf("consent-%d", i%7)}
		receipt := mustPut(t, s, head, body)
		if i%5 == 1 {
			end(t, s, receipt.UID, "delivered")
			in.ended = append(in.ended, receipt.UID)
			continue
		}
		in.bodies[id], in.uids[id] = body, receipt.UID
	}
	return in
}

// end ends a report as the deliveries do.
func end(t testing.TB, s *Store, uid, state string) {
	t.Helper()
	err := s.write(context.Background(), func(tx *tx) error {
		var id int64
		if err := tx.get([]any{&id}, `SELECT id FROM reports WHERE uid = ?`, uid); err != nil {
			return err
		}
		if err := tx.exec(`UPDATE deliveries SET state = ? WHERE report = ?`, state, id); err != nil {
			return err
		}
		return s.end(tx, State(state), id)
	})
	if err != nil {
		t.Fatal(err)
	}
}

func copyFiles(t testing.TB, to, from string) {
	t.Helper()
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
}

func flip(t testing.TB, path string, at int64, with byte) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b := make([]byte, 1)
	if _, err := f.ReadAt(b, at); err != nil {
		t.Fatal(err)
	}
	b[0] ^= with
	if _, err := f.WriteAt(b, at); err != nil {
		t.Fatal(err)
	}
}

// lost returns what is not served any more, by report id.
func (in *inventory) lost(t testing.TB, s *Store) []string {
	t.Helper()
	got := readAll(t, s)
	var lost []string
	for id, body := range in.bodies {
		if !bytes.Equal(got[id], body) {
			lost = append(lost, id)
			continue
		}
		waiting := 0
		err := s.write(context.Background(), func(tx *tx) error {
			return tx.get([]any{&waiting}, `SELECT count(*) FROM deliveries d JOIN reports r ON r.id = d.report
				WHERE r.uid = ? AND r.state = 'waiting' AND d.state = 'waiting' AND d.subject = 'pf_checking_account'`, in.uids[id])
		})
		if err != nil || waiting != 1 {
			t.Errorf("%s: got %d deliveries and %v, want one that waits", id, waiting, err)
		}
	}
	return lost
}

// One byte that changes costs at most one report, which is named.
func TestOneByteOfAnyFile(t *testing.T) {
	onlySQLite(t)
	samples, seed := 30, uint64(1)
	switch rounds := soakRounds(1); {
	case testing.Short():
		samples = 10
	case rounds > 1: // others each time
		samples, seed = 30*rounds, uint64(time.Now().UnixNano())
		t.Log("seed", seed)
	}
	for _, closed := range []bool{true, false} {
		name := "killed"
		if closed {
			name = "closed"
		}
		origin := filepath.Join(t.TempDir(), name)
		o, _ := quietOptions(origin)
		s := openTest(t, o)
		in := furnish(t, s, 40)
		dir := origin
		if closed {
			_ = s.Close()
		} else {
			dir = filepath.Join(t.TempDir(), "copy")
			copyFiles(t, dir, origin)
			_ = s.Close()
		}
		random := rand.New(rand.NewPCG(seed, 2))
		for _, file := range filesIn(t, dir) {
			info, err := os.Stat(filepath.Join(dir, file))
			if err != nil {
				t.Fatal(err)
			}
			if info.Size() == 0 || strings.HasPrefix(file, "reserve") || file == lockName {
				continue
			}
			n := samples
			if strings.HasPrefix(file, bodiesName) {
				n = samples / 3
			}
			for range n {
				at, with := random.Int64N(info.Size()), byte(1)<<random.IntN(8)
				testFlip(t, dir, file, at, with, &in)
			}
		}
	}
}

func filesIn(t testing.TB, dir string) []string {
	t.Helper()
	var files []string
	err := filepath.WalkDir(dir, func(path string, entry os.DirEntry, err error) error {
		if err == nil && !entry.IsDir() {
			name, _ := filepath.Rel(dir, path)
			files = append(files, name)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func testFlip(t *testing.T, origin, file string, at int64, with byte, in *inventory) {
	name := fmt.Sprintf("%s %s byte %d (page %d+%d) ^ %#x", filepath.Base(origin), file, at, at/pageSize+1, at%pageSize, with)
	dir, err := os.MkdirTemp(t.TempDir(), "flip")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	failed := t.Failed()
	copyFiles(t, dir, origin)
	flip(t, filepath.Join(dir, file), at, with)

	o, log := quietOptions(dir)
	s, err := Open(context.Background(), o)
	if err != nil {
		t.Errorf("%s: got %v, want it to open", name, err)
		return
	}
	defer s.Close()
	lost := in.lost(t, s)
	for _, id := range lost {
		if err := s.setAsideUnread(context.Background(), in.uids[id]); err != nil && !strings.Contains(log.String(), in.uids[id]) {
			t.Errorf("%s: %v", name, err)
		}
		if !strings.Contains(log.String(), in.uids[id]) {
			t.Errorf("%s: %s is missing, and not named", name, id)
		}
	}
	if len(lost) > 1 {
		t.Errorf("%s: got %d reports missing (%s), want one at most\n%s", name, len(lost), lost, log)
	}
	for _, uid := range in.ended {
		var state string
		err := s.write(context.Background(), func(tx *tx) error {
			return tx.get([]any{&state}, `SELECT state FROM reports WHERE uid = ?`, uid)
		})
		if (err != nil || state != "delivered") && (len(lost) > 0 || !strings.Contains(log.String(), uid)) {
			t.Errorf("%s: got %s %q and %v, want it delivered", name, uid, state, err)
		}
	}
	if t.Failed() && !failed {
		t.Log(log.String())
	}
}

// setAsideUnread does with a report what a delivery does that finds it damaged.
func (s *Store) setAsideUnread(ctx context.Context, uid string) error {
	var id int64
	err := s.write(ctx, func(t *tx) error { return t.get([]any{&id}, `SELECT id FROM reports WHERE uid = ?`, uid) })
	if err != nil {
		return err
	}
	d, err := s.load(ctx, id)
	if err == nil {
		var body Body
		if body, err = d.Body(); err == nil {
			_, err = io.Copy(io.Discard, body)
			_ = body.Close()
		}
	}
	if !errors.Is(err, ErrDamaged) {
		return fmt.Errorf("got %w, want it damaged", err)
	}
	return s.setReportAside(ctx, id, err.Error())
}

// A database or a log that is cut off is opened with what is left, and kept.
func TestCutFiles(t *testing.T) {
	onlySQLite(t)
	origin := filepath.Join(t.TempDir(), "origin")
	o, _ := quietOptions(origin)
	s := openTest(t, o)
	in := furnish(t, s, 20)
	if err := s.base.(*sqlite).tidy(t.Context()); err != nil { // these stand in the database, the next in the log
		t.Fatal(err)
	}
	log := mustPut(t, s, testHead("in the log"), randomBody(3000))
	dir := killed(t, s)
	_ = s.Close()
	for _, test := range []struct {
		name string
		file string
		part int64 // of eight that is left
	}{
		{"half of the database", dbName, 4},
		{"a piece of the database", dbName, 1},
		{"all but a piece of the database", dbName, 7},
		{"half of the log", dbName + "-wal", 4},
		{"no log", dbName + "-wal", 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			o, logged := quietOptions(filepath.Join(t.TempDir(), "copy"))
			copyFiles(t, o.Dir, dir)
			path := filepath.Join(o.Dir, test.file)
			info, err := os.Stat(path)
			if err != nil {
				t.Fatal(err)
			}
			left := info.Size() * test.part / 8
			if err := os.Truncate(path, left-left%3); err != nil {
				t.Fatal(err)
			}
			s := openTest(t, o)
			got := readAll(t, s)
			for id, body := range got {
				if id != "in the log" && !bytes.Equal(body, in.bodies[id]) {
					t.Errorf("got another body for %s", id)
				}
			}
			if test.file != dbName {
				if lost := in.lost(t, s); len(lost) > 0 {
					t.Errorf("got %v missing, want that nothing of the database is", lost)
				}
				return
			}
			if stateOf(t, s, log.UID) != Waiting {
				t.Errorf("got the report in the log %s, want it waiting", stateOf(t, s, log.UID))
			}
			names, err := s.files.list(damagedName)
			if err != nil || len(names) == 0 || !strings.Contains(logged.String(), "is damaged") {
				t.Errorf("got %v and %v kept and %q logged, want the database", names, err, logged)
			}
			mustPut(t, s, testHead("after"), []byte("body"))
		})
	}
}

// Who is killed while a new database is made of a damaged one goes on with it, at
// whatever point that was.
func TestKilledWhileSalvaging(t *testing.T) {
	onlySQLite(t)
	origin := filepath.Join(t.TempDir(), "origin")
	o, _ := quietOptions(origin)
	s := openTest(t, o)
	in := furnish(t, s, 20)
	if err := s.base.(*sqlite).tidy(t.Context()); err != nil {
		t.Fatal(err)
	}
	furnishMore(t, s, &in) // in the log
	damaged := killed(t, s)
	_ = s.Close()
	data, err := os.ReadFile(filepath.Join(damaged, dbName))
	if err != nil {
		t.Fatal(err)
	}
	flip(t, filepath.Join(damaged, dbName), int64(bytes.Index(data, []byte("CREATE TABLE reports"))), 0x20)

	salvaged := filepath.Join(t.TempDir(), "salvaged")
	copyFiles(t, salvaged, damaged)
	o, _ = quietOptions(salvaged)
	_ = openTest(t, o).Close()

	rename := func(from, to string) func(string) error {
		return func(dir string) error { return os.Rename(filepath.Join(dir, from), filepath.Join(dir, to)) }
	}
	steps := []func(dir string) error{
		func(dir string) error {
			return os.WriteFile(filepath.Join(dir, salvageName), make([]byte, 5000), 0o600)
		},
		func(dir string) error {
			data, err := os.ReadFile(filepath.Join(salvaged, dbName))
			return errors.Join(err, os.WriteFile(filepath.Join(dir, salvageName), data, 0o600))
		},
		rename(salvageName, salvagedName),
		func(dir string) error { return os.Mkdir(filepath.Join(dir, damagedName), 0o700) },
		rename(dbName+"-wal", damagedName+"/"+dbName+"-1-wal"),
		rename(dbName, damagedName+"/"+dbName+"-1"),
		rename(salvagedName, dbName),
	}
	for n := range len(steps) + 1 {
		o, log := quietOptions(filepath.Join(t.TempDir(), "killed"))
		copyFiles(t, o.Dir, damaged)
		for _, step := range steps[:n] {
			if err := step(o.Dir); err != nil {
				t.Fatal(err)
			}
		}
		s, err := Open(t.Context(), o)
		if err != nil {
			t.Errorf("after %d steps: %v", n, err)
			continue
		}
		if lost := in.lost(t, s); len(lost) > 0 {
			t.Errorf("after %d steps: got %v missing, want nothing\n%s", n, lost, log)
		}
		kept, err := s.files.list(damagedName)
		if err != nil || len(kept) < 2 {
			t.Errorf("after %d steps: got %v and %v kept, want the database and its log", n, kept, err)
		}
		mustPut(t, s, testHead("after"), []byte("body"))
		_ = s.Close()
	}
}

// furnishMore gives a store two more reports.
func furnishMore(t testing.TB, s *Store, in *inventory) {
	t.Helper()
	for _, size := range []int{3000, 2 * chunkSize} {
		id := fmt.Sprint("more-", size)
		body := randomBody(size)
		in.bodies[id], in.uids[id] = body, mustPut(t, s, testHead(id), body).UID
	}
}
