package main

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// profile loads each face of Caddy's once more, and writes where its process
// spends the time.
func (h *house) profile(l *load, groups []group, o options) error {
	if err := os.MkdirAll(o.profile, 0o755); err != nil {
		return err
	}
	seconds := max(1, int(o.duration/time.Second))
	for i, g := range groups {
		for _, f := range g.faces {
			if f.name == "nginx" {
				continue
			}
			admin := h.names["admin"]
			if f == g.faces[0] {
				admin = h.names["plainAdmin"]
			}
			path := filepath.Join(o.profile, fmt.Sprintf("%d-%s.pprof", i+1, strings.Trim(f.name, "`")))
			saved := make(chan error, 1)
			go func() { saved <- h.saveProfile(path, admin, seconds) }()
			_, err := l.run(f, time.Duration(seconds)*time.Second+500*time.Millisecond)
			if err := errors.Join(err, <-saved); err != nil {
				return err
			}
			progress("wrote %s", path)
		}
	}
	return nil
}

func (h *house) saveProfile(path, admin string, seconds int) error {
	res, err := http.Get(fmt.Sprintf("http://%s/debug/pprof/profile?seconds=%d", admin, seconds))
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("profiling Caddy: %s", res.Status)
	}
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	_, err = io.Copy(file, res.Body)
	return errors.Join(err, file.Close())
}
