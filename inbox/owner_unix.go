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

// stranger returns the user that the database belongs to, if it is another.
func (f *files) stranger() (string, error) {
	info, err := os.Stat(f.path(dbName))
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok || int(stat.Uid) == os.Geteuid() {
		return "", nil
	}
	id := strconv.Itoa(int(stat.Uid))
	if owner, err := user.LookupId(id); err == nil {
		return owner.Username, nil
	}
	return "uid " + id, nil
}
