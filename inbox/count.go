package inbox

// selectStored begins with what is still there: CROSS says so to SQLite.
const selectStored = `SELECT r.kind, r.type, sum(b.stored) FROM bodies b CROSS JOIN reports r WHERE r.id = b.report GROUP BY 1, 2`

// count reads what is kept in memory of the database.
func (s *Store) count(t *tx) error {
	held := make(map[subject]int64)
	var all int64
	err := t.each(func(r row) error {
		var kind, types string
		var n int64
		if err := r.Scan(&kind, &types, &n); err != nil {
			return err
		}
		all += n
		for _, name := range typesOf(types) {
			held[subject{Kind(kind), name}] += n
		}
		return nil
	}, selectStored)
	if err != nil {
		return err
	}
	s.room.set(all, held)
	var erased, quarantined int64
	if err := t.get([]any{&erased, &quarantined}, `SELECT (SELECT count(*) FROM erased),
		(SELECT coalesce(sum(stored + length(head) + ?), 0) FROM quarantine)`, quarantineRow); err != nil {
		return err
	}
	s.erased.Store(erased)
	s.quarantined.Store(quarantined)
	return nil
}
