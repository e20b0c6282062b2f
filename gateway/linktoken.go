package gateway

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"time"
)

// LinkToken is what a sealed link token holds: Klavi's own token, and what its
// link was created for.
type LinkToken struct {
	Token   string
	LinkID  string
	User    string // empty on a site without logins
	Expires time.Time

	// Tax ids in canonical form, empty where the link has none.
	PersonalTaxID, BusinessTaxID string
	InstitutionCode              string
}

var (
	// ErrLinkInvalid means that a link token is not one of this account's, or was changed.
	ErrLinkInvalid = errors.New("the link token is not one of this gateway's")
	// ErrLinkExpired means that a link token was good until it ran out.
	ErrLinkExpired = errors.New("the link has run out")
)

// A sealed link token is base64url of
//
//	magic (3) | key id (4) | nonce (12) | AES-256-GCM of the fields
//
// with everything before the nonce authenticated too. The magic is the base64
// of four fixed characters, so that logs and secret scanners know a token by its
// look.
const (
	// SealedPrefix begins every sealed link token.
	SealedPrefix = "KLT1"

	maxSealed   = 4 << 10
	keyIDLen    = 4
	sealInfo    = "caddy-klavi link token"
	sealIDInfo  = "caddy-klavi link token key id"
	nonceLen    = 12
	sealHeadLen = 3 + keyIDLen
)

var (
	sealEncoding = base64.RawURLEncoding.Strict()
	sealMagic    = must(sealEncoding.DecodeString(SealedPrefix))
)

// sealer holds the keys for link tokens; the first one seals.
type sealer []sealKey

type sealKey struct {
	head []byte // magic and key id
	aead cipher.AEAD
}

func newSealer(keys [][]byte) (sealer, error) {
	s := make(sealer, 0, len(keys))
	for _, key := range keys {
		block, err := aes.NewCipher(key)
		if err != nil {
			return nil, fmt.Errorf("seal_key: %w", err)
		}
		aead, err := cipher.NewGCM(block)
		if err != nil {
			return nil, fmt.Errorf("seal_key: %w", err)
		}
		id, err := hkdf.Key(sha256.New, key, nil, sealIDInfo, keyIDLen)
		if err != nil {
			return nil, fmt.Errorf("seal_key: %w", err)
		}
		s = append(s, sealKey{head: append(append([]byte{}, sealMagic...), id...), aead: aead})
	}
	return s, nil
}

// deriveSealKey makes the key for link tokens out of a secret key. Whatever
// tells accounts apart goes in, so that no two accounts share a key.
func deriveSealKey(secret []byte, base, access, account string) ([]byte, error) {
	info := []byte(sealInfo)
	for _, part := range []string{base, access, account} {
		info = appendField(info, part)
	}
	return hkdf.Key(sha256.New, secret, nil, string(info), keyLen)
}

// SealLinkToken returns the form of t that may be handed to a browser.
func (a *Account) SealLinkToken(t LinkToken) (string, error) {
	key := a.seal[0]
	plain := binary.BigEndian.AppendUint64(nil, uint64(t.Expires.Unix())) //nolint:gosec // after 1970
	for _, field := range []string{a.name, t.Token, t.LinkID, t.User, t.PersonalTaxID, t.BusinessTaxID, t.InstitutionCode} {
		plain = appendField(plain, field)
	}
	out := make([]byte, sealHeadLen+nonceLen, sealHeadLen+nonceLen+len(plain)+key.aead.Overhead())
	copy(out, key.head)
	nonce := out[sealHeadLen:]
	_, _ = rand.Read(nonce) // never fails
	out = key.aead.Seal(out, nonce, plain, key.head)
	if sealEncoding.EncodedLen(len(out)) > maxSealed {
		return "", fmt.Errorf("the link token would be larger than %d bytes", maxSealed)
	}
	return sealEncoding.EncodeToString(out), nil
}

// OpenLinkToken returns what a sealed link token holds. The error is
// [ErrLinkInvalid] or [ErrLinkExpired]; with the latter, what it held is
// returned too.
func (a *Account) OpenLinkToken(text string, now time.Time) (LinkToken, error) {
	// Go's decoder skips line breaks: a changed token must not pass for the same.
	if len(text) > maxSealed || strings.ContainsAny(text, "\r\n") {
		return LinkToken{}, ErrLinkInvalid
	}
	raw, err := sealEncoding.DecodeString(text)
	if err != nil || len(raw) < sealHeadLen+nonceLen {
		return LinkToken{}, ErrLinkInvalid
	}
	head, nonce, sealed := raw[:sealHeadLen], raw[sealHeadLen:sealHeadLen+nonceLen], raw[sealHeadLen+nonceLen:]
	for _, key := range a.seal {
		if string(key.head) != string(head) {
			continue
		}
		plain, err := key.aead.Open(nil, nonce, sealed, head)
		if err != nil {
			continue
		}
		return a.readLinkToken(plain, now)
	}
	return LinkToken{}, ErrLinkInvalid
}

func (a *Account) readLinkToken(plain []byte, now time.Time) (LinkToken, error) {
	if len(plain) < 8 {
		return LinkToken{}, ErrLinkInvalid
	}
	t := LinkToken{Expires: time.Unix(int64(binary.BigEndian.Uint64(plain)), 0)} //nolint:gosec // as sealed
	var account string
	rest := plain[8:]
	for _, field := range []*string{&account, &t.Token, &t.LinkID, &t.User, &t.PersonalTaxID, &t.BusinessTaxID, &t.InstitutionCode} {
		var ok bool
		if *field, rest, ok = cutField(rest); !ok {
			return LinkToken{}, ErrLinkInvalid
		}
	}
	// A seal_key may be shared by accounts, a link may not.
	if len(rest) != 0 || account != a.name {
		return LinkToken{}, ErrLinkInvalid
	}
	if !now.Before(t.Expires) {
		return t, ErrLinkExpired
	}
	return t, nil
}

func appendField(b []byte, field string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(field))), field...)
}

func cutField(b []byte) (field string, rest []byte, ok bool) {
	n, size := binary.Uvarint(b)
	if size <= 0 || n > uint64(len(b)-size) { //nolint:gosec // size is not negative
		return "", nil, false
	}
	end := size + int(n) //nolint:gosec // at most len(b)
	return string(b[size:end]), b[end:], true
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}
