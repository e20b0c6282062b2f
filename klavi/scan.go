package klavi

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"strconv"
	"sync"

	"github.com/go-json-experiment/json/jsontext"
)

const (
	// A value that fits into this many bytes is skipped at once, which is several times as fast as token by token.
	skipWindow = 16 << 10
	// Below this depth values are skipped token by token, so that trying to skip at once cannot be made to cost more
	// than it saves.
	maxTryDepth = 16
	// A token larger than pooledToken leaves the decoder with a buffer that is not worth keeping.
	pooledToken = 64 << 10
	maxToken    = 8 << 20
)

// scan walks through one JSON text, once, from front to back.
type scan struct {
	dec    *jsontext.Decoder
	window window
	// inPlace: the text is in memory as a whole, and needs no window.
	inPlace bool
	scratch []byte
}

// window is the reader under the decoder. It bounds how much the decoder reads, and hence holds, to get one value.
type window struct {
	r    io.Reader
	left int
	err  error // what r failed with
	// grown: a token was larger than pooledToken.
	grown bool
}

var errWindowFull = errors.New("value larger than the window")

func (w *window) Read(p []byte) (int, error) {
	if w.left <= 0 {
		return 0, errWindowFull
	}
	n, err := w.r.Read(p[:min(len(p), w.left)])
	w.left -= n
	if err != nil && err != io.EOF {
		w.err = err
	}
	return n, err
}

var scans = sync.Pool{New: func() any { return &scan{dec: new(jsontext.Decoder)} }}

// What stands in the data is not ours to judge, and to look for duplicates there takes time and memory.
var scanOptions = []jsontext.Options{jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true)}

func newScan(r io.Reader) *scan {
	if body, ok := r.(*bytes.Buffer); ok {
		return &scan{dec: jsontext.NewDecoder(body, scanOptions...), inPlace: true}
	}
	s := scans.Get().(*scan)
	s.window = window{r: r, left: maxToken}
	s.dec.Reset(&s.window, scanOptions...)
	return s
}

// release keeps the decoder for the next body, because of the buffer that it has.
func (s *scan) release() {
	if s.inPlace {
		return
	}
	if s.window.grown {
		s.dec = new(jsontext.Decoder)
	}
	s.window = window{}
	s.dec.Reset(&s.window) // lets go of the caller's reader
	scans.Put(s)
}

// token reads the next token.
func (s *scan) token() (jsontext.Token, error) {
	s.window.left = maxToken
	tok, err := s.dec.ReadToken()
	s.noteSize()
	return tok, err
}

func (s *scan) noteSize() {
	s.window.grown = s.window.grown || maxToken-s.window.left > pooledToken
}

// value reads the next value whole; it is only for what is small, and valid until the next call.
func (s *scan) value() (jsontext.Value, error) {
	s.window.left = maxToken
	v, err := s.dec.ReadValue()
	s.noteSize()
	return v, err
}

// peek returns the kind of what comes next. Where nothing valid comes, it returns the error.
func (s *scan) peek() (jsontext.Kind, error) {
	s.window.left = maxToken
	kind := s.dec.PeekKind()
	if kind != jsontext.KindInvalid {
		return kind, nil
	}
	_, err := s.dec.ReadToken()
	if err == nil {
		err = errors.New("no value")
	}
	return kind, err
}

// skip passes over the next value.
func (s *scan) skip() error {
	if s.inPlace {
		_, err := s.dec.ReadValue()
		return err
	}
	depth := s.dec.StackDepth()
	for {
		kind, err := s.peek()
		if err != nil {
			return err
		}
		if err := s.skipOne(kind); err != nil {
			return err
		}
		if s.dec.StackDepth() <= depth {
			return nil
		}
	}
}

// skipOne passes over the next value if it is small, else over its first token.
func (s *scan) skipOne(kind jsontext.Kind) error {
	opens := kind == jsontext.KindBeginObject || kind == jsontext.KindBeginArray
	if opens && s.dec.StackDepth() <= maxTryDepth {
		s.window.left = skipWindow - len(s.dec.UnreadBuffer())
		_, err := s.dec.ReadValue()
		if !errors.Is(err, errWindowFull) {
			return err
		}
	}
	_, err := s.token()
	return err
}

// eachMember reads an object and calls do for each member. It has to read the value; the name is good until then.
func (s *scan) eachMember(do func(name []byte, kind jsontext.Kind) error) error {
	if _, err := s.token(); err != nil {
		return err
	}
	for {
		kind, err := s.peek()
		if err != nil {
			return err
		}
		if kind == jsontext.KindEndObject {
			_, err := s.token()
			return err
		}
		quoted, err := s.value()
		if err != nil {
			return err
		}
		s.scratch = s.scratch[:0]
		if len(quoted) <= maxQuoted {
			// The only error is of texts that are not UTF-8, and they have been mended then.
			s.scratch, _ = jsontext.AppendUnquote(s.scratch, quoted)
		}
		kind, err = s.peek()
		if err != nil {
			return err
		}
		if err := do(s.scratch, kind); err != nil {
			return err
		}
	}
}

// eachElement reads an array and calls do for each element, which it has to read.
func (s *scan) eachElement(do func(kind jsontext.Kind) error) error {
	if _, err := s.token(); err != nil {
		return err
	}
	for {
		kind, err := s.peek()
		if err != nil {
			return err
		}
		if kind == jsontext.KindEndArray {
			_, err := s.token()
			return err
		}
		if err := do(kind); err != nil {
			return err
		}
	}
}

// members calls do for each member of what comes next, if that is an object, and passes over it otherwise.
func (s *scan) members(kind jsontext.Kind, do func(name []byte, kind jsontext.Kind) error) error {
	if kind != jsontext.KindBeginObject {
		return s.skip()
	}
	return s.eachMember(do)
}

// eachObject does the same for an object that may stand alone or in an array.
func (s *scan) eachObject(kind jsontext.Kind, do func(name []byte, kind jsontext.Kind) error) error {
	if kind != jsontext.KindBeginArray {
		return s.members(kind, do)
	}
	return s.eachElement(func(kind jsontext.Kind) error { return s.members(kind, do) })
}

// text reads the next value. It is false if that is not a string of at most 256 bytes.
func (s *scan) text(kind jsontext.Kind) (string, bool, error) {
	if kind != jsontext.KindString {
		return "", false, s.skip()
	}
	quoted, err := s.value()
	if err != nil || len(quoted) > maxQuoted {
		return "", false, err
	}
	text, err := jsontext.AppendUnquote(nil, quoted)
	return string(text), err == nil && len(text) <= maxKeptText, nil
}

// required reads a text without which a body is nothing.
func (s *scan) required(name string, kind jsontext.Kind) (string, error) {
	text, ok, err := s.text(kind)
	if err != nil {
		return "", err
	}
	if !ok || !isPrintable(text) {
		return "", &EnvelopeError{"its " + name + " is not a string of 1 to 256 printable characters"}
	}
	return text, nil
}

// id reads an identifier; what is none is "".
func (s *scan) id(kind jsontext.Kind) (string, error) {
	text, ok, err := s.text(kind)
	if err != nil || !ok || !isPrintable(text) {
		return "", err
	}
	return text, nil
}

// integer reads a whole number, also one in a string; what is none is 0.
func (s *scan) integer(kind jsontext.Kind) (int, error) {
	if kind == jsontext.KindString {
		text, _, err := s.text(kind)
		return wholeNumber(text), err
	}
	if kind != jsontext.KindNumber {
		return 0, s.skip()
	}
	digits, err := s.value()
	if err != nil || len(digits) > 11 {
		return 0, err
	}
	return wholeNumber(string(digits)), nil
}

// wholeNumber returns 0 for what is no whole number of 32 bits.
func wholeNumber(text string) int {
	n, err := strconv.ParseInt(text, 10, 32)
	if err != nil {
		return 0 // and not the nearest number, which comes with the error
	}
	return int(n)
}

// idSet collects the ids of links and of consents that an object names.
type idSet struct {
	linkIDs, consentIDs []string
}

// idMember reads a member of an object that names a link or consents, and puts the ids into set.
func (s *scan) idMember(set *idSet, name []byte, kind jsontext.Kind) error {
	switch string(name) {
	case "linkId":
		return s.addID(&set.linkIDs, kind)
	case "consentId":
		return s.addID(&set.consentIDs, kind)
	case "consents":
		return s.eachObject(kind, func(name []byte, kind jsontext.Kind) error {
			if string(name) == "consentId" {
				return s.addID(&set.consentIDs, kind)
			}
			return s.skip()
		})
	default:
		return s.skip()
	}
}

func (s *scan) addID(ids *[]string, kind jsontext.Kind) error {
	id, err := s.id(kind)
	if err != nil || id == "" || len(*ids) == maxKeptIDs || slices.Contains(*ids, id) {
		return err
	}
	*ids = append(*ids, id)
	return nil
}

// isPrintable reports whether s can stand in an HTTP header as it is.
func isPrintable(s string) bool {
	for i := range len(s) {
		if s[i] < '!' || s[i] > '~' {
			return false
		}
	}
	return s != ""
}
