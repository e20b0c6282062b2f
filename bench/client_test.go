package main

import (
	"bufio"
	"io"
	"strings"
	"testing"
)

func TestReadHead(t *testing.T) {
	for _, tc := range []struct {
		name, answer string
		want         int
		fault        string // part of the error
	}{
		{"an answer", "HTTP/1.1 200 OK\r\nContent-Length: 4\r\nServer: Caddy\r\n\r\nbody", 4, ""},
		{"another case", "HTTP/1.1 200 OK\r\ncontent-length:4\r\n\r\nbody", 4, ""},
		{"another status", "HTTP/1.1 502 Bad Gateway\r\nContent-Length: 4\r\n\r\nbody", 0, "502 Bad Gateway"},
		{"no length", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n", 0, "no Content-Length"},
		{"a length that is none", "HTTP/1.1 200 OK\r\nContent-Length: four\r\n\r\nbody", 0, "four"},
		{"broken off", "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n", 0, io.EOF.Error()},
	} {
		t.Run(tc.name, func(t *testing.T) {
			in := bufio.NewReader(strings.NewReader(tc.answer))
			got, err := readHead(in)
			if tc.fault != "" {
				if err == nil || !strings.Contains(err.Error(), tc.fault) {
					t.Fatalf("got error %v, want one with %q", err, tc.fault)
				}
				return
			}
			if err != nil || got != tc.want {
				t.Fatalf("got %d and error %v, want %d", got, err, tc.want)
			}
			if rest, _ := io.ReadAll(in); string(rest) != "body" {
				t.Errorf("got %q left, want the body", rest)
			}
		})
	}
}
