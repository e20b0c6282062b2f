package reports

import (
	"encoding/json"
	"testing"
)

func TestCanonicalRoutes(t *testing.T) {
	canonical := func(handler string) string {
		t.Helper()
		text, err := CanonicalRoutes([]*Route{{All: true, HandlersRaw: []json.RawMessage{json.RawMessage(handler)}}})
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	one := canonical(`{"handler":"subroute","routes":[{"group":"group2","handle":[{"handler":"a","x":1}]}]}`)
	for _, tt := range []struct {
		name, handler string
		same          bool
	}{
		{"another order of members", `{"routes":[{"handle":[{"x":1,"handler":"a"}],"group":"group2"}],"handler":"subroute"}`, true},
		{"another number of the group", `{"handler":"subroute","routes":[{"group":"group7","handle":[{"handler":"a","x":1}]}]}`, true},
		{"another setting", `{"handler":"subroute","routes":[{"group":"group2","handle":[{"handler":"a","x":2}]}]}`, false},
		{"a group that is no route's", `{"handler":"subroute","group":"g","routes":[{"group":"group2","handle":[{"handler":"a","x":1}]}]}`, false},
	} {
		if same := canonical(tt.handler) == one; same != tt.same {
			t.Errorf("%s: got equal: %v, want %v", tt.name, same, tt.same)
		}
	}
	if _, err := CanonicalRoutes([]*Route{{HandlersRaw: []json.RawMessage{json.RawMessage(`{`)}}}); err == nil {
		t.Error("got no error for a handler that is not JSON")
	}
}
