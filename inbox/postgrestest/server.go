// Package postgrestest gives tests a PostgreSQL server of their own, and what goes
// wrong with one: it stops, it is killed, its connections are cut, its network is
// away. Only tests import it. Where there is no PostgreSQL, they are skipped.
package postgrestest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// The role that tests connect as. It owns its databases, and is no superuser.
const (
	User     = "gateway"
	Password = "a-password-of-tests"
)

// patience is how long anything may take on a busy machine before it is called
// broken.
const patience = time.Minute

// Server is a PostgreSQL server on 127.0.0.1, durable as PostgreSQL is by default.
// It dies with the test process.
type Server struct {
	// Port is where it listens, and stays so when it is started again.
	Port int
	// RootCert is the file with the certificate that clients verify it by, if it
	// insists on TLS.
	RootCert string

	dir    string // its data, its log and its socket
	tls    bool
	shared bool

	mu      sync.Mutex
	process *process // nil while it is stopped
}

// Start starts a server that ends with the test. A test that stops it or changes its
// settings needs one of its own; others share one, see [Shared].
func Start(t testing.TB) *Server {
	t.Helper()
	return startOwn(t, false)
}

// StartTLS is [Start] with a server that takes connections with TLS only.
func StartTLS(t testing.TB) *Server {
	t.Helper()
	return startOwn(t, true)
}

func startOwn(t testing.TB, tls bool) *Server {
	t.Helper()
	c := needCluster(t)
	s := &Server{dir: c.newDir(), tls: tls}
	if err := s.start(c); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		s.remove()
		if t.Failed() {
			t.Log(s.logFrom(0))
		}
		_ = os.RemoveAll(s.dir)
	})
	return s
}

// start starts it on a copy of the cluster.
func (s *Server) start(c *cluster) error {
	if err := c.copyTo(s.dir); err != nil {
		return err
	}
	if s.tls {
		if err := s.writeCertificate(); err != nil {
			return err
		}
	}
	if err := s.configure(); err != nil {
		return err
	}
	if err := c.own(s.dir); err != nil {
		return err
	}
	for {
		s.Port = freePort()
		err := s.launch()
		if err == nil {
			break
		}
		// Somebody else may have taken the port meanwhile.
		if !strings.Contains(err.Error(), "Address already in use") {
			return err
		}
	}
	return s.superuser(func(ctx context.Context, conn *pgx.Conn) error {
		_, err := conn.Exec(ctx, "CREATE ROLE "+User+" LOGIN PASSWORD '"+Password+"'")
		return err
	})
}

// remove ends the server for good.
func (s *Server) remove() {
	_ = s.end(sigQuit)
	s.freeMemory()
}

// freeMemory gives back the memory that a killed server has left with the system.
func (s *Server) freeMemory() {
	if id := s.memory(); id != "" {
		_ = exec.Command("ipcrm", "-m", id).Run()
	}
}

// memory is the id of the System V shared memory that the server has, or has left. A
// server that ended by itself has left none.
func (s *Server) memory() string {
	lock, _ := os.ReadFile(filepath.Join(s.data(), "postmaster.pid"))
	lines := strings.Split(string(lock), "\n")
	if len(lines) < 7 {
		return ""
	}
	keys := strings.Fields(lines[6])
	if len(keys) != 2 {
		return ""
	}
	return keys[1]
}

func (s *Server) data() string { return filepath.Join(s.dir, dataName) }

func (s *Server) logFile() string { return filepath.Join(s.dir, "log") }

// configure says who may connect, and how, and what makes a small server.
func (s *Server) configure() error {
	kind, ssl := "host", "off"
	if s.tls {
		kind, ssl = "hostssl", "on"
	}
	who := "local all all scram-sha-256\n" + kind + " all all 127.0.0.1/32 scram-sha-256\n" //nolint:dupword // all databases, all users
	if err := os.WriteFile(filepath.Join(s.data(), "pg_hba.conf"), []byte(who), 0o600); err != nil {
		return err
	}
	f, err := os.OpenFile(filepath.Join(s.data(), "postgresql.conf"), os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = fmt.Fprintf(f, `
listen_addresses = '127.0.0.1'
unix_socket_directories = '%s'
ssl = %s
ssl_cert_file = '%s'
ssl_key_file = '%s'
max_connections = 200
shared_buffers = 16MB
huge_pages = off
timezone = 'UTC'
log_timezone = 'UTC'
log_line_prefix = '%%m [%%p] %%d '
logging_collector = off
`, s.dir, ssl, filepath.Join(s.dir, certName), filepath.Join(s.dir, keyName))
	return err
}

// launch starts the process and waits until it answers.
func (s *Server) launch() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.process != nil {
		return errors.New("the PostgreSQL server runs already")
	}
	log, err := os.OpenFile(s.logFile(), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	begin := s.logSize()
	cmd := exec.Command(theCluster.program("postgres"), "-D", s.data(), "-p", strconv.Itoa(s.Port))
	cmd.Stdout, cmd.Stderr, cmd.Dir = log, log, s.dir
	p, err := run(cmd, theCluster.owner)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for {
		err := s.answers(ctx)
		if err == nil {
			s.process = p
			return nil
		}
		select {
		case <-p.done:
			return fmt.Errorf("the PostgreSQL server has ended: %s", s.logFrom(begin))
		case <-ctx.Done():
			_ = p.end(sigKillAll)
			return fmt.Errorf("the PostgreSQL server does not answer: %w\n%s", err, s.logFrom(begin))
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// answers makes sure that it is this server that has the port.
func (s *Server) answers(ctx context.Context) error {
	conn, err := s.connect(ctx)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	var data string
	if err := conn.QueryRow(ctx, "SHOW data_directory").Scan(&data); err != nil {
		return err
	}
	if data != s.data() {
		return fmt.Errorf("another server has port %d", s.Port)
	}
	return nil
}

// connect connects the superuser, whatever the settings say about others.
func (s *Server) connect(ctx context.Context) (*pgx.Conn, error) {
	u := s.url(superuser, superuserPassword, "postgres")
	q := u.Query()
	q.Set("default_transaction_read_only", "off")
	u.RawQuery = q.Encode()
	return pgx.Connect(ctx, u.String())
}

func (s *Server) url(user, password, database string) *url.URL {
	q := url.Values{"sslmode": {"disable"}}
	if s.tls {
		q = url.Values{"sslmode": {"verify-full"}, "sslrootcert": {s.RootCert}}
	}
	return &url.URL{
		Scheme: "postgres", User: url.UserPassword(user, password),
		Host: net.JoinHostPort("127.0.0.1", strconv.Itoa(s.Port)), Path: "/" + database, RawQuery: q.Encode(),
	}
}

func (s *Server) logSize() int64 {
	info, err := os.Stat(s.logFile())
	if err != nil {
		return 0
	}
	return info.Size()
}

// logFrom returns what the server has written to its log since it was so long.
func (s *Server) logFrom(begin int64) string {
	const most = 64 << 10
	f, err := os.Open(s.logFile())
	if err != nil {
		return err.Error()
	}
	defer f.Close()
	if begin = max(begin, s.logSize()-most); begin > 0 {
		if _, err := f.Seek(begin, io.SeekStart); err != nil {
			return err.Error()
		}
	}
	text, _ := io.ReadAll(f)
	return "the log of PostgreSQL:\n" + string(text)
}

// freePort is below the range from which systems take the ports of outgoing
// connections, and beside the one that other tests choose from.
func freePort() int {
	for {
		port := 10000 + rand.IntN(10000) //nolint:gosec // any port will do
		l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err != nil {
			continue
		}
		_ = l.Close()
		return port
	}
}
