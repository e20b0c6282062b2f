package inbox

import (
	"bytes"
	"time"
)

// duplicateTime is how long a copy of a report is taken for one that was sent
// again because the first answer was lost. A later one is somebody's wish.
const duplicateTime = 10 * time.Minute

// known is what is there already under the id of a report.
type known struct {
	receipt Receipt
	// stored: it is there itself. The one who stored it was not told.
	stored bool
	// dead are the dead copies. The new one takes their place.
	dead []int64
}

// find compares a report with those of the same id. Where it is a duplicate, the
// receipt has the uid of the copy that is kept. Now says when the report came, once no
// other node stores it, and ahead is for how much later one that is here already may
// have come.
func (s *Store) find(t *tx, r *record, now func() time.Time, ahead time.Duration) (known, error) {
	k := known{receipt: Receipt{UID: r.uid}}
	newest := true // of the copies
	err := t.each(func(found row) error {
		var (
			id, received int64
			uid, state   string
			digest       []byte
		)
		if err := found.Scan(&id, &uid, &digest, &received, &state); err != nil || k.stored || k.receipt.Duplicate {
			return err
		}
		if uid == r.uid {
			k = known{receipt: Receipt{UID: uid}, stored: true}
			return nil
		}
		if !bytes.Equal(digest, r.digest[:]) {
			k.receipt.Conflict = true
			return nil
		}
		age := now().Sub(time.UnixMilli(received))
		if newest && kept(state) && age >= -ahead && age < duplicateTime {
			k = known{receipt: Receipt{UID: uid, Duplicate: true}}
			return nil
		}
		newest = false
		k.receipt.Repeat = true
		if state == "dead" {
			k.dead = append(k.dead, id)
		}
		return nil
	}, `SELECT id, uid, digest, received, state FROM reports WHERE report_id = ? AND kind = ? ORDER BY id DESC LIMIT 100`,
		r.head.ReportID, string(r.head.Kind))
	return k, err
}

// kept says of the state of a report that a copy of it need not be stored.
func kept(state string) bool {
	switch state {
	case "waiting", "delivered", "dead":
		return true
	default: // dropped, erased, damaged
		return false
	}
}

// replace ends the dead copies of a report that has come again.
func (s *Store) replace(t *tx, dead []int64) error {
	for _, id := range dead {
		err := t.exec(`UPDATE deliveries SET state = 'dropped', reason = 'sent again by Klavi' WHERE report = ? AND state = 'dead'`, id)
		if err != nil {
			return err
		}
		if err := s.end(t, Dropped, id); err != nil {
			return err
		}
	}
	return nil
}
