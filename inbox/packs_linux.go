package inbox

import (
	"errors"
	"os"
	"syscall"
)

// uncached has a file written to past the cache of the file system. That takes half
// the time, where memory and places in the file are whole pages.
const uncached = syscall.O_DIRECT

// The flags of fallocate that package syscall does not have.
const (
	keepSize  = 1
	punchHole = 2
)

// deallocate gives a part of a file back to the disk. It is read as zeros then.
func deallocate(f *os.File, at, size int64) error {
	for {
		err := syscall.Fallocate(int(f.Fd()), punchHole|keepSize, at, size)
		if !errors.Is(err, syscall.EINTR) {
			return err
		}
	}
}

// pages returns memory of whole pages.
func pages(n int) ([]byte, error) {
	return syscall.Mmap(-1, 0, n, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_ANON|syscall.MAP_PRIVATE)
}

func freePages(b []byte) { _ = syscall.Munmap(b[:cap(b)]) }
