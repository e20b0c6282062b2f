package inbox

import (
	"database/sql"
	"strings"
	"testing"
	"testing/synctest"
)

// However much waits, what runs for each delivery reads a few rows: it finds
// them by an index that has them in their order.
func TestHotQueriesUseIndexes(t *testing.T) {
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
		} {
			plan := planOf(t, s, query, args)
			plan = strings.ReplaceAll(plan, "SCAN CONSTANT ROW", "")
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
