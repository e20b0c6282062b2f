package inbox

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
)

// Bodies are sealed as they arrive, in chunks: AES-256-GCM, the nonce made of the
// number of the chunk and whether it is the last (as in STREAM), the uid as
// additional data. A chunk cannot be moved, left out or cut off. Each report has
// a key of its own, so no nonce is used twice.
const (
	keySize   = 32
	chunkSize = 64 << 10
	overhead  = 16
	nonceSize = 12
	sealed    = chunkSize + overhead
)

// sealer seals and opens what belongs to one report.
type sealer struct {
	aead cipher.AEAD
	uid  []byte
}

func newSealer(key []byte, uid string) (*sealer, error) {
	aead, err := newAEAD(key)
	if err != nil {
		return nil, err
	}
	return &sealer{aead, []byte(uid)}, nil
}

func newAEAD(key []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

func nonce(chunk uint32, last bool) []byte {
	n := make([]byte, nonceSize)
	binary.BigEndian.PutUint32(n[7:], chunk)
	if last {
		n[11] = 1
	}
	return n
}

func (s *sealer) seal(dst, plain []byte, chunk uint32, last bool) []byte {
	return s.aead.Seal(dst, nonce(chunk, last), plain, s.uid)
}

func (s *sealer) open(dst, data []byte, chunk uint32, last bool) ([]byte, error) {
	plain, err := s.aead.Open(dst, nonce(chunk, last), data, s.uid)
	if err != nil {
		return nil, fmt.Errorf("%w: its body does not open (chunk %d)", ErrDamaged, chunk)
	}
	return plain, nil
}

// sealHead seals what is known of a body. A head can be sealed again, so its
// nonce is a random one.
func (s *sealer) sealHead(plain []byte) []byte {
	n := make([]byte, nonceSize, nonceSize+len(plain)+overhead)
	_, _ = rand.Read(n)
	return s.aead.Seal(n, n, plain, s.headData())
}

func (s *sealer) openHead(data []byte) ([]byte, error) {
	if len(data) < nonceSize {
		return nil, fmt.Errorf("%w: its head is cut off", ErrDamaged)
	}
	plain, err := s.aead.Open(nil, data[:nonceSize], data[nonceSize:], s.headData())
	if err != nil {
		return nil, fmt.Errorf("%w: its head does not open", ErrDamaged)
	}
	return plain, nil
}

func (s *sealer) headData() []byte { return append([]byte("head of "), s.uid...) }

// sealedSize returns how many bytes a body of size bytes has when it is sealed.
func sealedSize(size int64) int64 {
	chunks := max(1, (size+chunkSize-1)/chunkSize)
	return size + chunks*overhead
}

// unsealer reads a sealed body.
type unsealer struct {
	*sealer
	src   io.Reader
	left  int64 // of the sealed body
	chunk uint32
	buf   []byte
	plain []byte
	err   error
}

func (u *unsealer) Read(p []byte) (int, error) {
	for len(u.plain) == 0 {
		if u.err != nil {
			return 0, u.err
		}
		u.next()
	}
	n := copy(p, u.plain)
	u.plain = u.plain[n:]
	return n, nil
}

func (u *unsealer) next() {
	if u.left == 0 {
		u.err = io.EOF
		return
	}
	n := min(u.left, sealed)
	if int64(cap(u.buf)) < n {
		u.buf = make([]byte, n)
	}
	buf := u.buf[:n]
	switch _, err := io.ReadFull(u.src, buf); err {
	case nil:
	case io.EOF, io.ErrUnexpectedEOF:
		u.err = fmt.Errorf("%w: it ends in chunk %d", ErrDamaged, u.chunk)
		return
	default:
		u.err = fmt.Errorf("%w: %w", ErrUnavailable, err)
		return
	}
	u.left -= n
	plain, err := u.open(buf[:0], buf, u.chunk, u.left == 0)
	if err != nil {
		u.err = err
		return
	}
	u.plain = plain
	u.chunk++
}

// keyring wraps the keys of the reports.
type keyring struct {
	aead cipher.AEAD // nil: keys stand as they are
	id   [4]byte
}

// The first byte of a wrapped key.
const (
	keyPlain   = 0
	keyWrapped = 1
)

func newKeyring(encryptionKey []byte) (*keyring, error) {
	k := new(keyring)
	if len(encryptionKey) == 0 {
		return k, nil
	}
	sum := sha256.Sum256(append([]byte("caddy-klavi inbox key\x00"), encryptionKey...))
	copy(k.id[:], sum[:])
	var err error
	k.aead, err = newAEAD(encryptionKey)
	return k, err
}

func (k *keyring) wrap(key []byte, uid string) []byte {
	if k.aead == nil {
		return append([]byte{keyPlain}, key...)
	}
	out := append([]byte{keyWrapped}, k.id[:]...)
	n := make([]byte, k.aead.NonceSize())
	_, _ = rand.Read(n)
	return k.aead.Seal(append(out, n...), n, key, []byte(uid))
}

func (k *keyring) unwrap(wrapped []byte, uid string) ([]byte, error) {
	const headSize = 1 + 4 + 12
	switch {
	case len(wrapped) == 1+keySize && wrapped[0] == keyPlain:
		if k.aead != nil {
			return nil, fmt.Errorf("%w: it was stored unencrypted, and an encryption key is set", ErrKey)
		}
		return wrapped[1:], nil
	case len(wrapped) == headSize+keySize+overhead && wrapped[0] == keyWrapped:
		if k.aead == nil {
			return nil, fmt.Errorf("%w: it was stored under an encryption key, and unencrypted is set", ErrKey)
		}
		if [4]byte(wrapped[1:5]) != k.id {
			return nil, fmt.Errorf("%w: it was stored under the key %x, and the one that is set is %x", ErrKey, wrapped[1:5], k.id)
		}
		key, err := k.aead.Open(nil, wrapped[5:headSize], wrapped[headSize:], []byte(uid))
		if err != nil {
			return nil, fmt.Errorf("%w: its key does not open", ErrDamaged)
		}
		return key, nil
	default:
		return nil, fmt.Errorf("%w: its key cannot be read", ErrDamaged)
	}
}

// The canary is wrapped like the key of a report: whoever can open it has the
// right key.
const canaryUID = "canary"

func (k *keyring) canary() []byte {
	return k.wrap(make([]byte, keySize), canaryUID)
}

func (k *keyring) checkCanary(wrapped []byte) error {
	_, err := k.unwrap(wrapped, canaryUID)
	return err
}
