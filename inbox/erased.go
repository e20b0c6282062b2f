package inbox

import "slices"

// isErased says whether a report is about something that was erased. An array of
// events is if all of them are: it can tell of others besides.
func (s *Store) isErased(t *tx, h *Head) (bool, error) {
	if s.erased.Load() == 0 && !s.base.shared() || s.erasesOn(h) {
		return false, nil
	}
	if err := t.askErased(h); err != nil {
		return false, err
	}
	if t.erased[mark{EraseReport, h.ReportID}] {
		return true, nil
	}
	for _, list := range []struct {
		kind   string
		values []string
	}{{EraseConsent, h.ConsentIDs}, {EraseLink, h.LinkIDs}} {
		found := 0
		for _, value := range list.values {
			found += number(t.erased[mark{list.kind, value}])
		}
		if found == len(list.values) && found > 0 || found > 0 && h.Kind != KindEvent {
			return true, nil
		}
	}
	return false, nil
}

// mark says that something was erased.
type mark struct{ kind, value string }

// marksOf returns what would have had a report erased.
func marksOf(h *Head) []mark {
	marks := []mark{{EraseReport, h.ReportID}}
	for _, value := range h.ConsentIDs {
		marks = append(marks, mark{EraseConsent, value})
	}
	for _, value := range h.LinkIDs {
		marks = append(marks, mark{EraseLink, value})
	}
	return marks
}

// askErased finds out what of a report was erased, and of all others that are stored
// in the transaction: one question is enough for them.
func (t *tx) askErased(h *Head) error {
	if t.erased == nil {
		t.erased = make(map[mark]bool)
	}
	unknown := func(m mark) bool {
		_, known := t.erased[m]
		return !known
	}
	if !slices.ContainsFunc(marksOf(h), unknown) {
		return nil
	}
	var asked []mark
	for _, other := range slices.Concat(t.heads, []*Head{h}) {
		for _, m := range marksOf(other) {
			if unknown(m) {
				t.erased[m] = false
				asked = append(asked, m)
			}
		}
	}
	for some := range slices.Chunk(asked, maxBatch) {
		if err := t.askSome(some); err != nil {
			return err
		}
	}
	return nil
}

const selectErased = `SELECT kind, value FROM erased WHERE kind IN ('report', 'consent', 'link') AND value IN `

func (t *tx) askSome(marks []mark) error {
	var values []string
	for _, m := range marks {
		values = append(values, m.value)
	}
	list, args := among(values)
	return t.each(func(r row) error {
		var m mark
		err := r.Scan(&m.kind, &m.value)
		if _, asked := t.erased[m]; asked {
			t.erased[m] = true
		}
		return err
	}, selectErased+list, args...)
}

// noteErased says that something is erased from now on.
func (t *tx) noteErased(m mark) {
	if t.erased != nil {
		t.erased[m] = true
	}
}
