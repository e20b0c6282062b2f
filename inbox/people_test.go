package inbox

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"
)

func aFew(t *testing.T, s *Store) (byID map[string]Receipt, routes *fakeRoutes) {
	t.Helper()
	byID = make(map[string]Receipt)
	routes = routesTo(func(ctx context.Context, route string, d *Delivery) Outcome {
		switch {
		case strings.HasPrefix(d.Head.ReportID, "dead"):
			return Outcome{Dead: true, Status: 410, Reason: "status 410"}
		case strings.HasPrefix(d.Head.ReportID, "waits"):
			return Outcome{Status: 500, Reason: "status 500"}
		}
		return accept(ctx, route, d)
	}, "cards", "loans", "events")
	routes.table = func(kind Kind, name string) string {
		switch {
		case kind == KindEvent:
			return "events"
		case strings.HasPrefix(name, "pf_card"):
			return "cards"
		case name == "pf_loans":
			return "loans"
		}
		return ""
	}
	s.Attach(routes)
	for _, r := range []struct {
		kind     Kind
		id, name string
		link     string
	}{
		{KindReport, "done-1", "pf_card_bills", "link-1"},
		{KindReport, "done-2", "pf_loans", "link-1"},
		{KindReport, "dead-1", "pf_card_bills", "link-1"},
		{KindReport, "dead-2", "pf_loans", "link-2"},
		{KindReport, "waits-1", "pf_card_limits", "link-2"},
		{KindEvent, "waits-2", "consent_revoked", "link-2"},
		{KindReport, "lost-1", "pf_unheard_of", "link-3"},
	} {
		byID[r.id] = mustPut(t, s, Head{
			Kind: r.kind, Subjects: []string{r.name}, ReportID: r.id, Received: s.now(), RequestID: "request-" + r.id,
			LinkIDs: []string{r.link}, ConsentIDs: []string{"consent-" + r.id}, EventIDs: []string{"event-" + r.id},
		}, []byte("body of "+r.id))
		pass(10 * time.Second)
	}
	byID["unreadable"] = mustPut(t, s, Head{Kind: KindUnreadable, ReportID: "unreadable", Received: s.now()}, []byte("?"))
	rest()
	return byID, routes
}

func idsOf(records []Record) (ids []string) {
	for _, r := range records {
		ids = append(ids, r.ReportID)
	}
	return ids
}

func TestList(t *testing.T) {
	bubble(t, nil, func(t *testing.T, s *Store) {
		byID, _ := aFew(t, s)
		tests := []struct {
			name   string
			filter Filter
			want   []string
		}{
			{"all", Filter{}, []string{"done-1", "done-2", "dead-1", "dead-2", "waits-1", "waits-2", "lost-1", "unreadable"}},
			{"waiting", Filter{State: Waiting}, []string{"waits-1", "waits-2", "lost-1"}},
			{"delivered", Filter{State: Delivered}, []string{"done-1", "done-2"}},
			{"dead", Filter{State: Dead}, []string{"dead-1", "dead-2", "unreadable"}},
			{"undeliverable", Filter{State: Undeliverable}, []string{"lost-1"}},
			{"a type", Filter{Type: "pf_loans"}, []string{"done-2", "dead-2"}},
			{"types", Filter{Type: "pf_card_*"}, []string{"done-1", "dead-1", "waits-1"}},
			{"a wild card in between is none", Filter{Type: "pf_%_*"}, nil},
			{"an event", Filter{Type: "consent_revoked"}, []string{"waits-2"}},
			{"a route", Filter{Route: "cards"}, []string{"done-1", "dead-1", "waits-1"}},
			{"a route and a state", Filter{Route: "loans", State: Dead}, []string{"dead-2"}},
			{"a route of which none is undeliverable", Filter{Route: "loans", State: Undeliverable}, nil},
			{"a type that is dead", Filter{Type: "pf_*", State: Dead}, []string{"dead-1", "dead-2"}},
			{"older", Filter{OlderThan: 55 * time.Second}, []string{"done-1", "done-2"}},
			{"newer", Filter{NewerThan: 15 * time.Second}, []string{"lost-1", "unreadable"}},
			{"both", Filter{OlderThan: 25 * time.Second, NewerThan: 45 * time.Second}, []string{"dead-2", "waits-1"}},
			{"report", Filter{ReportID: "dead-1"}, []string{"dead-1"}},
			{"request", Filter{RequestID: "request-dead-1"}, []string{"dead-1"}},
			{"link", Filter{LinkID: "link-2"}, []string{"dead-2", "waits-1", "waits-2"}},
			{"consent", Filter{ConsentID: "consent-lost-1"}, []string{"lost-1"}},
			{"event id", Filter{EventID: "event-waits-2"}, []string{"waits-2"}},
			{"a link as a consent", Filter{ConsentID: "link-2"}, nil},
			{"uid", Filter{UID: byID["waits-1"].UID}, []string{"waits-1"}},
			{"nothing", Filter{UID: "nobody"}, nil},
		}
		for _, tt := range tests {
			records, err := s.List(t.Context(), tt.filter, Page{})
			if got := idsOf(records); err != nil || !slices.Equal(got, tt.want) {
				t.Errorf("%s: got %v (%v), want %v", tt.name, got, err, tt.want)
			}
			var paged []Record
			for page := (Page{Limit: 2}); ; page.After = paged[len(paged)-1].UID {
				more, err := s.List(t.Context(), tt.filter, page)
				if err != nil || len(more) > 2 {
					t.Fatalf("%s: got a page of %d (%v), want two at most", tt.name, len(more), err)
				}
				if paged = append(paged, more...); len(more) == 0 {
					break
				}
			}
			if got := idsOf(paged); !slices.Equal(got, tt.want) {
				t.Errorf("%s, in pages: got %v, want %v", tt.name, got, tt.want)
			}
		}
		if _, err := s.List(t.Context(), Filter{State: "lost"}, Page{}); err == nil || !strings.Contains(err.Error(), "undeliverable") {
			t.Errorf("an unknown state: got %v, want an error that lists those that there are", err)
		}
	})
}

func TestShow(t *testing.T) {
	bubble(t, nil, func(t *testing.T, s *Store) {
		byID, _ := aFew(t, s)
		r, err := s.Show(t.Context(), byID["dead-1"].UID)
		if err != nil {
			t.Fatal(err)
		}
		if r.Kind != KindReport || !slices.Equal(r.Types, []string{"pf_card_bills"}) || r.Size != int64(len("body of dead-1")) || len(r.Digest) != 64 ||
			r.RequestID != "request-dead-1" || !slices.Equal(r.LinkIDs, []string{"link-1"}) || !slices.Equal(r.ConsentIDs, []string{"consent-dead-1"}) {
			t.Errorf("got %+v, want what the head said", r)
		}
		if d := r.Deliveries[0]; d.State != Dead || d.Route != "cards" || d.Status != 410 || d.Reason != "status 410" || d.Attempts != 1 {
			t.Errorf("got %+v, want a delivery that died on the route cards", d)
		}
		if _, err := s.Show(t.Context(), "nobody"); !errors.Is(err, ErrNotFound) {
			t.Errorf("an unknown uid: got %v, want ErrNotFound", err)
		}
		if _, err := s.Show(t.Context(), ""); !errors.Is(err, ErrNotFound) {
			t.Errorf("no uid: got %v, want ErrNotFound", err)
		}
	})
}

func TestExport(t *testing.T) {
	bubble(t, nil, func(t *testing.T, s *Store) {
		byID, _ := aFew(t, s)
		uid := byID["dead-1"].UID
		body, err := s.Export(t.Context(), uid, "ana", "ticket 7")
		if err != nil {
			t.Fatal(err)
		}
		r, err := s.Show(t.Context(), uid) // before a byte is read
		if err != nil || len(r.Actions) != 1 || r.Actions[0] != (Action{At: r.Actions[0].At, Who: "ana", What: "export", Why: "ticket 7"}) {
			t.Errorf("got the actions %+v (%v), want the export", r.Actions, err)
		}
		data, err := io.ReadAll(body)
		if err != nil || string(data) != "body of dead-1" {
			t.Errorf("got %q (%v), want the body", data, err)
		}
		if err := body.Close(); err != nil {
			t.Error(err)
		}
		for name, tt := range map[string]struct {
			uid, who, why string
			want          error
		}{
			"delivered":  {byID["done-1"].UID, "ana", "ticket 7", ErrGone},
			"unknown":    {"nobody", "ana", "ticket 7", ErrNotFound},
			"nobody":     {uid, "", "ticket 7", nil},
			"no reason":  {uid, "ana", "", nil},
			"unwritable": {uid, "ana", "ticket 7", ErrUnavailable},
		} {
			end := func() {}
			if name == "unwritable" {
				end = refuseWrites(t, s, "INSERT ON audit")
			}
			body, err := s.Export(t.Context(), tt.uid, tt.who, tt.why)
			end()
			if body != nil || err == nil || tt.want != nil && !errors.Is(err, tt.want) {
				t.Errorf("%s: got %v and %v, want no body and %v", name, body, err, tt.want)
			}
		}
	})
}

func TestAudit(t *testing.T) {
	bubble(t, nil, func(t *testing.T, s *Store) {
		byID, routes := aFew(t, s)
		routes.answer(accept)
		if _, err := s.Retry(t.Context(), Filter{UID: byID["dead-1"].UID}, "ana", nil); err != nil {
			t.Fatal(err)
		}
		rest()
		records, err := s.Audit(t.Context(), Filter{ConsentID: "consent-dead-1"}, Page{})
		if err != nil || len(records) != 1 {
			t.Fatalf("got %d records (%v), want the one of the consent", len(records), err)
		}
		r := records[0]
		if len(r.Attempts) != 2 || r.Attempts[0].Accepted || !r.Attempts[1].Accepted || r.Attempts[1].Route != "cards" || r.Attempts[1].Node != "test" {
			t.Errorf("got the attempts %+v, want the refused one and the one that was accepted", r.Attempts)
		}
		if len(r.Actions) != 1 || r.Actions[0].Who != "ana" {
			t.Errorf("got the actions %+v, want the retry", r.Actions)
		}
	})
}

func TestListRoutes(t *testing.T) {
	bubble(t, nil, func(t *testing.T, s *Store) {
		aFew(t, s)
		list, err := s.ListRoutes(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, r := range list {
			got = append(got, fmt.Sprintf("%s waiting %d dead %d", r.Name, r.Waiting, r.Dead))
		}
		want := []string{"cards waiting 1 dead 1", "loans waiting 0 dead 1", "events waiting 1 dead 0", " waiting 1 dead 1"}
		if !slices.Equal(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
		if r := list[0]; r.Concurrency != 4 || r.Timeout != 30*time.Second || r.LastStatus != 500 || s.now().Sub(r.Oldest) != 30*time.Second {
			t.Errorf("got %+v, want its settings, the last status, and that its oldest waits for 30s", r)
		}
	})
}

func TestObserver(t *testing.T) {
	var attempts []string
	bubble(t, func(o *Options) {
		o.Observer.Attempt = func(route string, o Outcome, _ time.Duration) {
			attempts = append(attempts, fmt.Sprint(route, " ", o.Accepted, " ", o.Status))
		}
	}, func(t *testing.T, s *Store) {
		routes := routesTo(refuse(500), "a")
		routes.list[0].Concurrency = 1
		s.Attach(routes)
		arrive(t, s, "a", "1")
		rest()
		routes.answer(accept)
		pass(time.Second)
		if want := []string{"a false 500", "a true 200"}; !slices.Equal(attempts, want) {
			t.Errorf("got %v, want %v", attempts, want)
		}
	})
}
