package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/caddy-klavi/caddy-klavi/inbox"
)

func drainCommand() *cobra.Command {
	var f storeFlags
	cmd := &cobra.Command{
		Use:   "drain",
		Short: "Have a Caddy that is to go deliver what waits, and take no reports",
		Long: `Has the Caddy that has the inbox open take no new reports, and waits until it has
delivered what it can. Klavi gets 503, and klavi_ready is false with the reason
"draining", so that a load balancer sends reports to the other machines. Without
any, they are lost after some 8 s: move the inbox in place of this.

What has no route, whose route is paused, and what is dead or quarantined stays,
and is printed. A route that does not answer is waited for.

While this waits, Ctrl-C has Caddy take reports again. When it is done, Caddy takes
none until it is restarted.

An inbox in a database needs no draining: end its Caddy, with SIGTERM, and the other
ones deliver what waits.

The inbox is that of the config's account, or the one in --dir. This asks Caddy,
through control.sock in the inbox's directory, which only the user that Caddy runs
as, and root, can open.

Exit codes: 0 nothing is left; 1 all that can be delivered is, and something stays;
2 it could not be done, or was interrupted.`,
		Example: `  caddy klavi inbox drain --config /etc/caddy/Caddyfile && systemctl stop caddy`,
		Args:    noArguments,
	}
	flags := cmd.Flags()
	addText(flags, &f.dir, "dir", "directory of the inbox, in place of that in the config")
	flags.VarP((*text)(&f.config), "config", "c", "Caddy's config (default: ./Caddyfile, unless there is a --dir)")
	flags.VarP((*text)(&f.adapter), "adapter", "a", "config adapter, for a config that is neither JSON nor a Caddyfile")
	addText(flags, &f.account, "account", `account of the config (default "default")`)
	flags.BoolVar(&f.json, "json", false, "print one JSON object")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
		defer stop()
		stays, err := f.drain(ctx, cmd)
		switch {
		case err != nil:
			return complain(cmd, err)
		case stays:
			return exit(cmd, exitFailed)
		}
		return nil
	}
	return cmd
}

// drain says whether something stays.
func (f *storeFlags) drain(ctx context.Context, cmd *cobra.Command) (stays bool, err error) {
	where, err := f.find()
	switch {
	case err != nil:
		return false, err
	case where.postgres != nil:
		return false, errors.New("the inbox is in a database, where nothing waits for one machine: end its Caddy with SIGTERM, " +
			"and the other ones deliver what waits. If it has a spool, wait until the inbox of GET /klavi/routes at its admin API has nothing spooled")
	}
	client, err := inbox.Dial(ctx, where.dir)
	switch {
	case errors.Is(err, inbox.ErrNotServed):
		return false, errors.New(notOpen + ", so nothing is delivered: start it, or move the inbox with caddy klavi inbox move")
	case err != nil:
		return false, where.explain(err)
	}
	defer client.Close()
	cmd.PrintErrln("no reports are taken any more; what waits is delivered")
	progress, end := progressOn(cmd.ErrOrStderr(), "delivered")
	err = client.Drain(ctx, progress)
	end()
	if ctx.Err() != nil {
		return false, errors.New("it was interrupted: reports are taken again")
	}
	if err != nil {
		return false, err
	}
	stats, err := client.Stats(ctx)
	if err != nil {
		return false, err
	}
	stays = stats.Waiting+stats.Dead+stats.Damaged+stats.Quarantined > 0
	if f.json {
		return stays, printLines(cmd.OutOrStdout(), []inbox.Stats{stats})
	}
	routes, err := client.ListRoutes(ctx)
	if err != nil {
		return false, err
	}
	return stays, printDrained(cmd.OutOrStdout(), where, &stats, routes)
}

// printDrained says what stays, and why.
func printDrained(w io.Writer, where *place, stats *inbox.Stats, routes []inbox.RouteStatus) error {
	for i := range routes {
		r := &routes[i]
		switch {
		case r.Waiting > 0 && r.Name == "":
			fmt.Fprintf(w, "%d waiting without a route: %s\n", r.Waiting, clean(strings.Join(r.Types, ", ")))
		case r.Waiting > 0:
			fmt.Fprintf(w, "%d waiting for %s, which is paused (%s)\n", r.Waiting, clean(r.Name), clean(r.PausedBy))
		}
	}
	for _, rest := range []struct {
		n    int64
		what string
	}{{stats.Dead, "dead"}, {stats.Damaged, "damaged"}, {stats.Quarantined, "quarantined"}} {
		if rest.n > 0 {
			fmt.Fprintf(w, "%d %s\n", rest.n, rest.what)
		}
	}
	text := "nothing is left in " + where.String()
	if stats.Waiting+stats.Dead+stats.Damaged+stats.Quarantined > 0 {
		text = "this stays in " + where.String()
	}
	_, err := fmt.Fprintln(w, text+"; no reports are taken until Caddy is restarted")
	return err
}
