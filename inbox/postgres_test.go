package inbox

import (
	"os"
	"os/exec"
	"testing"

	"github.com/caddy-klavi/caddy-klavi/inbox/postgrestest"
)

// The tests of what both engines share run over PostgreSQL, too, in a process of
// their own: all but those that onlySQLite leaves out.
func TestOnPostgres(t *testing.T) {
	if testDatabase != "" {
		t.Skip("this is it")
	}
	url := postgrestest.Start(t).Database(t)
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), exe, "-test.timeout=10m")
	cmd.Env = append(os.Environ(), "INBOX_TEST_POSTGRES="+url)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
