package inbox

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"testing"
)

// openAnew has a store opened anew while it is used, with a check of its database that
// takes until the channel is closed.
func openAnew(t testing.TB, s *Store) (check chan struct{}) {
	t.Helper()
	check = make(chan struct{})
	s.files.fault = func(at string) error {
		if at == atCheck {
			<-check
		}
		return nil
	}
	s.base.(*sqlite).trouble.set(errDisk)
	if err := s.write(t.Context(), func(*tx) error { return nil }); err != nil {
		t.Fatal(err)
	}
	return check
}

// What an end without a close has left in a pack goes at the next start, and
// nothing else.
func TestPackIsSwept(t *testing.T) {
	o, _ := quietOptions(t.TempDir())
	s := openPacks(t, o)
	bodies := make(map[string][]byte)
	var lost []place
	for i := range 6 {
		id := fmt.Sprint(i)
		body := randomBody(150_000 + 1000*i)
		uid := mustPut(t, s, testHead(id), body).UID
		if i%2 == 0 {
			bodies[id] = body
			continue
		}
		lost = append(lost, inPack(t, s, uid))
		// As if its row had not been committed before the end.
		err := s.write(t.Context(), func(tx *tx) error {
			return errors.Join(tx.exec(`DELETE FROM bodies WHERE report = (SELECT id FROM reports WHERE uid = ?)`, uid),
				tx.exec(`DELETE FROM deliveries WHERE report = (SELECT id FROM reports WHERE uid = ?)`, uid),
				tx.exec(`DELETE FROM reports WHERE uid = ?`, uid))
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	_ = s.Close()
	s = openTest(t, o)
	checkStored(t, s, bodies)
	for _, place := range lost {
		eventually(t, "what has no row is cleared", func() bool { return isClear(rawAt(t, s, place)) })
	}
}

// A body in a pack that is damaged costs its report only, and is kept aside.
func TestDamageInAPack(t *testing.T) {
	for _, test := range []struct {
		name  string
		spoil func(path string, b place) error
		lost  []string
		aside bool
	}{
		{"a byte", func(path string, b place) error { return changeByte(path, b.at+b.size/2) }, []string{"1"}, true},
		{"cut", func(path string, b place) error { return os.Truncate(path, b.at+100) }, []string{"1", "2"}, true},
		{"removed", func(path string, _ place) error { return os.Remove(path) }, []string{"0", "1", "2"}, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			o, log := quietOptions(t.TempDir())
			s := openPacks(t, o)
			bodies := map[string][]byte{"row": []byte("in its row")}
			uids := make(map[string]string)
			mustPut(t, s, testHead("row"), bodies["row"])
			for _, id := range []string{"0", "1", "2"} {
				bodies[id] = randomBody(150_000)
				uids[id] = mustPut(t, s, testHead(id), bodies[id]).UID
			}
			place := inPack(t, s, uids["1"])
			_ = s.Close()
			if err := test.spoil(s.files.body(place.pack), place); err != nil {
				t.Fatal(err)
			}
			s = openTest(t, o)
			for _, id := range test.lost {
				delete(bodies, id)
				if err := s.setAsideUnread(t.Context(), uids[id]); err != nil && !strings.Contains(log.String(), uids[id]) {
					t.Error(err)
				}
				if !strings.Contains(log.String(), uids[id]) {
					t.Errorf("got %s, want that it names %s", log, uids[id])
				}
			}
			for range 2 { // after another start, too
				for id, body := range bodies {
					if got := readAll(t, s)[id]; !bytes.Equal(got, body) {
						t.Errorf("%s: got %d bytes, want the body", id, len(got))
					}
				}
				path := s.files.path(damagedName, place.name())
				if data, err := os.ReadFile(path); (err == nil && len(data) > 0) != test.aside {
					t.Errorf("got %d bytes and %v, want it kept aside: %t", len(data), err, test.aside)
				}
				_ = s.Close()
				s = openTest(t, o)
			}
			for _, uid := range uids {
				end(t, s, uid, "dropped")
			}
			if test.aside {
				if names := entriesOf(t, s, damagedName); len(names) > 0 {
					t.Errorf("got %v kept aside, want nothing when the reports have ended", names)
				}
			}
		})
	}
}

func changeByte(path string, at int64) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	b := make([]byte, 1)
	if _, err := f.ReadAt(b, at); err != nil {
		return err
	}
	b[0] ^= 4
	_, err = f.WriteAt(b, at)
	return err
}

// Where rows were lost, nothing in a pack is.
func TestLostRowsOfAPack(t *testing.T) {
	o, log := quietOptions(t.TempDir())
	s := openPacks(t, o)
	body, other := randomBody(150_000), randomBody(250_000)
	kept, lost := mustPut(t, s, testHead("kept"), body), mustPut(t, s, testHead("lost"), other)
	alone := inPack(t, s, lost.UID)
	raw := rawAt(t, s, alone)
	err := s.write(t.Context(), func(tx *tx) error {
		return tx.exec(`DELETE FROM bodies WHERE report = (SELECT id FROM reports WHERE uid = ?)`, lost.UID)
	})
	if err != nil {
		t.Fatal(err)
	}
	p := s.base.packs()
	p.keep(nameOf(t, s, kept.UID))
	p.adopt([]place{inPack(t, s, kept.UID)})
	p.sweep(true)
	names := entriesOf(t, s, damagedName)
	if len(names) != 1 {
		t.Fatalf("got %v kept aside, want one file", names)
	}
	data, err := os.ReadFile(s.files.path(damagedName, names[0]))
	if err != nil || !bytes.Contains(data, raw) || !strings.Contains(log.String(), names[0]) {
		t.Errorf("got %d bytes, %v and %s, want what lost its row, and that it is said", len(data), err, log)
	}
	if !isClear(rawAt(t, s, alone)) {
		t.Error("got it in the pack, too")
	}
	if got := readAll(t, s)["kept"]; !bytes.Equal(got, body) {
		t.Errorf("got %d bytes, want the body that has its row", len(got))
	}
}

// No other body's place is given back, whatever a row says.
func TestReleaseOfAWrongPlace(t *testing.T) {
	s := openPacks(t, testOptions(t, t.TempDir()))
	bodies := make(map[string][]byte)
	var first place
	for i := range 4 {
		id := fmt.Sprint(i)
		bodies[id] = randomBody(150_000)
		uid := mustPut(t, s, testHead(id), bodies[id]).UID
		if i == 0 {
			first = inPack(t, s, uid)
		}
	}
	p := s.base.packs()
	for _, wrong := range []place{
		{first.pack, first.at, first.size + 1},
		{first.pack, first.at, 900_000},
		{first.pack, first.at + 1, first.size},
		{first.pack, 100 * packAlign, first.size},
		{"0198c9be-0000-7000-8000-000000000000", first.at, first.size},
	} {
		p.release(wrong)
	}
	checkStored(t, s, bodies)
}

// A byte that changes in the place that a row says costs no other body, even if its
// report ends before the database has been checked.
func TestRowSaysAnotherPlace(t *testing.T) {
	o, _ := quietOptions(t.TempDir())
	s := openPacks(t, o)
	bodies := make(map[string][]byte)
	uids := make(map[string]string)
	for i := range 5 {
		id := fmt.Sprint(i)
		bodies[id] = randomBody(150_000)
		uids[id] = mustPut(t, s, testHead(id), bodies[id]).UID
	}
	if err := s.base.(*sqlite).tidy(t.Context()); err != nil {
		t.Fatal(err)
	}
	name := []byte(nameOf(t, s, uids["0"]))
	path := s.files.path(dbName)
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	at := bytes.Index(data, name)
	if at < 0 || !bytes.HasSuffix(name, []byte("+150048")) {
		t.Fatalf("got %s at %d, want it in the database", name, at)
	}
	flip(t, path, int64(at+len(name)-6), '1'^'9') // 950048 bytes
	check := openAnew(t, s)
	end(t, s, uids["0"], "delivered")
	close(check)
	_ = s.Close()
	s = openTest(t, o)
	delete(bodies, "0")
	got := readAll(t, s)
	for id, body := range bodies {
		if !bytes.Equal(got[id], body) {
			t.Errorf("%s is lost by a byte in the row of another", id)
		}
	}
}

// A pack that is begun while the store is opened anew is nobody's only if it has no body.
func TestRepairSparesNewPack(t *testing.T) {
	o, log := quietOptions(t.TempDir())
	s := openPacks(t, o)
	body := randomBody(200_000)
	d, err := s.NewDraft()
	if err == nil {
		_, err = d.Write(body)
	}
	if err != nil {
		t.Fatal(err)
	}
	syncing, sync, check := make(chan struct{}), make(chan struct{}), make(chan struct{})
	stored := make(chan error, 1)
	var once atomic.Bool
	s.files.fault = func(at string) error {
		switch {
		case at == atFolder && once.CompareAndSwap(false, true):
			close(syncing)
			<-sync
		case at == atCheck:
			go func() {
				_, err := d.Commit(context.Background(), testHead("under way"), [32]byte{})
				stored <- err
			}()
			<-syncing
			<-check // it takes long
		}
		return nil
	}
	orphan := s.files.body("orphan")
	if err := os.WriteFile(orphan, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	s.base.(*sqlite).trouble.set(errDisk)
	if err := s.write(t.Context(), func(*tx) error { return nil }); err != nil {
		t.Fatal(err)
	}
	close(sync)
	if err := <-stored; err != nil {
		t.Fatal(err)
	}
	close(check)
	eventually(t, "what nobody needs is removed", func() bool {
		_, err := os.Stat(orphan)
		return errors.Is(err, os.ErrNotExist)
	})
	if got := readAll(t, s)["under way"]; !bytes.Equal(got, body) {
		t.Errorf("got %d bytes of what was acknowledged, want all\n%s", len(got), log)
	}
}

// What could not be given back is later, and at the next start in any case, also
// beside a report that was set aside.
func TestRoomIsGivenBackLater(t *testing.T) {
	o, _ := quietOptions(t.TempDir())
	s := openPacks(t, o)
	var places []place
	for _, id := range []string{"damaged", "erased", "kept", "reading"} {
		places = append(places, inPack(t, s, mustPut(t, s, testHead(id), randomBody(200_000)).UID))
	}
	if err := s.setReportAside(t.Context(), 1, "test"); err != nil {
		t.Fatal(err)
	}
	p := s.base.packs()
	p.mu.Lock()
	delete(p.all[places[1].pack].live, places[1].at) // as after a kill between the end and this
	p.mu.Unlock()
	reader, err := p.read(places[3])
	if err != nil {
		t.Fatal(err)
	}
	p.release(places[3])
	p.sweep(false)
	if !isClear(rawAt(t, s, places[1])) || isClear(rawAt(t, s, places[2])) || isClear(rawAt(t, s, places[3])) {
		t.Error("got another body cleared than the one that nobody needs")
	}
	p.adopt(places[2:]) // it is somebody's again
	_ = reader.Close()
	if isClear(rawAt(t, s, places[3])) {
		t.Error("got a body cleared that has a row")
	}
	path, away := s.files.body(places[2].pack), s.files.path("away")
	if err := errors.Join(os.Rename(path, away), os.Mkdir(path, 0o700)); err != nil {
		t.Fatal(err)
	}
	p.release(places[3]) // it cannot
	if err := errors.Join(os.Remove(path), os.Rename(away, path)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it is tried again", func() bool { return isClear(rawAt(t, s, places[3])) })
	if isClear(rawAt(t, s, places[2])) {
		t.Error("got another body cleared")
	}
}

// What cannot be kept aside stays.
func TestGapThatCannotBeKept(t *testing.T) {
	o, log := quietOptions(t.TempDir())
	s := openPacks(t, o)
	lost := inPack(t, s, mustPut(t, s, testHead("lost"), randomBody(150_000)).UID)
	kept := inPack(t, s, mustPut(t, s, testHead("kept"), randomBody(150_000)).UID)
	p := s.base.packs()
	for _, b := range []place{lost, kept} {
		p.keep(b.name())
	}
	p.adopt([]place{kept})
	if err := os.WriteFile(s.files.path(damagedName), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	p.sweep(true)
	if isClear(rawAt(t, s, lost)) || !strings.Contains(log.String(), "could not be set aside") {
		t.Errorf("got it cleared or %s, want it left where it is, and that it is said", log)
	}
}

// A pack that was adopted stays until it is known what else is in it, and so does a
// body of which the report cannot be found.
func TestPackStaysUntilSwept(t *testing.T) {
	for _, mended := range []bool{false, true} {
		t.Run(fmt.Sprint(mended), func(t *testing.T) {
			o, _ := quietOptions(t.TempDir())
			s := openPacks(t, o)
			body := randomBody(150_000)
			uid := mustPut(t, s, testHead("found"), body).UID
			lost := inPack(t, s, mustPut(t, s, testHead("lost"), body).UID)
			if mended {
				mustPut(t, s, testHead("mended"), body)
			}
			change := func(queries ...string) {
				t.Helper()
				err := s.write(t.Context(), func(tx *tx) error {
					for _, query := range queries {
						if err := tx.exec(query); err != nil {
							return err
						}
					}
					return nil
				})
				if err != nil {
					t.Fatal(err)
				}
			}
			// As where the database is damaged.
			change(`DELETE FROM bodies WHERE report = (SELECT id FROM reports WHERE report_id = 'lost')`,
				`UPDATE reports SET id = id + 100 WHERE report_id = 'mended'`)
			check := openAnew(t, s)
			end(t, s, uid, "delivered")
			if isClear(rawAt(t, s, lost)) {
				t.Error("got what has no row cleared before the database was checked")
			}
			change(`UPDATE reports SET id = id - 100 WHERE report_id = 'mended'`)
			close(check)
			eventually(t, "what has no row is cleared", func() bool { return isClear(rawAt(t, s, lost)) })
			if got := readAll(t, s)["mended"]; mended && !bytes.Equal(got, body) {
				t.Errorf("got %d bytes of a body whose report could not be found for a while, want all", len(got))
			}
		})
	}
}
