package sandbox

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/google/uuid"
	"go.uber.org/zap"
)

// How Klavi delivers (docs.klavi.ai/link/lqUr-overview): anything but 200 in time is tried again.
const (
	attemptTimeout = 10 * time.Second
	maxRetries     = 5
	firstDelay     = 250 * time.Millisecond
	maxRedirects   = 3
)

// maxActive bounds the deliveries under way; what comes above it is recorded and not sent.
const maxActive = 4096

// delivery is one report or one array of events on its way to a URL, and its record in GET /_sandbox/deliveries.
type delivery struct {
	ID        string    `json:"id"`
	Kind      string    `json:"kind"` // report or event
	Name      string    `json:"name"` // product or event name
	ReportID  string    `json:"reportId"`
	URL       string    `json:"url"`
	SHA256    string    `json:"sha256"`
	Size      int64     `json:"size"`
	Attempts  []attempt `json:"attempts"`
	Done      bool      `json:"done"`
	Delivered bool      `json:"delivered"`
	Error     string    `json:"error,omitempty"` // why nothing was tried

	open      func() io.Reader // the same bytes each time
	secret    string
	signature string
	unsigned  bool
}

type attempt struct {
	Time   string `json:"time"`
	Status int    `json:"status"` // 0: no answer
	Error  string `json:"error,omitempty"`
}

func fixedBody(b []byte) func() io.Reader {
	return func() io.Reader { return bytes.NewReader(b) }
}

func newClient(t http.RoundTripper) *http.Client {
	if t == nil {
		// A connection for each delivery: a kept one that the receiver closes meanwhile would cost an attempt, and a spare
		// one would hold up the receiver's shutdown.
		t = &http.Transport{Proxy: http.ProxyFromEnvironment, DisableKeepAlives: true}
	}
	return &http.Client{
		Transport: t,
		CheckRedirect: func(_ *http.Request, via []*http.Request) error {
			if len(via) > maxRedirects {
				return fmt.Errorf("stopped after %d redirects", maxRedirects)
			}
			return nil
		},
	}
}

// enqueue begins a delivery, as many times as wanted, and returns the ids. The caller holds the lock.
func (s *Sandbox) enqueue(d delivery, copies int) []string {
	d.secret = s.opts.SecretKey
	d.unsigned = s.faults.UnsignedDeliveries
	if s.faults.WrongSignature {
		d.secret += " (wrong)"
	}
	if s.faults.Duplicates {
		copies *= 2
	}
	var ids []string
	for range copies {
		one := d
		one.ID = uuid.NewString()
		one.Attempts = []attempt{}
		s.deliveries.put(one.ID, &one)
		ids = append(ids, one.ID)
		s.start(&one)
	}
	return ids
}

func (s *Sandbox) start(d *delivery) {
	r := s.round
	switch {
	case d.URL == "":
		d.Error = "no URL for this product: neither the request, nor the link, nor the Console (reports_url) names one"
	case s.closed:
		d.Error = "the sandbox is closed"
	case r.active >= maxActive:
		d.Error = fmt.Sprintf("%d deliveries are under way already", maxActive)
	}
	if d.Error != "" {
		d.Done = true
		return
	}
	r.active++
	client, logger := s.client, s.opts.Logger
	r.wg.Go(func() {
		s.run(r.ctx, client, logger, d)
		s.mu.Lock()
		defer s.mu.Unlock()
		d.Done = true
		r.active--
	})
}

// run makes the attempts. All but the record under lock is this goroutine's own.
func (s *Sandbox) run(ctx context.Context, client *http.Client, logger *zap.Logger, d *delivery) {
	s.seal(d)
	delay := firstDelay
	for try := 0; ; try++ {
		at := s.clock.now()
		status, err := d.post(ctx, client)
		a := attempt{Time: at.Format(time.RFC3339Nano), Status: status}
		if err != nil {
			a.Error = err.Error()
		}
		s.mu.Lock()
		d.Attempts = append(d.Attempts, a)
		d.Delivered = err == nil
		s.mu.Unlock()
		if err == nil || ctx.Err() != nil {
			return
		}
		if try == maxRetries {
			logger.Warn("delivery given up", zap.String("kind", d.Kind), zap.String("name", d.Name),
				zap.String("id", d.ReportID), zap.String("host", hostOf(d.URL)), zap.Int("attempts", try+1), zap.Int("status", status))
			return
		}
		if !wait(ctx, delay) {
			return
		}
		delay *= 2
	}
}

// seal measures and signs the body: HMAC-SHA256 over its raw bytes with the secret key (docs.klavi.ai/connect/security).
func (s *Sandbox) seal(d *delivery) {
	mac := hmac.New(sha256.New, []byte(d.secret))
	digest := sha256.New()
	size, _ := io.Copy(io.MultiWriter(mac, digest), d.open()) // neither end can fail
	s.mu.Lock()
	defer s.mu.Unlock()
	d.signature = hex.EncodeToString(mac.Sum(nil))
	d.Size = size
	d.SHA256 = hex.EncodeToString(digest.Sum(nil))
}

// post makes one attempt. Success is exactly 200.
func (d *delivery) post(ctx context.Context, client *http.Client) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, attemptTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, d.URL, io.NopCloser(d.open()))
	if err != nil {
		return 0, err
	}
	req.ContentLength = d.Size
	req.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(d.open()), nil }
	if d.Size == 0 {
		req.Body, req.GetBody = http.NoBody, nil
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "klavi-sandbox")
	if !d.unsigned {
		req.Header.Set("X-Klavi-Signature", d.signature)
		req.Header.Set("X-Klavi-Timestamp", strconv.FormatInt(time.Now().Unix(), 10))
	}
	resp, err := client.Do(req)
	if err != nil {
		if ue, ok := errors.AsType[*url.Error](err); ok {
			err = ue.Err // without the URL, which the record has
		}
		return 0, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return resp.StatusCode, fmt.Errorf("answered %d, want 200", resp.StatusCode)
	}
	if _, err := io.Copy(io.Discard, io.LimitReader(resp.Body, 1<<20)); err != nil {
		return resp.StatusCode, fmt.Errorf("reading the answer: %w", err)
	}
	return resp.StatusCode, nil
}

func hostOf(target string) string {
	u, err := url.Parse(target)
	if err != nil {
		return ""
	}
	return u.Host
}
