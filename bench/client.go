package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
)

// client is one kept-alive connection. It does no more than it must, so that
// what is measured is the gateway and not the load: a request is bytes that are
// ready, of an answer only status and length are looked at.
type client struct {
	conn net.Conn
	in   *bufio.Reader
}

func dial(address string) (*client, error) {
	conn, err := net.Dial("tcp", address)
	if err != nil {
		return nil, err
	}
	return &client{conn, bufio.NewReaderSize(conn, 64<<10)}, nil
}

func (c *client) close() { _ = c.conn.Close() }

// do sends request and copies the body of its answer, which must have status 200
// and a Content-Length, to body. It returns the body's length.
func (c *client) do(request []byte, body io.Writer) (int, error) {
	if _, err := c.conn.Write(request); err != nil {
		return 0, err
	}
	length, err := readHead(c.in)
	if err != nil {
		return 0, err
	}
	if body == nil {
		return c.in.Discard(length)
	}
	n, err := io.CopyN(body, c.in, int64(length))
	return int(n), err
}

// readHead reads an answer up to its body, and returns how long that is.
func readHead(in *bufio.Reader) (length int, err error) {
	line, err := in.ReadSlice('\n')
	if err != nil {
		return 0, err
	}
	if !bytes.HasPrefix(line, []byte("HTTP/1.1 200 ")) {
		return 0, fmt.Errorf("the answer is %q", bytes.TrimSpace(line))
	}
	length = -1
	for {
		if line, err = in.ReadSlice('\n'); err != nil {
			return 0, err
		}
		line = bytes.TrimSpace(line)
		if len(line) == 0 {
			break
		}
		name, value, _ := bytes.Cut(line, []byte(":"))
		if !bytes.EqualFold(name, []byte("Content-Length")) {
			continue
		}
		if length, err = strconv.Atoi(string(bytes.TrimSpace(value))); err != nil {
			return 0, err
		}
	}
	if length < 0 {
		return 0, errors.New("the answer has no Content-Length")
	}
	return length, nil
}
