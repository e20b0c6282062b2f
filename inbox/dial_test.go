package inbox

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// serveTest opens a store, and dials it.
func serveTest(t *testing.T, o Options) (*Store, *Client) {
	t.Helper()
	s := openTest(t, o)
	if err := s.ServeSocket(); err != nil {
		t.Fatal(err)
	}
	return s, dialTest(t, s.dir)
}

func dialTest(t *testing.T, dir string) *Client {
	t.Helper()
	c, err := Dial(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func asJSON(t *testing.T, v any, err error) string {
	t.Helper()
	text, jsonErr := json.Marshal(v)
	if err := errors.Join(err, jsonErr); err != nil {
		t.Error(err)
	}
	return string(text)
}

// What comes through the socket is what the store says.
func TestClientSaysWhatTheStoreSays(t *testing.T) {
	onlySQLite(t)
	ctx := t.Context()
	o, _ := quietOptions(t.TempDir())
	s, c := serveTest(t, o)
	for i := range 5 {
		put(s, testHead(fmt.Sprint(i)), randomBody(10))
	}
	if _, err := c.Retry(ctx, Filter{ReportID: "1"}, "ann", nil); err != nil {
		t.Error(err)
	}
	if err := c.Pause(ctx, "cards", "ann"); err != nil {
		t.Error(err)
	}
	same := func(what string, get func(store) (any, error)) {
		t.Helper()
		want, wantErr := get(s)
		got, err := get(c)
		if asJSON(t, got, err) != asJSON(t, want, wantErr) {
			t.Errorf("%s: got %+v, want %+v", what, got, want)
		}
	}
	same("the list", func(x store) (any, error) { return x.List(ctx, Filter{}, Page{}) })
	same("a page", func(x store) (any, error) { return x.List(ctx, Filter{State: Waiting}, Page{Limit: 2}) })
	same("an empty list", func(x store) (any, error) { return x.List(ctx, Filter{State: Dead}, Page{}) })
	same("the record", func(x store) (any, error) { return x.Audit(ctx, Filter{LinkID: "link-1"}, Page{}) })
	same("the routes", func(x store) (any, error) { return x.ListRoutes(ctx) })
	same("the counts", func(x store) (any, error) { return x.Stats(ctx) })

	if err := c.Resume(ctx, "cards", "ann"); err != nil {
		t.Error(err)
	}
	if routes, err := s.ListRoutes(ctx); err != nil || len(routes) != 1 || routes[0].PausedBy != "" {
		t.Errorf("got %+v and %v, want no route that is paused", routes, err)
	}
	if n, err := c.Drop(ctx, Filter{ReportID: "1"}, "ann", "a test", nil); n != 1 || err != nil {
		t.Errorf("got %d dropped and %v, want 1", n, err)
	}
	receipt, err := c.Erase(ctx, EraseConsent, "consent-1", "ann", "she asked")
	if err != nil || receipt.Kind != EraseConsent || receipt.Value != "consent-1" || receipt.At.IsZero() || len(receipt.Reports) != 5 {
		t.Fatalf("got %+v and %v, want a receipt for 5 reports", receipt, err)
	}
	if r := receipt.Reports[0]; r.State != "waiting" || !r.Destroyed || r.ReportID != "0" {
		t.Errorf("got %+v, want it destroyed while it waited", r)
	}
	if r := receipt.Reports[1]; r.State != "dropped" || r.Destroyed {
		t.Errorf("got %+v, want a record only", r)
	}
	records, err := s.Audit(ctx, Filter{ReportID: "1"}, Page{})
	if err != nil || len(records) != 1 || len(records[0].Actions) != 3 || records[0].Actions[1].Who != "ann" || records[0].Actions[1].Why != "a test" {
		t.Errorf("got %+v and %v, want who has retried, dropped and erased it, and why", records, err)
	}
}

// store is what a Store and a Client have in common here.
type store interface {
	List(context.Context, Filter, Page) ([]Record, error)
	Audit(context.Context, Filter, Page) ([]Record, error)
	ListRoutes(context.Context) ([]RouteStatus, error)
	Stats(context.Context) (Stats, error)
}

func TestClientProgress(t *testing.T) {
	onlySQLite(t)
	o, _ := quietOptions(t.TempDir())
	s, c := serveTest(t, o)
	arriveMany(t, s, "a", "a", 450)
	var told []string
	progress := func(done, total int) { told = append(told, fmt.Sprint(done, "/", total)) }
	n, err := c.Drop(t.Context(), Filter{Type: "a"}, "ann", "a test", progress)
	if got := strings.Join(told, " "); n != 450 || err != nil || got != "0/450 200/450 400/450 450/450" {
		t.Errorf("got %d, %v and %q, want 450 with the progress on the way", n, err, got)
	}
}

// Who hangs up stops what he has begun.
func TestClientHangsUp(t *testing.T) {
	onlySQLite(t)
	o, _ := quietOptions(t.TempDir())
	s, c := serveTest(t, o)
	arriveMany(t, s, "a", "a", 600)
	ctx, cancel := context.WithCancel(t.Context())
	_, err := c.Drop(ctx, Filter{Type: "a"}, "ann", "a test", func(done, _ int) {
		if done > 0 {
			cancel()
		}
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want %v", err, context.Canceled)
	}
	if err := s.Close(); err != nil { // after what is under way
		t.Error(err)
	}
	s = openTest(t, o)
	if got := stateCount(t, s); got[Dropped]+got[Waiting] != 600 || got[Dropped] < 200 {
		t.Errorf("got %v, want 600 in all, and the first 200 dropped", got)
	}
}

func TestClientExport(t *testing.T) {
	onlySQLite(t)
	o, _ := quietOptions(t.TempDir())
	s, c := serveTest(t, o)
	for _, size := range []int{0, 10, 300_000} {
		want := randomBody(size)
		uid := mustPut(t, s, testHead(fmt.Sprint(size)), want).UID
		body, err := c.Export(t.Context(), uid, "ann", "a test")
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(body)
		_ = body.Close()
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("got %d bytes and %v, want the %d that were stored", len(got), err, size)
		}
		if r, err := s.Show(t.Context(), uid); err != nil || len(r.Actions) != 1 || r.Actions[0].What != "export" || r.Actions[0].Who != "ann" {
			t.Errorf("got %+v and %v, want the export on record", r.Actions, err)
		}
	}
}

// Errors are what they were on the other side of the socket.
func TestClientErrors(t *testing.T) {
	onlySQLite(t)
	o, _ := quietOptions(t.TempDir())
	s, c := serveTest(t, o)
	gone := mustPut(t, s, testHead("gone"), randomBody(10)).UID
	end(t, s, gone, "delivered")
	broken := mustPut(t, s, testHead("broken"), randomBody(ownFile)).UID
	path := s.files.body(broken)
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	data[400_000] ^= 1
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	export := func(uid, why string) func() (int64, error) {
		return func() (int64, error) {
			body, err := c.Export(t.Context(), uid, "ann", why)
			if err != nil {
				return 0, err
			}
			defer body.Close()
			return io.Copy(io.Discard, body)
		}
	}
	for _, test := range []struct {
		name string
		do   func() (int64, error)
		want error
		text string
	}{
		{"nobody knows it", export("nobody", "a test"), ErrNotFound, "no report has the uid nobody"},
		{"it is gone", export(gone, "a test"), ErrGone, "was delivered on"},
		{"nobody says why", export(gone, ""), nil, "say who and why"},
		{"its end is damaged", export(broken, "a test"), ErrDamaged, ""},
		{"a retry of what is gone", func() (int64, error) {
			n, err := c.Retry(t.Context(), Filter{UID: gone}, "ann", nil)
			return int64(n), err
		}, ErrGone, "Klavi can send it again"},
		{"no such state", func() (int64, error) {
			_, err := c.List(t.Context(), Filter{State: "lost"}, Page{})
			return 0, err
		}, nil, `"lost" is no state`},
	} {
		n, err := test.do()
		if err == nil || !strings.Contains(err.Error(), test.text) || test.want != nil && !errors.Is(err, test.want) {
			t.Errorf("%s: got %v, want %v with %q", test.name, err, test.want, test.text)
		}
		if test.want == ErrDamaged && (n == 0 || n >= 500_000) {
			t.Errorf("got %d bytes, want those before the damage", n)
		}
	}
	_ = s.Close()
	if _, err := c.Stats(t.Context()); !errors.Is(err, ErrNotServed) {
		t.Errorf("got %v when the store has closed, want %v", err, ErrNotServed)
	}
}

// What a later version asks for is refused, not done in part.
func TestSocketRefusesWhatItDoesNotKnow(t *testing.T) {
	onlySQLite(t)
	o, _ := quietOptions(t.TempDir())
	s, c := serveTest(t, o)
	put(s, testHead("a"), randomBody(10))
	for _, test := range []struct {
		call, text string
		status     int
	}{
		{"drop", `{"Filter":{"State":"waiting","Moon":"full"},"Who":"ann"}`, http.StatusBadRequest},
		{"drop", `{"Filter":{"State":"waiting","ReportID":"` + strings.Repeat("x", maxRequest) + `"}}`, http.StatusBadRequest},
		{"export", `{"Uid":1}`, http.StatusBadRequest},
		{"dance", `{}`, http.StatusNotFound},
	} {
		res, err := c.http.Post("http://inbox"+callsPath+test.call, "", strings.NewReader(test.text))
		if err != nil {
			t.Fatal(err)
		}
		_ = res.Body.Close()
		if res.StatusCode != test.status {
			t.Errorf("%s: got %d, want %d", test.call, res.StatusCode, test.status)
		}
	}
	if got := stateCount(t, s); got[Waiting] != 1 {
		t.Errorf("got %v, want nothing done", got)
	}
	if err := c.call(t.Context(), "dance", &call{}, nil, nil); !errors.Is(err, ErrUnavailable) || !strings.Contains(err.Error(), "another version") {
		t.Errorf("got %v, want that the other side is another version", err)
	}
	records, err := c.List(t.Context(), Filter{}, Page{Limit: 1 << 30})
	if len(records) != 1 || err != nil {
		t.Errorf("got %d records and %v, want the one", len(records), err)
	}
}

func TestDialNobody(t *testing.T) {
	onlySQLite(t)
	dir := t.TempDir()
	empty := filepath.Join(dir, "empty")
	if err := os.Mkdir(empty, 0o700); err != nil {
		t.Fatal(err)
	}
	closed, _ := quietOptions(filepath.Join(dir, "closed"))
	s := openTest(t, closed)
	silent, _ := quietOptions(filepath.Join(dir, "silent"))
	openTest(t, silent)
	_ = s.Close()
	for _, test := range []struct {
		dir  string
		want error
	}{
		{filepath.Join(dir, "missing"), ErrNotFound},
		{empty, ErrNotFound},
		{closed.Dir, ErrNotServed},
		{silent.Dir, ErrNotServed},
	} {
		if _, err := Dial(t.Context(), test.dir); !errors.Is(err, test.want) {
			t.Errorf("%s: got %v, want %v", filepath.Base(test.dir), err, test.want)
		}
		o := testOptions(t, test.dir)
		o.Visit = true
		s, err := Open(t.Context(), o)
		switch {
		case test.want == ErrNotFound && !errors.Is(err, ErrNotFound):
			t.Errorf("%s: got %v, want %v", filepath.Base(test.dir), err, ErrNotFound)
		case test.dir == silent.Dir && !errors.Is(err, ErrLocked):
			t.Errorf("%s: got %v, want %v", filepath.Base(test.dir), err, ErrLocked)
		case test.dir == closed.Dir && err != nil:
			t.Errorf("%s: got %v, want it open", filepath.Base(test.dir), err)
		}
		if err == nil {
			_ = s.Close()
		}
	}
	if names := filesIn(t, empty); len(names) > 0 {
		t.Errorf("got %q in the empty directory, want nothing made", names)
	}
	if _, err := os.Stat(filepath.Join(dir, "missing")); !os.IsNotExist(err) {
		t.Errorf("got %v, want the missing directory still missing", err)
	}
}

// A process that has stopped accepts connections, and does not answer.
func TestDialWhoDoesNotAnswer(t *testing.T) {
	onlySQLite(t)
	o, _ := quietOptions(t.TempDir())
	s := openTest(t, o)
	listener, err := net.Listen("unix", filepath.Join(o.Dir, socketName))
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	_, err = dial(t.Context(), s.dir, 50*time.Millisecond)
	if want := fmt.Sprintf("process %d since", os.Getpid()); !errors.Is(err, ErrLocked) || !strings.Contains(err.Error(), want) {
		t.Errorf("got %v, want %v and who it is", err, ErrLocked)
	}
}
