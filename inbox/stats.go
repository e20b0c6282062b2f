package inbox

import (
	"context"
)

// Stats is what a store holds.
type Stats struct {
	// Reports that wait, are dead, or were set aside.
	Waiting int64 `json:"waiting"`
	Dead    int64 `json:"dead"`
	Damaged int64 `json:"damaged"`
	// Spooled are those that this process keeps until the database can be used.
	Spooled int64 `json:"spooled,omitempty"`
	// Bytes is what their bodies take up.
	Bytes int64 `json:"bytes"`
	// Quarantined are bodies whose signature fits no key, and QuarantinedBytes
	// what they take up.
	Quarantined      int64 `json:"quarantined"`
	QuarantinedBytes int64 `json:"quarantined_bytes"`
}

// Stats counts what is there.
func (s *Store) Stats(ctx context.Context) (Stats, error) {
	st := Stats{Bytes: s.room.size(), QuarantinedBytes: s.quarantined.Load()}
	if sp := s.base.spool(); sp != nil {
		var err error
		if st.Spooled, err = sp.count(ctx); err != nil {
			return st, err
		}
		st.Bytes += sp.store.room.size()
	}
	err := s.read(ctx, func(db reads) error {
		return db.QueryRowContext(ctx, `SELECT
			(SELECT count(*) FROM reports WHERE state = 'waiting'),
			(SELECT count(*) FROM reports WHERE state = 'dead'),
			(SELECT count(*) FROM reports WHERE state = 'damaged'),
			(SELECT count(*) FROM quarantine)`).Scan(&st.Waiting, &st.Dead, &st.Damaged, &st.Quarantined)
	})
	return st, err
}
