package gateway

import (
	"encoding/base64"
	"encoding/hex"
	"errors"
	"strings"
)

const keyLen = 32

// ParseKey reads a key of 32 bytes: as it is, as 64 hex digits, or in base64 of
// either alphabet. The error goes on behind the
// name of the setting, and shows nothing of the key.
func ParseKey(text string) ([]byte, error) {
	if len(text) == keyLen {
		return []byte(text), nil
	}
	if key, err := hex.DecodeString(text); err == nil && len(key) == keyLen {
		return key, nil
	}
	plain := strings.NewReplacer("+", "-", "/", "_").Replace(strings.TrimRight(text, "="))
	if key, err := base64.RawURLEncoding.Strict().DecodeString(plain); err == nil && len(key) == keyLen {
		return key, nil
	}
	return nil, errors.New("is not 32 bytes, 64 hex digits or base64 of 32 bytes; `openssl rand -hex 32` makes one")
}
