package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/caddy-klavi/caddy-klavi/inbox"
)

// store is an inbox: one that Caddy has open, or one that is open here.
type store interface {
	List(ctx context.Context, f inbox.Filter, p inbox.Page) ([]inbox.Record, error)
	Audit(ctx context.Context, f inbox.Filter, p inbox.Page) ([]inbox.Record, error)
	Stats(ctx context.Context) (inbox.Stats, error)
	ListRoutes(ctx context.Context) ([]inbox.RouteStatus, error)
	Pause(ctx context.Context, route, who string) error
	Resume(ctx context.Context, route, who string) error
	Retry(ctx context.Context, f inbox.Filter, who string, progress inbox.Progress) (int, error)
	Drop(ctx context.Context, f inbox.Filter, who, why string, progress inbox.Progress) (int, error)
	Erase(ctx context.Context, kind, value, who, why string) (inbox.EraseReceipt, error)
	Export(ctx context.Context, uid, who, why string) (io.ReadCloser, error)
	Close() error
}

// Interface guards
var (
	_ store = (*inbox.Store)(nil)
	_ store = (*inbox.Client)(nil)
)

// storeFlags say which inbox it is about, and how to print.
type storeFlags struct {
	dir     string
	config  string
	adapter string
	account string
	urlFile string
	schema  string
	keyFile string
	json    bool
	side    side

	erases bool   // the command does
	alone  string // once it is open here: why no Caddy is asked
}

func (f *storeFlags) add(cmd *cobra.Command) {
	flags := cmd.Flags()
	addText(flags, &f.dir, "dir", "directory of the inbox, in place of that in the config")
	addText(flags, &f.urlFile, "postgres-url-file", "file with the URL of the database that the inbox is in, in place of that in the config")
	addText(flags, &f.schema, "schema", `schema in that database (default: that of the config, or "klavi")`)
	flags.VarP((*text)(&f.config), "config", "c", "Caddy's config (default: ./Caddyfile, unless there is a --dir or --postgres-url-file)")
	flags.VarP((*text)(&f.adapter), "adapter", "a", "config adapter, for a config that is neither JSON nor a Caddyfile")
	addText(flags, &f.account, "account", `account of the config (default "default")`)
	addText(flags, &f.keyFile, "encryption-key-file", "file with the encryption key, in place of that in the config; used while Caddy is stopped, or for a database")
	flags.BoolVar(&f.json, "json", false, "print one JSON object per line")
}

// storeHelp ends the help of all commands that need an inbox.
const storeHelp = `

The inbox is that of the config's account, or the one in --dir, or the one in the
database of --postgres-url-file.

In a directory: while Caddy has it open, this asks Caddy, through control.sock in
the directory, which only the user that Caddy runs as, and root, can open; the
admin API is not used. While Caddy is stopped, this opens the inbox itself, as
that same user, and nothing is delivered. In a database: this always asks the
database itself, whether Caddy runs or not.

What this opens itself needs its key, if it is encrypted: from the config, whose
placeholders are resolved with the environment of this command, or from
--encryption-key-file.

Exit codes: 0 it was done; 1 there is no such report or route, or the report is
not there any more or cannot be read; 2 it could not be done.`

// notOpen is said where only Caddy would know, or would need no key. That it is
// stopped is but the usual reason: it may run with another key or directory.
const notOpen = "no Caddy has this inbox open (is it stopped? else its log says why)"

// asksDatabase is said in place of it where the inbox is in a database, and
// opensItself where no Caddy may have it open.
const (
	asksDatabase = "this asks the database itself, and no Caddy"
	opensItself  = "this opens it itself"
)

// errNothing: what the flags choose is not there.
var errNothing = fmt.Errorf("%w: no report is chosen by these flags", inbox.ErrNotFound)

// run returns a command that works with the inbox: what fn returns is how it
// went.
func (f *storeFlags) run(check func() error, fn func(ctx context.Context, cmd *cobra.Command, s store) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, _ []string) error {
		if err := check(); err != nil {
			return complain(cmd, err)
		}
		// Who presses Ctrl-C wants no half of a file to stay.
		ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
		defer stop()
		s, err := f.open(ctx, cmd)
		if err != nil {
			return complain(cmd, err)
		}
		defer s.Close()
		err = fn(ctx, cmd, s)
		for _, known := range []error{inbox.ErrNotFound, inbox.ErrGone, inbox.ErrDamaged} {
			if errors.Is(err, known) {
				cmd.PrintErrln("caddy klavi:", err)
				return exit(cmd, exitFailed)
			}
		}
		if err != nil {
			return complain(cmd, err)
		}
		return nil
	}
}

func noCheck() error { return nil }

// open opens the inbox, through Caddy if it runs.
func (f *storeFlags) open(ctx context.Context, cmd *cobra.Command) (store, error) {
	where, err := f.find()
	if err != nil {
		return nil, err
	}
	if where.postgres == nil {
		client, err := inbox.Dial(ctx, where.dir)
		if err == nil {
			return client, nil
		}
		if !errors.Is(err, inbox.ErrNotServed) {
			return nil, where.explain(err)
		}
	}
	if f.erases && !where.knowsConfig {
		return nil, errors.New(where.alone() + ": give --config, too, since erase_on in it says " +
			"which events must reach their service before they are erased")
	}
	f.alone = where.alone()
	s, err := where.open(ctx, cmd)
	if err != nil {
		return nil, err
	}
	return s, nil
}

// open opens an inbox that Caddy does not have open, or that is in a database.
func (w *place) open(ctx context.Context, cmd *cobra.Command) (*inbox.Store, error) {
	key, err := w.key()
	if err != nil {
		return nil, err
	}
	s, err := inbox.Open(ctx, w.options(cmd, key))
	switch {
	case err == nil:
		return s, nil
	case errors.Is(err, inbox.ErrLocked) && w.side != "":
		return nil, fmt.Errorf("%w: nobody else may have it open: stop that Caddy, or have it reload a config in which the inbox is another one", err)
	case errors.Is(err, inbox.ErrLocked):
		return nil, fmt.Errorf("%w, and there is no control.sock that it answers at: it may be another caddy klavi, "+
			"or a Caddy that has just begun or could not make it (its log says so)", err)
	case errors.Is(err, inbox.ErrKey) && key == nil:
		return nil, fmt.Errorf("%s is encrypted, and %s, so its key is needed: %s", w, w.alone(), w.whereKey())
	case errors.Is(err, inbox.ErrKey):
		return nil, fmt.Errorf("%w (it was read from %s)", err, w.keyFrom)
	}
	return nil, w.explain(err)
}

// options are those of who only looks in.
func (w *place) options(cmd *cobra.Command, key []byte) inbox.Options {
	return inbox.Options{
		Dir: w.dir, Postgres: w.postgres, Visit: true, EncryptionKey: key, Unencrypted: key == nil,
		Logger:   slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), &slog.HandlerOptions{Level: slog.LevelWarn})),
		Settings: inbox.Settings{EraseOn: w.eraseOn},
	}
}

// whereKey says where the key of an inbox can come from that is not known yet.
func (w *place) whereKey() string {
	if w.knowsConfig {
		return "there is no encryption_key in the config: give " + w.side.flag("encryption-key-file")
	}
	return "give --config, if encryption_key is in it, or --encryption-key-file"
}

// explain adds what would be right.
func (w *place) explain(err error) error {
	switch {
	case w.postgres != nil && errors.Is(err, inbox.ErrNotFound):
		return fmt.Errorf("%w: is this its database and schema? A Caddy makes it there when it is started", err)
	case w.postgres != nil:
		return err
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%w: it is for the user that Caddy runs as, and for root: put sudo -u <that user> before this", err)
	case errors.Is(err, inbox.ErrNotFound) && w.byDefault:
		return fmt.Errorf("%w, which is where the config has it for the user of this command: do this as the user that Caddy runs as, or give %s", err, w.side.flag("dir"))
	case errors.Is(err, inbox.ErrNotFound) && w.relative:
		return fmt.Errorf("%w, since dir in the config is relative to where Caddy was started: do this there, or give %s", err, w.side.flag("dir"))
	case errors.Is(err, inbox.ErrNotFound):
		return fmt.Errorf("%w: give %s the directory of one", err, w.side.flag("dir"))
	}
	return err
}
