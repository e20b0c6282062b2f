package demo

import (
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"sync"
	"time"
)

// port is one that the demo is about to open on the loopback interface.
type port struct{ number, variable, what string }

// ports remembers what was looked at: when the config is read once more, to be
// reloaded, the ports are taken by ourselves.
var ports = checker{running: slices.Contains(os.Args[min(1, len(os.Args)):], "run")}

type checker struct {
	// running is false for commands that open nothing, such as adapt and
	// validate, or a reload of a demo that runs.
	running bool

	mu   sync.Mutex
	seen map[string]port
}

// check returns an error if the port cannot be opened because someone has it.
func (c *checker) check(p port) error {
	n, err := strconv.Atoi(p.number)
	if err != nil || n < 1 || n > 65535 {
		return fmt.Errorf("%q is not a port: set %s to a number between 1 and 65535", p.number, p.variable)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if other, ok := c.seen[p.number]; ok {
		if other == p {
			return nil
		}
		return fmt.Errorf("port %s is wanted for %s and for %s: set %s or %s to another",
			p.number, other.what, p.what, other.variable, p.variable)
	}
	if c.running && taken(p.number) {
		return fmt.Errorf("port %s (%s) is taken by another process: end that, or choose another port with %s=<port>",
			p.number, p.what, p.variable)
	}
	if c.seen == nil {
		c.seen = make(map[string]port)
	}
	c.seen[p.number] = p
	return nil
}

// taken reports whether a process listens on that port of the loopback
// interface. Listening alone does not tell on every system.
func taken(number string) bool {
	address := net.JoinHostPort("127.0.0.1", number)
	if conn, err := net.DialTimeout("tcp", address, time.Second); err == nil {
		_ = conn.Close()
		return true
	}
	l, err := net.Listen("tcp", address)
	if err != nil {
		return true
	}
	_ = l.Close()
	return false
}
