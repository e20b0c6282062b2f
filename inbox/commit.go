package inbox

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// refs is by what a report can be found. None of it is personal.
type refs struct {
	Request  string   `json:"request,omitempty"`
	Links    []string `json:"links,omitempty"`
	Consents []string `json:"consents,omitempty"`
	Events   []string `json:"events,omitempty"`
}

// The kinds of refs.
const (
	refRequest = "request"
	refLink    = "link"
	refConsent = "consent"
	refEvent   = "event"
)

// each calls fn with each of them once.
func (r *refs) each(fn func(kind, value string) error) error {
	seen := make(map[[2]string]bool, 8)
	call := func(kind, value string) error {
		if value == "" || seen[[2]string{kind, value}] {
			return nil
		}
		seen[[2]string{kind, value}] = true
		return fn(kind, value)
	}
	if err := call(refRequest, r.Request); err != nil {
		return err
	}
	for _, list := range []struct {
		kind   string
		values []string
	}{{refLink, r.Links}, {refConsent, r.Consents}, {refEvent, r.Events}} {
		for _, value := range list.values {
			if err := call(list.kind, value); err != nil {
				return err
			}
		}
	}
	return nil
}

// typesText is the subjects of a report as they stand in its record: their names
// may be anything.
func typesText(subjects []string) string {
	text, _ := json.Marshal(subjects) // no list of texts fails
	return string(text)
}

func typesOf(text string) (subjects []string) {
	_ = json.Unmarshal([]byte(text), &subjects) // a record that is damaged has none
	return subjects
}

// valid returns the head with all its texts in UTF-8, and without NUL. JSON has no
// others: what is sealed would differ from what stands beside it; and no text in
// PostgreSQL has a NUL.
func (h Head) valid() Head {
	text := func(s string) string { return strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "\uFFFD") }
	texts := func(list []string) []string {
		if !slices.ContainsFunc(list, func(s string) bool { return !utf8.ValidString(s) || strings.Contains(s, "\x00") }) {
			return list
		}
		list = slices.Clone(list)
		for i, s := range list {
			list[i] = text(s)
		}
		return list
	}
	h.ReportID, h.RequestID, h.Subjects = text(h.ReportID), text(h.RequestID), texts(h.Subjects)
	h.LinkIDs, h.ConsentIDs, h.EventIDs = texts(h.LinkIDs), texts(h.ConsentIDs), texts(h.EventIDs)
	if h.EventConsents != nil {
		events := make(map[string][]string, len(h.EventConsents))
		for name, list := range h.EventConsents {
			events[text(name)] = append(events[text(name)], texts(list)...)
		}
		h.EventConsents = events
	}
	return h
}

// sealedHead is what is sealed beside a body. The record says the same of it in
// clear, but that can be damaged without being noticed.
type sealedHead struct {
	Head
	Size   int64
	Digest [32]byte
}

// record is a report on its way into the database.
type record struct {
	uid     string
	head    Head
	digest  [32]byte
	size    int64
	refs    refs
	refText string

	key    []byte
	sealed []byte
	body   []byte // or file
	file   string
	draft  *Draft // of which the file is, nil if it is in its place
	stored int64
}

// newRecord seals what is known of a body.
func (s *Store) newRecord(uid string, sl *sealer, wrapped []byte, head Head, digest [32]byte, size int64) (*record, error) {
	if head.Received.IsZero() {
		head.Received = s.now()
	}
	head = head.valid()
	r := &record{
		uid: uid, head: head, digest: digest, size: size, key: wrapped, stored: sealedSize(size),
		refs: refs{head.RequestID, head.LinkIDs, head.ConsentIDs, head.EventIDs},
	}
	text, err := json.Marshal(sealedHead{head, size, digest})
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	r.sealed = sl.sealHead(text)
	refText, err := json.Marshal(r.refs)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	r.refText = string(refText)
	return r, nil
}

// commit stores a draft that is complete.
func (s *Store) commit(ctx context.Context, d *Draft, head Head, digest [32]byte) (Receipt, error) {
	r, err := s.newRecord(d.uid, d.sealer, s.keys.wrap(d.key, d.uid), head, digest, d.size)
	if err != nil {
		return Receipt{}, err
	}
	if err := s.checkShare(&r.head, r.stored); err != nil {
		return Receipt{}, err
	}
	release, err := s.takeRoom(r.stored)
	if err != nil {
		return Receipt{}, err
	}
	defer release()
	m, err := d.keep(&r.file, &r.body)
	if err != nil {
		return Receipt{}, err
	}
	r.draft = d
	var receipt Receipt
	sp := s.base.spool()
	err = errNotTried
	if !sp.instead() {
		receipt, err = s.insertDraft(ctx, r, m)
	}
	if sp.takes(ctx, err) {
		receipt, err = sp.commit(ctx, d, r, err)
	}
	return receipt, err
}

// insertDraft stores the record of a draft whose body is in its place.
func (s *Store) insertDraft(ctx context.Context, r *record, m *moved) (receipt Receipt, err error) {
	err = s.submitPatiently(ctx, func() *op {
		return &op{
			intake: true, moved: m, large: r.draft.isLarge(m), hasty: s.base.spool() != nil,
			heads: []*Head{&r.head}, erases: s.erasesOn(&r.head),
			fn: func(t *tx) (err error) {
				receipt, err = s.store(t, r)
				return err
			},
		}
	})
	if r.file != "" && !errors.As(err, new(uncertainError)) && (err != nil || receipt.Duplicate || receipt.Erased) {
		s.base.dropBody(r.file)
	}
	if err != nil {
		return Receipt{}, failure(err)
	}
	return receipt, nil
}

// store decides what becomes of a report, and writes it down.
func (s *Store) store(t *tx, r *record) (Receipt, error) {
	erased, err := s.isErased(t, &r.head)
	if err != nil {
		return Receipt{}, err
	}
	k, err := s.find(t, r, s.now, 0)
	if err != nil || k.receipt.Duplicate || k.stored {
		return k.receipt, err
	}
	if erased {
		k.receipt.Erased = true
		return k.receipt, s.insertErased(t, r, k.receipt)
	}
	if err := s.replace(t, k.dead); err != nil {
		return Receipt{}, err
	}
	if err := s.eraseOn(t, &r.head); err != nil {
		return Receipt{}, err
	}
	return k.receipt, s.insert(t, r, k.receipt)
}

// insert writes the rows of a report that is kept.
func (s *Store) insert(t *tx, r *record, receipt Receipt) error {
	h := &r.head
	state := "waiting"
	if h.Kind == KindUnreadable || len(h.Subjects) == 0 {
		state = "dead"
	}
	id, err := s.insertReport(t, r, receipt, state)
	if err != nil {
		return err
	}
	err = t.exec(`INSERT INTO bodies (report, key, head, file, stored, body) VALUES (`+id.text+`, ?, ?, ?, ?, ?)`,
		id.value, r.key, r.sealed, nullable(r.file), r.stored, r.body)
	if err != nil {
		return err
	}
	if r.file != "" && r.draft != nil {
		if err := s.base.insertBody(t, r.draft); err != nil {
			return err
		}
	}
	if state == "waiting" {
		for _, name := range h.Subjects {
			if err := insertDelivery(t, id, h, name); err != nil {
				return err
			}
		}
	}
	t.then(func() {
		s.room.hold(h.Kind, h.Subjects, r.stored)
		if s.stored != nil && state == "waiting" && !s.stored(h.Kind, h.Subjects) {
			s.base.tell()
		}
	})
	return nil
}

// insertErased writes the rows of a report that is not kept. They look as if it
// had been erased after it came.
func (s *Store) insertErased(t *tx, r *record, receipt Receipt) error {
	id, err := s.insertReport(t, r, receipt, "erased")
	if err != nil {
		return err
	}
	for _, name := range r.head.Subjects {
		if err := insertDelivery(t, id, &r.head, name); err != nil {
			return err
		}
	}
	return eraseDeliveries(t, id)
}

// reportRef is the id of a report, as it stands in a statement, and its value there.
type reportRef struct {
	text  string
	value any
}

func refTo(id int64) reportRef { return reportRef{"?", id} }

// insertReport writes the record of a report, and by what it is found.
func (s *Store) insertReport(t *tx, r *record, receipt Receipt, state string) (reportRef, error) {
	h := &r.head
	var ended any
	if state != "waiting" {
		ended = s.milli()
	}
	query := `INSERT INTO reports (uid, kind, type, report_id, digest, size, received, code, refs, repeat, conflict, state, ended)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`
	args := []any{
		r.uid, string(h.Kind), typesText(h.Subjects), h.ReportID, r.digest[:], r.size, h.Received.UnixMilli(), h.Code, r.refText,
		number(receipt.Repeat), number(receipt.Conflict), state, ended,
	}
	if s.base.shared() { // to ask for the id is a way to a server and back
		id := reportRef{"(SELECT id FROM reports WHERE uid = ?)", r.uid}
		return id, errors.Join(t.exec(query, args...), r.refs.insertAtOnce(t, r.uid))
	}
	var id int64
	if err := t.get([]any{&id}, query+` RETURNING id`, args...); err != nil {
		return reportRef{}, err
	}
	return refTo(id), r.refs.insert(t, id)
}

func (r *refs) insert(t *tx, report int64) error {
	return r.each(func(kind, value string) error {
		return t.exec(`INSERT INTO refs (kind, value, report) VALUES (?, ?, ?) ON CONFLICT DO NOTHING`, kind, value, report)
	})
}

// insertAtOnce is insert in one statement, where each is a way to a server and back.
func (r *refs) insertAtOnce(t *tx, uid string) error {
	var kinds, values []string
	err := r.each(func(kind, value string) error {
		kinds, values = append(kinds, kind), append(values, value)
		return nil
	})
	if err != nil || len(kinds) == 0 {
		return err
	}
	return t.exec(`INSERT INTO refs (kind, value, report) SELECT new.kind, new.value, (SELECT id FROM reports WHERE uid = ?)
		FROM unnest(?::text[], ?::text[]) AS new (kind, value) ON CONFLICT DO NOTHING`, uid, kinds, values)
}

func insertDelivery(t *tx, report reportRef, h *Head, name string) error {
	received := h.Received.UnixMilli()
	return t.exec(`INSERT INTO deliveries (report, kind, subject, state, attempts, due, since) VALUES (`+report.text+`, ?, ?, 'waiting', 0, ?, ?)`,
		report.value, string(h.Kind), name, received, received)
}

// number is a yes or no as it stands in the database.
func number(yes bool) int {
	if yes {
		return 1
	}
	return 0
}

func nullable(text string) any {
	if text == "" {
		return nil
	}
	return text
}
