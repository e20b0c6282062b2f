package inbox

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"github.com/google/uuid"
)

// What a database is called while it is made from a damaged one, and when it is
// complete. From then on it is the inbox, whatever happens.
const (
	salvageName  = dbName + ".new"
	salvagedName = dbName + ".salvaged"
)

// How sure it is that a row is the newest with its id.
const (
	rankOld = iota // an earlier version of a page that is damaged now
	rankRaw
	rankFound
)

// salvager makes a database from the pages of another.
type salvager struct {
	s       *sqlite
	db      *os.File // nil: only the log
	pages   uint32
	log     *walLog
	newest  map[uint32][]int // the sound frames of a page, the newest last
	carver  *carver
	ranks   map[*carveTable]map[int64]int
	uids    map[string]int64
	lost    int // rows that could not be read
	version []byte
	canary  []byte
}

// salvage makes a new database from a damaged one, without what cannot be read.
// The damaged one is kept. If it returns an error, nothing has changed.
func (s *sqlite) salvage(ctx context.Context, why error) error {
	s.log.Error("the database of the inbox is damaged: what can be read goes to a new one", "dir", s.dir, "error", why)
	path := s.files.path(salvageName)
	if err := s.removeDatabase(path); err != nil {
		return failure(err)
	}
	w, err := newWriter(path)
	if err != nil {
		return failure(err)
	}
	err = s.fill(ctx, w)
	if err == nil {
		err = w.checkpoint()
	}
	if err = errors.Join(err, w.close()); err != nil {
		return failure(errors.Join(err, s.removeDatabase(path)))
	}
	if err := os.Rename(path, s.files.path(salvagedName)); err != nil {
		return failure(err)
	}
	if err := syncDir(s.dir); err != nil {
		return failure(err)
	}
	s.salvaged = true
	return failure(s.finishSalvage())
}

// finishSalvage puts a new database that is complete in the place of the old
// one.
func (s *sqlite) finishSalvage() error {
	salvaged := s.files.path(salvagedName)
	if _, err := os.Stat(salvaged); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	}
	if err := s.files.makeDamaged(); err != nil {
		return err
	}
	s.salvaged = true
	kept := s.files.path(damagedName, dbName+"-"+strconv.FormatInt(s.milli(), 10))
	path := s.files.path(dbName)
	for _, suffix := range []string{"-wal", ""} {
		if err := os.Rename(path+suffix, kept+suffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	if err := errors.Join(syncDir(s.files.path(damagedName)), s.files.remove(path+"-shm")); err != nil {
		return err
	}
	if err := os.Rename(salvaged, path); err != nil {
		return err
	}
	s.log.Error("the damaged database of the inbox was set aside", "file", kept)
	return syncDir(s.dir)
}

func (s *sqlite) removeDatabase(path string) error {
	return errors.Join(s.files.remove(path), s.files.remove(path+"-wal"), s.files.remove(path+"-shm"))
}

// fill writes what can be read to an empty database.
func (s *sqlite) fill(ctx context.Context, w *writer) error {
	path := s.files.path(dbName)
	log, err := readLog(path + "-wal")
	if err != nil {
		return err
	}
	db, err := os.Open(path)
	if err != nil {
		return err
	}
	defer db.Close()
	sv, err := s.newSalvager(ctx, db, log)
	if err != nil {
		return err
	}
	if err := w.transact([]*op{{fn: createTables}}); err != nil {
		return err
	}
	if err := sv.all(ctx, w); err != nil {
		return err
	}
	if err := sv.checkKey(w); err != nil {
		return err
	}
	return w.transact([]*op{{fn: s.begin}, {fn: func(t *tx) error { return s.mend(t, sv) }}})
}

// adoptTail takes over what stands in the log behind the place where SQLite has
// stopped to read. The log is kept.
func (s *sqlite) adoptTail(ctx context.Context, log *walLog) error {
	sv, err := s.newSalvager(ctx, nil, log)
	if err != nil {
		return err
	}
	s.log.Error("the log of the inbox goes on behind a place that cannot be read: what is found there is taken over", "dir", s.dir,
		"read", log.valid, "behind", len(log.frames)-log.valid)
	if err := sv.all(ctx, s.w); err != nil {
		return err
	}
	s.salvaged = true
	return s.w.transact([]*op{{fn: func(t *tx) error { return s.mend(t, sv) }}})
}

// newSalvager reads a database and its log, or without one only that part of the
// log that SQLite does not read.
func (s *sqlite) newSalvager(ctx context.Context, db *os.File, log *walLog) (*salvager, error) {
	sv := &salvager{
		s: s, db: db, log: log, newest: make(map[uint32][]int),
		ranks: make(map[*carveTable]map[int64]int), uids: make(map[string]int64),
	}
	for i, f := range log.frames {
		if f.sound {
			sv.newest[f.page] = append(sv.newest[f.page], i)
		}
	}
	if db != nil {
		info, err := db.Stat()
		if err != nil {
			return nil, err
		}
		sv.pages = uint32((info.Size() + pageSize - 1) / pageSize) //nolint:gosec // 16 TiB
	}
	var err error
	sv.carver, err = newCarver(ctx, sv.overflow)
	return sv, err
}

// stored reads a page from the database.
func (sv *salvager) stored(page uint32) ([]byte, error) {
	if sv.db == nil || page == 0 || page > sv.pages {
		return nil, nil
	}
	data := make([]byte, pageSize)
	if _, err := sv.db.ReadAt(data, int64(page-1)*pageSize); err != nil && err != io.EOF {
		return nil, err
	}
	return data, nil
}

// overflow returns the newest version of a page.
func (sv *salvager) overflow(page uint32) []byte {
	if list := sv.newest[page]; len(list) > 0 {
		return sv.log.frames[list[len(list)-1]].data
	}
	// A frame that is not sound can still be the page that it says.
	for _, v := range slices.Backward(sv.log.frames) {
		if f := v; f.page == page {
			return f.data
		}
	}
	data, _ := sv.stored(page)
	return data
}

// all writes the rows of all pages.
func (sv *salvager) all(ctx context.Context, w *writer) error {
	numbers := slices.Collect(maps.Keys(sv.newest))
	for page := uint32(1); page <= sv.pages; page++ {
		if len(sv.newest[page]) == 0 {
			numbers = append(numbers, page)
		}
	}
	slices.Sort(numbers)
	from := 0
	if sv.db == nil {
		from = sv.log.valid
	}
	for part := range slices.Chunk(numbers, 256) {
		err := w.transact([]*op{{fn: func(t *tx) error {
			for _, page := range part {
				if err := sv.page(t, page, from); err != nil {
					return err
				}
			}
			return ctx.Err()
		}}})
		if err != nil {
			return err
		}
	}
	return w.transact([]*op{{fn: func(t *tx) error {
		for i, f := range sv.log.frames[from:] {
			if f.sound {
				continue
			}
			if _, err := sv.take(t, f.data, rankFound+1+from+i); err != nil {
				return err
			}
		}
		return nil
	}}})
}

// page takes the rows of the newest version of a page, and of the earlier ones
// where that is damaged.
func (sv *salvager) page(t *tx, page uint32, from int) error {
	frames := slices.DeleteFunc(slices.Clone(sv.newest[page]), func(i int) bool { return i < from })
	for n, frame := range slices.Backward(frames) {
		rank := rankOld
		if n == len(frames)-1 {
			rank = rankFound + 1 + frame
		}
		if whole, err := sv.take(t, sv.log.frames[frame].data, rank); err != nil || whole {
			return err
		}
	}
	data, err := sv.stored(page)
	if err != nil || data == nil {
		return err
	}
	rank := rankFound
	if len(frames) > 0 {
		rank = rankOld
	}
	_, err = sv.take(t, data, rank)
	return err
}

// take writes the rows of a page. It is not whole if some could not be read.
func (sv *salvager) take(t *tx, page []byte, rank int) (whole bool, err error) {
	if rank != rankOld {
		sv.carver.uids(page, func(uid string, id int64) { sv.uids[uid] = id })
	}
	if string(page[:16]) == headerBytes[0] {
		return true, nil // the schema
	}
	rows, whole := sv.carver.page(page)
	if !whole {
		sv.lost++
	}
	for _, r := range rows {
		own := rank
		if r.raw {
			own = min(rank, rankRaw)
		}
		if err := sv.put(t, r, own); err != nil {
			return whole, err
		}
	}
	return whole, nil
}

func (sv *salvager) put(t *tx, r carved, rank int) error {
	if r.table.name == "meta" {
		switch r.values[1] {
		case metaVersion:
			sv.version, _ = r.values[2].([]byte)
		case metaCanary:
			sv.canary, _ = r.values[2].([]byte)
		}
		return nil
	}
	ranks := sv.ranks[r.table]
	if ranks == nil {
		ranks = make(map[int64]int)
		sv.ranks[r.table] = ranks
	}
	if before, found := ranks[r.id]; found && before > rank {
		return nil
	}
	ranks[r.id] = rank
	// What SQLite reads itself is newer than what may be left over in a page.
	if sv.db != nil || rank > rankRaw {
		if err := t.exec("DELETE FROM "+r.table.name+" WHERE "+r.table.columns[0]+" = ?", r.id); err != nil {
			return err
		}
	}
	args := make([]any, len(r.values))
	for i, v := range r.values {
		args[i] = v
	}
	return t.exec(r.table.insert, args...)
}

// checkKey makes sure that the key is the right one, without the canary if that
// is lost.
func (sv *salvager) checkKey(w *writer) error {
	if sv.version != nil && sv.canary != nil {
		return sv.s.checkMeta(sv.version, sv.canary)
	}
	var key []byte
	var uid string
	err := w.conn.QueryRowContext(context.Background(), `SELECT b.key, r.uid FROM bodies b JOIN reports r ON r.id = b.report LIMIT 1`).Scan(&key, &uid)
	if errors.Is(err, sql.ErrNoRows) {
		return nil
	}
	if err != nil {
		return err
	}
	if _, err := sv.s.keys.unwrap(key, uid); errors.Is(err, ErrKey) {
		return fmt.Errorf("the inbox in %s: %w", sv.s.dir, err)
	}
	return nil
}

// keepLog copies the log to damaged/, before SQLite writes over it.
func (s *sqlite) keepLog(path string) error {
	if err := s.files.makeDamaged(); err != nil {
		return err
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	name := filepath.Base(path) + "-" + strconv.FormatInt(s.milli(), 10)
	return writeFileSync(s.files.path(damagedName, name), data)
}

func isUID(text string) bool { return len(text) == 36 && uuid.Validate(text) == nil }
