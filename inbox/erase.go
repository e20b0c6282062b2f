package inbox

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"time"
)

// By what reports can be erased.
const (
	EraseConsent = "consent"
	EraseLink    = "link"
	EraseReport  = "report" // Klavi's id of it, or its uid here
)

// EraseReceipt says what was erased.
type EraseReceipt struct {
	Kind  string    `json:"kind"`
	Value string    `json:"value"`
	At    time.Time `json:"at"`
	// Reports are those that it was about, the oldest first.
	Reports []ErasedReport `json:"reports"`
	// Copies are files that may still hold what was erased: earlier copies of the
	// database, from when it was damaged, until they are removed after KeepDead or
	// by hand; and the log of the database if somebody was reading, until that
	// has ended.
	Copies []string `json:"copies,omitempty"`
}

// ErasedReport is a report that was erased.
type ErasedReport struct {
	UID      string `json:"uid"`
	ReportID string `json:"report_id"`
	// State is what it was in before.
	State string `json:"state"`
	// Destroyed: its body was still there. Otherwise only the record was, which
	// holds nothing personal, and stays.
	Destroyed bool `json:"destroyed"`
}

// Erase destroys the bodies of all reports of a consent, of a link or under an
// id, with their keys. What still arrives for it is not kept. Who did it and why
// is written down. The events of EraseOn are left alone: somebody waits for them.
func (s *Store) Erase(ctx context.Context, kind, value, who, why string) (EraseReceipt, error) {
	receipt := EraseReceipt{Kind: kind, Value: value, At: s.now()}
	switch kind {
	case EraseConsent, EraseLink, EraseReport:
	default:
		return receipt, fmt.Errorf("inbox: %q cannot be erased: it is %s, %s or %s", kind, EraseConsent, EraseLink, EraseReport)
	}
	if value == "" {
		return receipt, fmt.Errorf("inbox: which %s is to be erased?", kind)
	}
	err := s.submit(ctx, &op{erases: true, fn: func(t *tx) (err error) {
		receipt.Reports, err = s.erase(t, kind, value, who, why)
		return err
	}})
	if err != nil {
		return receipt, err
	}
	if receipt.Copies, err = s.base.forget(ctx); err != nil {
		return receipt, err
	}
	if sp := s.base.spool(); sp != nil {
		err = sp.erase(ctx, &receipt, who, why)
	}
	return receipt, err
}

// erase does it in a transaction.
func (s *Store) erase(t *tx, kind, value, who, why string) ([]ErasedReport, error) {
	reports, err := s.destroyAll(t, kind, value)
	if err != nil {
		return nil, err
	}
	values := []string{value}
	for _, r := range reports {
		if kind == EraseReport && !slices.Contains(values, r.ReportID) {
			values = append(values, r.ReportID)
		}
		if err := s.audit(t, who, "erase", r.UID, why); err != nil {
			return nil, err
		}
	}
	for _, v := range values {
		t.noteErased(mark{kind, v})
		err := t.exec(`INSERT INTO erased (kind, value, at) VALUES (?, ?, ?) ON CONFLICT DO NOTHING`, kind, v, s.milli())
		if err != nil {
			return nil, err
		}
	}
	s.erased.Add(1) // also for what is stored in the same transaction
	t.then(func() { s.untidy.Store(true) })
	return reports, s.audit(t, who, "erase "+kind+" "+value, "", why)
}

// destroyAll ends the reports of a consent, of a link or under an id.
func (s *Store) destroyAll(t *tx, kind, value string) ([]ErasedReport, error) {
	if err := t.endSettled(); err != nil { // what was delivered until now is said to be
		return nil, err
	}
	type destroyed struct {
		id int64
		ErasedReport
	}
	query := `SELECT r.id, r.uid, r.report_id, r.state, r.kind, r.type FROM refs f JOIN reports r ON r.id = f.report WHERE f.kind = ?1 AND f.value = ?2 ORDER BY r.id`
	if kind == EraseReport {
		query = `SELECT id, uid, report_id, state, kind, type FROM reports WHERE ?1 = 'report' AND (report_id = ?2 OR uid = ?2) ORDER BY id`
	}
	var found []destroyed
	err := t.each(func(r row) error {
		var d destroyed
		var of, types string
		if err := r.Scan(&d.id, &d.UID, &d.ReportID, &d.State, &of, &types); err != nil {
			return err
		}
		if Kind(of) != KindEvent || !s.erasesOnAny(typesOf(types)) {
			found = append(found, d)
		}
		return nil
	}, query, kind, value)
	if err != nil {
		return nil, err
	}
	reports := make([]ErasedReport, 0, len(found))
	for _, r := range found {
		if r.Destroyed, err = s.destroy(t, r.id); err != nil {
			return nil, err
		}
		reports = append(reports, r.ErasedReport)
	}
	return reports, nil
}

// destroy ends a report that still has its body.
func (s *Store) destroy(t *tx, id int64) (bool, error) {
	var one int
	err := t.get([]any{&one}, `SELECT 1 FROM bodies WHERE report = ?`, id)
	if errors.Is(err, sql.ErrNoRows) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if err := eraseDeliveries(t, refTo(id)); err != nil {
		return false, err
	}
	return true, s.end(t, Erased, id)
}

func eraseDeliveries(t *tx, report reportRef) error {
	return t.exec(`UPDATE deliveries SET state = 'dropped', reason = 'erased' WHERE report = `+report.text+` AND state IN ('waiting', 'dead')`, report.value)
}

func (s *Store) audit(t *tx, who, what, uid, why string) error {
	return t.exec(`INSERT INTO audit (at, who, what, uid, why) VALUES (?, ?, ?, ?, ?)`, s.milli(), who, what, uid, why)
}

// erasesOn says whether a report is an event upon which something is erased.
func (s *Store) erasesOn(h *Head) bool {
	return h.Kind == KindEvent && s.erasesOnAny(h.Subjects)
}

func (s *Store) erasesOnAny(events []string) bool {
	on := s.settings().EraseOn
	return slices.ContainsFunc(events, func(name string) bool { return slices.Contains(on, name) })
}

// eraseOn erases what an event asks to be erased: its consents, or its links if
// it names no consent.
func (s *Store) eraseOn(t *tx, h *Head) error {
	if !s.erasesOn(h) {
		return nil
	}
	on := s.settings().EraseOn
	for _, name := range h.Subjects {
		if !slices.Contains(on, name) {
			continue
		}
		kind, values := EraseConsent, h.ConsentIDs
		if h.EventConsents != nil {
			values = h.EventConsents[name]
		} else if len(values) == 0 {
			kind, values = EraseLink, h.LinkIDs
		}
		for _, value := range slices.Compact(slices.Sorted(slices.Values(values))) {
			if value == "" {
				continue
			}
			if _, err := s.erase(t, kind, value, "klavi", name); err != nil {
				return err
			}
		}
	}
	return nil
}
