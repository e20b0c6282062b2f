package faults

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddy-klavi/caddy-klavi/inbox"
	"github.com/caddy-klavi/caddy-klavi/klavi"
)

// reportOf is a report with a tax id in it.
func reportOf(reportType, id string, size int) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, `{"code":200,"message":"OK","requestId":"112334","productName":%q,"productReportId":%q,`+
		`"enquiryCpf":%q,"links":[{"linkId":"link-%s","consents":[{"consentId":"consent-%s"}]}],"data":[`, reportType, id, testCPF, id, id)
	const row, tail = `{"transactionName":"` + testWords + `","amount":"1000.0400"}`, `]}`
	b.WriteString(row)
	for b.Len()+1+len(row)+len(tail) <= size {
		b.WriteString("," + row)
	}
	for b.Len()+len(tail) < size {
		b.WriteByte(' ')
	}
	b.WriteString(tail)
	return b.Bytes()
}

// sender sends reports as Klavi does, and remembers what it was told.
type sender struct {
	t     testing.TB
	key   string
	from  string // X-Forwarded-For, if not empty
	fresh *http.Client

	mu    sync.Mutex
	sent  map[string][32]byte // by id
	open  map[string][]byte   // the bodies that were not answered 200
	acked map[string]bool
}

func newSender(t testing.TB) *sender {
	return &sender{
		t: t, key: secret, sent: make(map[string][32]byte), open: make(map[string][]byte), acked: make(map[string]bool),
		fresh: &http.Client{
			Timeout:       30 * time.Second,
			Transport:     &http.Transport{DisableKeepAlives: true},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}
}

// once sends a report once. It returns the status, 0 without an answer.
func (s *sender) once(url, id string, body []byte) int {
	return s.send(url, id, body, bytes.NewReader(body))
}

// send sends a body that may come slowly.
func (s *sender) send(url, id string, body []byte, r io.Reader) int {
	s.mu.Lock()
	s.sent[id] = sha256.Sum256(body)
	s.open[id] = body
	s.mu.Unlock()
	req, err := http.NewRequest(http.MethodPost, url, r)
	if err != nil {
		s.t.Error(err)
		return 0
	}
	req.ContentLength = int64(len(body))
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set(klavi.SignatureHeader, klavi.Sign([]byte(s.key), body))
	if s.from != "" {
		req.Header.Set("X-Forwarded-For", s.from)
	}
	res, err := s.fresh.Do(req)
	if err != nil {
		return 0
	}
	defer res.Body.Close()
	if _, err := io.Copy(io.Discard, res.Body); err != nil && res.StatusCode != 200 {
		return 0
	}
	if res.StatusCode == http.StatusOK {
		s.mu.Lock()
		s.acked[id] = true
		delete(s.open, id)
		s.mu.Unlock()
	}
	return res.StatusCode
}

// post sends a report up to six times, as Klavi does. It returns the last status.
func (s *sender) post(url, id string, body []byte) int {
	return s.tryAgain(func() int { return s.once(url, id, body) })
}

// tryAgain tries up to six times, as Klavi does.
func (s *sender) tryAgain(once func() int) (status int) {
	for wait := 250 * time.Millisecond; wait <= 8*time.Second; wait *= 2 {
		if status = once(); status == http.StatusOK {
			return status
		}
		<-time.After(wait)
	}
	return status
}

// again sends what was not answered 200. All of it must be taken now.
func (s *sender) again(url string) {
	s.t.Helper()
	s.mu.Lock()
	open := maps.Clone(s.open)
	s.mu.Unlock()
	for id, body := range open {
		s.mustPost(url, id, body)
	}
}

// mustPost sends a report that must be taken at once.
func (s *sender) mustPost(url, id string, body []byte) {
	s.t.Helper()
	if status := s.once(url, id, body); status != http.StatusOK {
		s.t.Fatalf("got status %d for %s, want 200", status, id)
	}
}

// load sends reports of all sizes from several goroutines until stop is called,
// which returns how many were taken.
func (s *sender) load(name string, post func(id string, body []byte) int) (stop func() int) {
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	before := s.taken()
	for g := range 4 {
		wg.Go(func() {
			sizes := []int{300, 3000, 70_000, 300, 20_000, 300, 1_200_000}
			for n := 0; ctx.Err() == nil; n++ {
				id := fmt.Sprintf("%s-%d-%d", name, g, n)
				post(id, reportOf("pf_loans", id, sizes[n%len(sizes)]))
			}
		})
	}
	return func() int {
		cancel()
		wg.Wait()
		return s.taken() - before
	}
}

func (s *sender) taken() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.acked)
}

// upstream takes reports, and remembers what it has accepted.
type upstream struct {
	*httptest.Server
	t testing.TB

	mu     sync.Mutex
	answer func(w http.ResponseWriter, r *http.Request, id string) // nil: 200
	got    map[string][32]byte                                     // what it was given, by id
	times  map[string]int                                          // it was accepted
	tries  int
}

func newUpstream(t testing.TB) *upstream {
	u := &upstream{t: t, got: make(map[string][32]byte), times: make(map[string]int)}
	u.Server = httptest.NewServer(http.HandlerFunc(u.take))
	t.Cleanup(func() {
		u.CloseClientConnections()
		u.Close()
	})
	return u
}

func (u *upstream) take(w http.ResponseWriter, r *http.Request) {
	hash := sha256.New()
	n, err := io.Copy(hash, r.Body)
	if err != nil || n != r.ContentLength {
		return // the gateway has gone
	}
	id := r.Header.Get("Klavi-Report-Id")
	u.mu.Lock()
	u.tries++
	digest := [32]byte(hash.Sum(nil))
	if before, ok := u.got[id]; ok && before != digest {
		u.t.Errorf("got two different bodies of %s", id)
	}
	u.got[id] = digest
	answer := u.answer
	if answer == nil {
		u.times[id]++
	}
	u.mu.Unlock()
	if answer != nil {
		answer(w, r, id)
		return
	}
	w.WriteHeader(http.StatusOK)
}

// answers has the upstream answer otherwise; nil is 200.
func (u *upstream) answers(answer func(w http.ResponseWriter, r *http.Request, id string)) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.answer = answer
}

// accepts notes what an answer of the test's own has accepted.
func (u *upstream) accepts(id string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.times[id]++
}

func (u *upstream) accepted(id string) int {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.times[id]
}

func (u *upstream) all() int {
	u.mu.Lock()
	defer u.mu.Unlock()
	return len(u.times)
}

func (u *upstream) attempts() int {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.tries
}

// again is how often reports were accepted after the first time.
func (u *upstream) again() (n int) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, times := range u.times {
		n += times - 1
	}
	return n
}

func status(code int) func(http.ResponseWriter, *http.Request, string) {
	return func(w http.ResponseWriter, _ *http.Request, _ string) { w.WriteHeader(code) }
}

// dial connects to the inbox of a process, which has it open or will.
func (p *process) dial() *inbox.Client {
	p.t.Helper()
	var client *inbox.Client
	eventually(p.t, "the inbox to be open", func() bool {
		var err error
		client, err = inbox.Dial(p.t.Context(), p.setup.dir)
		return err == nil
	})
	p.t.Cleanup(func() { _ = client.Close() })
	return client
}

// records are those of all reports, by id.
func (p *process) records() map[string]inbox.Record {
	p.t.Helper()
	return recordsOf(p.t, p.dial())
}

// looker is an inbox that can be looked into, its process's or its database's.
type looker interface {
	Audit(context.Context, inbox.Filter, inbox.Page) ([]inbox.Record, error)
	Stats(context.Context) (inbox.Stats, error)
	Retry(ctx context.Context, f inbox.Filter, who string, progress inbox.Progress) (int, error)
}

// recordsOf returns those of all reports, by id: there is one of each.
func recordsOf(t testing.TB, from looker) map[string]inbox.Record {
	t.Helper()
	byID := make(map[string]inbox.Record)
	page := inbox.Page{Limit: 1000}
	for {
		list, err := from.Audit(t.Context(), inbox.Filter{}, page)
		if err != nil {
			t.Fatal(err)
		}
		if len(list) == 0 {
			return byID
		}
		for i := range list {
			if _, ok := byID[list[i].ReportID]; ok {
				t.Errorf("got two records of %s, want one", list[i].ReportID)
			}
			byID[list[i].ReportID] = list[i]
		}
		page.After = list[len(list)-1].UID
	}
}

// recorder is a process, or a fleet.
type recorder interface {
	records() map[string]inbox.Record
}

// check holds what the inbox has against what was sent and answered: nothing that
// was answered 200 is lost, and nothing was changed.
func (s *sender) check(p recorder, upstreams ...*upstream) map[string]inbox.Record {
	s.t.Helper()
	// First what was answered: what is stored meanwhile may be more.
	s.mu.Lock()
	sent, acked := make(map[string][32]byte), make(map[string]bool)
	for id, digest := range s.sent {
		sent[id], acked[id] = digest, s.acked[id]
	}
	s.mu.Unlock()
	records := p.records()
	for id, taken := range acked {
		r, ok := records[id]
		if !ok {
			if taken {
				s.t.Errorf("%s was answered 200 and is not there", id)
			}
			continue
		}
		if digest := sent[id]; r.Digest != hex.EncodeToString(digest[:]) {
			s.t.Errorf("%s: got digest %s, want %x", id, r.Digest, digest)
		}
		times := 0
		for _, u := range upstreams {
			times += u.accepted(id)
		}
		switch {
		case r.State == inbox.Delivered && times == 0:
			s.t.Errorf("%s is delivered, and no upstream has accepted it", id)
		case taken && r.State != inbox.Delivered && r.State != inbox.Waiting && r.State != inbox.Dead:
			s.t.Errorf("%s is %s, want that it is delivered, waits or is dead", id, r.State)
		}
	}
	for _, u := range upstreams {
		u.mu.Lock()
		for id, digest := range u.got {
			if want, ok := sent[id]; ok && digest != want {
				s.t.Errorf("%s: got a body with digest %x at its upstream, want %x", id, digest, want)
			}
		}
		u.mu.Unlock()
	}
	return records
}

// drain has everything delivered. Then nothing of a report is left.
func (s *sender) drain(p *process, upstreams ...*upstream) {
	s.t.Helper()
	records := s.deliver(p.dial(), p, upstreams...)
	checkEmpty(s.t, p.setup.dir, len(records))
}

// deliver has everything delivered, and returns the records.
func (s *sender) deliver(in looker, p recorder, upstreams ...*upstream) map[string]inbox.Record {
	s.t.Helper()
	stats := func() inbox.Stats {
		st, err := in.Stats(s.t.Context())
		if err != nil {
			s.t.Fatal(err)
		}
		return st
	}
	if _, err := in.Retry(s.t.Context(), inbox.Filter{}, "a test", nil); err != nil && !errors.Is(err, inbox.ErrGone) {
		s.t.Fatal(err) // all may be delivered
	}
	eventually(s.t, "everything to be delivered, and nothing to be left", func() bool { return stats() == inbox.Stats{} })
	records := s.check(p, upstreams...)
	s.mu.Lock()
	defer s.mu.Unlock()
	for id := range s.acked {
		if r := records[id]; r.State != inbox.Delivered {
			s.t.Errorf("%s is %s, want that it is delivered", id, r.State)
		}
	}
	return records
}

// checkEmpty looks for what is left of reports that have been delivered.
func checkEmpty(t testing.TB, dir string, records int) {
	t.Helper()
	for _, folder := range []string{"bodies", "tmp"} {
		eventually(t, folder+" to be empty", func() bool {
			entries, err := os.ReadDir(filepath.Join(dir, folder))
			return err == nil && len(entries) == 0
		})
	}
	// The database, its log and its reserve have a size that is bounded; a record
	// with its attempts has about 2 KiB.
	most, size := 16<<20+4096*records, 0
	for path, content := range filesIn(t, dir) {
		size += len(content)
		for _, word := range []string{testCPF, testWords} {
			if bytes.Contains(content, []byte(word)) {
				t.Errorf("got %q in %s, want it nowhere", word, path)
			}
		}
	}
	if size > most {
		t.Errorf("got a directory of %d bytes with %d records, want at most %d", size, records, most)
	}
}

// slowly is a body of which the rest waits until more is closed.
func slowly(body []byte, n int, reached chan<- struct{}, more <-chan struct{}) io.Reader {
	return io.MultiReader(bytes.NewReader(body[:n]), readerFunc(func([]byte) (int, error) {
		close(reached)
		<-more
		return 0, io.EOF
	}), bytes.NewReader(body[n:]))
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// host is the address of a server without its scheme.
func host(u *upstream) string { return strings.TrimPrefix(u.URL, "http://") }
