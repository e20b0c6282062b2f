package gateway

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-klavi/caddy-klavi/inbox"
)

const (
	// How long a report waits for an inbox that is being opened: Klavi waits 8 s
	// for an answer, over all that it tries.
	openTime = 5 * time.Second
	// How often it is tried to open one.
	openAgain = time.Second
	// How long attempts under way have to end when the process does.
	stopTime = 3 * time.Second
)

// Reports is what takes the reports of an account out of its inbox.
type Reports interface {
	inbox.Routes
	// Verify returns the head of a body that fitted no key when it came, if it
	// fits one now, else nil.
	Verify(q *inbox.Quarantined) (*inbox.Head, error)
}

// keepers hold inboxes open across configs, by account and directory. Secrets and
// settings are no part of the key: two stores on one directory would lose reports.
var keepers = caddy.NewUsagePool()

// keeper has the inbox of an account open from when the first config is started
// that uses it, until the last one is gone.
type keeper struct {
	account, dir string
	openAgain    time.Duration

	mu      sync.Mutex
	store   *inbox.Store
	err     error            // why there is no store
	since   time.Time        // it is being opened
	configs []*startedConfig // of those that are started, the newest last
	newest  *startedConfig   // or else the one that was the last
	poke    chan struct{}    // there is a newer one
	opened  chan struct{}    // closed when there is a store
	cancel  context.CancelFunc
	tasks   sync.WaitGroup

	releasing sync.Mutex // one look at the quarantine at a time

	log atomic.Pointer[slog.Handler] // where the newest config logs to
}

// startedConfig is what a config that is started says of an inbox.
type startedConfig struct {
	key      []byte // nil: unencrypted
	settings inbox.Settings
	reports  Reports
	log      slog.Handler
	detach   func() // once it is attached
}

func acquireKeeper(account, dir string) (*keeper, error) {
	dir = realPath(dir)
	value, _, err := keepers.LoadOrNew(keeperKey(account, dir), func() (caddy.Destructor, error) {
		return &keeper{
			account: account, dir: dir, openAgain: openAgain,
			poke: make(chan struct{}, 1), opened: make(chan struct{}),
		}, nil
	})
	if err != nil {
		return nil, err
	}
	return value.(*keeper), nil
}

func (k *keeper) giveBack() error {
	_, err := keepers.Delete(keeperKey(k.account, k.dir))
	return err
}

func keeperKey(account, dir string) string { return account + "\x00" + dir }

// realPath follows the links of a path, of which the end need not be there.
func realPath(path string) string {
	rest := ""
	for at := path; ; at = filepath.Dir(at) {
		if real, err := filepath.EvalSymlinks(at); err == nil {
			return filepath.Join(real, rest)
		}
		if _, err := os.Lstat(at); err == nil || at == filepath.Dir(at) {
			return path // a link that leads nowhere
		}
		rest = filepath.Join(filepath.Base(at), rest)
	}
}

// start puts a config in force. The inbox is opened if it is not. Its error says
// why the config cannot have it.
func (k *keeper) start(c *startedConfig) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.store != nil && subtle.ConstantTimeCompare(k.newest.key, c.key) == 0 {
		return fmt.Errorf("the inbox in %s is open with another encryption_key: its key cannot be changed by a reload", k.dir)
	}
	k.configs = append(k.configs, c)
	k.setNewest(c)
	switch {
	case k.store != nil:
		k.apply(c)
	case k.cancel == nil:
		k.since = time.Now()
		ctx, cancel := context.WithCancel(context.Background())
		k.cancel = cancel
		k.tasks.Go(func() { k.open(ctx) })
	default:
		select {
		case k.poke <- struct{}{}:
		default:
		}
	}
	return nil
}

// stop ends what a config has begun: its routes get no more reports. If it was the
// newest, the one before it is in force again, as after a reload that failed.
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

func (k *keeper) setNewest(c *startedConfig) {
	k.newest = c
	k.log.Store(&c.log)
}

// apply puts a config in force on the open store. k.mu is held.
func (k *keeper) apply(c *startedConfig) {
	store := k.store
	store.Configure(c.settings)
	c.detach = store.Attach(c.reports)
	k.tasks.Go(func() { k.release(store, c) })
}

// release has a look at what is quarantined with the keys of c.
func (k *keeper) release(store *inbox.Store, c *startedConfig) {
	k.releasing.Lock()
	defer k.releasing.Unlock()
	n, err := store.Release(context.Background(), c.reports.Verify)
	log := slog.New(newestHandler{k})
	if n > 0 {
		log.Info("reports that had come with a key that was not known are reports now", "dir", k.dir, "reports", n)
	}
	if err != nil && !errors.Is(err, inbox.ErrUnavailable) {
		log.Error("what is quarantined cannot be looked at", "dir", k.dir, "error", err)
	}
}

// open opens the store, as soon as that is possible: what is in the way of it keeps
// no Caddy from running.
func (k *keeper) open(ctx context.Context) {
	said := ""
	for {
		options := k.options()
		store, err := inbox.Open(ctx, options)
		if err == nil && k.use(store, options.EncryptionKey) {
			return
		}
		if err == nil { // the newest config has come meanwhile
			_ = store.Close()
			continue
		}
		if ctx.Err() != nil {
			return
		}
		k.mu.Lock()
		k.err = err
		k.mu.Unlock()
		if err.Error() != said {
			said = err.Error()
			slog.New(newestHandler{k}).Error("the inbox cannot be opened: reports are answered 503 until it can", "dir", k.dir, "error", err)
		}
		timer := time.NewTimer(k.openAgain)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-k.poke:
			timer.Stop()
		case <-timer.C:
		}
	}
}

// options are those of the newest config.
func (k *keeper) options() inbox.Options {
	k.mu.Lock()
	defer k.mu.Unlock()
	return inbox.Options{
		Dir:           k.dir,
		EncryptionKey: k.newest.key,
		Unencrypted:   k.newest.key == nil,
		Logger:        slog.New(newestHandler{k}),
		Observer:      observeInbox(k.account),
		Settings:      k.newest.settings,
	}
}

// use has the store be used that was opened just now, unless its key is not that
// of the newest config.
func (k *keeper) use(store *inbox.Store, key []byte) bool {
	if err := store.ServeSocket(); err != nil {
		slog.New(newestHandler{k}).Warn("caddy klavi cannot reach the inbox while Caddy is running", "dir", k.dir, "error", err)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if subtle.ConstantTimeCompare(k.newest.key, key) == 0 {
		return false
	}
	k.store, k.err = store, nil
	for _, c := range k.configs {
		k.apply(c)
	}
	store.Configure(k.newest.settings)
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
		return nil, fmt.Errorf("%w: it is being opened", inbox.ErrUnavailable)
	}
}

// stopDelivering lets the attempts under way end, for a while.
func (k *keeper) stopDelivering() {
	store, err := k.get()
	if err != nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), stopTime)
	defer cancel()
	store.StopDelivering(ctx)
}

// Destruct closes the inbox: no config uses it any more. What was begun to be
// stored is stored.
func (k *keeper) Destruct() error {
	k.mu.Lock()
	cancel := k.cancel
	k.mu.Unlock()
	if cancel == nil {
		return nil // no config was started
	}
	cancel()
	k.stopDelivering()
	var err error
	if store, none := k.get(); none == nil {
		err = store.Close()
	}
	k.tasks.Wait()
	// It may have been opened just now.
	if store, none := k.get(); none == nil {
		err = errors.Join(err, store.Close())
	}
	return err
}

// newestHandler logs to where the newest config does: the store lives longer than
// the config that opened it.
type newestHandler struct{ k *keeper }

func (h newestHandler) newest() slog.Handler { return *h.k.log.Load() }

func (h newestHandler) Enabled(ctx context.Context, level slog.Level) bool {
	return h.newest().Enabled(ctx, level)
}

func (h newestHandler) Handle(ctx context.Context, r slog.Record) error {
	return h.newest().Handle(ctx, r)
}

func (h newestHandler) WithAttrs(attrs []slog.Attr) slog.Handler { return h.newest().WithAttrs(attrs) }

func (h newestHandler) WithGroup(name string) slog.Handler { return h.newest().WithGroup(name) }
