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
	server := postgrestest.Start(t)
	// It does not fall down here: what only costs time is left out.
	server.Set(t, "fsync", "off")
	server.Set(t, "full_page_writes", "off")
	url := server.Database(t)
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), exe, "-test.timeout=10m", "-test.parallel=8") // they wait for the server most of the time
	cmd.Env = append(os.Environ(), "INBOX_TEST_POSTGRES="+url)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
