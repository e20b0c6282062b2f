package inbox

import (
	"context"
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

var (
	// ErrNotFound: there is no such report or route.
	ErrNotFound = errors.New("inbox: not found")
	// ErrGone: the body of the report is not there any more.
	ErrGone = errors.New("inbox: gone")
)

// Record is what is known of a report. It holds nothing personal.
type Record struct {
	UID      string    `json:"uid"`
	Kind     Kind      `json:"kind"`
	Types    []string  `json:"types,omitempty"` // of the report, or the names of its events
	ReportID string    `json:"report_id"`
	Digest   string    `json:"digest"` // SHA-256 of the body, in hexadecimal digits
	Size     int64     `json:"size"`   // of the body, in bytes
	Code     int       `json:"code,omitempty"`
	Received time.Time `json:"received"`
	State    State     `json:"state"`
	Ended    time.Time `json:"ended,omitzero"` // when it was delivered or died
	Repeat   bool      `json:"repeat,omitempty"`
	Conflict bool      `json:"conflict,omitempty"`

	RequestID  string   `json:"request_id,omitempty"`
	LinkIDs    []string `json:"link_ids,omitempty"`
	ConsentIDs []string `json:"consent_ids,omitempty"`
	EventIDs   []string `json:"event_ids,omitempty"`

	Deliveries []DeliveryRecord `json:"deliveries,omitempty"`
	// Attempts and Actions come with Show and Audit only.
	Attempts []AttemptRecord `json:"attempts,omitempty"`
	Actions  []Action        `json:"actions,omitempty"`

	id int64
}

// DeliveryRecord is what is known of a delivery: a report has one, an array of
// events one for each name.
type DeliveryRecord struct {
	Type string `json:"type"`
	// Route is where it is to go or went, empty if there is no route.
	Route string `json:"route,omitempty"`
	State State  `json:"state"`
	// Undeliverable: it waits, and has no route.
	Undeliverable bool      `json:"undeliverable,omitempty"`
	Attempts      int       `json:"attempts"`
	Since         time.Time `json:"since"`            // it waits
	Due           time.Time `json:"due,omitzero"`     // when it is tried next, at the earliest
	Status        int       `json:"status,omitempty"` // of the last attempt
	Reason        string    `json:"reason,omitempty"` // why it was not accepted
}

// AttemptRecord is one attempt to deliver a report: the newest 100 of each
// delivery are kept.
type AttemptRecord struct {
	Node     string        `json:"node"`
	Route    string        `json:"route"`
	At       time.Time     `json:"at"`
	Took     time.Duration `json:"took"` // nanoseconds
	Accepted bool          `json:"accepted"`
	Status   int           `json:"status,omitempty"`
	Reason   string        `json:"reason,omitempty"`
}

// Page is a part of a list, which is in the order of arrival.
type Page struct {
	After string // the UID of the last report of the page before
	Limit int    // at most so many; 0 is 100
}

const defaultLimit = 100

// List returns the records that the filter chooses, the oldest first.
func (s *Store) List(ctx context.Context, f Filter, p Page) ([]Record, error) {
	q, err := s.query(ctx, f)
	if err != nil {
		return nil, err
	}
	if p.Limit <= 0 {
		p.Limit = defaultLimit
	}
	if p.After != "" {
		q.reports.add("r.id > (SELECT id FROM reports WHERE uid = ?)", p.After)
	}
	text, args := q.selectReports(`r.id, r.uid, r.kind, r.type, r.report_id, r.digest, r.size, r.code, r.received, r.state,
		r.ended, r.repeat, r.conflict, r.refs`, " ORDER BY r.id LIMIT ?", p.Limit)
	var records []Record
	err = s.scan(ctx, text, args, func(rows *sql.Rows) error {
		r, err := scanRecord(rows)
		records = append(records, r)
		return err
	})
	if err != nil {
		return nil, err
	}
	for i := range records {
		if err := s.addDeliveries(ctx, &records[i]); err != nil {
			return nil, err
		}
	}
	return records, nil
}

// Show returns all that is known of one report.
func (s *Store) Show(ctx context.Context, uid string) (Record, error) {
	if uid == "" {
		return Record{}, fmt.Errorf("%w: no uid is given", ErrNotFound)
	}
	records, err := s.Audit(ctx, Filter{UID: uid}, Page{Limit: 1})
	if err != nil {
		return Record{}, err
	}
	if len(records) == 0 {
		return Record{}, fmt.Errorf("%w: no report has the uid %s", ErrNotFound, uid)
	}
	return records[0], nil
}

// scan runs a query of which each row is scanned.
func (s *Store) scan(ctx context.Context, text string, args []any, scan func(*sql.Rows) error) error {
	return s.read(ctx, func(db reads) error {
		rows, err := db.QueryContext(ctx, text, args...)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			if err := scan(rows); err != nil {
				return err
			}
		}
		return rows.Err()
	})
}

func scanRecord(rows *sql.Rows) (r Record, err error) {
	var types, refText string
	var digest []byte
	var received int64
	var ended sql.NullInt64
	err = rows.Scan(&r.id, &r.UID, &r.Kind, &types, &r.ReportID, &digest, &r.Size, &r.Code, &received, &r.State,
		&ended, &r.Repeat, &r.Conflict, &refText)
	if err != nil {
		return r, err
	}
	var known refs
	if err := json.Unmarshal([]byte(refText), &known); err != nil {
		return r, fmt.Errorf("%w: the record of %s: %w", ErrDamaged, r.UID, err)
	}
	r.Types, r.Digest, r.Received = typesOf(types), hex.EncodeToString(digest), time.UnixMilli(received)
	r.RequestID, r.LinkIDs, r.ConsentIDs, r.EventIDs = known.Request, known.Links, known.Consents, known.Events
	if ended.Valid {
		r.Ended = time.UnixMilli(ended.Int64)
	}
	return r, nil
}

func (s *Store) addDeliveries(ctx context.Context, r *Record) error {
	e := s.engine
	e.mu.Lock()
	set := e.shown()
	e.mu.Unlock()
	return s.scan(ctx, `SELECT kind, subject, state, attempts, due, since, route, status, reason FROM deliveries WHERE report = ? ORDER BY id`,
		[]any{r.id}, func(rows *sql.Rows) error {
			var d DeliveryRecord
			var sub subject
			var due, since int64
			var route, reason sql.NullString
			var status sql.NullInt64
			if err := rows.Scan(&sub.kind, &sub.name, &d.State, &d.Attempts, &due, &since, &route, &status, &reason); err != nil {
				return err
			}
			d.Type, d.Since = sub.name, time.UnixMilli(since)
			d.Route, d.Status, d.Reason = route.String, int(status.Int64), reason.String
			if d.State == Waiting {
				d.Due = time.UnixMilli(due)
				if set != nil {
					d.Route = set.route(sub)
					d.Undeliverable = d.Route == "" && set.knows(sub)
				}
			}
			r.Deliveries = append(r.Deliveries, d)
			return nil
		})
}
