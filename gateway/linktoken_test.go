package gateway

import (
	"encoding/base64"
	"errors"
	"strings"
	"testing"
	"time"
)

var sealedAt = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func sealedFor(t testing.TB, name string, secrets ...string) *Account {
	t.Helper()
	a := &Account{name: name}
	var keys [][]byte
	for _, secret := range secrets {
		key, err := deriveSealKey([]byte(secret), "https://api.klavi.ai/data/v1", "access", name)
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, key)
	}
	s, err := newSealer(keys)
	if err != nil {
		t.Fatal(err)
	}
	a.seal = s
	return a
}

func sampleLink() LinkToken {
	return LinkToken{
		Token: "eyJhbGciOiJFUzI1NiIs.e30." + strings.Repeat("x", 600), LinkID: "4437b139-8a16-11ee-b636-487b6bad036a",
		User: "maria", Expires: sealedAt.Add(30 * time.Minute),
		PersonalTaxID: "25872252137", BusinessTaxID: "12ABC34501DE35", InstitutionCode: "341",
	}
}

func mustSeal(t testing.TB, a *Account, l LinkToken) string {
	t.Helper()
	text, err := a.SealLinkToken(l)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestSealedLinkToken(t *testing.T) {
	a, want := sealedFor(t, "default", "s1"), sampleLink()
	text := mustSeal(t, a, want)
	if !strings.HasPrefix(text, SealedPrefix) || len(text) > maxSealed {
		t.Errorf("got %d characters beginning %q, want at most %d beginning %q", len(text), text[:4], maxSealed, SealedPrefix)
	}
	for _, part := range []string{want.Token[:20], want.User, want.PersonalTaxID, base64.RawURLEncoding.EncodeToString([]byte(want.User))} {
		if strings.Contains(text, part) {
			t.Errorf("the sealed token shows %q", part)
		}
	}
	got, err := a.OpenLinkToken(text, sealedAt)
	if err != nil || !got.Expires.Equal(want.Expires) {
		t.Fatalf("got %+v, %v, want %+v", got, err, want)
	}
	got.Expires = want.Expires
	if got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if again := mustSeal(t, a, want); again == text {
		t.Error("two sealings of the same token are equal, want a nonce of its own for each")
	}
}

func TestSealedLinkTokenExpiry(t *testing.T) {
	a := sealedFor(t, "default", "s1")
	text := mustSeal(t, a, sampleLink())
	for _, tt := range []struct {
		after time.Duration
		want  error
	}{
		{30*time.Minute - time.Second, nil},
		{30 * time.Minute, ErrLinkExpired},
		{24 * time.Hour, ErrLinkExpired},
	} {
		if _, err := a.OpenLinkToken(text, sealedAt.Add(tt.after)); !errors.Is(err, tt.want) {
			t.Errorf("got %v after %s, want %v", err, tt.after, tt.want)
		}
	}
}

func TestSealedLinkTokenKeys(t *testing.T) {
	text := mustSeal(t, sealedFor(t, "default", "s1"), sampleLink())
	for _, tt := range []struct {
		name string
		a    *Account
		want error
	}{
		{"the older key is accepted", sealedFor(t, "default", "s2", "s1"), nil},
		{"the older key is gone", sealedFor(t, "default", "s2"), ErrLinkInvalid},
		{"another account", sealedFor(t, "other", "s1"), ErrLinkInvalid},
	} {
		if _, err := tt.a.OpenLinkToken(text, sealedAt); !errors.Is(err, tt.want) {
			t.Errorf("%s: got %v, want %v", tt.name, err, tt.want)
		}
	}

	// With one seal_key for two accounts, the account inside decides.
	one, other := sealedFor(t, "one", "s1"), sealedFor(t, "other", "s1")
	other.seal = one.seal
	if _, err := other.OpenLinkToken(mustSeal(t, one, sampleLink()), sealedAt); !errors.Is(err, ErrLinkInvalid) {
		t.Errorf("got %v for another account's token under a shared seal_key, want %v", err, ErrLinkInvalid)
	}
}

// Every changed, added, missing or padded character is refused.
func TestSealedLinkTokenChanged(t *testing.T) {
	a := sealedFor(t, "default", "s1")
	text := mustSeal(t, a, sampleLink())
	refuse := func(what, changed string) {
		t.Helper()
		if _, err := a.OpenLinkToken(changed, sealedAt); !errors.Is(err, ErrLinkInvalid) {
			t.Errorf("%s: got %v, want %v", what, err, ErrLinkInvalid)
		}
	}
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	for i := range text {
		for bit := range 6 {
			n := strings.IndexByte(alphabet, text[i]) ^ 1<<bit
			refuse("a flipped bit", text[:i]+string(alphabet[n])+text[i+1:])
		}
		refuse("cut off", text[:i])
		refuse("a line break", text[:i]+"\n"+text[i:])
		refuse("a character less", text[:i]+text[i+1:])
	}
	for _, tail := range []string{"=", "==", "A", "AAAA", "\r", " ", ".", text} {
		refuse("something behind it", text+tail)
	}
	refuse("klavi's own token", sampleLink().Token)
	refuse("standard alphabet", strings.NewReplacer("-", "+", "_", "/").Replace(text)+"+")
}

func TestSealedLinkTokenTooLarge(t *testing.T) {
	l := sampleLink()
	l.Token = strings.Repeat("x", 4096)
	if _, err := sealedFor(t, "default", "s1").SealLinkToken(l); err == nil {
		t.Error("got no error for a token that would be larger than the limit")
	}
}

func TestParseSealKey(t *testing.T) {
	raw := []byte("0123456789abcdef0123456789ABCDEF")
	for _, tt := range []struct {
		text string
		ok   bool
	}{
		{string(raw), true},
		{"303132333435363738396162636465663031323334353637383941424344454 6", false},
		{"3031323334353637383961626364656630313233343536373839414243444546", true},
		{base64.StdEncoding.EncodeToString(raw), true},
		{base64.RawURLEncoding.EncodeToString(raw), true},
		{"", false},
		{"short", false},
		{base64.StdEncoding.EncodeToString(raw[:31]), false},
	} {
		key, err := ParseKey(tt.text)
		if (err == nil) != tt.ok || (tt.ok && string(key) != string(raw)) {
			t.Errorf("%q: got %q, %v, want ok = %v", tt.text, key, err, tt.ok)
		}
		if err != nil && tt.text != "" && strings.Contains(err.Error(), tt.text) {
			t.Errorf("the error repeats the key: %v", err)
		}
	}
}
