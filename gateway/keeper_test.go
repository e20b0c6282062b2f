package gateway

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddy-klavi/caddy-klavi/inbox"
)

// fakeReports takes every report for a route of its own.
type fakeReports struct {
	route   string
	got     atomic.Int32
	accepts bool
	knows   bool // the keys of all bodies
}

func (f *fakeReports) Route(inbox.Kind, string) string { return f.route }
func (f *fakeReports) List() []inbox.Route {
	return []inbox.Route{{Name: f.route, Concurrency: 1, Timeout: time.Minute}}
}

func (f *fakeReports) Deliver(context.Context, string, *inbox.Delivery) inbox.Outcome {
	f.got.Add(1)
	return inbox.Outcome{Accepted: f.accepts, Reason: "not now"}
}

func (f *fakeReports) LargestBody() int64 { return 1 << 20 }

func (f *fakeReports) Verify(*inbox.Quarantined) (*inbox.Head, error) {
	if !f.knows {
		return nil, nil
	}
	return &inbox.Head{Kind: inbox.KindReport, Subjects: []string{"pf_loans"}, ReportID: "released"}, nil
}

func newConfig(r *fakeReports, key []byte) *startedConfig {
	return &startedConfig{account: &Account{inboxKey: key}, reports: r, log: slog.DiscardHandler}
}

func newKeeper(t *testing.T, account, dir string) *keeper {
	t.Helper()
	k, err := acquireKeeper(account, inboxPlace{dir: realPath(dir)})
	if err != nil {
		t.Fatal(err)
	}
	k.openAgain = time.Millisecond
	return k
}

func giveBack(t *testing.T, k *keeper) {
	t.Helper()
	if err := k.giveBack(); err != nil {
		t.Error(err)
	}
}

func keepReport(t *testing.T, k *keeper, id string) {
	t.Helper()
	keepReportOf(t, k, "pf_loans", id)
}

func keepReportOf(t *testing.T, k *keeper, reportType, id string) {
	t.Helper()
	store, err := k.wait(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	d, err := store.NewDraft()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.Write([]byte("{}")); err != nil {
		t.Fatal(err)
	}
	head := inbox.Head{Kind: inbox.KindReport, Subjects: []string{reportType}, ReportID: id}
	if _, err := d.Commit(t.Context(), head, [32]byte{byte(len(id))}); err != nil {
		t.Fatal(err)
	}
}

func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !is(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("got never %s", what)
		}
	}
}

// A reload that changes a secret or a limit must not open a second store on the
// directory, and the routes of the newest config deliver.
func TestKeeperAcrossReloads(t *testing.T) {
	dir := t.TempDir()
	first, second := &fakeReports{route: "first", accepts: true}, &fakeReports{route: "second", accepts: true}
	k := newKeeper(t, "reloads", dir)
	old, next := newConfig(first, nil), newConfig(second, nil)
	next.settings.MaxSize = 1 << 20
	if err := k.start(old); err != nil {
		t.Fatal(err)
	}
	store, err := k.wait(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	keepReport(t, k, "1")
	eventually(t, "the report at the first config's route", func() bool { return first.got.Load() == 1 })

	again := newKeeper(t, "reloads", dir)
	if again != k {
		t.Fatal("got a second keeper for one account and directory, want the first")
	}
	if err := again.start(next); err != nil {
		t.Fatal(err)
	}
	k.stop(old)
	giveBack(t, k)
	if same, err := again.wait(t.Context()); same != store || err != nil {
		t.Errorf("got another store (%v) after a reload, want the same", err)
	}
	keepReport(t, again, "12")
	eventually(t, "the report at the second config's route", func() bool { return second.got.Load() == 1 })
	if n := first.got.Load(); n != 1 {
		t.Errorf("got %d reports at the route of the config that is gone, want 1", n)
	}
	again.stop(next)
	giveBack(t, again)
	if _, err := store.NewDraft(); !errors.Is(err, inbox.ErrUnavailable) {
		t.Errorf("got %v from the store when its last config is gone, want that it is closed", err)
	}
}

// A config whose start fails puts back what was in force before it.
func TestKeeperAfterFailedReload(t *testing.T) {
	k := newKeeper(t, "failed reload", t.TempDir())
	defer giveBack(t, k)
	first, second := &fakeReports{route: "first", accepts: true}, &fakeReports{route: "second", accepts: true}
	old, next := newConfig(first, nil), newConfig(second, nil)
	if err := k.start(old); err != nil {
		t.Fatal(err)
	}
	if _, err := k.wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	next.settings.MaxSize = 1 // nothing fits
	if err := k.start(next); err != nil {
		t.Fatal(err)
	}
	k.stop(next)
	keepReport(t, k, "1")
	eventually(t, "the report at the route that was there before", func() bool { return first.got.Load() == 1 })
	if n := second.got.Load(); n != 0 {
		t.Errorf("got %d reports at the route of the config that failed, want none", n)
	}

	key := []byte("0123456789abcdef0123456789abcdef")
	err := k.start(newConfig(second, key))
	if err == nil || !strings.Contains(err.Error(), "another encryption_key") {
		t.Errorf("got %v from a config with another key, want that it is refused", err)
	}
	keepReport(t, k, "12")
	eventually(t, "a report after the config that was refused", func() bool { return first.got.Load() == 2 })
	k.stop(old)
}

// An inbox that cannot be opened keeps nobody from running, and is opened once it
// can be: with the right key after a wrong one, and after another process.
func TestKeeperOpensLater(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "not there", "yet")
	right, wrong := []byte("0123456789abcdef0123456789abcdef"), []byte("fedcba9876543210fedcba9876543210")
	other, err := inbox.Open(t.Context(), inbox.Options{Dir: dir, EncryptionKey: right, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	k := newKeeper(t, "later", dir)
	defer giveBack(t, k)
	r := &fakeReports{route: "it", accepts: true}
	bad := newConfig(r, wrong)
	if err := k.start(bad); err != nil {
		t.Fatal(err)
	}
	fails := func(reason error) func() bool {
		return func() bool { _, err := k.get(); return errors.Is(err, reason) }
	}
	eventually(t, "that it is locked", fails(inbox.ErrLocked))
	if err := other.Close(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "that the key is wrong", fails(inbox.ErrKey))
	good := newConfig(r, right)
	if err := k.start(good); err != nil {
		t.Fatal(err)
	}
	k.stop(bad)
	keepReport(t, k, "1")
	eventually(t, "the report", func() bool { return r.got.Load() == 1 })
	k.stop(good)
}

// Caddy does not stop the apps of a config that fails after they were started: it
// only cleans them up.
func TestCleanupWithoutStop(t *testing.T) {
	config := fmt.Sprintf(`{"accounts":{"default":{"environment":"sandbox","access_key":"a","secret_key":"s","inbox":{"dir":%q}}}}`, t.TempDir())
	first, second := &fakeReports{route: "first", accepts: true}, &fakeReports{route: "second", accepts: true}
	apps := make(map[*fakeReports]*App)
	for _, r := range []*fakeReports{first, second} {
		app, _, err := provisionApp(t, config)
		if err != nil {
			t.Fatal(err)
		}
		if err := app.AddReportRoutes(app.Accounts["default"], "a server", []byte("[]"), r); err != nil {
			t.Fatal(err)
		}
		if err := app.Start(); err != nil {
			t.Fatal(err)
		}
		apps[r] = app
	}
	if err := apps[second].Cleanup(); err != nil {
		t.Fatal(err)
	}
	keepReport(t, apps[first].Accounts["default"].keeper, "1")
	eventually(t, "the report at the route of the config that runs", func() bool { return first.got.Load() == 1 })
	if n := second.got.Load(); n != 0 {
		t.Errorf("got %d reports at the route of the config that failed, want none", n)
	}
	if err := errors.Join(apps[first].Stop(), apps[first].Cleanup()); err != nil {
		t.Error(err)
	}
}

// A body that was quarantined under older keys is looked at with those of the
// newest config, also when it comes after that was started.
func TestKeeperLooksAtTheQuarantineAgain(t *testing.T) {
	k := newKeeper(t, "quarantine", t.TempDir())
	defer giveBack(t, k)
	old, next := newConfig(&fakeReports{route: "first"}, nil), newConfig(&fakeReports{route: "second", knows: true}, nil)
	for _, c := range []*startedConfig{old, next} {
		if err := k.start(c); err != nil {
			t.Fatal(err)
		}
	}
	store, err := k.wait(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	d, err := store.NewDraft()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.Write([]byte("{}")); err != nil {
		t.Fatal(err)
	}
	if err := d.Quarantine(t.Context(), "signature", time.Now(), nil, [32]byte{}); err != nil {
		t.Fatal(err)
	}
	k.quarantined(old.account)
	eventually(t, "the report", func() bool {
		st, err := store.Stats(t.Context())
		return err == nil && st.Waiting == 1 && st.Quarantined == 0
	})
	k.stop(next)
	k.stop(old)
}

// A request that was begun with an inbox keeps it open when no config has it any
// more, for itself and for a config that comes back to it.
func TestKeeperStaysForRequests(t *testing.T) {
	dir := t.TempDir()
	k := newKeeper(t, "requests", dir)
	r := &fakeReports{route: "it", accepts: true}
	c := newConfig(r, nil)
	if err := k.start(c); err != nil {
		t.Fatal(err)
	}
	store, err := k.wait(t.Context())
	if err != nil || !k.enter() {
		t.Fatalf("got %v, want the inbox for a request", err)
	}
	k.stop(c)
	giveBack(t, k)
	keepReport(t, k, "1")

	again := newKeeper(t, "requests", dir)
	if again != k {
		t.Fatal("got another keeper while a request has the inbox open, want the same")
	}
	back := newConfig(r, nil)
	if err := again.start(back); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the report", func() bool { return r.got.Load() == 1 })
	k.leave() // it is in use
	keepReport(t, again, "12")

	if !again.enter() {
		t.Fatal("got no inbox for a request of a config that runs")
	}
	again.stop(back)
	giveBack(t, again)
	again.leave()
	eventually(t, "that it is closed", func() bool { return errors.Is(store.Ready(), inbox.ErrUnavailable) })
	if again.enter() {
		t.Error("got an inbox for a request when it is closed")
	}
}

// Who asks which inboxes are in force does so while configs come and go.
func TestKeepersInForce(t *testing.T) {
	blocked := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(blocked, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	r := &fakeReports{route: "it"}
	first, second := newKeeper(t, "in force", t.TempDir()), newKeeper(t, "in force", filepath.Join(blocked, "below"))
	defer giveBack(t, first)
	defer giveBack(t, second)
	c := newConfig(r, nil)
	if err := first.start(c); err != nil {
		t.Fatal(err)
	}
	defer first.stop(c)
	var wg sync.WaitGroup
	wg.Go(func() {
		for range 300 {
			next := newConfig(r, nil)
			if err := second.start(next); err != nil {
				t.Error(err)
			}
			second.stop(next)
		}
	})
	for range 300 {
		if k := keepersInForce()["in force"]; k != first && k != second {
			t.Fatalf("got %v in force, want one of the two", k)
		}
	}
	wg.Wait()
}

// What keeps the inbox from taking reports is said once, and that it is over.
func TestKeeperSaysOnceWhy(t *testing.T) {
	k := newKeeper(t, "full", t.TempDir())
	defer giveBack(t, k)
	var log strings.Builder
	c := newConfig(&fakeReports{route: "it"}, nil)
	c.log = slog.NewTextHandler(&log, nil)
	if err := k.start(c); err != nil {
		t.Fatal(err)
	}
	defer k.stop(c)
	keepReport(t, k, "1")
	store, err := k.wait(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	store.Configure(inbox.Settings{MaxSize: 1})
	for range 3 {
		if err := k.admit(store); !errors.Is(err, inbox.ErrFull) {
			t.Errorf("got %v, want that it is full", err)
		}
	}
	store.Configure(inbox.Settings{})
	for range 3 {
		if err := k.admit(store); err != nil {
			t.Errorf("got %v, want none", err)
		}
	}
	for text, want := range map[string]int{"takes no reports": 1, "takes reports again": 1} {
		if got := strings.Count(log.String(), text); got != want {
			t.Errorf("got %q %d times, want %d:\n%s", text, got, want, log.String())
		}
	}
}

func TestInboxHasRoomForTheLargestBody(t *testing.T) {
	for _, tt := range []struct {
		inbox  Inbox
		routes int
		ok     bool
	}{
		{Inbox{}, 2, true},
		{Inbox{MaxSize: 100 << 20}, 2, false},
		{Inbox{MaxSize: 100 << 20}, 1, true},
		{Inbox{MaxSize: 100 << 20, MaxShare: 0.7}, 2, true},
		{Inbox{MaxSize: 64 << 20}, 1, false},
	} {
		if err := tt.inbox.checkRoom(64<<20, tt.routes); (err == nil) != tt.ok {
			t.Errorf("%+v with %d routes: got %v, want it to be right: %v", tt.inbox, tt.routes, err, tt.ok)
		}
	}
}

// A config with another key that is started while the inbox is being opened gets
// none that was opened with the key before it: it would work until the next start.
func TestKeeperWhoseKeyChangesWhileItOpens(t *testing.T) {
	dir := t.TempDir()
	early, late := []byte("0123456789abcdef0123456789abcdef"), []byte("fedcba9876543210fedcba9876543210")
	open := func(key []byte) *inbox.Store {
		t.Helper()
		store, err := inbox.Open(t.Context(), inbox.Options{Dir: dir, EncryptionKey: key, Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		return store
	}
	store := open(early) // as the keeper does, before the late config comes
	k := newKeeper(t, "key", dir)
	defer giveBack(t, k)
	r := &fakeReports{route: "it", accepts: true}
	c := newConfig(r, late)
	if err := k.start(c); err != nil {
		t.Fatal(err)
	}
	if k.use(store, inbox.Options{Dir: dir, EncryptionKey: early}) {
		t.Error("got an inbox in use that is open with another key than the config's")
	}
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "that the key is wrong", func() bool { _, err := k.get(); return errors.Is(err, inbox.ErrKey) })
	k.stop(c)
	back := newConfig(r, early)
	if err := k.start(back); err != nil {
		t.Fatal(err)
	}
	keepReport(t, k, "1")
	eventually(t, "the report", func() bool { return r.got.Load() == 1 })
	k.stop(back)
}

// What a config is only checked with is not opened.
func TestKeeperOpensNothingBeforeStart(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "inbox")
	k := newKeeper(t, "provisioned", dir)
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v for the directory, want that it is not there", err)
	}
	giveBack(t, k)
}
