package frontend

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
)

// serveInstitutions streams Klavi's list of institutions.
func (f *Frontend) serveInstitutions(w http.ResponseWriter, r *http.Request) error {
	user, err := f.currentUser(r)
	if err != nil {
		return err
	}
	link, err := f.openLink(r, user)
	if err != nil {
		return err
	}
	place, err := f.account.EnterRead(f.caller(r, user))
	if err != nil {
		return f.overLimit("GET /links/institutions", err)
	}
	defer place.Leave()
	res, err := f.account.SendWithLinkToken(r.Context(), f.institutions, link.Token)
	if err != nil {
		return f.callFailed(r.Context(), "GET /links/institutions", err)
	}
	if !succeeded(res) {
		return f.scopedProblem(res, "GET /links/institutions")
	}
	defer res.Body.Close()
	return f.stream(w, res)
}

var streamBuffers = sync.Pool{New: func() any { return new([32 << 10]byte) }}

// whole is how long an answer may be that is read to its end before anything of
// it is written. It leaves room in the buffer for what Guard holds back.
const whole = 24 << 10

// stream passes on a JSON answer: a short one when all of it is there, in one
// write, and any other as it comes. Nothing is written before its first bytes are
// there.
func (f *Frontend) stream(w http.ResponseWriter, res *http.Response) error {
	if err := checkJSONAnswer(res); err != nil {
		return f.nonsense("GET /links/institutions", err)
	}
	buffer := streamBuffers.Get().(*[32 << 10]byte)
	defer streamBuffers.Put(buffer)

	body := f.account.Guard(res.Body)
	atLeast := 1
	if res.ContentLength > 0 && res.ContentLength <= whole {
		atLeast = int(res.ContentLength)
	}
	n, err := io.ReadAtLeast(body, buffer[:], atLeast)
	if n == 0 && errors.Is(err, io.EOF) {
		return f.nonsense("GET /links/institutions", errors.New("the answer is empty"))
	}
	if n < atLeast {
		return f.brokeOff("GET /links/institutions", err)
	}
	h := w.Header()
	h["Content-Type"] = []string{"application/json"}
	h["Cache-Control"] = []string{"no-store"}
	h["X-Content-Type-Options"] = []string{"nosniff"}
	if res.ContentLength > 0 {
		h["Content-Length"] = []string{strconv.FormatInt(res.ContentLength, 10)}
	}
	if seconds, ok := retryAfter(res.Header); ok {
		h["Retry-After"] = []string{strconv.Itoa(seconds)}
	}
	w.WriteHeader(res.StatusCode)
	for {
		if _, err := w.Write(buffer[:n]); err != nil {
			return nil // the browser is gone
		}
		n, err = body.Read(buffer[:])
		if n > 0 {
			continue
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			_ = f.brokeOff("GET /links/institutions", err) // for the log: the status is out
			// Half a list must not pass for a whole one.
			panic(http.ErrAbortHandler)
		}
	}
}

// checkJSONAnswer refuses a 2xx answer that no browser is to see.
func checkJSONAnswer(res *http.Response) error {
	if res.ContentLength == 0 {
		return errors.New("the answer is empty")
	}
	if encoding := res.Header.Get("Content-Encoding"); encoding != "" && !strings.EqualFold(encoding, "identity") {
		return errors.New("the answer has a content encoding that was not asked for")
	}
	mediaType, _, _ := strings.Cut(res.Header.Get("Content-Type"), ";")
	if !strings.EqualFold(strings.TrimSpace(mediaType), "application/json") {
		return fmt.Errorf("the answer with status %d is not application/json", res.StatusCode)
	}
	return nil
}
