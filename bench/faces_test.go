package main

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

func TestBackend(t *testing.T) {
	for _, tc := range []struct {
		method, path, token string
		want                int
	}{
		{"GET", "/data/v1/consents?personalTaxId=" + taxID, accessToken, 200},
		{"GET", "/data/v1/consents", linkToken, 401},
		{"GET", "/data/v1/links/institutions", linkToken, 200},
		{"GET", "/data/v1/links/institutions", accessToken, 401},
		{"POST", "/data/v1/links", accessToken, 200},
		{"POST", "/data/v1/auth", "", 200},
		{"GET", "/data/v1/auth", "", 404},
	} {
		r := httptest.NewRequest(tc.method, tc.path, nil)
		r.Header.Set("Authorization", "Bearer "+tc.token)
		w := httptest.NewRecorder()
		backend(w, r)
		if w.Code != tc.want {
			t.Errorf("%s %s with %q: got status %d, want %d", tc.method, tc.path, tc.token, w.Code, tc.want)
		}
		if tc.want == 200 && !json.Valid(w.Body.Bytes()) {
			t.Errorf("%s %s: got %s, want JSON", tc.method, tc.path, w.Body)
		}
	}
}

// A run counts nothing that was not answered as it should be.
func TestLoad(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(backend))
	defer server.Close()
	f := &face{
		name: "backend", address: server.Listener.Addr().String(), body: consents, gateway: ourselves(t),
		request: []byte("GET /data/v1/consents HTTP/1.1\r\nHost: klavi\r\nAuthorization: Bearer " + accessToken + "\r\n\r\n"),
	}
	if err := f.check(); err != nil {
		t.Fatal(err)
	}
	l := newLoad(2)
	r, err := l.run(f, 10*time.Millisecond)
	if err != nil || r.perSecond <= 0 || r.p99 <= 0 {
		t.Errorf("got %+v and error %v, want a run", r, err)
	}

	f.body = institutions
	if _, err := l.run(f, time.Millisecond); err == nil || !strings.Contains(err.Error(), "backend: got an answer of") {
		t.Errorf("got error %v of an answer that is too short", err)
	}
	f.request = []byte("GET /data/v1/consents HTTP/1.1\r\nHost: klavi\r\n\r\n")
	if err := f.check(); err == nil || !strings.Contains(err.Error(), "401") {
		t.Errorf("got error %v, want one with the status 401", err)
	}
}
