//go:build !linux

package inbox

import "log/slog"

// checkFileSystem cannot tell here what dir is on.
func checkFileSystem(string, *slog.Logger) error { return nil }
