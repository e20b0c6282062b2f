package faults

import (
	"fmt"
	"net/http"
	"sync"
	"testing"
)

// Two hundred people consent in the same moment, and Klavi sends all ten reports of each
// of them at once. None is told to come again, and each is delivered once.
func TestBurst(t *testing.T) {
	users := 200
	if testing.Short() || raced {
		users = 20
	}
	types := []string{
		"pf_checking_account", "pf_savings_account", "pf_credit_card", "pf_loans", "pf_financing",
		"pf_bank_fixed_incomes", "pf_funds", "pf_treasure_titles", "pf_categorized_checking_l3", "pf_credit_risk",
	}
	sizes := []int{500, 1000, 4000, 10_000, 100_000}
	s, config := newSender(t), newSetup(t, "")
	var upstreams []*upstream
	config.routes = ""
	for _, reportType := range types {
		u := newUpstream(t)
		upstreams = append(upstreams, u)
		config.routes += fmt.Sprintf("specific %s %s as %[1]s\n", reportType, u.URL)
	}
	p := start(t, config)
	s.mustPost(p.url, "first", reportOf(types[0], "first", 300))

	begin := make(chan struct{})
	var all sync.WaitGroup
	for user := range users {
		for i, reportType := range types {
			id := fmt.Sprintf("%s-%d", reportType, user)
			body := reportOf(reportType, id, sizes[(user+i)%len(sizes)])
			all.Go(func() {
				<-begin
				if got := s.once(p.url, id, body); got != http.StatusOK {
					t.Errorf("got status %d for %s, want 200", got, id)
				}
			})
		}
	}
	close(begin)
	all.Wait()
	s.drain(p, upstreams...)
	for user := range users {
		for i, reportType := range types {
			if n := upstreams[i].accepted(fmt.Sprintf("%s-%d", reportType, user)); n != 1 {
				t.Errorf("got report %s of user %d delivered %d times to its upstream, want once", reportType, user, n)
			}
		}
	}
	if got, want := s.taken(), users*len(types)+1; got != want {
		t.Errorf("got %d reports taken, want %d", got, want)
	}
}
