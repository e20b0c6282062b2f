// Command report-service is a service that takes reports from klavi_reports: it
// answers 200 when a report is on its disk, has one that comes twice once, and takes
// no more of a consent that it was told to forget. README.md says how to try it.
package main

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"flag"
	"io"
	"io/fs"
	"log"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"time"
)

func main() {
	listen := flag.String("listen", "127.0.0.1:9095", "address; for the gateway only, since nobody is asked who they are")
	dir := flag.String("dir", "bin/report-service", "directory in which reports are kept")
	flag.Parse()
	s, err := newService(*dir)
	if err != nil {
		log.Fatal(err)
	}
	// A body of 64 MiB has time to arrive, before the timeout of its route (1m) ends.
	server := &http.Server{Addr: *listen, Handler: s.handler(), ReadTimeout: 50 * time.Second}
	log.Printf("taking reports at http://%s/reports, keeping them in %s", *listen, *dir)
	log.Fatal(server.ListenAndServe())
}

var errForgotten = errors.New("what is of this consent was deleted here")

// service keeps each report in a file.
type service struct {
	reports, forgotten string
	mu                 sync.Mutex // no report gets its name while its consent is forgotten
}

func newService(dir string) (*service, error) {
	s := &service{reports: filepath.Join(dir, "reports"), forgotten: filepath.Join(dir, "forgotten")}
	return s, errors.Join(os.MkdirAll(s.reports, 0o700), os.MkdirAll(s.forgotten, 0o700), syncDir(dir))
}

func (s *service) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /reports", s.take)
	mux.HandleFunc("DELETE /consents/{id}", s.delete)
	return mux
}

// take takes a report or an array of events. Whatever it answers but 2xx and 410, the
// gateway has the report and delivers it again.
func (s *service) take(w http.ResponseWriter, r *http.Request) {
	id := r.Header.Get("Idempotency-Key")
	if id == "" {
		http.Error(w, "Idempotency-Key is missing: it is not the gateway that sends this", http.StatusBadRequest)
		return
	}
	var consents []string // of a report: events say nothing about anybody's money
	if r.Header.Get("Klavi-Report-Type") != "" {
		consents = names(strings.Split(r.Header.Get("Klavi-Consent-Id"), ","))
	}
	body := http.MaxBytesReader(w, r.Body, 64<<20) // max_body of klavi_reports
	switch err := s.keep(body, id, consents); {
	case err == nil:
		w.WriteHeader(http.StatusOK)
	case errors.Is(err, errForgotten):
		http.Error(w, err.Error(), http.StatusGone) // never: the gateway lists it as dead
	default:
		log.Print(err)
		w.Header().Set("Retry-After", "30")
		http.Error(w, "it cannot be kept at the moment", http.StatusServiceUnavailable)
	}
}

// keep returns nil when a report is on disk. A report that comes again gets the name
// that it has: that of its id and its bytes. Another one under the same id
// (Klavi-Report-Conflict) gets a name of its own.
func (s *service) keep(body io.Reader, id string, consents []string) error {
	f, err := os.CreateTemp(filepath.Dir(s.reports), "arriving-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // unless it was renamed
	defer f.Close()
	hash := sha256.New()
	_, err = io.Copy(io.MultiWriter(f, hash), body)
	if err = errors.Join(err, f.Sync()); err != nil {
		return err
	}
	hash.Write([]byte(id))
	name := strings.Join(append(consents, hex.EncodeToString(hash.Sum(nil))), "_")

	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range consents {
		if _, err := os.Stat(filepath.Join(s.forgotten, c)); !errors.Is(err, fs.ErrNotExist) {
			return errors.Join(errForgotten, err)
		}
	}
	if err := os.Rename(f.Name(), filepath.Join(s.reports, name)); err != nil {
		return err
	}
	return syncDir(s.reports)
}

// delete removes the reports of a consent, and has none taken that still come.
func (s *service) delete(w http.ResponseWriter, r *http.Request) {
	id := names([]string{r.PathValue("id")})
	if len(id) == 0 {
		http.Error(w, "this is no id of a consent", http.StatusBadRequest)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	err := errors.Join(os.MkdirAll(filepath.Join(s.forgotten, id[0]), 0o700), syncDir(s.forgotten))
	files, _ := filepath.Glob(filepath.Join(s.reports, "*"+id[0]+"_*"))
	for _, file := range files {
		err = errors.Join(err, os.Remove(file))
	}
	if err = errors.Join(err, syncDir(s.reports)); err != nil {
		log.Print(err)
		http.Error(w, "not all of it could be deleted: try again", http.StatusServiceUnavailable)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

var isName = regexp.MustCompile(`^[A-Za-z0-9-]{8,64}$`).MatchString

// names returns the ids that can be part of a file's name, as Klavi's can.
func names(ids []string) (list []string) {
	for _, id := range ids {
		if isName(id) {
			list = append(list, id)
		}
	}
	return list
}

// syncDir has the names in a directory survive a power cut.
func syncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
