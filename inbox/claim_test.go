package inbox

import (
	"database/sql"
	"strings"
	"testing"
	"testing/synctest"
)

// Counting for metrics begins with what is dead, not with all that waits.
func TestCountingStartsWithTheDead(t *testing.T) {
	onlySQLite(t)
	s, _, _ := clocked(t, Settings{})
	plan := planOf(t, s, selectDead, nil)
	if !strings.Contains(plan, "SCAN d USING INDEX deliveries_dead") || !strings.Contains(plan, "SEARCH r USING INTEGER PRIMARY KEY") {
		t.Errorf("got the plan\n%s\nwant the index of dead deliveries, then their reports", plan)
	}
}

// However much waits, what runs for each delivery reads a few rows: it finds
// them by an index that has them in their order.
func TestHotQueriesUseIndexes(t *testing.T) {
	onlySQLite(t)
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		s := reopen(t, dir, nil)
		defer s.Close()
		for query, args := range map[string][]any{
			selectOldest:   {"report", "a", 0, 1, 1, 1},
			selectNewest:   {"report", "a", 0, 1, 1, 1},
			selectNext:     {1, "report", "a", 1},
			selectSiblings: {1, 1},
			selectSubject:  {"report", "a"},
			selectFar:      {"report", "a", 1},
			pruneAttempts:  {1, 1, 1},
			updateGone:     {"dead", "", 1},
			deleteAudit:    {1, 1},
			// Once, at the start, all that is there may be read, but no record of
			// what was there.
			updateClaimed: {},
			selectFiles:   {},
			selectStored:  {},
		} {
			plan := planOf(t, s, query, args)
			for _, allowed := range []string{
				"SCAN CONSTANT ROW", "SCAN deliveries USING INDEX deliveries_due", "SCAN b", "SCAN quarantine", "USE TEMP B-TREE FOR GROUP BY",
			} {
				plan = strings.ReplaceAll(plan, allowed, "")
			}
			if strings.Contains(plan, "SCAN") || strings.Contains(plan, "TEMP B-TREE") {
				t.Errorf("%s\ngot the plan\n%s\nwant a search of an index in its order", query, plan)
			}
		}
	})
}

func planOf(t *testing.T, s *Store, query string, args []any) string {
	t.Helper()
	var lines []string
	err := s.scan(t.Context(), "EXPLAIN QUERY PLAN "+query, args, func(rows *sql.Rows) error {
		var id, parent, unused int
		var line string
		err := rows.Scan(&id, &parent, &unused, &line)
		lines = append(lines, line)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(lines, "\n")
}
