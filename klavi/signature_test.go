package klavi

import (
	"bytes"
	"encoding/hex"
	"errors"
	"strings"
	"testing"
)

// The fourth test case of RFC 4231, section 4.3 ("Jefe").
const (
	rfcKey  = "Jefe"
	rfcBody = "what do ya want for nothing?"
	rfcSig  = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
)

func TestSign(t *testing.T) {
	if got := Sign([]byte(rfcKey), []byte(rfcBody)); got != rfcSig {
		t.Errorf("got %s, want %s", got, rfcSig)
	}
	if got := Sign(nil, []byte(rfcBody)); got != "" {
		t.Errorf("with an empty key: got %s, want none", got)
	}
}

func TestParseSignature(t *testing.T) {
	tests := []struct {
		name   string
		values []string
		want   error
	}{
		{"lower case", []string{rfcSig}, nil},
		{"upper case", []string{strings.ToUpper(rfcSig)}, nil},
		{"absent", nil, ErrNoSignature},
		{"no values", []string{}, ErrNoSignature},
		{"empty", []string{""}, ErrBadSignature},
		{"twice", []string{rfcSig, rfcSig}, ErrBadSignature},
		{"two in one", []string{rfcSig + "," + rfcSig}, ErrBadSignature},
		{"short", []string{rfcSig[:62]}, ErrBadSignature},
		{"odd", []string{rfcSig[:63]}, ErrBadSignature},
		{"long", []string{rfcSig + "00"}, ErrBadSignature},
		{"prefix", []string{"sha256=" + rfcSig}, ErrBadSignature},
		{"no digits", []string{strings.Repeat("x", 64)}, ErrBadSignature},
		{"space before", []string{" " + rfcSig[:63]}, ErrBadSignature},
		{"other alphabet", []string{strings.Repeat("\u0661", 32)}, ErrBadSignature},
	}
	for _, test := range tests {
		sig, err := ParseSignature(test.values)
		if !errors.Is(err, test.want) {
			t.Errorf("%s: got error %v, want %v", test.name, err, test.want)
		}
		if err == nil && hex.EncodeToString(sig) != rfcSig {
			t.Errorf("%s: got %x, want %s", test.name, sig, rfcSig)
		}
	}
}

func TestVerifier(t *testing.T) {
	right, _ := hex.DecodeString(rfcSig)
	changed := bytes.Clone(right)
	changed[31] ^= 1
	tests := []struct {
		name string
		keys []string
		body string
		sig  []byte
		key  int
		ok   bool
	}{
		{"only key", []string{rfcKey}, rfcBody, right, 0, true},
		{"second key", []string{"new", rfcKey}, rfcBody, right, 1, true},
		{"first of equal keys", []string{rfcKey, rfcKey}, rfcBody, right, 0, true},
		{"wrong key", []string{"other"}, rfcBody, right, -1, false},
		{"changed signature", []string{"new", rfcKey}, rfcBody, changed, -1, false},
		{"changed body", []string{rfcKey}, rfcBody + " ", right, -1, false},
		{"short signature", []string{rfcKey}, rfcBody, right[:31], -1, false},
		{"no signature", []string{rfcKey}, rfcBody, nil, -1, false},
	}
	for _, test := range tests {
		var keys [][]byte
		for _, key := range test.keys {
			keys = append(keys, []byte(key))
		}
		v, err := NewVerifier(keys...)
		if err != nil {
			t.Fatalf("%s: %v", test.name, err)
		}
		for i := range len(test.body) {
			if n, err := v.Write([]byte(test.body[i : i+1])); n != 1 || err != nil {
				t.Fatalf("%s: Write: got %d, %v, want 1, nil", test.name, n, err)
			}
		}
		for range 2 { // asking does not change the answer
			if key, ok := v.Match(test.sig); key != test.key || ok != test.ok {
				t.Errorf("%s: got %d, %v, want %d, %v", test.name, key, ok, test.key, test.ok)
			}
		}
	}
}

func TestNewVerifierRefusesEmptyKeys(t *testing.T) {
	for _, keys := range [][][]byte{nil, {nil}, {{}}, {[]byte("good"), {}}} {
		if _, err := NewVerifier(keys...); !errors.Is(err, ErrNoKey) {
			t.Errorf("NewVerifier(%q): got %v, want %v", keys, err, ErrNoKey)
		}
	}
}
