//go:build unix

package postgrestest

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"strconv"
	"syscall"
)

// findOwner returns who is to run the server in place of root, as whom PostgreSQL
// does not run.
func findOwner() (*owner, error) {
	if os.Geteuid() != 0 {
		return nil, nil //nolint:nilnil // nobody else has to
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, err := strconv.ParseUint(u.Uid, 10, 32)
		if err != nil {
			return nil, err
		}
		gid, err := strconv.ParseUint(u.Gid, 10, 32)
		return &owner{uid: uint32(uid), gid: uint32(gid)}, err
	}
	return nil, errors.New("PostgreSQL does not run as root, and there is neither a user postgres nor nobody")
}

// become has a command run as the owner.
func become(cmd *exec.Cmd, o *owner) {
	cmd.SysProcAttr = &syscall.SysProcAttr{}
	if o != nil {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: o.uid, Gid: o.gid}
	}
}

// signal begins to end the server.
func (p *process) signal(how ending) error {
	pid := p.cmd.Process.Pid
	var err error
	switch how {
	case sigInt:
		err = syscall.Kill(pid, syscall.SIGINT)
	case sigQuit:
		err = syscall.Kill(pid, syscall.SIGQUIT)
	case sigKillAll:
		// Its processes are sessions of their own: there is no group to be killed. It
		// is halted first, so that it neither starts another nor sees them die.
		_ = syscall.Kill(pid, syscall.SIGSTOP)
		for _, child := range children(pid) {
			_ = syscall.Kill(child, syscall.SIGKILL)
		}
		err = syscall.Kill(pid, syscall.SIGKILL)
	}
	if err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("signal to the PostgreSQL server: %w", err)
	}
	return nil
}
