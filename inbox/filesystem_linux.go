package inbox

import (
	"fmt"
	"log/slog"
	"syscall"
)

// From linux/magic.h. On those of other machines, neither locks nor the shared
// memory of SQLite's log can be relied upon.
var networkFileSystems = map[int64]string{
	0x6969:     "NFS",
	0x517b:     "SMB",
	0xff534d42: "CIFS",
	0xfe534d42: "SMB",
	0x01021997: "9p",
	0x5346414f: "AFS",
	0x00c36400: "Ceph",
	0x7461636f: "OCFS2",
	0x01161970: "GFS2",
	0x0bd00bd0: "Lustre",
}

// What is in them goes with the container or the machine.
var passingFileSystems = map[int64]string{
	0x794c7630: "a container's own layer (overlayfs)",
	0x01021994: "memory (tmpfs)",
	0x858458f6: "memory (ramfs)",
}

func checkFileSystem(dir string, log *slog.Logger) error {
	var st syscall.Statfs_t
	if err := syscall.Statfs(dir, &st); err != nil {
		return fmt.Errorf("%w: %s: %w", ErrUnavailable, dir, err)
	}
	return judgeFileSystem(dir, int64(st.Type)&0xffffffff, log) //nolint:unconvert // its type differs between processors
}

func judgeFileSystem(dir string, kind int64, log *slog.Logger) error {
	if name := networkFileSystems[kind]; name != "" {
		return fmt.Errorf("%w: %s is on a network file system (%s): it must be on a disk of this machine", ErrUnavailable, dir, name)
	}
	if name := passingFileSystems[kind]; name != "" {
		log.Warn("the inbox is not on a disk: reports that wait are lost with it", "dir", dir, "file_system", name)
	}
	return nil
}
