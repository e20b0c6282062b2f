package inbox

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

// testKey is the encryption key of the tests.
var testKey = bytes.Repeat([]byte{7}, keySize)

// testOptions are those of the store in dir: the tests of what SQLite and
// PostgreSQL share run over either.
func testOptions(t testing.TB, dir string) Options {
	o := Options{
		Dir: dir, EncryptionKey: testKey, Node: "test",
		Logger: slog.New(slog.NewTextHandler(testLog{t}, nil)),
	}
	if testDatabase != "" {
		o.Postgres = &Postgres{URL: testDatabase, Schema: fmt.Sprintf("t%x", sha256.Sum256([]byte(dir)))[:20], PoolSize: 4, deaf: true}
	}
	return o
}

// hurried has others take over soon what a process that was killed had claimed.
func hurried(o Options) Options {
	if o.Postgres != nil {
		o.Postgres.hurry = 10
	}
	return o
}

// testDatabase is the URL of a database of PostgreSQL over which all tests run,
// empty for SQLite.
var testDatabase = os.Getenv("INBOX_TEST_POSTGRES")

// onlySQLite is for the tests of what only SQLite does.
func onlySQLite(t testing.TB) {
	t.Helper()
	if testDatabase != "" {
		t.Skip("this is about SQLite")
	}
}

type testLog struct{ testing.TB }

func (l testLog) Write(p []byte) (int, error) {
	l.Log(strings.TrimSpace(string(p)))
	return len(p), nil
}

func openTest(t testing.TB, o Options) *Store {
	t.Helper()
	s, err := Open(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func randomBody(size int) []byte {
	body := make([]byte, size)
	_, _ = rand.Read(body)
	return body
}

func testHead(id string) Head {
	return Head{
		Kind: KindReport, Subjects: []string{"pf_checking_account"}, ReportID: id, Code: 200,
		RequestID: "request-" + id, LinkIDs: []string{"link-1"}, ConsentIDs: []string{"consent-1"},
		Meta: []byte("meta"), Received: time.UnixMilli(1_700_000_000_000),
	}
}

// put stores a body.
func put(s *Store, head Head, body []byte) (Receipt, error) {
	d, err := s.NewDraft()
	if err != nil {
		return Receipt{}, err
	}
	if _, err := d.Write(body); err != nil {
		return Receipt{}, err
	}
	return d.Commit(context.Background(), head, sha256.Sum256(body))
}

func mustPut(t testing.TB, s *Store, head Head, body []byte) Receipt {
	t.Helper()
	receipt, err := put(s, head, body)
	if err != nil {
		t.Fatal(err)
	}
	return receipt
}

func TestBodiesComeBackAsTheyWere(t *testing.T) {
	for _, size := range []int{0, 1, 4 << 10, chunkSize - 1, chunkSize, chunkSize + 1, 2 * chunkSize, 3*chunkSize + 7} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			dir := t.TempDir()
			s := openTest(t, testOptions(t, dir))
			body := randomBody(size)
			d, err := s.NewDraft()
			if err != nil {
				t.Fatal(err)
			}
			for part := range bytesIn(body, 10_000) {
				if _, err := d.Write(part); err != nil {
					t.Fatal(err)
				}
			}
			plain, err := d.Open()
			if err != nil {
				t.Fatal(err)
			}
			if got, err := io.ReadAll(plain); err != nil || !bytes.Equal(got, body) {
				t.Fatalf("before the commit: got %d bytes and %v, want the %d that were written", len(got), err, size)
			}
			if _, err := d.Commit(context.Background(), testHead("a"), sha256.Sum256(body)); err != nil {
				t.Fatal(err)
			}
			_ = s.Close()

			s = openTest(t, testOptions(t, dir))
			checkStored(t, s, map[string][]byte{"a": body})
		})
	}
}

func bytesIn(body []byte, size int) func(func([]byte) bool) {
	return func(yield func([]byte) bool) {
		for len(body) > 0 {
			n := min(size, len(body))
			if !yield(body[:n]) {
				return
			}
			body = body[n:]
		}
	}
}

// readAll reads everything that waits or is dead, by report id.
func readAll(t testing.TB, s *Store) map[string][]byte {
	t.Helper()
	bodies := make(map[string][]byte)
	for _, r := range readAllBodies(t, s) {
		bodies[r.id] = r.body
	}
	return bodies
}

type readBody struct {
	id   string
	body []byte
}

// readAllBodies reads all bodies that can be read.
func readAllBodies(t testing.TB, s *Store) (bodies []readBody) {
	t.Helper()
	for _, id := range reportIDs(t, s) {
		d, err := s.load(context.Background(), id)
		if errors.Is(err, ErrDamaged) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		body, err := d.Body()
		if err != nil {
			continue
		}
		data, err := io.ReadAll(body)
		_ = body.Close()
		if err == nil {
			bodies = append(bodies, readBody{d.Head.ReportID, data})
		}
	}
	return bodies
}

func checkStored(t testing.TB, s *Store, want map[string][]byte) {
	t.Helper()
	got := readAll(t, s)
	for id, body := range want {
		if !bytes.Equal(got[id], body) {
			t.Errorf("report %s: got %d bytes, want the %d that were stored", id, len(got[id]), len(body))
		}
	}
}

func reportIDs(t testing.TB, s *Store) []int64 {
	t.Helper()
	var ids []int64
	err := s.write(context.Background(), func(tx *tx) error {
		var err error
		ids, err = tx.ids(`SELECT report FROM bodies ORDER BY report`)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return ids
}

// The names and ids of a signed report may be anything.
func TestOddNames(t *testing.T) {
	for _, name := range []string{"", " ", "a b", "a\x00b", "a\nb", "\xff\xfe", "a\xffb", "'; DROP TABLE reports; --", "a%_*?", "ç\u2028<&>", strings.Repeat("x", 256)} {
		t.Run(fmt.Sprintf("%.20q", name), func(t *testing.T) {
			o, log := quietOptions(t.TempDir())
			s := openTest(t, o)
			head := Head{
				Kind: KindEvent, Subjects: []string{name, "other"}, ReportID: name, Received: s.now(), RequestID: name,
				LinkIDs: []string{name}, ConsentIDs: []string{name}, EventIDs: []string{name},
				EventConsents: map[string][]string{name: {name}},
			}
			receipt := mustPut(t, s, head, []byte("body"))
			_ = s.Close()
			s = openTest(t, o)
			if strings.Contains(log.String(), "level=ERROR") {
				t.Errorf("got %s, want nothing found wrong with it", log)
			}
			delivered := make(chan *Delivery, 2)
			routes := &fakeRoutes{
				list: []Route{{Name: "a"}}, table: func(Kind, string) string { return "a" },
				deliver: func(_ context.Context, _ string, d *Delivery) Outcome {
					delivered <- d
					return Outcome{Accepted: true}
				},
			}
			defer s.Attach(routes)()
			d := <-delivered
			if len(d.Head.Subjects) != 2 || d.Head.Subjects[0] != strings.ReplaceAll(strings.ToValidUTF8(name, "\uFFFD"), "\x00", "\uFFFD") {
				t.Errorf("got %q, want the name", d.Head.Subjects)
			}
			eventually(t, "it is delivered", func() bool { return stateOf(t, s, receipt.UID) == Delivered })
			if r, err := s.Show(t.Context(), receipt.UID); err != nil || !slices.Equal(r.Types, d.Head.Subjects) {
				t.Errorf("got the types %q and %v, want %q", r.Types, err, d.Head.Subjects)
			}
			// It is counted after the commit, which others see before.
			eventually(t, "nothing is counted", func() bool { return s.room.size() == 0 })
			s.room.mu.Lock()
			defer s.room.mu.Unlock()
			if s.room.held != 0 || len(s.room.subjects) != 0 {
				t.Errorf("got %d bytes and %v counted when it is delivered, want nothing", s.room.held, s.room.subjects)
			}
		})
	}
}
