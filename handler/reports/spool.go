package reports

import (
	"io"
	"os"
)

// spool is where a body goes that is too large for memory.
type spool interface {
	io.Writer
	// open returns the body from its first byte, once it is written.
	open() (io.ReadCloser, error)
	// discard gives up what is there.
	discard()
}

// tempFile is a file without a name, where the system can have one.
type tempFile struct {
	file     *os.File
	size     int64
	unlinked bool
}

func newTempFile(dir string) (*tempFile, error) {
	file, err := os.CreateTemp(dir, "klavi-report-*")
	if err != nil {
		return nil, err
	}
	return &tempFile{file: file, unlinked: os.Remove(file.Name()) == nil}, nil
}

func (f *tempFile) Write(p []byte) (int, error) {
	n, err := f.file.Write(p)
	f.size += int64(n)
	return n, err
}

func (f *tempFile) open() (io.ReadCloser, error) {
	return io.NopCloser(io.NewSectionReader(f.file, 0, f.size)), nil
}

func (f *tempFile) discard() {
	_ = f.file.Close()
	if !f.unlinked {
		_ = os.Remove(f.file.Name())
	}
}
