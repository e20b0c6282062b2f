package reports

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
)

var someHandler = []json.RawMessage{json.RawMessage(`{"handler":"static_response"}`)}

func specific(name string, types ...string) *Route {
	return &Route{Name: name, Specific: types, HandlersRaw: someHandler}
}

func events(name string, names ...string) *Route {
	return &Route{Name: name, Events: names, HandlersRaw: someHandler}
}

func other(name string) *Route { return &Route{Name: name, Other: true, HandlersRaw: someHandler} }

func all(name string) *Route { return &Route{Name: name, All: true, HandlersRaw: someHandler} }

func TestTableErrors(t *testing.T) {
	tests := []struct {
		name   string
		routes []*Route
		want   string
	}{
		{"none", nil, "there are no routes"},
		{"null", []*Route{nil}, "route 1 is empty"},
		{"all and specific", []*Route{all("a"), specific("b", "pf_loans")}, `all stands alone: route "a" takes every report, so that "b" can take none`},
		{"all and other", []*Route{other("b"), all("a")}, "all stands alone"},
		{"all twice", []*Route{all("a"), all("b")}, "all stands alone"},
		{"all and specific in one", []*Route{{All: true, Specific: []string{"pf_loans"}, HandlersRaw: someHandler}}, "all stands alone"},
		{"type twice", []*Route{specific("a", "pf_loans"), specific("b", "pf_loans")}, `routes "a" and "b" both have specific pf_loans`},
		{"pattern twice", []*Route{specific("a", "pf_l*"), specific("b", "pf_l*")}, `routes "a" and "b" both have specific pf_l*`},
		{"type twice in one", []*Route{specific("a", "pf_loans", "pf_loans")}, `route "a" has specific pf_loans twice`},
		{"event twice", []*Route{events("a", "*"), events("b", "*")}, `routes "a" and "b" both have events *`},
		{"other twice", []*Route{other("a"), other("b")}, `routes "a" and "b" both have other`},
		{"name twice", []*Route{specific("a", "pf_loans"), other("a")}, `routes 1 and 2 are both called "a"`},
		{"default name twice", []*Route{specific("route-2", "pf_loans"), other("")}, `both called "route-2"`},
		{"specific star", []*Route{specific("a", "*")}, "write other for the types that no route names"},
		{"no type", []*Route{specific("a", "checking_account")}, "such as pf_checking_account"},
		{"upper case", []*Route{specific("a", "PF_LOANS")}, "lower-case letters"},
		{"star inside", []*Route{specific("a", "pf_*_l3")}, "may end in *"},
		{"empty type", []*Route{specific("a", "")}, "is no type of report"},
		{"only the kind", []*Route{specific("a", "pf_")}, "is no type of report"},
		{"event with dash", []*Route{events("a", "consent-revoked")}, "is no name of an event"},
		{"empty event", []*Route{events("a", "")}, "is no name of an event"},
		{"event star", []*Route{events("a", "**")}, "is no name of an event"},
		{"takes nothing", []*Route{{Name: "a", HandlersRaw: someHandler}}, "takes nothing: it needs specific, other, all or events"},
		{"no handlers", []*Route{{Name: "a", Other: true}}, "has no handlers"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := newTable(tt.routes)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got error %v, want one with %q", err, tt.want)
			}
		})
	}
}

func TestRouteOfReport(t *testing.T) {
	table, err := newTable([]*Route{
		specific("exact", "pf_categorized_checking_l3"),
		specific("short", "pf_*"), specific("long", "pf_categorized_*"), specific("middle", "pf_cat*"),
		specific("zero", "pj_loans*"),
		other("other"),
	})
	if err != nil {
		t.Fatal(err)
	}
	for reportType, want := range map[string]string{
		"pf_categorized_checking_l3":  "exact",
		"pf_categorized_checking_l33": "long",
		"pf_categorized_":             "long",
		"pf_categories":               "middle",
		"pf_":                         "short",
		"pj_loans":                    "zero",
		"pj_loan":                     "other",
		"PF_LOANS":                    "other",
		"":                            "other",
		"../pf_loans":                 "other",
	} {
		if got := table.route(reportType); got == nil || got.Name != want {
			t.Errorf("%q: got route %v, want %s", reportType, got, want)
		}
	}
	table, err = newTable([]*Route{specific("a", "pf_loans")})
	if err != nil {
		t.Fatal(err)
	}
	if got := table.route("pf_funds"); got != nil {
		t.Errorf("without other: got route %q, want none", got.Name)
	}
}

func TestRoutesOfEvents(t *testing.T) {
	table, err := newTable([]*Route{events("privacy", "consent_revoked", "consent_deleted*"), events("links", "link_created"), all("reports")})
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct{ events, routes, lost []string }{
		{[]string{"consent_revoked"}, []string{"privacy"}, nil},
		{[]string{"link_created", "consent_deleted_by_user", "consent_revoked"}, []string{"links", "privacy"}, nil},
		{[]string{"link_created", "page_view"}, []string{"links"}, []string{"page_view"}},
		{[]string{"page_view"}, nil, []string{"page_view"}},
	}
	for _, tt := range tests {
		routes, lost := table.routes(tt.events)
		var got []string
		for _, route := range routes {
			got = append(got, route.Name)
		}
		if !slices.Equal(got, tt.routes) || !slices.Equal(lost, tt.lost) {
			t.Errorf("%v: got routes %v and lost %v, want %v and %v", tt.events, got, lost, tt.routes, tt.lost)
		}
	}
}

func TestTypingErrors(t *testing.T) {
	tests := []struct {
		route *Route
		want  string
	}{
		{specific("a", "pf_cheking_account"), "did you mean pf_checking_account?"},
		{specific("a", "pf_catgorized_*"), "did you mean pf_categorized*?"},
		{events("a", "consent_revokd"), "did you mean consent_revoked?"},
		{specific("a", "pf_checking_account", "pf_*", "pj_categorized_*"), ""},
		{specific("a", "pf_something_that_is_new"), ""},
		{events("a", "*", "consent_*", "consent_error"), ""},
	}
	for _, tt := range tests {
		got := strings.Join(typingErrors([]*Route{tt.route}), "; ")
		if tt.want == "" && got != "" || !strings.Contains(got, tt.want) {
			t.Errorf("%v %v: got %q, want %q", tt.route.Specific, tt.route.Events, got, tt.want)
		}
	}
}

func TestProvisionErrors(t *testing.T) {
	routes := []*Route{all("a")}
	tests := []struct {
		name   string
		config Reports
		want   string
	}{
		{"max_body", Reports{MaxBody: -1, Routes: routes}, "max_body is -1"},
		{"max_body too large", Reports{MaxBody: 1<<30 + 1, Routes: routes}, "max_body is 1073741825: it is larger than 1 GiB"},
		{"klavi_sources", Reports{KlaviSources: []string{"klavi.ai"}, Routes: routes}, `klavi_sources: "klavi.ai" is neither an address such as`},
		{"unsigned_from", Reports{UnsignedFrom: []string{"10.0.0.0/33"}, Routes: routes}, `unsigned_from: "10.0.0.0/33"`},
		{"zone", Reports{UnsignedFrom: []string{"fe80::1%eth0"}, Routes: routes}, "unsigned_from"},
		{"no routes", Reports{}, "there are no routes"},
		{"unknown handler", Reports{Routes: []*Route{{Name: "a", All: true, HandlersRaw: []json.RawMessage{json.RawMessage(`{"handler":"nobody"}`)}}}}, `route "a"`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := provision(t, tt.config)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got error %v, want one with %q", err, tt.want)
			}
		})
	}
}

func TestTwoTables(t *testing.T) {
	handler := func(routes ...*Route) map[string]any {
		return map[string]any{"handler": "klavi_reports", "account": t.Name(), "routes": routes}
	}
	ctx, err := caddy.ProvisionContext(caddyConfig(t.TempDir(), t.Name(), nil, handler(all("a")), handler(all("a"))))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ctx.App("http"); err != nil {
		t.Errorf("equal routes: got %v, want no error", err)
	}
	_, err = caddy.ProvisionContext(caddyConfig(t.TempDir(), t.Name(), nil, handler(all("a")), handler(other("a"))))
	if err == nil || !strings.Contains(err.Error(), `the one of server "srv0"`) || !strings.Contains(err.Error(), `the one of server "srv1"`) {
		t.Errorf("other routes: got %v, want an error that names both servers", err)
	}
}

func TestSources(t *testing.T) {
	s, err := parseSources([]string{"203.0.113.7", "10.1.2.3/8", "2001:db8::/32", "::ffff:192.0.2.1", "::ffff:198.51.100.0/120"})
	if err != nil {
		t.Fatal(err)
	}
	for addr, want := range map[string]bool{
		"203.0.113.7": true, "203.0.113.8": false, "10.200.0.1": true, "2001:db8::1": true, "2001:db9::1": false, "192.0.2.1": true, "198.51.100.9": true,
	} {
		if got := s.contain(mustAddr(addr)); got != want {
			t.Errorf("%s: got %t, want %t", addr, got, want)
		}
	}
	if s.everybody() {
		t.Error("got everybody, want only some")
	}
}
