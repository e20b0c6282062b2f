package gateway

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/caddy-klavi/caddy-klavi/inbox"
)

var accountNames atomic.Int64

// newAccountName returns a name that no test had: counters belong to the process.
func newAccountName(t *testing.T) string {
	return fmt.Sprint(t.Name(), "-", accountNames.Add(1))
}

// scraped returns what a scrape says of an account, as metric{route,result}. A
// histogram says how much it has observed.
func scraped(t *testing.T, account string) map[string]float64 {
	t.Helper()
	registry := prometheus.NewRegistry()
	if err := registerMetrics(registry); err != nil {
		t.Fatal(err)
	}
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	values := make(map[string]float64)
	for _, family := range families {
		for _, m := range family.GetMetric() {
			labels := make(map[string]string)
			for _, l := range m.GetLabel() {
				labels[l.GetName()] = l.GetValue()
			}
			if labels["account"] != account {
				continue
			}
			name := strings.TrimPrefix(family.GetName(), "caddy_klavi_")
			if route, ok := labels["route"]; ok {
				name += "{" + route + "}"
			}
			if result, ok := labels["result"]; ok {
				name += " " + result
			}
			values[name] = m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
		}
	}
	return values
}

// only returns those of the values whose names begin so.
func only(values map[string]float64, prefix string) []string {
	names := slices.Sorted(maps.Keys(values))
	return slices.DeleteFunc(names, func(name string) bool { return !strings.HasPrefix(name, prefix) })
}

func wantValues(t *testing.T, got, want map[string]float64) {
	t.Helper()
	for name, value := range want {
		if n, ok := got[name]; !ok || n != value {
			t.Errorf("got %s %v (there: %v), want %v", name, n, ok, value)
		}
	}
}

// fussyReports has a route for loans and one for funds, of which only the first
// accepts, and none for all else.
type fussyReports struct{ atomic.Pointer[inbox.Outcome] }

func (f *fussyReports) Route(_ inbox.Kind, subject string) string {
	switch subject {
	case "pf_loans":
		return "loans"
	case "pf_funds":
		return "funds"
	}
	return ""
}

func (f *fussyReports) List() []inbox.Route {
	return []inbox.Route{{Name: "loans", Concurrency: 1}, {Name: "funds", Concurrency: 1}}
}

func (f *fussyReports) Deliver(_ context.Context, route string, _ *inbox.Delivery) inbox.Outcome {
	if route == "loans" {
		return inbox.Outcome{Accepted: true}
	}
	return *f.Load()
}

func (*fussyReports) LargestBody() int64 { return 1 << 20 }

func (f *fussyReports) Verify(*inbox.Quarantined) (*inbox.Head, error) { return nil, nil }

func TestInboxMetrics(t *testing.T) {
	account := newAccountName(t)
	k := newKeeper(t, account, t.TempDir())
	reports := new(fussyReports)
	reports.Store(&inbox.Outcome{Status: 500, Reason: "not now"})
	config := &startedConfig{account: new(Account), reports: reports, log: slog.DiscardHandler}
	if got := scraped(t, account); len(got) != 0 {
		t.Errorf("got %v before a config is started, want nothing", got)
	}
	if err := k.start(config); err != nil {
		t.Fatal(err)
	}
	store, err := k.wait(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	wantValues(t, scraped(t, account), map[string]float64{
		"inbox_ready": 1, "inbox_bytes": 0, "inbox_quarantined": 0, "inbox_damaged": 0, "inbox_waiting{loans}": 0, "inbox_oldest_seconds{loans}": 0,
		"inbox_dead{loans}": 0, "inbox_paused{loans}": 0, "inbox_failing{loans}": 0,
	})

	for i, reportType := range []string{"pf_loans", "pf_funds", "pj_balance"} {
		keepReportOf(t, k, reportType, strings.Repeat("1", i+1))
	}
	eventually(t, "the attempts", func() bool {
		got := scraped(t, account)
		return got["inbox_waiting{loans}"] == 0 && got["delivery_duration_seconds{loans}"] == 1 && got["delivery_duration_seconds{funds}"] >= 1
	})
	got := scraped(t, account)
	wantValues(t, got, map[string]float64{
		"reports_total{loans} accepted": 1, "inbox_waiting{loans}": 0, "inbox_waiting{funds}": 1, "inbox_waiting{}": 1, "inbox_dead{funds}": 0,
	})
	if got["inbox_bytes"] <= 0 || got["reports_total{funds} failed"] < 1 || got["inbox_oldest_seconds{funds}"] <= 0 || got["inbox_oldest_seconds{}"] <= 0 {
		t.Errorf("got %v, want bytes, a failure, and that two have waited", got)
	}
	if _, ok := got["reports_total{loans} failed"]; ok {
		t.Error("got a failure at the route that has accepted all")
	}

	// A person pauses one route, and the other dies.
	if err := store.Pause(t.Context(), "loans", "a test"); err != nil {
		t.Fatal(err)
	}
	reports.Store(&inbox.Outcome{Status: 410, Dead: true})
	if _, err := store.Retry(t.Context(), inbox.Filter{}, "a test", nil); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a death", func() bool { return scraped(t, account)["inbox_deaths_total{funds}"] == 1 })
	wantValues(t, scraped(t, account), map[string]float64{
		"inbox_waiting{funds}": 0, "inbox_oldest_seconds{funds}": 0, "inbox_dead{funds}": 1, "inbox_paused{loans}": 1, "inbox_paused{funds}": 0,
	})

	// A body of an unknown key.
	d, err := store.NewDraft()
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Quarantine(t.Context(), "signature", time.Now(), nil, [32]byte{}); err != nil {
		t.Fatal(err)
	}
	wantValues(t, scraped(t, account), map[string]float64{"inbox_quarantined": 1})

	k.stop(config)
	giveBack(t, k)
	after := scraped(t, account)
	if left := slices.DeleteFunc(only(after, "inbox_"), func(name string) bool { return strings.HasPrefix(name, "inbox_deaths_total") }); len(left) > 0 {
		t.Errorf("got %q of an inbox that is gone, want none", left)
	}
	wantValues(t, after, map[string]float64{"reports_total{loans} accepted": 1, "inbox_deaths_total{funds}": 1})
}

// A route that nobody can reach any more is failing.
func TestInboxMetricsOfFailingRoute(t *testing.T) {
	account := newAccountName(t)
	k := newKeeper(t, account, t.TempDir())
	defer giveBack(t, k)
	config := newConfig(&fakeReports{route: "it"}, nil)
	if err := k.start(config); err != nil {
		t.Fatal(err)
	}
	defer k.stop(config)
	for i := range 6 {
		keepReportOf(t, k, "pf_loans", strings.Repeat("1", i+1))
	}
	eventually(t, "that the route is failing", func() bool { return scraped(t, account)["inbox_failing{it}"] == 1 })
}

// What cannot be opened is not ready, and there is nothing more to say of it. What
// cannot be written is not ready either, but can be read.
func TestInboxMetricsOfTrouble(t *testing.T) {
	account := newAccountName(t)
	dir := filepath.Join(t.TempDir(), "inbox")
	other, err := inbox.Open(t.Context(), inbox.Options{Dir: dir, Unencrypted: true, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	k := newKeeper(t, account, dir)
	defer giveBack(t, k)
	config := newConfig(&fakeReports{route: "it"}, nil)
	if err := k.start(config); err != nil {
		t.Fatal(err)
	}
	defer k.stop(config)
	got := scraped(t, account)
	if names := only(got, ""); !slices.Equal(names, []string{"inbox_ready"}) || got["inbox_ready"] != 0 {
		t.Errorf("got %v of an inbox that another process has, want only that it is not ready", got)
	}
	if err := other.Close(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "that it is ready", func() bool { return scraped(t, account)["inbox_ready"] == 1 })
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	wantValues(t, scraped(t, account), map[string]float64{"inbox_ready": 0, "inbox_waiting{it}": 0})
}

// A reload that changes the directory has two inboxes for a while. A scrape then
// speaks of the newer one: it fails as a whole if a gauge is there twice.
func TestInboxMetricsOfTwo(t *testing.T) {
	account := newAccountName(t)
	before, after := newKeeper(t, account, t.TempDir()), newKeeper(t, account, t.TempDir())
	defer giveBack(t, before)
	defer giveBack(t, after)
	old, next := newConfig(&fakeReports{route: "old"}, nil), newConfig(&fakeReports{route: "next"}, nil)
	if err := before.start(old); err != nil {
		t.Fatal(err)
	}
	if _, err := before.wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantValues(t, scraped(t, account), map[string]float64{"inbox_waiting{old}": 0})
	if err := after.start(next); err != nil {
		t.Fatal(err)
	}
	if _, err := after.wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := only(scraped(t, account), "inbox_waiting"); !slices.Equal(got, []string{"inbox_waiting{next}"}) {
		t.Errorf("got %q, want the newer inbox alone", got)
	}
	after.stop(next) // the reload has failed
	if got := only(scraped(t, account), "inbox_waiting"); !slices.Equal(got, []string{"inbox_waiting{old}"}) {
		t.Errorf("got %q after a reload that failed, want the inbox that was there", got)
	}
	before.stop(old)
}

// A disk that hangs holds up nobody who asks, and is asked once.
func TestInboxThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const askers = 3
		k := new(keeper)
		hang := make(chan struct{})
		asked := 0
		answers := make(chan error, askers)
		ctx, cancel := context.WithTimeout(t.Context(), askTime)
		defer cancel()
		for range askers {
			go func() {
				_, err := k.ask(ctx, "ready", func() (any, error) {
					asked++
					<-hang
					return nil, nil
				})
				answers <- err
			}()
			synctest.Wait()
		}
		if asked != 1 || len(answers) != 0 {
			t.Errorf("got it asked %d times with %d answers, want once and none", asked, len(answers))
		}
		for range askers {
			if err := <-answers; !errors.Is(err, errNoAnswer) {
				t.Errorf("got %v, want %v", err, errNoAnswer)
			}
		}
		close(hang)
	})
}
