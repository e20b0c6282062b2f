package postgrestest

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// The test binary is its own second process: with this in the environment, TestChild
// starts servers and ends in the way that it says.
const childEnv = "POSTGRESTEST_CHILD"

func TestChild(t *testing.T) {
	how := os.Getenv(childEnv)
	if how == "" {
		t.Skip("other tests run this one")
	}
	shared := Shared(t)
	shared.Database(t)
	for _, s := range []*Server{shared, Start(t)} {
		fmt.Println("server", s.process.cmd.Process.Pid, s.dir)
	}
	switch how {
	case "killed":
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {}
	case "failed":
		t.Error("it was asked to")
	}
}

// The servers end with the process, whether it ends or is killed. Unless it is killed,
// no file is left.
func TestProcess(t *testing.T) {
	needCluster(t)
	for _, how := range []string{"passed", "failed", "killed"} {
		t.Run(how, func(t *testing.T) {
			if how == "killed" && runtime.GOOS != "linux" {
				t.Skip("servers only die with their parent on Linux")
			}
			cmd := exec.Command(os.Args[0], "-test.run", "^TestChild$")
			cmd.Env = append(os.Environ(), childEnv+"="+how)
			stdout, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			var pids []int
			var dirs []string
			var log strings.Builder
			for lines := bufio.NewScanner(stdout); lines.Scan(); {
				log.WriteString(lines.Text() + "\n")
				var pid int
				var dir string
				if n, _ := fmt.Sscanf(lines.Text(), "server %d %s", &pid, &dir); n == 2 {
					pids, dirs = append(pids, pid), append(dirs, dir)
				}
			}
			err = cmd.Wait()
			if len(pids) != 2 {
				t.Fatalf("got %d servers and %v, want 2: %s", len(pids), err, log.String())
			}
			defer os.RemoveAll(filepath.Dir(dirs[0]))
			for _, pid := range pids {
				eventually(t, "server "+strconv.Itoa(pid)+" to end", func() bool { return !alive(pid) })
			}
			if want := map[string]string{"passed": "exit status 0", "failed": "exit status 1", "killed": "signal: killed"}[how]; cmd.ProcessState.String() != want {
				t.Errorf("got %s, want %s", cmd.ProcessState, want)
			}
			if got := strings.Contains(log.String(), "database system is ready"); got != (how == "failed") {
				t.Errorf("got the log of the server %v, want it when a test fails only: %s", got, log.String())
			}
			if _, err := os.Stat(filepath.Dir(dirs[0])); how != "killed" && !os.IsNotExist(err) {
				t.Errorf("got %v, want no files left", err)
			}
		})
	}
}

// alive tells whether a process is there. One that has ended may wait for init to
// notice.
func alive(pid int) bool {
	if err := syscall.Kill(pid, 0); errors.Is(err, syscall.ESRCH) {
		return false
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err != nil && runtime.GOOS != "linux" || err == nil && !strings.Contains(string(stat), ") Z ")
}
