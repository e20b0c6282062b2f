package inbox

import (
	"bytes"
	"errors"
	"io"
	"testing"
)

func sealAll(t testing.TB, s *sealer, body []byte) []byte {
	t.Helper()
	var out []byte
	for chunk := uint32(0); ; chunk++ {
		n := min(len(body), chunkSize)
		last := n == len(body)
		out = s.seal(out, body[:n], chunk, last)
		if body = body[n:]; last {
			return out
		}
	}
}

// Whatever is done to a sealed body, nobody takes it for one.
func TestSealedBodies(t *testing.T) {
	key := bytes.Repeat([]byte{1}, keySize)
	s, err := newSealer(key, "uid")
	if err != nil {
		t.Fatal(err)
	}
	body := randomBody(3*chunkSize + 100)
	data := sealAll(t, s, body)
	if int64(len(data)) != sealedSize(int64(len(body))) {
		t.Fatalf("got %d bytes, want %d", len(data), sealedSize(int64(len(body))))
	}
	read := func(s *sealer, data []byte, size int) ([]byte, error) {
		return io.ReadAll(&unsealer{sealer: s, src: bytes.NewReader(data), left: int64(size)})
	}
	if got, err := read(s, data, len(data)); err != nil || !bytes.Equal(got, body) {
		t.Fatalf("got %d bytes and %v, want the body", len(got), err)
	}
	other, err := newSealer(key, "other")
	if err != nil {
		t.Fatal(err)
	}
	swapped := bytes.Clone(data)
	copy(swapped, data[sealed:2*sealed])
	copy(swapped[sealed:], data[:sealed])
	for name, try := range map[string]struct {
		sealer *sealer
		data   []byte
		size   int
	}{
		"cut at a chunk":    {s, data, 2 * sealed},
		"cut in a chunk":    {s, data, sealed + 100},
		"shorter than said": {s, data[:len(data)-1], len(data)},
		"a chunk left out":  {s, data[sealed:], len(data) - sealed},
		"chunks exchanged":  {s, swapped, len(data)},
		"one more":          {s, append(bytes.Clone(data), data[:sealed]...), len(data) + sealed},
		"of another report": {other, data, len(data)},
	} {
		if got, err := read(try.sealer, try.data, try.size); !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: got %d bytes and %v, want %v", name, len(got), err, ErrDamaged)
		}
	}
	for at := 0; at < len(data); at += 7919 {
		changed := bytes.Clone(data)
		changed[at] ^= 1
		if got, err := read(s, changed, len(data)); !errors.Is(err, ErrDamaged) || !bytes.HasPrefix(body, got) {
			t.Errorf("byte %d: got %d bytes and %v, want a part of the body and %v", at, len(got), err, ErrDamaged)
		}
	}
}

func TestKeyring(t *testing.T) {
	key := bytes.Repeat([]byte{1}, keySize)
	rings := make(map[string]*keyring)
	for name, encryptionKey := range map[string][]byte{"none": nil, "one": bytes.Repeat([]byte{2}, keySize), "two": bytes.Repeat([]byte{3}, keySize)} {
		var err error
		if rings[name], err = newKeyring(encryptionKey); err != nil {
			t.Fatal(err)
		}
	}
	for with, ring := range rings {
		wrapped := ring.wrap(key, "uid")
		if with != "none" && bytes.Contains(wrapped, key) {
			t.Errorf("%s: got the key as it is", with)
		}
		for by, other := range rings {
			got, err := other.unwrap(wrapped, "uid")
			if by == with && (err != nil || !bytes.Equal(got, key)) {
				t.Errorf("%s: got %x and %v, want the key", with, got, err)
			}
			if by != with && !errors.Is(err, ErrKey) {
				t.Errorf("%s by %s: got %v, want %v", with, by, err, ErrKey)
			}
		}
		if with == "none" {
			continue
		}
		if _, err := ring.unwrap(wrapped, "other"); !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: got %v for another report, want %v", with, err, ErrDamaged)
		}
		for at := range wrapped {
			changed := bytes.Clone(wrapped)
			changed[at] ^= 0x80
			if _, err := ring.unwrap(changed, "uid"); err == nil {
				t.Errorf("%s: got a key with byte %d changed", with, at)
			}
		}
	}
}
