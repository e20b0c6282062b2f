package gateway

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/iotest"
)

// echoAccount has keys that can be looked for, and an access token.
func echoAccount(t testing.TB, k *fakeKlavi) *Account {
	t.Helper()
	app, _, err := provisionApp(t, `{"accounts":{"default":{"base_url":"`+k.URL+
		`/data/v1","access_key":"the-access-key","secret_key":"the-secret-key","accept_secret_keys":["the-older-key","short"]}}}`)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = app.Cleanup() })
	a := app.Accounts["default"]
	if _, err := a.token(t.Context()); err != nil {
		t.Fatal(err)
	}
	return a
}

// pieces reads from a text in pieces of the same size.
func pieces(text string, size int) io.Reader {
	var all []io.Reader
	for len(text) > size {
		all, text = append(all, strings.NewReader(text[:size])), text[size:]
	}
	return io.MultiReader(append(all, strings.NewReader(text))...)
}

func TestGuard(t *testing.T) {
	a := echoAccount(t, newFakeKlavi(t))
	for _, tt := range []struct {
		text, want string // want is what can be read at most
		found      bool
	}{
		{"", "", false},
		{"nothing of the kind", "nothing of the kind", false},
		{"token-", "token-", false},
		{"the end is the beginning of the-secret-ke", "the end is the beginning of the-secret-ke", false},
		{"the-sec the-secret-kez the-access-kex", "the-sec the-secret-kez the-access-kex", false},
		{"a short one", "a short one", false},
		{"x the-secret-key y", "x ", true},
		{"x the-access-key", "x ", true},
		{"the-older-key", "", true},
		{"the-the-the-secret-key", "the-the-", true},
		{"the-the-secret-kthe-secret-key", "the-the-secret-k", true},
		{"a token-1 is the access token, but of 7 characters", "a token-1 is the access token, but of 7 characters", false},
	} {
		for size := 1; size <= len(tt.text)+1; size++ {
			got, err := io.ReadAll(a.Guard(pieces(tt.text, size)))
			if errors.Is(err, ErrRepeats) != tt.found || err != nil && !tt.found {
				t.Errorf("%q in pieces of %d: got the error %v, want one: %t", tt.text, size, err, tt.found)
			}
			if !tt.found && string(got) != tt.want || !strings.HasPrefix(tt.want, string(got)) {
				t.Errorf("%q in pieces of %d: got %q, want %q", tt.text, size, got, tt.want)
			}
		}
		if got := a.Repeats(tt.text); got != tt.found {
			t.Errorf("%q: got %t for whether it repeats, want %t", tt.text, got, tt.found)
		}
	}
	if _, err := io.ReadAll(a.Guard(iotest.ErrReader(io.ErrUnexpectedEOF))); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("got %v, want the error of the body", err)
	}
}

// What goes to Klavi is not repeated in a log, whatever Klavi answers to a login.
func TestLoginErrorDoesNotRepeatKeys(t *testing.T) {
	for _, answer := range []string{
		`{"message":"no such pair: the-access-key, the-secret-key"}`, `{"error":"the-secret-key"}`, `{"message":["x","the-access-key"]}`,
		`{"message":"` + strings.Repeat("long ", 57) + `the-secret-key"}`, `{"message":"x","debug":"the-secret-key"}`,
		`{"message":"the\u002dsecret\u002dkey"}`,
	} {
		k := newFakeKlavi(t)
		k.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusUnauthorized)
			_, _ = io.WriteString(w, answer)
		})
		app, _, err := provisionApp(t, `{"accounts":{"default":{"base_url":"`+k.URL+`/data/v1","access_key":"the-access-key","secret_key":"the-secret-key"}}}`)
		if err != nil {
			t.Fatal(err)
		}
		_, err = app.Accounts["default"].token(t.Context())
		_ = app.Cleanup()
		if err == nil || strings.Contains(err.Error(), "the-") {
			t.Errorf("%s: got %v, want an error without a key", answer, err)
		}
	}
}

// A Klavi that changes the protocol would hand over its connection in place of a
// body, which no context ends.
func TestChangedProtocolHasNoBody(t *testing.T) {
	k := newFakeKlavi(t)
	a := echoAccount(t, k)
	k.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n")
		_, _ = io.Copy(io.Discard, conn) // until the gateway leaves
	})
	status, body, err := send(t, a, "GET", "/consents", "", true)
	if status != http.StatusSwitchingProtocols || body != "" || err != nil {
		t.Errorf("got %d %q, %v, want 101 and an end", status, body, err)
	}
	if _, _, err := a.client.Login(t.Context()); err == nil {
		t.Error("got a login out of a changed protocol")
	}
}

// FuzzGuard looks for a way to cut a text into pieces in which a credential passes.
func FuzzGuard(f *testing.F) {
	for _, text := range []string{"x the-secret-key y", "the-the-older-key", "the-access-kethe-access-key", "\x00\xff", "the-secret-ke"} {
		f.Add(text, 1)
		f.Add(text, 5)
	}
	a := echoAccount(f, newFakeKlavi(f))
	f.Fuzz(func(t *testing.T, text string, size int) {
		if size < 1 || size > 64 || len(text) > 10_000 {
			return
		}
		got, err := io.ReadAll(a.Guard(pieces(text, size)))
		if !strings.HasPrefix(text, string(got)) {
			t.Fatalf("%q became %q", text, got)
		}
		for _, credential := range a.credentials() {
			if len(credential) >= 8 && bytes.Contains(got, []byte(credential)) {
				t.Fatalf("%q in pieces of %d: got %q with %s", text, size, got, credential)
			}
		}
		if found := a.Repeats(text); found != errors.Is(err, ErrRepeats) || !found && string(got) != text {
			t.Fatalf("%q in pieces of %d: got %q, %v; it repeats a credential: %t", text, size, got, err, found)
		}
	})
}
