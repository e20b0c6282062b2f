//go:build !unix

package postgrestest

import "os/exec"

// No test has a server here.
func findOwner() (*owner, error) { return nil, errMissing }

func become(*exec.Cmd, *owner) {}

func dieWithParent(*exec.Cmd) {}

func (p *process) signal(ending) error { return p.cmd.Process.Kill() }
