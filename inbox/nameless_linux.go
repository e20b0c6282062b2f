package inbox

import (
	"os"
	"syscall"
)

// oTmpfile is O_TMPFILE of Linux, which package syscall does not have.
const oTmpfile = 0o20000000 | syscall.O_DIRECTORY

// nameless makes a file that never has a name, so that nothing is left of it
// whatever happens. Not every file system can.
func nameless(dir string) (*os.File, bool) {
	fd, err := syscall.Open(dir, oTmpfile|syscall.O_RDWR|syscall.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, false
	}
	return os.NewFile(uintptr(fd), ""), true
}
