package proxy

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"

	"github.com/caddy-klavi/caddy-klavi/handler/problem"
	"github.com/caddy-klavi/caddy-klavi/klavi"
)

// maxBuffered is how large a body may be that is kept for a second try.
const maxBuffered = 1 << 20

var userAgent = []string{klavi.UserAgent}

// request returns the request that goes to Klavi in place of req: made of the
// account's address, and of three headers of req's. Above all, Idempotency-Key
// stays behind: with it, Go's HTTP client would send a POST again on its own.
func (t *Transport) request(req *http.Request, path string, body *body) *http.Request {
	base := t.account.Base()
	header := make(http.Header, 4)
	header["User-Agent"] = userAgent
	for _, name := range [...]string{"Accept", "Accept-Encoding", "Content-Type"} {
		if values := req.Header[name]; len(values) > 0 {
			header[name] = values[:1:1]
		}
	}
	if _, ok := header["Accept"]; !ok {
		header["Accept"] = []string{"application/json"}
	}
	out := &http.Request{
		Method:     req.Method,
		URL:        &url.URL{Scheme: base.Scheme, Host: base.Host, Path: base.Path + path, RawQuery: req.URL.RawQuery},
		Proto:      "HTTP/1.1",
		ProtoMajor: 1,
		ProtoMinor: 1,
		Header:     header,
		Host:       base.Host,
	}
	body.attach(out)
	return out
}

// jsonRequest is request with object as its body, whatever req's was called. The
// query stays behind: Klavi documents none for these endpoints, and could take
// from it what was looked at in the body only.
func (t *Transport) jsonRequest(req *http.Request, path string, o *object) *http.Request {
	out := t.request(req, path, &body{data: o.encode()})
	out.URL.RawQuery = ""
	out.Header["Content-Type"] = []string{"application/json"}
	return out
}

// body is a request's body: all of it, or where to read it.
type body struct {
	data   []byte
	stream io.ReadCloser // in place of data, if not nil
	length int64         // of stream, -1 if unknown

	mu     sync.Mutex
	closed bool
	err    error // why reading stream failed
}

// readBody reads the body of req if it is small enough to be sent twice. It is
// nil where req has none. An error is the problem that refuses the request.
func readBody(req *http.Request) (*body, error) {
	if req.Body == nil || req.Body == http.NoBody {
		return nil, nil //nolint:nilnil // no body is not an error
	}
	if coding := req.Header.Get("Content-Encoding"); coding != "" && !strings.EqualFold(coding, "identity") {
		return nil, problem.New(problem.UnsupportedMediaType, "Klavi takes bodies without Content-Encoding only.")
	}
	if req.ContentLength > maxBuffered {
		return &body{stream: req.Body, length: req.ContentLength}, nil
	}
	data, err := readAtMost(req, maxBuffered+1)
	if err != nil {
		return nil, err
	}
	if len(data) > maxBuffered {
		both := io.MultiReader(bytes.NewReader(data), req.Body)
		return &body{stream: &splicedBody{both, req.Body}, length: -1}, nil
	}
	_ = req.Body.Close()
	return &body{data: data}, nil
}

// splicedBody reads on where a body was begun, and closes it.
type splicedBody struct {
	io.Reader
	io.Closer
}

// readAtMost reads the body of req up to limit bytes. Less than its
// Content-Length is an error: a request that broke off is not sent.
func readAtMost(req *http.Request, limit int64) ([]byte, error) {
	var buf bytes.Buffer
	if req.ContentLength > 0 {
		// MinRead more, so that looking for the end does not grow it.
		buf.Grow(int(min(req.ContentLength, limit)) + bytes.MinRead)
	}
	_, err := buf.ReadFrom(io.LimitReader(req.Body, limit))
	if err == nil && req.ContentLength > int64(buf.Len()) && int64(buf.Len()) < limit {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return nil, readProblem(err)
	}
	return buf.Bytes(), nil
}

// readProblem returns the problem for a body that cannot be read to its end.
func readProblem(err error) *problem.Problem {
	if tooLarge, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return problem.New(problem.TooLarge, fmt.Sprintf("The body may have at most %d bytes.", tooLarge.Limit))
	}
	return problem.New(problem.InvalidRequest, "The body could not be read to its end.")
}

// attach makes b the body of out.
func (b *body) attach(out *http.Request) {
	switch {
	case b == nil:
	case b.stream != nil:
		out.Body, out.ContentLength = b, b.length
	case len(b.data) > 0:
		out.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b.data)), nil }
		out.Body, _ = out.GetBody()
		out.ContentLength = int64(len(b.data))
	}
}

// Read reads the stream and remembers its error: what the HTTP client makes of
// it looks like an error of Klavi's.
func (b *body) Read(p []byte) (int, error) {
	n, err := b.stream.Read(p)
	if err != nil && err != io.EOF {
		b.mu.Lock()
		if !b.closed { // or else it failed because it was given up
			b.err = err
		}
		b.mu.Unlock()
	}
	return n, err
}

// Close closes the stream.
func (b *body) Close() error {
	b.mu.Lock()
	b.closed = true
	b.mu.Unlock()
	return b.stream.Close()
}

// failure returns the problem for a stream that could not be read, nil if it could.
func (b *body) failure() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.err == nil {
		return nil
	}
	return readProblem(b.err)
}
