package command

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"os/user"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/caddy-klavi/caddy-klavi/inbox"
)

func inboxCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "inbox <command>",
		Short: "Move the inbox to another place, or empty it by delivering",
		Long: `Works with the inbox of reports as a whole: moves it to another directory, or into
a database and out of it; or empties it by delivering what waits, on a machine that
is to go.`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(moveCommand(), drainCommand())
	return cmd
}

// moveFlags say which inbox is moved, and where. What is about the config is in from.
type moveFlags struct{ from, to storeFlags }

func (m *moveFlags) add(cmd *cobra.Command) {
	flags := cmd.Flags()
	for _, f := range []*storeFlags{&m.from, &m.to} {
		name := func(flag string) string { return f.side.flag(flag)[len("--"):] }
		addText(flags, &f.dir, name("dir"), "directory of the inbox that it is moved "+string(f.side)+", in place of that in the config")
		addText(flags, &f.urlFile, name("postgres-url-file"), "file with the URL of the database that it is moved "+string(f.side))
		addText(flags, &f.schema, name("schema"), `schema in that database (default: that of the config, or "klavi")`)
		addText(flags, &f.keyFile, name("encryption-key-file"), "file with the encryption key of that inbox, in place of that in the config")
	}
	flags.VarP((*text)(&m.from.config), "config", "c", "Caddy's config (default: ./Caddyfile)")
	flags.VarP((*text)(&m.from.adapter), "adapter", "a", "config adapter, for a config that is neither JSON nor a Caddyfile")
	addText(flags, &m.from.account, "account", `account of the config (default "default")`)
	flags.BoolVar(&m.from.json, "json", false, "print one JSON object")
}

func moveCommand() *cobra.Command {
	m := moveFlags{from: storeFlags{side: "from"}, to: storeFlags{side: "to"}}
	cmd := &cobra.Command{
		Use:   "move (--from | --to) <directory>",
		Short: "Move all that is in one inbox to another",
		Long: `Moves all that is in one inbox to another: reports that wait or are dead, with
the bodies that Klavi sent; the records of all others; what is quarantined; what
was erased; which routes are paused; and who did what. What waits goes on waiting
for as long as it did.

One of the two is the inbox of the config's account, the other one is a directory,
--from or --to, or a database, --from-postgres-url-file or --to-postgres-url-file.
Or both are given by flags: the config is needed all the same, for its erase_on and
its encryption_key, which is that of both unless --from-key-file or --to-key-file
says otherwise. What is moved from an inbox that is not encrypted needs none.

No Caddy may have a directory open, and none the database that is moved from. One
that has the database open that is moved to delivers what comes there at once.

A report is removed only when it is on disk in the other inbox. Where this was
interrupted, the same command goes on: nothing is there twice. What cannot be read
stays where it is, and is named. An inbox that is not there is begun in the place
that is moved to; the one that is moved from stays, empty.

Exit codes: 0 all of it was moved; 1 something cannot be read, and stays; 2 it
could not be done, or not to the end.`,
		Example: `  caddy klavi inbox move --from /var/lib/caddy/klavi/inbox/default --config /etc/caddy/Caddyfile
  caddy klavi inbox move --to /srv/inbox --config /etc/caddy/Caddyfile`,
		Args: noArguments,
	}
	m.add(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
		defer stop()
		moved, err := m.run(ctx, cmd)
		switch {
		case err != nil:
			return complain(cmd, err)
		case len(moved.Left) > 0:
			return exit(cmd, exitFailed)
		}
		return nil
	}
	return cmd
}

// find returns both places.
func (m *moveFlags) find() (from, to *place, err error) {
	for _, f := range []*storeFlags{&m.from, &m.to} {
		if err := f.conflict(); err != nil {
			return nil, nil, err
		}
	}
	if !m.from.given() && !m.to.given() {
		return nil, nil, errors.New("from where, or to where? The inbox of the config is one of the two: give --from or --to, " +
			"or --from-postgres-url-file or --to-postgres-url-file, for the other")
	}
	m.to.config, m.to.adapter, m.to.account = m.from.config, m.from.adapter, m.from.account
	c, err := m.from.readConfig()
	if err != nil {
		return nil, nil, err
	}
	if from, err = m.from.findIn(c); err != nil {
		return nil, nil, err
	}
	if to, err = m.to.findIn(c); err != nil {
		return nil, nil, err
	}
	if from.String() == to.String() {
		return nil, nil, fmt.Errorf("it is the same inbox that it would be moved from and to: %s", from)
	}
	return from, to, nil
}

func (m *moveFlags) run(ctx context.Context, cmd *cobra.Command) (moved inbox.Moved, err error) {
	from, to, err := m.find()
	if err != nil {
		return moved, err
	}
	source, err := from.openSource(ctx, cmd)
	if err != nil {
		return moved, err
	}
	defer source.Close()
	target, err := to.open(ctx, cmd)
	if errors.Is(err, inbox.ErrNotFound) {
		if err = to.begin(ctx, cmd); err == nil {
			target, err = to.open(ctx, cmd)
		}
	}
	if err != nil {
		return moved, err
	}
	defer target.Close()

	progress, end := progressOn(cmd.ErrOrStderr(), "moved")
	moved, err = inbox.Move(ctx, source, target, progress)
	end()
	if ctx.Err() != nil {
		err = errors.New("it was interrupted")
	}
	if n := moved.Reports + moved.Known + moved.Quarantined; err != nil && n > 0 {
		err = fmt.Errorf("after %s: %w; once this is mended, the same command goes on", count(n, "report"), err)
	}
	if err != nil {
		return moved, err
	}
	if m.from.json {
		return moved, printLines(cmd.OutOrStdout(), []inbox.Moved{moved})
	}
	return moved, printMoved(cmd, &moved, from, to)
}

// openSource opens the inbox that is moved from. Unless it has a key of its own, it
// may be unencrypted: to be moved is how an inbox comes to be encrypted.
func (w *place) openSource(ctx context.Context, cmd *cobra.Command) (*inbox.Store, error) {
	flag := w.side.flag("encryption-key-file")
	s, err := w.open(ctx, cmd)
	if !errors.Is(err, inbox.ErrKey) || w.keyFrom == flag {
		return s, err
	}
	s, plainErr := inbox.Open(ctx, w.options(cmd, nil))
	if plainErr != nil {
		return nil, fmt.Errorf("%w: if it has a key of its own, give %s", err, flag)
	}
	return s, nil
}

// begin begins an inbox where there is none, as Caddy would.
func (w *place) begin(ctx context.Context, cmd *cobra.Command) error {
	key, err := w.key()
	if err != nil {
		return err
	}
	o := w.options(cmd, key)
	o.Visit = false
	s, err := inbox.Open(ctx, o)
	if err != nil {
		return err
	}
	_ = s.Close()
	owner := ""
	if u, err := user.Current(); err == nil && w.postgres == nil {
		owner = ", which belongs to " + u.Username
	}
	sealed := "encrypted with the key from " + w.keyFrom
	if key == nil {
		sealed = "unencrypted"
	}
	cmd.PrintErrf("there was no inbox in %s: one is begun%s, %s\n", w, owner, sealed)
	return nil
}

// printMoved says what was moved, and what has become of the inbox that it was in.
func printMoved(cmd *cobra.Command, moved *inbox.Moved, from, to *place) error {
	w := cmd.OutOrStdout()
	text := count(moved.Reports, "report")
	if n := moved.Quarantined; n > 0 {
		text += " and " + count(n, "quarantined body")
	}
	if n := moved.Known; n > 0 {
		text += fmt.Sprintf("; %d more were there already", n)
	}
	fmt.Fprintf(w, "moved from %s to %s: %s\n", from, to, text)
	for _, uid := range moved.Left {
		fmt.Fprintf(w, "cannot be read, and stays where it is: %s\n", clean(uid))
	}
	if len(moved.Left) > 0 {
		return nil
	}
	_, err := fmt.Fprintf(w, "nothing is left in %s. It stays, empty: remove it when no Caddy has it in its config any more\n", from)
	return err
}
