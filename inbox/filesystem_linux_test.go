package inbox

import (
	"errors"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
)

func TestFileSystems(t *testing.T) {
	onlySQLite(t)
	for _, test := range []struct {
		kind   int64
		refuse string
		warn   string
	}{
		{0xef53, "", ""},     // ext4
		{0x58465342, "", ""}, // XFS
		{0x6969, "(NFS)", ""},
		{0xfe534d42, "(SMB)", ""},
		{0x01021994, "", "memory (tmpfs)"},
		{0x794c7630, "", "overlayfs"},
	} {
		log := new(logBuffer)
		err := judgeFileSystem("/inbox", test.kind, slog.New(slog.NewTextHandler(log, nil)))
		switch {
		case test.refuse == "" && err != nil, test.refuse != "" && (!errors.Is(err, ErrUnavailable) || !strings.Contains(err.Error(), test.refuse)):
			t.Errorf("%#x: got %v, want %q", test.kind, err, test.refuse)
		}
		if got := log.String(); test.warn == "" && got != "" || !strings.Contains(got, test.warn) {
			t.Errorf("%#x: got %q logged, want %q", test.kind, got, test.warn)
		}
	}
}

// Somebody who mounts nothing for a container gets told before reports are lost.
func TestWarnsOfMemory(t *testing.T) {
	onlySQLite(t)
	o, log := quietOptions(filepath.Join(newTmpfs(t, "size=8m"), "inbox"))
	openTest(t, o)
	if !strings.Contains(log.String(), "reports that wait are lost with it") {
		t.Errorf("got %q, want a warning", log)
	}
}
