//go:build unix

package inbox

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"strconv"
	"syscall"
)

// ours returns an error if the database belongs to another user.
func (f *files) ours() error {
	info, err := os.Stat(f.path(dbName))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok || int(stat.Uid) == os.Geteuid() {
		return nil
	}
	name := "uid " + strconv.Itoa(int(stat.Uid))
	if owner, err := user.LookupId(strconv.Itoa(int(stat.Uid))); err == nil {
		name = owner.Username
	}
	return fmt.Errorf("%w: the inbox in %s belongs to another user: do this as %s", ErrUnavailable, f.dir, name)
}
