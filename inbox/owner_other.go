//go:build !unix

package inbox

// stranger is not known here.
func (f *files) stranger() (string, error) { return "", nil }
