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

// looked remembers which ports were looked at: when the config is read once
// more, to be reloaded, they are taken by ourselves.
var looked = lookout{running: slices.Contains(os.Args[min(1, len(os.Args)):], "run")}

type lookout struct {
	// running is false for commands that open nothing, such as adapt and
	// validate, or a reload of a demo that runs.
	running bool

	mu   sync.Mutex
	seen map[string]bool
}

// taken reports whether somebody else has the port.
func (l *lookout) taken(number string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.running || l.seen[number] {
		return false
	}
	if taken(number) {
		return true
	}
	if l.seen == nil {
		l.seen = make(map[string]bool)
	}
	l.seen[number] = true
	return false
}

// checkPorts returns an error if one of the ports cannot be opened.
func checkPorts(list []port, l *lookout) error {
	wanted := make(map[string]port)
	for _, p := range list {
		n, err := strconv.Atoi(p.number)
		if err != nil || n < 1 || n > 65535 {
			return fmt.Errorf("%q is not a port: set %s to a number between 1 and 65535", p.number, p.variable)
		}
		if other, ok := wanted[p.number]; ok {
			return fmt.Errorf("port %s is wanted for %s and for %s: set %s or %s to another",
				p.number, other.what, p.what, other.variable, p.variable)
		}
		wanted[p.number] = p
		if l.taken(p.number) {
			return fmt.Errorf("port %s (%s) is taken by another process: end that, or choose another port with %s=<port>",
				p.number, p.what, p.variable)
		}
	}
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
