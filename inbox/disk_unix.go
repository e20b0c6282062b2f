//go:build linux || darwin

package inbox

import "syscall"

// diskSpace returns what is free on the disk of dir for this process, and how
// large it is.
func diskSpace(dir string) (free, total int64, ok bool) {
	var st syscall.Statfs_t
	if err := syscall.Statfs(dir, &st); err != nil || st.Blocks == 0 {
		return 0, 0, false
	}
	size := int64(st.Bsize)                                       //nolint:unconvert // its type differs between systems
	return int64(st.Bavail) * size, int64(st.Blocks) * size, true //nolint:gosec // no disk is that large
}
