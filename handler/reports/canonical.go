package reports

import (
	"encoding/json"
	"fmt"
)

// CanonicalRoutes returns routes as JSON that is equal for equal routes. It is
// to be called before their handlers are loaded, which empties them.
func CanonicalRoutes(routes []*Route) ([]byte, error) {
	written, err := json.Marshal(routes)
	if err != nil {
		return nil, err
	}
	var value any
	if err := json.Unmarshal(written, &value); err != nil {
		return nil, fmt.Errorf("a handler's config is not JSON: %w", err)
	}
	ungroup(value)
	return json.Marshal(value) // members in order of their names
}

// ungroup removes the groups of Caddy's routes: the Caddyfile adapter numbers
// them through the whole file, so that equal blocks have different ones.
func ungroup(value any) {
	switch v := value.(type) {
	case []any:
		for _, element := range v {
			ungroup(element)
		}
	case map[string]any:
		if _, isRoute := v["handle"].([]any); isRoute {
			delete(v, "group")
		}
		for _, member := range v {
			ungroup(member)
		}
	}
}
