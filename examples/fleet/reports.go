//go:build unix

package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/caddy-klavi/caddy-klavi/klavi"
)

const secretKey = "sandbox-secret-key" // that of both Caddyfiles

// report is one that was sent.
type report struct {
	digest       [32]byte
	acknowledged bool // with 200
}

// klaviSender sends reports as Klavi does.
type klaviSender struct {
	url    string
	run    string // what all ids of this run begin with
	client *http.Client

	mu      sync.Mutex
	reports map[string]report // by id
	tries   int
}

func newSender(url string) *klaviSender {
	return &klaviSender{
		url: url, run: fmt.Sprintf("%x", time.Now().UnixMilli()), reports: make(map[string]report),
		client: &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}},
	}
}

// send sends reports of all sizes, one after the other, until ctx is done.
func (s *klaviSender) send(ctx context.Context, sender int) {
	sizes := []int{300, 4000, 70_000, 300, 20_000, 4000, 1_200_000}
	for n := 0; ctx.Err() == nil; n++ {
		id := fmt.Sprintf("%s-%d-%d", s.run, sender, n)
		s.deliver(id, newReport(id, sizes[n%len(sizes)]))
	}
}

func newReport(id string, size int) []byte {
	body := fmt.Appendf(nil, `{"code":200,"productName":"pf_loans","productReportId":%q,"data":"`, id)
	body = append(body, bytes.Repeat([]byte("x"), max(0, size-len(body)-2))...)
	return append(body, `"}`...)
}

// deliver tries six times, with 250 ms in between, and each time twice as long.
// Anything but 200 is a failure.
func (s *klaviSender) deliver(id string, body []byte) {
	digest, wait := sha256.Sum256(body), 250*time.Millisecond
	s.note(id, report{digest: digest}, 0)
	for try := range 6 {
		if try > 0 {
			time.Sleep(wait)
			wait *= 2
		}
		s.note(id, report{digest: digest, acknowledged: s.post(body)}, 1)
		if s.taken(id) {
			return
		}
	}
}

func (s *klaviSender) post(body []byte) bool {
	req, err := http.NewRequest(http.MethodPost, s.url, bytes.NewReader(body))
	if err != nil {
		return false
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set(klavi.SignatureHeader, klavi.Sign([]byte(secretKey), body))
	res, err := s.client.Do(req)
	if err != nil {
		return false
	}
	_, _ = io.Copy(io.Discard, res.Body)
	_ = res.Body.Close()
	return res.StatusCode == http.StatusOK
}

func (s *klaviSender) note(id string, r report, tries int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reports[id] = r
	s.tries += tries
}

func (s *klaviSender) taken(id string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.reports[id].acknowledged
}

func (s *klaviSender) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.reports)
}

// upstream stands for the service that takes the reports.
type upstream struct {
	mu  sync.Mutex
	got map[string][][32]byte // the digests of what arrived, by id
}

func newUpstream() *upstream { return &upstream{got: make(map[string][][32]byte)} }

func (u *upstream) listen(address string) (*http.Server, error) {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return nil, err
	}
	server := &http.Server{Handler: u, ReadHeaderTimeout: time.Minute}
	go func() { _ = server.Serve(l) }()
	return server, nil
}

func (u *upstream) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodGet {
		u.mu.Lock()
		defer u.mu.Unlock()
		times := make(map[string]int, len(u.got))
		for id, digests := range u.got {
			times[id] = len(digests)
		}
		_ = json.NewEncoder(w).Encode(times)
		return
	}
	hash := sha256.New()
	if n, err := io.Copy(hash, r.Body); err != nil || n != r.ContentLength {
		return // the gateway has gone
	}
	id := r.Header.Get("Idempotency-Key")
	if report := r.Header.Get("Klavi-Report-Id"); report != "" {
		id = report
	}
	u.mu.Lock()
	u.got[id] = append(u.got[id], [32]byte(hash.Sum(nil)))
	u.mu.Unlock()
	w.WriteHeader(http.StatusOK)
}
