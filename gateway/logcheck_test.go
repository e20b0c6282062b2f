package gateway

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	_ "github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
)

// loadLog runs Caddy with a default log of that format, which goes to the file
// whose path is returned.
func loadLog(t *testing.T, format string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "caddy.log")
	config, _, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte("{\nadmin off\npersist_config off\nlog {\n"+
		"level DEBUG\noutput file "+path+"\n"+format+"\n}\n}\n"), map[string]any{"filename": "Caddyfile"})
	if err != nil {
		t.Fatal(err)
	}
	if err := caddy.Load(config, true); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := caddy.Stop(); err != nil {
			t.Error(err)
		}
	})
	return path
}

// The encoder may stand in Caddy's other ones or they in it.
var formats = map[string]struct {
	format string
	masks  bool
}{
	"none":            {"", false},
	"json":            {"format json", false},
	"klavi":           {"format klavi", true},
	"console inside":  {"format klavi {\nwrap console\n}", true},
	"filter inside":   {"format klavi {\nwrap filter {\nwrap json\nfields {\ngone delete\n}\n}\n}", true},
	"filter around":   {"format filter {\nwrap klavi {\nwrap json\n}\nfields {\ngone delete\n}\n}", true},
	"append inside":   {"format klavi {\nwrap append {\nwrap json\nfields {\nuser 52998224725\n}\n}\n}", true},
	"append around":   {"format append {\nwrap klavi\nfields {\nuser 52998224725\n}\n}", true},
	"two around":      {"format filter {\nwrap append {\nwrap klavi\nuser 52998224725\n}\nfields {\ngone delete\n}\n}", true},
	"filter, no mask": {"format filter {\nwrap json\nfields {\ngone delete\n}\n}", false},
}

func TestDefaultLogMasks(t *testing.T) {
	for name, tc := range formats {
		t.Run(name, func(t *testing.T) {
			path := loadLog(t, tc.format)
			if got := DefaultLogMasks(); got != tc.masks {
				t.Errorf("got %v, want %v", got, tc.masks)
			}
			caddy.Log().With(leakyFields()[:8]...).Debug("for 52998224725", leakyFields()[8:]...)
			log := readLog(t, path)
			if strings.Contains(log, "probe") {
				t.Errorf("the check was logged: %s", log)
			}
			if found := leaked(log); (found != "") == tc.masks {
				t.Errorf("got %q in the log, want that to be masked: %v: %s", found, tc.masks, log)
			}
			if !strings.Contains(log, "for ") {
				t.Errorf("the line is not in the log: %s", log)
			}
		})
	}
}
