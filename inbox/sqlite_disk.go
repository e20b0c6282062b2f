package inbox

import "fmt"

const (
	// What is left of the disk when reports are refused: so much of it, but no
	// more than lowDiskMost. It is there for what must be written to get rid of
	// what is stored, and for everybody else who uses the disk.
	lowDiskPart = 20
	lowDiskMost = 256 << 20
)

// spare is an error if the disk has less left than so many times what is kept
// free.
func (s *sqlite) spare(times int64) error {
	free, total, ok := diskSpace(s.dir)
	if !ok {
		return nil
	}
	if least := times * min(total/lowDiskPart, lowDiskMost); free < least {
		return fmt.Errorf("%w: the disk of %s has %d bytes left: %d are kept free", ErrFull, s.dir, free, least)
	}
	return nil
}
