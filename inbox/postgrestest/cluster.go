package postgrestest

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
)

const (
	superuser         = "postgres"
	superuserPassword = "a-password-of-the-superuser"

	dataName = "data"
	missing  = "left out: there is no PostgreSQL server on this machine: apt-get install postgresql"
)

// theCluster is what all servers of this process begin as. It is made once, when the
// first test asks for a server: that takes a second or two.
var theCluster cluster

type cluster struct {
	main   bool // Main sees to it that nothing is left behind
	once   sync.Once
	err    error
	bin    string // the directory of the programs
	owner  *owner // nil is the user of this process
	dir    string
	number atomic.Int64
}

var errMissing = errors.New(missing)

// needCluster returns the cluster, or ends the test.
func needCluster(t testing.TB) *cluster {
	t.Helper()
	c := &theCluster
	if !c.main {
		t.Fatal("the TestMain of this package does not run its tests with postgrestest.Main")
	}
	c.once.Do(func() { c.err = c.create() })
	if errors.Is(c.err, errMissing) {
		t.Skip(missing)
	}
	if c.err != nil {
		t.Fatal(c.err)
	}
	return c
}

func (c *cluster) create() (err error) {
	if c.bin = findPrograms(); c.bin == "" {
		return errMissing
	}
	if c.owner, err = findOwner(); err != nil {
		return err
	}
	// A path to a socket has room for a hundred bytes: t.TempDir is too long.
	if c.dir, err = os.MkdirTemp("", "postgrestest"); err != nil {
		return err
	}
	password := filepath.Join(c.dir, "password")
	if err := os.WriteFile(password, []byte(superuserPassword), 0o600); err != nil {
		return err
	}
	if err := c.own(c.dir); err != nil {
		return err
	}
	cmd := exec.Command(c.program("initdb"), "--pgdata", filepath.Join(c.dir, dataName), "--username", superuser, "--pwfile", password,
		"--auth", "scram-sha-256", "--encoding", "UTF8", "--locale", "C", "--no-sync")
	cmd.Dir = c.dir
	become(cmd, c.owner)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("initdb: %w\n%s", err, out)
	}
	return nil
}

func (c *cluster) program(name string) string { return filepath.Join(c.bin, name) }

func (c *cluster) newDir() string {
	return filepath.Join(c.dir, strconv.FormatInt(c.number.Add(1), 10))
}

// copyTo copies the cluster to a new directory, which is much faster than initdb.
func (c *cluster) copyTo(dir string) error {
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	if out, err := exec.Command("cp", "-R", "-p", filepath.Join(c.dir, dataName), dir).CombinedOutput(); err != nil {
		return fmt.Errorf("copying the cluster: %w\n%s", err, out)
	}
	return nil
}

// own gives a directory and all in it to the user who runs the server.
func (c *cluster) own(dir string) error {
	if c.owner == nil {
		return nil
	}
	if out, err := exec.Command("chown", "-R", fmt.Sprintf("%d:%d", c.owner.uid, c.owner.gid), dir).CombinedOutput(); err != nil {
		return fmt.Errorf("giving the cluster to its user: %w\n%s", err, out)
	}
	return nil
}

// findPrograms returns the directory that has the server: that of the one in PATH,
// or Debian's newest.
func findPrograms() string {
	if path, err := exec.LookPath("postgres"); err == nil {
		if path, err = filepath.EvalSymlinks(path); err == nil {
			return filepath.Dir(path)
		}
	}
	servers, _ := filepath.Glob("/usr/lib/postgresql/*/bin/postgres")
	var newest string
	var highest float64
	for _, path := range servers {
		dir := filepath.Dir(path)
		version, err := strconv.ParseFloat(filepath.Base(filepath.Dir(dir)), 64)
		if err == nil && version > highest {
			newest, highest = dir, version
		}
	}
	return newest
}
