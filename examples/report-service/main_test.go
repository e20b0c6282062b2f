package main

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const consent = "5cd0b9a5-1d3c-4d24-9a3e-3a2b1c0d9e8f"

// report is a request as klavi_reports makes it.
func report(id, body string) *http.Request {
	r := httptest.NewRequest(http.MethodPost, "/reports", strings.NewReader(body))
	r.Header.Set("Idempotency-Key", id)
	r.Header.Set("Klavi-Report-Type", "pf_checking_account")
	r.Header.Set("Klavi-Consent-Id", "another-consent,"+consent)
	return r
}

func serve(s *service, r *http.Request) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	s.handler().ServeHTTP(w, r)
	return w
}

// kept returns the bodies that the service has.
func kept(t *testing.T, s *service) (bodies []string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(s.reports, "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		bodies = append(bodies, string(text))
	}
	return bodies
}

func TestReportService(t *testing.T) {
	s, err := newService(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	broken := report("4", "")
	broken.Body = io.NopCloser(io.MultiReader(strings.NewReader("half of"), failingReader{}))
	event := func(id string) *http.Request {
		r := report(id, "an event")
		r.Header.Del("Klavi-Report-Type")
		return r
	}
	forget := httptest.NewRequest(http.MethodDelete, "/consents/"+consent, nil)
	unknown := report("", "from somebody else")
	unknown.Header.Del("Idempotency-Key")

	for _, step := range []struct {
		name    string
		request *http.Request
		status  int
		kept    int
	}{
		{"a report", report("1", "a report"), 200, 1},
		{"the same again", report("1", "a report"), 200, 1},
		{"another under its id", report("1", "another report"), 200, 2},
		{"one that breaks off", broken, 503, 2},
		{"one that is not the gateway's", unknown, 400, 2},
		{"an event", event("5"), 200, 3},
		{"its consent is forgotten", forget, 204, 1},
		{"a report that comes later", report("2", "late"), 410, 1},
		{"an event that comes later", event("6"), 200, 2},
	} {
		w := serve(s, step.request)
		if w.Code != step.status || len(kept(t, s)) != step.kept {
			t.Errorf("%s: got %d, and %q is kept; want %d and %d of them", step.name, w.Code, kept(t, s), step.status, step.kept)
		}
		if retry := w.Header().Get("Retry-After"); (retry != "") != (step.status == 503) {
			t.Errorf("%s: got Retry-After %q", step.name, retry)
		}
	}
}

// What cannot be written down is not accepted.
func TestReportServiceWithoutDisk(t *testing.T) {
	s, err := newService(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(s.reports); err != nil {
		t.Fatal(err)
	}
	if w := serve(s, report("1", "a report")); w.Code != http.StatusServiceUnavailable {
		t.Errorf("got %d, want 503", w.Code)
	}
}

type failingReader struct{}

func (failingReader) Read([]byte) (int, error) { return 0, errors.New("the connection broke") }
