package faults

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/caddy-klavi/caddy-klavi/klavi"
)

// Many strangers come to the address that takes reports: they begin handshakes and go,
// or stay without a word; they announce reports and take them back at once; they connect
// and do nothing. A report is taken while they are there, and nothing stays of them.
func TestCrowds(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		size  int
		crowd func(t *testing.T, address string, n int) (leave func())
	}{
		"handshakes": {300, handshakes},
		"resets":     {10_000, resets},
		"idle":       {idle(t), idlers},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if testing.Short() || raced {
				tt.size /= 10
			}
			u, s := newUpstream(t), newSender(t)
			config := newSetup(t, u.URL)
			port := freePort(t)
			certificate, key := writeCertificate(t)
			config.sites = fmt.Sprintf("https://127.0.0.1:%s {\ntls %s %s\nklavi_reports /klavi/reports {\n%s\n}\n}", port, certificate, key, config.routes)
			p := start(t, config)
			address := "127.0.0.1:" + port
			url := "https://" + address + "/klavi/reports"
			s.fresh.Transport = &http.Transport{
				DisableKeepAlives: true, ForceAttemptHTTP2: true,
				TLSClientConfig: &tls.Config{InsecureSkipVerify: true},
			}
			s.mustPost(url, "before", reportOf("pf_loans", "before", 2<<20))
			s.drain(p, u)
			goroutines, memory := p.goroutines(), p.heap()

			leave := tt.crowd(t, address, tt.size)
			s.mustPost(url, "during", reportOf("pf_loans", "during", 200_000))
			t.Logf("%d come: %d goroutines and %d KiB before, %d and %d with the crowd", tt.size, goroutines, memory>>10, p.goroutines(), p.heap()>>10)
			leave()
			s.mustPost(url, "after", reportOf("pf_loans", "after", 2<<20))
			s.drain(p, u)
			for _, id := range []string{"before", "during", "after"} {
				if n := u.accepted(id); n != 1 {
					t.Errorf("%s was delivered %d times, want once", id, n)
				}
			}
			// Go keeps half a KiB of each goroutine that there was.
			most := memory + 4<<20 + tt.size<<10
			eventually(t, fmt.Sprintf("%d goroutines or so, and %d KiB", goroutines, most>>10), func() bool {
				return p.goroutines() <= goroutines+10 && p.heap() <= most
			})
		})
	}
}

// handshakes begins n handshakes. A third of them are cut off after the first message,
// a third in the middle of it, and the others stay where they are.
func handshakes(t *testing.T, address string, n int) (leave func()) {
	hello := clientHello(t)
	var stay []net.Conn
	for i := range n {
		conn, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		part := hello
		if i%3 == 1 {
			part = hello[:len(hello)/2]
		}
		if _, err := conn.Write(part); err != nil {
			t.Fatal(err)
		}
		if i%3 == 2 {
			stay = append(stay, conn)
			continue
		}
		_ = conn.(*net.TCPConn).SetLinger(0) // it is reset, and not ended
		conn.Close()
	}
	return func() { closeAll(stay) }
}

// clientHello is the first message of a handshake.
func clientHello(t *testing.T) []byte {
	t.Helper()
	here, there := net.Pipe()
	defer there.Close()
	go func() {
		_ = tls.Client(here, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}}).Handshake() // nobody answers
		here.Close()
	}()
	head := make([]byte, 5)
	if _, err := io.ReadFull(there, head); err != nil {
		t.Fatal(err)
	}
	hello := make([]byte, int(head[3])<<8|int(head[4]))
	if _, err := io.ReadFull(there, hello); err != nil {
		t.Fatal(err)
	}
	return append(head, hello...)
}

// resets begins n reports and takes them back, 500 on each connection of HTTP/2, or as
// many as Caddy bears of it.
func resets(t *testing.T, address string, n int) (leave func()) {
	const each = 500
	conns, begun := make([]net.Conn, n/each), make([]int, n/each)
	var wg sync.WaitGroup
	for i := range conns {
		wg.Go(func() {
			var err error
			if conns[i], err = dialTLS(address); err != nil {
				t.Error(err)
				return
			}
			begun[i] = reset(conns[i], each)
		})
	}
	wg.Wait()
	all := 0
	for _, reports := range begun {
		all += reports
	}
	if all < n/10 {
		t.Errorf("got %d reports begun, want many of %d: this test shows less than it says", all, n)
	}
	return func() { closeAll(conns) }
}

// reset begins and takes back up to n reports on a connection, one half at once and the
// other when Caddy has begun to read them, and returns how many.
func reset(conn net.Conn, n int) int {
	framer := http2.NewFramer(conn, conn)
	if _, err := io.WriteString(conn, http2.ClientPreface); err != nil {
		return 0
	}
	if err := framer.WriteSettings(); err != nil {
		return 0
	}
	read := make(chan struct{}, 1)
	go func() {
		defer close(read)
		for {
			f, err := framer.ReadFrame()
			if err != nil {
				return
			}
			if ping, ok := f.(*http2.PingFrame); ok && ping.IsAck() {
				read <- struct{}{}
			}
		}
	}()
	var block bytes.Buffer
	fields := hpack.NewEncoder(&block)
	var open []uint32
	for i := range n {
		block.Reset()
		for _, f := range []hpack.HeaderField{
			{Name: ":method", Value: http.MethodPost},
			{Name: ":scheme", Value: "https"},
			{Name: ":authority", Value: conn.RemoteAddr().String()},
			{Name: ":path", Value: "/klavi/reports"},
			{Name: strings.ToLower(klavi.SignatureHeader), Value: strings.Repeat("ab", 32)},
			{Name: "content-length", Value: fmt.Sprint(1 << 20)},
		} {
			_ = fields.WriteField(f) // to memory
		}
		stream := uint32(2*i + 1)
		err := framer.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: block.Bytes(), EndHeaders: true})
		if err == nil {
			err = framer.WriteData(stream, false, []byte(`{"code":`))
		}
		if open = append(open, stream); i%2 == 0 && err == nil {
			err = framer.WriteRSTStream(stream, http2.ErrCodeCancel)
			open = open[:len(open)-1]
		}
		if len(open) == 50 && err == nil {
			if err = framer.WritePing(false, [8]byte{}); err == nil {
				<-read
			}
			for _, stream := range open {
				if err == nil {
					err = framer.WriteRSTStream(stream, http2.ErrCodeCancel)
				}
			}
			open = nil
		}
		if err != nil {
			return i // it has had enough
		}
	}
	return n
}

// idle is how many connections can be idle: 4000, or half of the files that this process
// and Caddy may have open.
func idle(t *testing.T) int {
	t.Helper()
	var files syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files); err != nil {
		t.Fatal(err)
	}
	return int(min(4000, files.Cur/2))
}

// idlers opens n connections, half of them with a handshake, and does nothing with them.
func idlers(t *testing.T, address string, n int) (leave func()) {
	conns := make([]net.Conn, n)
	next := make(chan int)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for i := range next {
				var err error
				if i%2 == 0 {
					conns[i], err = net.Dial("tcp", address)
				} else {
					conns[i], err = dialTLS(address)
				}
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	for i := range conns {
		next <- i
	}
	close(next)
	wg.Wait()
	return func() { closeAll(conns) }
}

func closeAll(conns []net.Conn) {
	for _, conn := range conns {
		if conn != nil {
			conn.Close()
		}
	}
}

// dialTLS returns a connection on which HTTP/2 may be spoken.
func dialTLS(address string) (net.Conn, error) {
	dialer := tls.Dialer{Config: &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}}}
	return dialer.Dial("tcp", address)
}

// writeCertificate makes a certificate for 127.0.0.1, and returns the paths of it and of
// its key.
func writeCertificate(t testing.TB) (certificate, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	signed, err := x509.CreateCertificate(rand.Reader, &template, &template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	encoded, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	certificate, key = filepath.Join(dir, "certificate.pem"), filepath.Join(dir, "key.pem")
	for path, block := range map[string]pem.Block{
		certificate: {Type: "CERTIFICATE", Bytes: signed},
		key:         {Type: "PRIVATE KEY", Bytes: encoded},
	} {
		writeFile(t, path, string(pem.EncodeToMemory(&block)))
	}
	return certificate, key
}
