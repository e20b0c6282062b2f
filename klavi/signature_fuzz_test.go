package klavi

import (
	"encoding/hex"
	"errors"
	"regexp"
	"strings"
	"testing"
)

// No other text is the signature of a body: none with another character at any
// place, one more or one less, but for the case of its letters.
func TestNoOtherSignatureMatches(t *testing.T) {
	body := []byte(`{"productName":"pf_loans"}`)
	sig := Sign([]byte("key"), body)
	matches := func(text string) bool {
		parsed, err := ParseSignature([]string{text})
		if err != nil {
			return false
		}
		v, err := NewVerifier([]byte("other"), []byte("key"))
		if err != nil {
			t.Fatal(err)
		}
		_, _ = v.Write(body)
		key, ok := v.Match(parsed)
		return ok && key == 1
	}
	if !matches(sig) || !matches(strings.ToUpper(sig)) {
		t.Fatal("the signature itself does not match")
	}
	for i := range len(sig) + 1 {
		head, tail := sig[:i], sig[i:]
		for c := range 256 {
			char := string([]byte{byte(c)})
			if matches(head + char + tail) {
				t.Errorf("matches with %q at %d too", char, i)
			}
			if tail != "" && !strings.EqualFold(char, tail[:1]) && matches(head+char+tail[1:]) {
				t.Errorf("matches with %q in place of the character at %d too", char, i)
			}
		}
		if tail != "" && (matches(head) || matches(head+tail[1:])) {
			t.Errorf("matches cut at %d, or without that character", i)
		}
	}
	for _, more := range [][]string{{sig, sig}, {sig, ""}, {"", sig}, {sig + "," + sig}, {"sha256=" + sig}, {}} {
		if _, err := ParseSignature(more); err == nil {
			t.Errorf("%q: got no error", more)
		}
	}
}

var signatureForm = regexp.MustCompile(`^[0-9a-fA-F]{64}$`)

func FuzzParseSignature(f *testing.F) {
	f.Add(rfcSig)
	f.Add(strings.ToUpper(rfcSig))
	f.Add("sha256=" + rfcSig)
	f.Add("")
	f.Add(strings.Repeat("0", 63) + "\n")
	f.Add(strings.Repeat("０", 64))
	f.Fuzz(func(t *testing.T, value string) {
		sig, err := ParseSignature([]string{value})
		if form := signatureForm.MatchString(value); form != (err == nil) {
			t.Errorf("%q: got %v, want a signature: %t", value, err, form)
		}
		if err != nil && (sig != nil || !errors.Is(err, ErrBadSignature)) {
			t.Errorf("%q: got %x with the error %v, want none and %v", value, sig, err, ErrBadSignature)
		}
		if err == nil && hex.EncodeToString(sig) != strings.ToLower(value) {
			t.Errorf("got %x of %q", sig, value)
		}
	})
}

// FuzzVerifier looks for a body and a key that verify what was not signed so,
// however the body comes in pieces.
func FuzzVerifier(f *testing.F) {
	f.Add([]byte("key"), []byte("other"), []byte(`{"a":1}`), []byte(`{"a":1} `), 3)
	f.Add([]byte("k"), []byte("k\x00"), []byte(""), []byte("\x00"), 0)
	f.Add([]byte(strings.Repeat("k", 65)), []byte(strings.Repeat("k", 64)), []byte("b"), []byte("b"), 1)
	f.Fuzz(func(t *testing.T, key, other, body, otherBody []byte, cut int) {
		if len(key) == 0 || len(other) == 0 || cut < 0 || cut > len(body) {
			return
		}
		verify := func(sig string) (int, bool) {
			v, err := NewVerifier(key, other)
			if err != nil {
				t.Fatal(err)
			}
			_, _ = v.Write(body[:cut])
			_, _ = v.Write(body[cut:])
			parsed, err := ParseSignature([]string{sig})
			if err != nil {
				t.Fatal(err)
			}
			return v.Match(parsed)
		}
		if which, ok := verify(Sign(key, body)); !ok || which != 0 {
			t.Errorf("got %d, %t for the first key's signature, want 0", which, ok)
		}
		if which, ok := verify(Sign(other, body)); !ok || which == 0 && !sameKey(key, other) {
			t.Errorf("got %d, %t for the second key's signature, want 1", which, ok)
		}
		if _, ok := verify(Sign(key, otherBody)); ok != (string(body) == string(otherBody)) {
			t.Errorf("%q: got %t for the signature of %q", body, ok, otherBody)
		}
	})
}

// sameKey reports whether HMAC takes two keys for one: it fills them up with zeros.
func sameKey(a, b []byte) bool {
	return strings.TrimRight(string(a), "\x00") == strings.TrimRight(string(b), "\x00")
}
