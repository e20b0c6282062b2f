package inbox

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"
)

const (
	// An address of a Unix socket has 108 bytes on Linux, and 104 elsewhere.
	maxSocketPath = 103
	// How long those who are connected get to see that the store closes.
	hangUpTime = time.Second
)

// socket is how another process of the same user, or root, reaches a store that
// is open.
type socket struct {
	mu     sync.Mutex
	wanted bool
	closed bool
	server *http.Server
	hangUp context.CancelFunc
}

// ServeSocket has Dial reach the store from other processes, through a socket in
// its directory, until it is closed. Nobody but its owner and root can connect:
// the socket's permissions say so, from before it has its name.
func (s *Store) ServeSocket() error {
	s.socket.mu.Lock()
	defer s.socket.mu.Unlock()
	if s.socket.closed {
		return errClosed
	}
	s.socket.wanted = true
	return s.openSocket()
}

// openSocket is ServeSocket while socket.mu is held.
func (s *Store) openSocket() error {
	k := &s.socket
	if k.server != nil {
		return nil
	}
	listener, err := s.listen()
	if err != nil {
		return fmt.Errorf("%w: %s cannot be made in %s: %w", ErrUnavailable, socketName, s.dir, err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	k.hangUp = cancel
	k.server = &http.Server{
		Handler:           s.calls(),
		BaseContext:       func(net.Listener) context.Context { return ctx },
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       30 * time.Second, // of a request; answers take as long as their reader wants
		ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelWarn),
	}
	server := k.server
	s.tasks.Go(func() {
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			s.log.Error("the socket of the inbox is not served any more", "dir", s.dir, "error", err)
		}
	})
	return nil
}

// listen makes the socket where nobody else can see it. It gets its name when
// its permissions are right; one that a dead process has left makes way for it.
func (s *Store) listen() (net.Listener, error) {
	var listener *net.UnixListener
	name := filepath.Join(tmpName, socketName)
	err := reachable(s.dir, name, func(path string) (err error) {
		if err := s.files.remove(path); err != nil {
			return err
		}
		listener, err = net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
		return err
	})
	if err != nil {
		return nil, err
	}
	listener.SetUnlinkOnClose(false)
	err = os.Chmod(s.files.path(name), 0o600)
	if err == nil {
		err = os.Rename(s.files.path(name), s.files.path(socketName))
	}
	if err != nil {
		_ = listener.Close()
		return nil, err
	}
	return listener, nil
}

// reachable calls fn with the path of a file in dir that is short enough for the
// address of a socket.
func reachable(dir, name string, fn func(path string) error) error {
	path := filepath.Join(dir, name)
	if len(path) <= maxSocketPath {
		return fn(path)
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	short := filepath.Join("/proc/self/fd", strconv.FormatUint(uint64(d.Fd()), 10))
	if _, err := os.Stat(short); err != nil {
		return fmt.Errorf("%s has %d bytes, and the path of a socket at most %d: give the inbox a shorter one", path, len(path), maxSocketPath)
	}
	return fn(filepath.Join(short, name))
}

// dropSocket ends it until restoreSocket, because the directory is not there any
// more: a socket would keep its disk from being unmounted. It waits for nobody,
// since the writer calls it, for whom others wait.
func (s *Store) dropSocket() {
	s.socket.mu.Lock()
	defer s.socket.mu.Unlock()
	s.socket.drop()
}

func (k *socket) drop() {
	if k.server == nil {
		return
	}
	k.hangUp()
	_ = k.server.Close()
	k.server = nil
}

// restoreSocket makes it again, if the directory does not have it any more.
func (s *Store) restoreSocket() {
	k := &s.socket
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.wanted {
		return
	}
	if _, err := os.Stat(s.files.path(socketName)); err != nil {
		k.drop()
	}
	if err := s.openSocket(); err != nil {
		s.log.Error("the inbox cannot be reached with caddy klavi", "error", err)
	}
}

// closeSocket ends it for good, while the directory is locked.
func (s *Store) closeSocket() {
	k := &s.socket
	k.mu.Lock()
	server := k.server
	k.wanted, k.closed, k.server = false, true, nil
	k.mu.Unlock()
	if server == nil {
		return
	}
	k.hangUp()
	ctx, cancel := context.WithTimeout(context.Background(), hangUpTime)
	defer cancel()
	_ = server.Shutdown(ctx)
	_ = server.Close()
	_ = s.files.remove(s.files.path(socketName))
}
