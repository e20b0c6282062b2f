//go:build unix

package main

import (
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
)

// database is a PostgreSQL server that is thrown away at the end.
type database struct {
	*process
	dir string
	url string
}

// startDatabase starts one on the loopback interface.
func startDatabase(dir string) (*database, error) {
	bin := programs()
	if bin == "" {
		return nil, errors.New("there is no PostgreSQL: apt-get install postgresql, or name a database of yours, such as " +
			"KLAVI_DATABASE_URL=postgres://user:password@127.0.0.1:5432/klavi?sslmode=disable; it gets a schema klavi")
	}
	as, err := notRoot()
	if err != nil {
		return nil, err
	}
	// It has a folder of its own, which is that of its user.
	home, err := os.MkdirTemp("", "fleet-postgres")
	if err != nil {
		return nil, err
	}
	db := &database{dir: home}
	if err := db.begin(dir, bin, as); err != nil {
		db.end(syscall.SIGINT)
		return nil, err
	}
	return db, nil
}

func (db *database) begin(dir, bin string, as *syscall.Credential) error {
	password, data, file := rand.Text(), filepath.Join(db.dir, "data"), filepath.Join(db.dir, "password")
	if err := os.WriteFile(file, []byte(password), 0o600); err != nil {
		return err
	}
	if as != nil {
		if err := errors.Join(os.Chown(db.dir, int(as.Uid), int(as.Gid)), os.Chown(file, int(as.Uid), int(as.Gid))); err != nil {
			return err
		}
	}
	run := func(name string, args ...string) *exec.Cmd {
		cmd := exec.Command(filepath.Join(bin, name), args...)
		cmd.Dir, cmd.SysProcAttr = db.dir, &syscall.SysProcAttr{Credential: as}
		return cmd
	}
	out, err := run("initdb", "--pgdata", data, "--username", "klavi", "--pwfile", file, "--auth", "scram-sha-256", "--encoding", "UTF8", "--locale", "C").CombinedOutput()
	if err != nil {
		return fmt.Errorf("initdb: %w\n%s", err, out)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	_, port, _ := net.SplitHostPort(l.Addr().String())
	_ = l.Close()
	db.process, err = start(filepath.Join(dir, "postgres.log"), run("postgres", "-D", data, "-p", port, "-h", "127.0.0.1", "-k", db.dir))
	if err != nil {
		return err
	}
	db.url = "postgres://klavi:" + password + "@127.0.0.1:" + port + "/postgres?sslmode=disable"
	for {
		if conn, err := net.Dial("tcp", "127.0.0.1:"+port); err == nil {
			return conn.Close() // gateways wait for the rest
		}
		select {
		case <-db.done:
			return db.failed()
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// end ends the server, and removes all that it had.
func (db *database) end(how syscall.Signal) {
	db.process.end(how)
	_ = os.RemoveAll(db.dir)
}

// programs returns the directory of PostgreSQL's programs: Debian has them in none of
// PATH.
func programs() string {
	if path, err := exec.LookPath("initdb"); err == nil {
		return filepath.Dir(path)
	}
	var newest string
	highest := 0
	paths, _ := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	for _, path := range paths {
		bin := filepath.Dir(path)
		if version, _ := strconv.Atoi(filepath.Base(filepath.Dir(bin))); version > highest {
			newest, highest = bin, version
		}
	}
	return newest
}

// notRoot returns whom the server is run as if this is root, as whom it does not run.
func notRoot() (*syscall.Credential, error) {
	if os.Geteuid() != 0 {
		return nil, nil //nolint:nilnil // nobody else has to
	}
	u, err := user.Lookup("postgres")
	if err != nil {
		return nil, fmt.Errorf("PostgreSQL does not run as root: %w", err)
	}
	uid, err1 := strconv.ParseUint(u.Uid, 10, 32)
	gid, err2 := strconv.ParseUint(u.Gid, 10, 32)
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, errors.Join(err1, err2)
}
