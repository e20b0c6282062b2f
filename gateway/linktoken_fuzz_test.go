package gateway

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddy-klavi/caddy-klavi/command/conformance" //nolint:depguard // it has the corpus, and imports nothing of this module
)

const base64URL = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"

// others are accounts that are not a's, by what tells them from it.
func others(t testing.TB) map[string]*Account {
	t.Helper()
	all := map[string]*Account{
		"another account": sealedFor(t, "other", "s1"),
		"another secret":  sealedFor(t, "default", "s2", "s1 "),
	}
	for what, parts := range map[string][3]string{
		"another environment": {"https://api-sandbox.klavi.ai/data/v1", "access", "default"},
		"another access key":  {"https://api.klavi.ai/data/v1", "access2", "default"},
		"shifted parts":       {"https://api.klavi.ai/data/v1a", "ccess", "default"},
	} {
		key, err := deriveSealKey([]byte("s1"), parts[0], parts[1], parts[2])
		if err != nil {
			t.Fatal(err)
		}
		s, err := newSealer([][]byte{key})
		if err != nil {
			t.Fatal(err)
		}
		all[what] = &Account{name: "default", seal: s}
	}
	// Under one seal_key, only what is inside tells accounts apart.
	shared := sealedFor(t, "default", "s1").seal
	all["another account under the same key"] = &Account{name: "other", seal: shared}
	all["a longer name under the same key"] = &Account{name: "default ", seal: shared}
	return all
}

// No text but the token itself opens: none that has another byte at any place, or
// one more, or one less, or two of them in another order, and none of its parts.
func TestNoOtherTextOpens(t *testing.T) {
	a := sealedFor(t, "default", "s1")
	l := sampleLink()
	l.Token = "eyJhbGciOiJFUzI1NiJ9.e30.c2ln"
	text := mustSeal(t, a, l)
	if _, err := a.OpenLinkToken(text, sealedAt); err != nil {
		t.Fatalf("the token itself: %v", err)
	}
	other := mustSeal(t, a, l) // of the same link
	tried := 0
	refuse := func(what, changed string) {
		tried++
		if changed == text || changed == other {
			return
		}
		if got, err := a.OpenLinkToken(changed, sealedAt); !errors.Is(err, ErrLinkInvalid) || got != (LinkToken{}) {
			t.Errorf("%s: got %+v, %v for %q, want nothing and %v", what, got, err, changed, ErrLinkInvalid)
		}
	}
	for i := range len(text) + 1 {
		head, tail := text[:i], text[i:]
		refuse("the beginning", head)
		refuse("the end", tail)
		refuse("turned round", tail+head)
		for c := range 256 {
			refuse("one more", head+string([]byte{byte(c)})+tail)
			if tail != "" {
				refuse("another", head+string([]byte{byte(c)})+tail[1:])
			}
		}
		if tail != "" {
			refuse("one less", head+tail[1:])
			refuse("one twice", head+tail[:1]+tail)
		}
		if len(tail) > 1 {
			refuse("two in another order", head+tail[1:2]+tail[:1]+tail[2:])
		}
		for j := i + 2; j <= len(text); j += 7 {
			refuse("a part", text[i:j])
			refuse("without a part", head+text[j:])
		}
	}
	for _, c := range base64URL {
		for n := range 5 {
			refuse("longer", text+strings.Repeat(string(c), n+1))
		}
	}
	for i := range text {
		refuse("halves of two tokens", text[:i]+other[i:])
	}
	if tried < 2*256*len(text) {
		t.Errorf("got %d texts tried, want all", tried)
	}
}

// Any two characters changed at once, at places that are next to each other.
func TestNoTwoChangesOpen(t *testing.T) {
	a := sealedFor(t, "default", "s1")
	text := mustSeal(t, a, LinkToken{Token: "t", LinkID: "l", Expires: sealedAt.Add(time.Minute)})
	for i := range len(text) - 1 {
		for _, c := range base64URL {
			for _, d := range base64URL {
				changed := text[:i] + string(c) + string(d) + text[i+2:]
				if changed == text {
					continue
				}
				if _, err := a.OpenLinkToken(changed, sealedAt); !errors.Is(err, ErrLinkInvalid) {
					t.Fatalf("got %v for %q, want %v", err, changed, ErrLinkInvalid)
				}
			}
		}
	}
}

// FuzzSealLinkToken looks for a link that is not the same after it was sealed, or
// that others can open, or that lives on.
func FuzzSealLinkToken(f *testing.F) {
	f.Add("a.b.c", "link-1", "maria", "25872252137", "12ABC34501DE35", "341", sealedAt.Unix())
	f.Add("", "", "", "", "", "", int64(1))
	f.Add("eyJ", "\xff", "Maria José\x00", strings.Repeat("x", 300), "\u2028", "0", int64(1)<<40)
	f.Add(strings.Repeat("t", 5000), "l", "u", "p", "b", "i", sealedAt.Unix())
	a, strangers := sealedFor(f, "default", "s1"), others(f)
	rotated := sealedFor(f, "default", "s0", "s1")
	f.Fuzz(func(t *testing.T, token, id, user, person, business, institution string, expires int64) {
		if expires < 0 || expires > 1<<40 {
			return
		}
		want := LinkToken{
			Token: token, LinkID: id, User: user, Expires: time.Unix(expires, 0),
			PersonalTaxID: person, BusinessTaxID: business, InstitutionCode: institution,
		}
		text, err := a.SealLinkToken(want)
		if err != nil {
			if size := len(token + id + user + person + business + institution); size < 2<<10 {
				t.Fatalf("%d bytes: %v", size, err)
			}
			return
		}
		if len(text) > maxSealed || strings.Trim(text, base64URL) != "" {
			t.Errorf("got %q, want at most %d characters of base64url", text, maxSealed)
		}
		for _, opener := range []*Account{a, rotated} {
			for _, before := range []time.Duration{time.Nanosecond, time.Second, time.Hour} {
				if got, err := opener.OpenLinkToken(text, want.Expires.Add(-before)); err != nil || got != want {
					t.Errorf("got %+v, %v %s before it runs out, want %+v", got, err, before, want)
				}
			}
			for _, after := range []time.Duration{0, time.Nanosecond, time.Second, time.Hour} {
				if got, err := opener.OpenLinkToken(text, want.Expires.Add(after)); !errors.Is(err, ErrLinkExpired) || got != want {
					t.Errorf("got %+v, %v %s after it has run out, want %v", got, err, after, ErrLinkExpired)
				}
			}
		}
		for what, stranger := range strangers {
			if got, err := stranger.OpenLinkToken(text, want.Expires.Add(-time.Second)); !errors.Is(err, ErrLinkInvalid) || got != (LinkToken{}) {
				t.Errorf("%s: got %+v, %v, want nothing and %v", what, got, err, ErrLinkInvalid)
			}
		}
	})
}

// FuzzOpenLinkToken looks for a text that opens, and that nobody sealed.
func FuzzOpenLinkToken(f *testing.F) {
	a := sealedFor(f, "default", "s1")
	good := mustSeal(f, a, sampleLink())
	const mark = "LINKTOKEN" // stands for it: each process that fuzzes has its own
	for _, token := range corpusTokens(f, mark) {
		f.Add(token)
	}
	f.Add(mark)
	for _, stranger := range others(f) {
		f.Add(mustSeal(f, stranger, sampleLink()))
	}
	for _, text := range []string{good[:40], "", SealedPrefix, sampleLink().Token, SealedPrefix + strings.Repeat("A", 100)} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		text = strings.ReplaceAll(text, mark, good)
		got, err := a.OpenLinkToken(text, sealedAt)
		if text == good {
			if err != nil || got.Token != sampleLink().Token {
				t.Errorf("got %+v, %v, want what was sealed", got, err)
			}
			return
		}
		if !errors.Is(err, ErrLinkInvalid) || got != (LinkToken{}) {
			t.Errorf("got %+v, %v for %q, which nobody sealed", got, err, text)
		}
	})
}

// corpusTokens returns what stands as a token in the requests of the corpus, with
// good as the link token.
func corpusTokens(t testing.TB, good string) []string {
	t.Helper()
	lines, err := conformance.Corpus()
	if err != nil {
		t.Fatal(err)
	}
	var tokens []string
	for i := range lines {
		raw, err := lines[i].Bytes(good)
		if err != nil {
			t.Fatal(err)
		}
		head, _, _ := bytes.Cut(raw, []byte("\r\n\r\n"))
		for line := range strings.SplitSeq(string(head), "\r\n") {
			name, value, _ := strings.Cut(line, ": ")
			switch {
			case strings.EqualFold(name, "Authorization"):
				_, value, _ = strings.Cut(value, " ")
			case !strings.EqualFold(name, "Klavi-Link-Token"):
				continue
			}
			if !slices.Contains(tokens, value) {
				tokens = append(tokens, value)
			}
		}
	}
	if len(tokens) < 20 {
		t.Fatalf("got %d tokens in the corpus, want more", len(tokens))
	}
	return tokens
}
