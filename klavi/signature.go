package klavi

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"hash"
	"slices"
)

// The headers that Klavi adds to every event and report (docs.klavi.ai/connect/security). The timestamp, Unix time in
// seconds, is not part of what is signed: it proves nothing.
const (
	SignatureHeader = "X-Klavi-Signature"
	TimestampHeader = "X-Klavi-Timestamp"
)

var (
	// ErrNoSignature: the request has no signature header at all.
	ErrNoSignature = errors.New("no " + SignatureHeader + " header")
	// ErrBadSignature: the signature header is there, but it is not one value of 64 hexadecimal digits.
	ErrBadSignature = errors.New(SignatureHeader + " is not one value of 64 hexadecimal digits")
	// ErrNoKey: a key is missing or empty. Under an empty key anybody could sign.
	ErrNoKey = errors.New("a signature needs a key that is not empty")
)

// ParseSignature returns the 32 bytes that the values of the signature header stand for. Exactly one value of exactly
// 64 hexadecimal digits, in either case, is a signature: two values would leave open which of them counts.
func ParseSignature(values []string) ([]byte, error) {
	if len(values) == 0 {
		return nil, ErrNoSignature
	}
	if len(values) > 1 || len(values[0]) != hex.EncodedLen(sha256.Size) {
		return nil, ErrBadSignature
	}
	sig, err := hex.DecodeString(values[0])
	if err != nil {
		return nil, ErrBadSignature
	}
	return sig, nil
}

// Sign returns the signature of a body as Klavi sends it: HMAC-SHA256 under the application's secretKey, in lower-case
// hexadecimal digits (docs.klavi.ai/connect/security). An empty key signs nothing, and gives "".
func Sign(key, body []byte) string {
	if len(key) == 0 {
		return ""
	}
	mac := hmac.New(sha256.New, key)
	mac.Write(body)
	return hex.EncodeToString(mac.Sum(nil))
}

// Verifier checks the signature of a body that passes through it, under several keys at once, so that a key can be
// replaced while signatures of both the old and the new one arrive. What is signed is the body as it was sent, byte
// for byte: write it before anything decodes or rewrites it. A Verifier is for one body and one goroutine.
type Verifier struct {
	macs []hash.Hash
}

// NewVerifier returns a Verifier for the given keys. It fails with [ErrNoKey] without any, or if one is empty.
func NewVerifier(keys ...[]byte) (*Verifier, error) {
	if len(keys) == 0 {
		return nil, ErrNoKey
	}
	v := &Verifier{macs: make([]hash.Hash, len(keys))}
	for i, key := range keys {
		if len(key) == 0 {
			return nil, ErrNoKey
		}
		v.macs[i] = hmac.New(sha256.New, key)
	}
	return v, nil
}

// Write adds to the body. It never fails.
func (v *Verifier) Write(p []byte) (int, error) {
	for _, mac := range v.macs {
		mac.Write(p)
	}
	return len(p), nil
}

// Match reports whether sig signs what was written, and under which of the keys (the first, where several do). It
// always compares with all of them, in constant time, so that its duration tells nothing of which key came close.
func (v *Verifier) Match(sig []byte) (key int, ok bool) {
	var sum [sha256.Size]byte
	key = -1
	for i, v0 := range slices.Backward(v.macs) {
		equal := subtle.ConstantTimeCompare(v0.Sum(sum[:0]), sig)
		key = subtle.ConstantTimeSelect(equal, i, key)
	}
	return key, key >= 0
}
