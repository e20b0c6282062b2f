package inbox

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"testing"
)

var errDisk = errors.New("input/output error")

// holdWriter has the writer wait until the returned func is called.
func holdWriter(t testing.TB, s *Store) (release func()) {
	t.Helper()
	onlySQLite(t)
	begun, end, ended := make(chan struct{}), make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		_ = s.submit(context.Background(), &op{raw: func(*writer) error {
			close(begun)
			<-end
			return nil
		}})
	}()
	<-begun
	return sync.OnceFunc(func() {
		close(end)
		<-ended
	})
}

// A sync that failed is not believed because the next one does not: what was
// moved to the folder before it may be gone in a power cut.
func TestFolderSyncFailsOnce(t *testing.T) {
	onlySQLite(t)
	o, _ := quietOptions(t.TempDir())
	s := openTest(t, o)
	var failed atomic.Bool
	s.files.fault = func(at string) error {
		if at == atFolder && failed.CompareAndSwap(false, true) {
			return errDisk
		}
		return nil
	}
	release := holdWriter(t, s)
	defer release()
	const n = 4
	var wg sync.WaitGroup
	results := make([]error, n)
	for i := range results {
		wg.Go(func() {
			size := ownFile
			if i == 0 {
				size = 100 // in its row
			}
			_, results[i] = put(s, testHead(fmt.Sprint(i)), randomBody(size))
		})
	}
	eventually(t, "they stand in line", func() bool { return len(s.ops) >= n })
	release()
	wg.Wait()
	for i, err := range results {
		if i == 0 && err != nil {
			t.Errorf("got %v for a report without a file, want it stored", err)
		}
		if i > 0 && !errors.Is(err, ErrUnavailable) {
			t.Errorf("got %v for a report whose file may be gone, want %v", err, ErrUnavailable)
		}
	}
	if n := countFiles(t, s); n > 0 {
		t.Errorf("got %d bodies, want none", n)
	}
	mustPut(t, s, testHead("1"), randomBody(ownFile))
}

// breakOnce has a transaction end so that nobody knows whether it is on disk. In
// between, during is called.
func breakOnce(s *Store, during func()) {
	var broken atomic.Bool
	s.files.fault = func(at string) error {
		if at == atCommitted && broken.CompareAndSwap(false, true) {
			during()
			return errDisk
		}
		return nil
	}
}

// A report that stands in line while the store is opened anew, of which only the
// file is there, keeps it: it is acknowledged a moment later.
func TestRepairSparesWhatIsUnderWay(t *testing.T) {
	onlySQLite(t)
	o, _ := quietOptions(t.TempDir())
	s := openTest(t, o)
	body := randomBody(3 * chunkSize)
	orphan := s.files.body("orphan")
	if err := os.WriteFile(orphan, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	stored := make(chan error, 1)
	breakOnce(s, func() {
		go func() {
			_, err := put(s, testHead("under way"), body)
			stored <- err
		}()
		eventually(t, "it stands in line", func() bool {
			files, err := s.files.list(bodiesName)
			return len(s.ops) > 0 && err == nil && len(files) == 2
		})
	})
	fault, check := s.files.fault, make(chan struct{})
	s.files.fault = func(at string) error {
		if at == atCheck {
			<-check // it takes long
		}
		return fault(at)
	}
	if _, err := put(s, testHead("broken"), []byte("body")); !errors.Is(err, ErrUnavailable) {
		t.Fatalf("got %v, want %v", err, ErrUnavailable)
	}
	if err := <-stored; err != nil {
		t.Fatal(err)
	}
	close(check)
	eventually(t, "what nobody needs is removed", func() bool {
		_, err := os.Stat(orphan)
		return errors.Is(err, os.ErrNotExist)
	})
	_ = s.Close() // with all that goes on behind it
	s = openTest(t, o)
	checkStored(t, s, map[string][]byte{"under way": body})
}

// A store of which the check takes long is opened anew as well: it needs nobody
// to have stopped reading.
func TestRepairDuringACheck(t *testing.T) {
	onlySQLite(t)
	o, _ := quietOptions(t.TempDir())
	s := openTest(t, o)
	mustPut(t, s, testHead("a"), []byte("body of a"))
	err := s.write(t.Context(), func(tx *tx) error { // so that the opening has something to write
		return tx.exec(`UPDATE deliveries SET claimed_by = 'test', claimed_until = 1`)
	})
	if err != nil {
		t.Fatal(err)
	}
	breakOnce(s, func() {})
	fault := s.files.fault
	opened := 0
	s.files.fault = func(at string) error {
		if at != atCheck {
			return fault(at)
		}
		opened++
		reader, err := openReaders(s.files.path(dbName))
		if err != nil {
			return err
		}
		t.Cleanup(func() { _ = reader.Close() })
		rows, err := reader.Query(`SELECT 1 FROM reports`)
		if err == nil {
			t.Cleanup(func() { _ = rows.Close() })
			rows.Next()
		}
		return err
	}
	if _, err := put(s, testHead("b"), []byte("body of b")); !errors.Is(err, ErrUnavailable) {
		t.Fatalf("got %v, want %v", err, ErrUnavailable)
	}
	eventually(t, "the store is ready again", func() bool { return s.Ready() == nil })
	mustPut(t, s, testHead("c"), []byte("body of c"))
	if opened != 1 {
		t.Errorf("got it opened %d times more, want once", opened)
	}
}

// What is in the log when a store is opened is written out before anything is
// told of it: a kill may have come before the sync, and then the next power cut
// would take a report with it of which a copy was acknowledged as a duplicate.
func TestOpeningWritesTheLogOut(t *testing.T) {
	onlySQLite(t)
	o, _ := quietOptions(t.TempDir())
	s := openTest(t, o)
	mustPut(t, s, headAt(s, "a"), []byte("body of a"))
	o.Dir = killed(t, s)
	if log, err := readLog(s.files.path(dbName + "-wal")); err != nil || len(log.frames) == 0 {
		t.Fatalf("got %v, want a report that stands in the log", err)
	}
	s = openTest(t, o)
	if info, err := os.Stat(s.files.path(dbName + "-wal")); err != nil || info.Size() > 0 {
		t.Errorf("got %v and %v, want an empty log", info, err)
	}
	if r := mustPut(t, s, headAt(s, "a"), []byte("body of a")); !r.Duplicate {
		t.Errorf("got %+v for the copy, want a duplicate", r)
	}
	checkStored(t, s, map[string][]byte{"a": []byte("body of a")})
}

// Reports that arrive while the database is checked are no damage.
func TestCheckWhileReportsArrive(t *testing.T) {
	onlySQLite(t)
	o, log := quietOptions(t.TempDir())
	s := openTest(t, o)
	arriving := make(chan struct{})
	var wg sync.WaitGroup
	for sender := range 4 {
		wg.Go(func() {
			for i := range 200 {
				id := fmt.Sprint(sender, "-", i)
				if _, err := put(s, testHead(id), []byte(id)); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	go func() {
		wg.Wait()
		close(arriving)
	}()
	for checks := 0; ; checks++ {
		select {
		case <-arriving:
			if checks < 2 {
				t.Errorf("got %d checks while reports arrived, want some", checks)
			}
			return
		default:
		}
		if err := checkDatabase(t.Context(), s.base.(*sqlite).readers); err != nil {
			t.Errorf("got %v, want none\n%s", err, log)
			<-arriving
			return
		}
	}
}
