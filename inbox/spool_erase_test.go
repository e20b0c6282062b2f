//go:build !klavi_nopostgres

package inbox

import (
	"errors"
	"log/slog"
	"slices"
	"testing"
	"time"
)

func TestSpoolAndErasing(t *testing.T) {
	proxy, direct := spoolTest(t)
	dir := t.TempDir()
	s := openTest(t, spoolOptions(dir, proxy.URL, testLog{t}))
	other := openTest(t, Options{EncryptionKey: testKey, Logger: slog.New(slog.DiscardHandler), Postgres: &Postgres{URL: direct, Schema: "spooled"}})
	proxy.Cut()
	there := mustPut(t, s, Head{Kind: KindReport, Subjects: []string{"a"}, ReportID: "1", ConsentIDs: []string{"there"}, Received: time.Now()}, bodyOf("1"))
	here := mustPut(t, s, Head{Kind: KindReport, Subjects: []string{"a"}, ReportID: "2", ConsentIDs: []string{"here"}, Received: time.Now()}, bodyOf("2"))
	if _, err := s.Erase(t.Context(), EraseConsent, "here", "ana", "asked"); !errors.Is(err, ErrUnavailable) {
		t.Errorf("got %v, want it refused while the database is away: it may have more", err)
	}
	s.base.(*postgres).end() // it hands nothing over any more
	s.base.(*postgres).running.Wait()
	if _, err := other.Erase(t.Context(), EraseConsent, "there", "ana", "asked"); err != nil {
		t.Fatal(err)
	}
	proxy.Resume()
	var receipt EraseReceipt
	eventually(t, "the database is back", func() bool {
		var err error
		receipt, err = s.Erase(t.Context(), EraseConsent, "here", "ana", "asked")
		return err == nil
	})
	if want := (ErasedReport{UID: here.UID, ReportID: "2", State: "waiting", Destroyed: true}); !slices.Equal(receipt.Reports, []ErasedReport{want}) {
		t.Errorf("got %+v, want %+v", receipt.Reports, want)
	}
	if state := stateOf(t, s.base.spool().store, here.UID); state != Erased {
		t.Errorf("got it %s in the spool, want it erased", state)
	}
	_ = s.Close()
	s = openTest(t, spoolOptions(dir, proxy.URL, testLog{t}))
	handedOver(t, s)
	for _, uid := range []string{there.UID, here.UID} {
		if r, err := s.Show(t.Context(), uid); err != nil || r.State != Erased {
			t.Errorf("got %+v and %v, want it erased", r, err)
		}
	}
	if ids := reportIDs(t, s); len(ids) != 0 {
		t.Errorf("got %d bodies, want none", len(ids))
	}
	_ = s.Close()
	checkSpoolEmpty(t, dir)
}

// An event upon which something is to be erased has it erased in the database, too.
func TestSpoolErasesOnEvents(t *testing.T) {
	proxy, _ := spoolTest(t)
	o := spoolOptions(t.TempDir(), proxy.URL, testLog{t})
	o.EraseOn = []string{"revoked"}
	s := openTest(t, o)
	report := mustPut(t, s, Head{Kind: KindReport, Subjects: []string{"a"}, ReportID: "1", ConsentIDs: []string{"c"}, Received: time.Now()}, bodyOf("1"))
	proxy.Cut()
	event := mustPut(t, s, Head{Kind: KindEvent, Subjects: []string{"revoked"}, ReportID: "2", ConsentIDs: []string{"c"}, Received: time.Now()}, bodyOf("2"))
	proxy.Resume()
	handedOver(t, s)
	if got := stateOf(t, s, report.UID); got != Erased {
		t.Errorf("got the report %s, want it erased", got)
	}
	if got := stateOf(t, s, event.UID); got != Waiting {
		t.Errorf("got the event %s, want it waiting", got)
	}
}
