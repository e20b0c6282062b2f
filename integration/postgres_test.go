package integration

import (
	"crypto/sha256"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddy-klavi/caddy-klavi/inbox/postgrestest"
)

// inDatabase is a gateway with its inbox in the database of TEST_DATABASE.
var inDatabase = strings.Replace(faces, "klavi_timeout 2s", `klavi_timeout 2s
		inbox {
			postgres {env.TEST_DATABASE}
			encryption_key {env.TEST_KEY}
		}`, 1)

// A gateway whose inbox is in a database delivers across reloads, and when the
// database was away. Nothing of its password is said anywhere.
func TestInboxInDatabase(t *testing.T) {
	server := postgrestest.Start(t)
	url := server.Database(t)
	t.Setenv("TEST_SECRET_KEY", testSecret)
	t.Setenv("TEST_KEY", strings.Repeat("5ea1ed00", 8))
	t.Setenv("TEST_DATABASE", url)
	g := startAlone(t)
	reportOf := func(id string) string {
		return fmt.Sprintf(`{"productName":"pf_checking_account","productReportId":"%s"}`, id)
	}
	taken := []string{reportOf("when-it-is-back")}
	for i := range 5 {
		if err := g.load(inDatabase + fmt.Sprintf("# reload %d\n", i)); err != nil {
			t.Fatal(err)
		}
		report := reportOf(fmt.Sprintf("report-%d", i))
		g.want(g.report(report), 200, "")
		taken = append(taken, report)
	}
	server.Stop(t)
	g.want(g.report(reportOf("while-it-is-away")), 503, "busy")
	server.Restart(t)
	g.eventually("reports to be taken again", func() bool { return g.report(taken[0]).status == 200 })
	g.eventually("all reports at their upstream", func() bool {
		g.mu.Lock()
		defer g.mu.Unlock()
		for _, report := range taken {
			if !g.accepted[sha256.Sum256([]byte(report))] {
				return false
			}
		}
		return true
	})
	// A database that lets nobody in.
	wrong := strings.Replace(url, postgrestest.Password, "another-"+postgrestest.Password, 1)
	t.Setenv("TEST_DATABASE", strings.Replace(wrong, "/test_", "/nope_", 1))
	if err := g.load(inDatabase); err != nil {
		t.Fatal(err)
	}
	g.want(g.report(reportOf("nowhere")), 503, "busy")

	for _, path := range []string{"/config/", "/metrics"} {
		wantNowhere(t, path, g.do("GET", g.url("admin", path), "").body, postgrestest.Password)
	}
	logs, err := filepath.Glob(g.logs + "*")
	if err != nil || len(logs) == 0 {
		t.Fatalf("found the logs %v and %v", logs, err)
	}
	for _, log := range logs {
		text := readFile(t, log)
		for what, times := range map[string]int{
			"the database of the inbox cannot be used": 1, "the database of the inbox can be used again": 1, "the inbox cannot be opened": 1,
		} {
			if n := strings.Count(text, what); n != times {
				t.Errorf("got %q %d times in %s, want it %d times", what, n, log, times)
			}
		}
		wantNowhere(t, log, text, postgrestest.Password)
	}
}
