package inbox

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// helloTime is how long a process may take to say that it is there.
const helloTime = 5 * time.Second

// ErrNotServed: no process serves the socket of the inbox. It can be opened,
// unless a process has it open all the same.
var ErrNotServed = errors.New("inbox: not served")

// Client is an inbox that another process has open. Its methods do what those of
// a Store do, and their errors are the same.
type Client struct {
	dir  string
	http *http.Client
}

// Dial connects to the process that has the inbox in a directory open. Its error
// is ErrNotFound if there is no inbox, ErrNotServed if nobody answers for it, and
// ErrLocked if somebody should and does not.
func Dial(ctx context.Context, dir string) (*Client, error) {
	return dial(ctx, dir, helloTime)
}

func dial(ctx context.Context, dir string, helloTime time.Duration) (*Client, error) {
	f := files{dir: dir}
	if err := f.present(); err != nil {
		return nil, err
	}
	if _, err := os.Stat(f.path(socketName)); errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: there is no %s in %s", ErrNotServed, socketName, dir)
	}
	c := &Client{dir: dir}
	c.http = &http.Client{Transport: &http.Transport{
		DisableCompression: true,
		DialContext: func(ctx context.Context, _, _ string) (conn net.Conn, err error) {
			err = reachable(dir, socketName, func(path string) (err error) {
				conn, err = new(net.Dialer).DialContext(ctx, "unix", path)
				return err
			})
			return conn, err
		},
	}}
	hello, cancel := context.WithTimeout(ctx, helloTime)
	defer cancel()
	err := c.call(hello, "hello", &call{}, nil, nil)
	if err == nil {
		return c, nil
	}
	_ = c.Close()
	if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
		err = fmt.Errorf("%w: %s is in use by %s, which does not answer", ErrLocked, dir, holder(filepath.Join(dir, lockName)))
	}
	return nil, err
}

// Close ends the connection.
func (c *Client) Close() error {
	c.http.CloseIdleConnections()
	return nil
}

// send asks for something.
func (c *Client) send(ctx context.Context, name string, what *call) (*http.Response, error) {
	text, err := json.Marshal(what)
	if err != nil {
		return nil, err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://inbox"+callsPath+name, bytes.NewReader(text))
	if err != nil {
		return nil, err
	}
	res, err := c.http.Do(r)
	switch {
	case err == nil:
	case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("%w: nobody listens at %s in %s", ErrNotServed, socketName, c.dir)
	default:
		if inner := errors.Unwrap(err); inner != nil { // without the URL, which says nothing
			err = inner
		}
		return nil, fmt.Errorf("%w: %s: %w", ErrUnavailable, c.dir, err)
	}
	if res.StatusCode == http.StatusNotFound {
		_ = res.Body.Close()
		return nil, fmt.Errorf("%w: the process that has %s open is another version of this program: restart it, or use that version", ErrUnavailable, c.dir)
	}
	return res, nil
}

// call asks for something, and reads the answer into result, if there is one.
func (c *Client) call(ctx context.Context, name string, what *call, progress Progress, result any) error {
	res, err := c.send(ctx, name, what)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	last, err := c.lastReply(res.Body, progress)
	if err != nil {
		return err
	}
	if last.Error != nil {
		if n, ok := result.(*int); ok {
			*n = last.Count
		}
		return last.Error
	}
	if result == nil {
		return nil
	}
	if err := json.Unmarshal(last.Result, result); err != nil {
		return fmt.Errorf("%w: the answer of the process that has %s open is not understood: %w", ErrUnavailable, c.dir, err)
	}
	return nil
}

// lastReply reads up to the line that ends an answer.
func (c *Client) lastReply(body io.Reader, progress Progress) (reply, error) {
	decoder := json.NewDecoder(body)
	for {
		var r reply
		if err := decoder.Decode(&r); err != nil {
			return r, fmt.Errorf("%w: the process that has %s open broke off: %w", ErrUnavailable, c.dir, err)
		}
		if r.Error != nil || r.Result != nil {
			return r, nil
		}
		progress.report(r.Done, r.Total)
	}
}

// List is Store.List, with at most 1000 records at once.
func (c *Client) List(ctx context.Context, f Filter, p Page) (records []Record, err error) {
	err = c.call(ctx, "list", &call{Filter: f, Page: p}, nil, &records)
	return records, err
}

// Audit is Store.Audit, with at most 1000 records at once.
func (c *Client) Audit(ctx context.Context, f Filter, p Page) (records []Record, err error) {
	err = c.call(ctx, "audit", &call{Filter: f, Page: p}, nil, &records)
	return records, err
}

// Stats is Store.Stats.
func (c *Client) Stats(ctx context.Context) (st Stats, err error) {
	err = c.call(ctx, "stats", &call{}, nil, &st)
	return st, err
}

// ListRoutes is Store.ListRoutes.
func (c *Client) ListRoutes(ctx context.Context) (list []RouteStatus, err error) {
	err = c.call(ctx, "routes", &call{}, nil, &list)
	return list, err
}

// Pause is Store.Pause.
func (c *Client) Pause(ctx context.Context, route, who string) error {
	return c.call(ctx, "pause", &call{Route: route, Who: who}, nil, nil)
}

// Resume is Store.Resume.
func (c *Client) Resume(ctx context.Context, route, who string) error {
	return c.call(ctx, "resume", &call{Route: route, Who: who}, nil, nil)
}

// Retry is Store.Retry.
func (c *Client) Retry(ctx context.Context, f Filter, who string, progress Progress) (n int, err error) {
	err = c.call(ctx, "retry", &call{Filter: f, Who: who}, progress, &n)
	return n, err
}

// Drop is Store.Drop.
func (c *Client) Drop(ctx context.Context, f Filter, who, why string, progress Progress) (n int, err error) {
	err = c.call(ctx, "drop", &call{Filter: f, Who: who, Why: why}, progress, &n)
	return n, err
}

// Erase is Store.Erase.
func (c *Client) Erase(ctx context.Context, kind, value, who, why string) (receipt EraseReceipt, err error) {
	err = c.call(ctx, "erase", &call{Kind: kind, Value: value, Who: who, Why: why}, nil, &receipt)
	return receipt, err
}

// Drain is Store.Drain. When ctx ends, or this process does, the store takes reports
// again.
func (c *Client) Drain(ctx context.Context, progress Progress) error {
	return c.call(ctx, "drain", &call{}, progress, nil)
}

// Export is Store.Export. Reading ends with the error that the store has met, if
// it has met one.
func (c *Client) Export(ctx context.Context, uid, who, why string) (io.ReadCloser, error) {
	res, err := c.send(ctx, "export", &call{UID: uid, Who: who, Why: why})
	if err != nil {
		return nil, err
	}
	if res.StatusCode == http.StatusOK {
		return &sentBody{res}, nil
	}
	defer res.Body.Close()
	last, err := c.lastReply(res.Body, nil)
	if err == nil {
		err = last.Error
	}
	return nil, err
}

// sentBody is a body that comes through the socket.
type sentBody struct{ res *http.Response }

func (b *sentBody) Read(p []byte) (int, error) {
	n, err := b.res.Body.Read(p)
	switch {
	case err == io.EOF:
		if failed := trailerError(b.res.Trailer); failed != nil {
			err = failed
		}
	case err != nil:
		err = fmt.Errorf("%w: the body breaks off: %w", ErrUnavailable, err)
	}
	return n, err
}

func (b *sentBody) Close() error { return b.res.Body.Close() }
