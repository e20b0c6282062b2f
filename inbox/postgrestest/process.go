package postgrestest

import (
	"errors"
	"os/exec"
	"runtime"
	"time"
)

// process is a server that runs.
type process struct {
	cmd  *exec.Cmd
	done chan struct{} // closed when it has ended
}

// owner is the user who runs the servers.
type owner struct{ uid, gid uint32 }

// run starts a server that dies with this process.
func run(cmd *exec.Cmd, o *owner) (*process, error) {
	become(cmd, o)
	dieWithParent(cmd)
	p := &process{cmd: cmd, done: make(chan struct{})}
	started := make(chan error)
	go func() {
		// To Linux, the parent is the thread: it has to live as long.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait()
			close(p.done)
		}
	}()
	return p, <-started
}

// end ends the server, and returns when it has ended.
func (p *process) end(how ending) error {
	if err := p.signal(how); err != nil {
		return err
	}
	select {
	case <-p.done:
		return nil
	case <-time.After(patience):
		_ = p.signal(sigKillAll)
		return errors.New("the PostgreSQL server did not end")
	}
}

// ending is a way in which a server ends.
type ending int

const (
	sigInt     ending = iota // in order: it ends its connections and writes all down
	sigQuit                  // at once: it ends its connections, and recovers when it is back
	sigKillAll               // killed, all processes of it
)
