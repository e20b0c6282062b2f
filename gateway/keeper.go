package gateway

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddyserver/caddy/v2"
	"golang.org/x/sync/singleflight"

	"github.com/caddy-klavi/caddy-klavi/inbox"
)

const (
	// How long a report waits for an inbox that is being opened: Klavi waits 8 s
	// for an answer, over all that it tries.
	openTime = 5 * time.Second
	// How often it is tried to open one.
	openAgain = time.Second
	// How often it is said that an inbox takes no reports.
	sayAgain = time.Minute
	// How long closing may take.
	closeTime = 10 * time.Second
	// How long attempts under way have to end when the process does.
	stopTime = 3 * time.Second
)

var errOpening = fmt.Errorf("%w: it is being opened", inbox.ErrUnavailable)

// Reports is what takes the reports of an account out of its inbox.
type Reports interface {
	inbox.Routes
	// LargestBody is how many bytes a body may have.
	LargestBody() int64
	// Verify returns the head of a body that fitted no key when it came, if it
	// fits one now, else nil.
	Verify(q *inbox.Quarantined) (*inbox.Head, error)
}

// keepers hold inboxes open across configs, by account and place. Secrets and
// settings are no part of the key: two stores on one directory would lose reports.
var keepers = caddy.NewUsagePool()

// lingering are keepers that no config has any more, and requests that were begun
// with them still do.
var lingering = struct {
	sync.Mutex
	byKey map[string]*keeper
}{byKey: make(map[string]*keeper)}

// keeper has the inbox of an account open from when the first config is started
// that uses it, until the last one is gone.
type keeper struct {
	account   string
	place     inboxPlace // as the config had it that came first
	openAgain time.Duration

	// Of lingering, whose lock they have.
	requests int
	closed   bool

	mu      sync.Mutex
	store   *inbox.Store
	way     inboxPlace       // to the store
	err     error            // why there is no store
	since   time.Time        // it is being opened
	configs []*startedConfig // of those that are started, the newest last
	newest  *startedConfig   // or else the one that was the last
	stopped bool             // the process ends, and nothing is delivered any more
	said    error            // why the store takes no reports, as it was logged
	saidAt  time.Time
	cancel  context.CancelFunc

	newer  chan struct{} // there is a newer config than the one it is opened with
	opened chan struct{} // closed when there is a store
	verify chan struct{} // what is quarantined is to be looked at
	tasks  sync.WaitGroup
	log    atomic.Pointer[slog.Handler] // where the newest config logs to
	asked  singleflight.Group           // how it is
}

// startedConfig is what a config that is started says of an inbox.
type startedConfig struct {
	account  *Account
	settings inbox.Settings
	reports  Reports
	log      slog.Handler
	detach   func() // once it is attached
}

func (c *startedConfig) key() []byte { return c.account.inboxKey } // nil: unencrypted

func acquireKeeper(account string, place inboxPlace) (*keeper, error) {
	key := keeperKey(account, place)
	value, _, err := keepers.LoadOrNew(key, func() (caddy.Destructor, error) {
		lingering.Lock()
		defer lingering.Unlock()
		if k := lingering.byKey[key]; k != nil {
			delete(lingering.byKey, key)
			return k, nil
		}
		return &keeper{
			account: account, place: place, openAgain: openAgain,
			newer: make(chan struct{}, 1), opened: make(chan struct{}), verify: make(chan struct{}, 1),
		}, nil
	})
	if err != nil {
		return nil, err
	}
	return value.(*keeper), nil
}

func (k *keeper) giveBack() error {
	_, err := keepers.Delete(keeperKey(k.account, k.place))
	return err
}

func keeperKey(account string, place inboxPlace) string { return account + "\x00" + place.key() }

// start puts a config in force. The inbox is opened if it is not. Its error says
// why the config cannot have it.
func (k *keeper) start(c *startedConfig) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	inUse := k.store != nil || k.cancel != nil && k.err == nil
	if inUse && !sameKey(k.newest, c.key()) {
		return fmt.Errorf("the inbox in %s is open with another encryption_key: its key cannot be changed by a reload", k.place)
	}
	k.configs = append(k.configs, c)
	k.setNewest(c)
	if k.store != nil {
		k.apply(c)
		k.warnOfWay()
		return nil
	}
	k.since = time.Now() // this config may mend what was in the way
	if k.cancel == nil {
		ctx, cancel := context.WithCancel(context.Background())
		k.cancel = cancel
		k.tasks.Go(func() { k.run(ctx) })
	}
	return nil
}

func sameKey(c *startedConfig, key []byte) bool {
	return subtle.ConstantTimeCompare(c.key(), key) == 1
}

// stop ends what a config has begun: its routes get no more reports. If it was the
// newest, the one before it is in force again, as after a reload that failed. It
// does nothing the second time.
func (k *keeper) stop(c *startedConfig) {
	k.mu.Lock()
	defer k.mu.Unlock()
	i := slices.Index(k.configs, c)
	if i < 0 {
		return
	}
	k.configs = slices.Delete(k.configs, i, i+1)
	if c.detach != nil {
		c.detach()
	}
	if n := len(k.configs); n > 0 && k.newest == c {
		k.setNewest(k.configs[n-1])
		if k.store != nil {
			k.store.Configure(k.newest.settings)
		}
	}
}

// setNewest notes which config is in force. k.mu is held.
func (k *keeper) setNewest(c *startedConfig) {
	k.newest = c
	k.log.Store(&c.log)
	wake(k.newer)
	wake(k.verify)
}

func wake(sleeper chan struct{}) {
	select {
	case sleeper <- struct{}{}:
	default: // it is awake
	}
}

// apply puts a config in force on the open store. k.mu is held.
func (k *keeper) apply(c *startedConfig) {
	k.store.Configure(c.settings)
	c.detach = k.store.Attach(c.reports)
}

// warnOfWay says if the newest config has another way to the store than the one
// that is in use. k.mu is held.
func (k *keeper) warnOfWay() {
	if newest := k.newest.account.place; newest.postgres != nil && !newest.sameWay(k.way) {
		k.logHere().Warn("the inbox goes on with the url, pool_size, spool and dir that it was opened with: " +
			"what the config changes in them is in force after a restart of Caddy")
	}
}

// run has the store open, and looks after it, until ctx is done.
func (k *keeper) run(ctx context.Context) {
	if store := k.open(ctx); store != nil {
		k.watchQuarantine(ctx, store)
	}
}

// open opens the store, as soon as that is possible: what is in the way of it keeps
// no Caddy from running.
func (k *keeper) open(ctx context.Context) *inbox.Store {
	said := ""
	for {
		options := k.options()
		store, err := inbox.Open(ctx, options)
		if err == nil && ctx.Err() == nil && k.use(store, options) {
			k.sayOpen(store)
			return store
		}
		if err == nil { // it comes too late, or a newer config has another key
			_ = store.Close()
		}
		if ctx.Err() != nil {
			return nil
		}
		if err == nil {
			continue
		}
		k.mu.Lock()
		k.err = err
		k.mu.Unlock()
		if err.Error() != said {
			said = err.Error()
			k.logHere().Error("the inbox cannot be opened: reports are answered 503 until it can", "error", err)
		}
		timer := time.NewTimer(k.openAgain)
		select {
		case <-ctx.Done():
		case <-k.newer:
		case <-timer.C:
		}
		timer.Stop()
	}
}

// sayOpen says that the inbox is open, and what lies in it: a disk that is not
// mounted is seen by what is not there.
func (k *keeper) sayOpen(store *inbox.Store) {
	if st, err := store.Stats(context.Background()); err == nil {
		k.logHere().Info("the inbox is open", "waiting", st.Waiting, "dead", st.Dead)
	}
}

// options are those of the newest config.
func (k *keeper) options() inbox.Options {
	k.mu.Lock()
	defer k.mu.Unlock()
	way := k.place
	if newest := k.newest.account.place; newest.postgres != nil {
		way = newest // it may have the password that the one before lacked
	}
	return inbox.Options{
		Dir:           way.dir,
		Postgres:      way.postgres,
		Spool:         way.postgres != nil && way.dir != "",
		EncryptionKey: k.newest.key(),
		Unencrypted:   k.newest.key() == nil,
		Logger:        k.logger(),
		Observer:      observeInbox(k.account),
		Settings:      k.newest.settings,
	}
}

// use has the store be used that was opened just now, unless its key is not that
// of the newest config.
func (k *keeper) use(store *inbox.Store, o inbox.Options) bool {
	if o.Postgres == nil { // else caddy klavi asks the database
		if err := store.ServeSocket(); err != nil {
			k.logHere().Warn("caddy klavi cannot reach the inbox while Caddy is running", "error", err)
		}
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if !sameKey(k.newest, o.EncryptionKey) {
		return false
	}
	k.store, k.err = store, nil
	k.way = inboxPlace{dir: o.Dir, postgres: o.Postgres}
	for _, c := range k.configs {
		k.apply(c)
	}
	k.warnOfWay()
	close(k.opened)
	return true
}

// wait returns the store. One that is being opened is waited for, if that has not
// gone on for long already.
func (k *keeper) wait(ctx context.Context) (*inbox.Store, error) {
	k.mu.Lock()
	store, since := k.store, k.since
	k.mu.Unlock()
	if store != nil {
		return store, nil
	}
	left := openTime // it is not begun yet: another app was started before ours
	if !since.IsZero() {
		left -= time.Since(since)
	}
	timer := time.NewTimer(left)
	defer timer.Stop()
	select {
	case <-k.opened:
	case <-timer.C:
	case <-ctx.Done():
	}
	return k.get()
}

// get returns the store, or why there is none.
func (k *keeper) get() (*inbox.Store, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	switch {
	case k.store != nil:
		return k.store, nil
	case k.err != nil:
		return nil, k.err
	default:
		return nil, errOpening
	}
}

// admit returns why the store takes no reports just now. It says so once, however
// many come, and not every time where it is nearly full.
func (k *keeper) admit(store *inbox.Store) error {
	err := store.Admit()
	k.mu.Lock()
	said, before := false, k.said
	switch {
	case err == nil:
		k.said = nil
	case (before == nil || errors.Is(before, inbox.ErrFull) != errors.Is(err, inbox.ErrFull)) && time.Since(k.saidAt) > sayAgain:
		said, k.said, k.saidAt = true, err, time.Now()
	}
	k.mu.Unlock()
	switch {
	case said:
		k.logHere().Error("the inbox takes no reports: they are answered 503 until it does", "error", err)
	case err == nil && before != nil:
		k.logHere().Info("the inbox takes reports again")
	}
	return err
}

// stopDelivering lets the attempts under way end, for a while.
func (k *keeper) stopDelivering() {
	k.mu.Lock()
	store, before := k.store, k.stopped
	k.stopped = true
	k.mu.Unlock()
	if store == nil || before {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), stopTime)
	defer cancel()
	store.StopDelivering(ctx)
}

// Destruct closes the inbox: no config uses it any more. The requests that were
// begun with it still store their reports, and the reload does not wait for them.
func (k *keeper) Destruct() error {
	lingering.Lock()
	if k.requests > 0 {
		lingering.byKey[keeperKey(k.account, k.place)] = k
		lingering.Unlock()
		return nil
	}
	k.closed = true
	lingering.Unlock()
	return k.close()
}

// enter notes that a request is going to store something. It is false if the inbox
// has been closed: the request came with a config that is gone.
func (k *keeper) enter() bool {
	lingering.Lock()
	defer lingering.Unlock()
	if k.closed {
		return false
	}
	k.requests++
	return true
}

// leave notes that a request has ended. The last one closes an inbox that no config
// has any more.
func (k *keeper) leave() {
	lingering.Lock()
	defer lingering.Unlock()
	k.requests--
	key := keeperKey(k.account, k.place)
	if k.requests > 0 || lingering.byKey[key] != k {
		return
	}
	delete(lingering.byKey, key)
	k.closed = true
	go func() { // the request is to be answered first
		if err := k.close(); err != nil {
			k.logHere().Error("closing the inbox failed", "error", err)
		}
	}()
}

// close ends all that start has begun. It does not wait for ever: a disk that hangs
// keeps the inbox locked, and no config from being loaded.
func (k *keeper) close() error {
	if k.cancel == nil {
		return nil // no config was started
	}
	closed := make(chan error, 1)
	go func() { closed <- k.closeStore() }()
	timer := time.NewTimer(closeTime)
	defer timer.Stop()
	select {
	case err := <-closed:
		return err
	case <-timer.C:
		return fmt.Errorf("the inbox in %s does not close: its disk or database does not answer", k.place)
	}
}

func (k *keeper) closeStore() error {
	k.cancel()
	k.tasks.Wait()
	if k.store == nil {
		return nil
	}
	k.stopDelivering()
	if !caddy.Exiting() {
		k.warnOfRest()
	}
	return k.store.Close()
}

// warnOfRest says what lies in an inbox that is closed while Caddy goes on.
func (k *keeper) warnOfRest() {
	st, err := k.store.Stats(context.Background())
	if err == nil && st.Waiting+st.Dead > 0 {
		k.logHere().Warn("reports are left in an inbox that the config does not use any more", "waiting", st.Waiting, "dead", st.Dead)
	}
}

func (k *keeper) logger() *slog.Logger { return slog.New(newestHandler{k}) }

// logHere is for lines that say where the inbox is.
func (k *keeper) logHere() *slog.Logger { return k.logger().With(k.place.field(), k.place.String()) }
