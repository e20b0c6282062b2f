package command

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"github.com/caddy-klavi/caddy-klavi/inbox"
)

func routesCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "routes <command>",
		Short: "See how the routes of reports are doing, pause and resume them",
		Long: `Works with the routes of klavi_reports: the services that reports are for. While
a route is paused, its reports wait.`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(listRoutesCommand(),
		pauseCommand("pause", "Keep reports from a route until it is resumed",
			`Has a route get no reports until it is resumed, also after a restart of Caddy.
Reports for it are still accepted, and wait; attempts under way end. What waits
while its route is paused does not die of age.`, store.Pause),
		pauseCommand("resume", "Deliver to a route again",
			`Ends a pause. A route that was failing is tried at once.`, store.Resume))
	return cmd
}

func listRoutesCommand() *cobra.Command {
	var f storeFlags
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the routes, and what waits for them",
		Long: `Lists the routes in the order of the config, then those that are not in it any
more but have dead reports or are paused, then what has no route. While Caddy is
stopped, it is not known which routes what waits is for.

STATE is ok, paused (by whom, for how long), failing (for how long: it is probed
until it answers), or unknown: it is not in the config that runs, or Caddy is
stopped. WAITING is how many deliveries wait, OLDEST for how long the oldest of
them has, BUSY how many are under way. LAST is how its last attempt ended.` + storeHelp,
		Example: `  caddy klavi routes list`,
		Args:    noArguments,
	}
	f.add(cmd)
	cmd.RunE = f.run(noCheck, func(ctx context.Context, cmd *cobra.Command, s store) error {
		routes, err := s.ListRoutes(ctx)
		if err != nil {
			return err
		}
		w := cmd.OutOrStdout()
		if f.json {
			return printLines(w, routes)
		}
		stats, err := s.Stats(ctx)
		if err != nil {
			return err
		}
		if areKnown(routes) {
			f.alone = ""
		}
		none := "(none)"
		if f.alone != "" {
			none = "(unknown)"
		}
		now := time.Now()
		out := newPrinter(w, "ROUTE", "STATE", "WAITING", "OLDEST", "DEAD", "BUSY", "LAST")
		for i := range routes {
			r := &routes[i]
			out.row(cmp.Or(r.Name, none), routeState(r, now), fmt.Sprint(r.Waiting), since(r.Oldest, now),
				fmt.Sprint(r.Dead), fmt.Sprint(r.UnderWay), brief(r.LastStatus, r.LastReason))
		}
		if err := out.flush(); err != nil {
			return err
		}
		if text := routeless(routes, f.alone); text != "" {
			fmt.Fprintln(w, text)
		}
		_, err = fmt.Fprintf(w, "%s, %d waiting, %d dead, %d damaged; %d quarantined\n",
			humanize.IBytes(uint64(max(stats.Bytes, 0))), stats.Waiting, stats.Dead, stats.Damaged, stats.Quarantined)
		return err
	})
	return cmd
}

// areKnown tells whether there are routes that a Caddy has: the nodes of a fleet tell
// their database which these are.
func areKnown(routes []inbox.RouteStatus) bool {
	return slices.ContainsFunc(routes, func(r inbox.RouteStatus) bool { return r.Concurrency > 0 })
}

// routeless says which types have no route, or that nobody knows the routes, for
// the reason why no Caddy is asked.
func routeless(routes []inbox.RouteStatus, alone string) string {
	text := ""
	for i := range routes {
		if r := &routes[i]; r.Name == "" && len(r.Types) > 0 {
			text = clean(strings.Join(r.Types, ", "))
		}
	}
	switch {
	case alone != "" && text == "":
		return alone + ", so the routes are not known"
	case alone != "":
		return alone + ", so the routes are not known for: " + text
	case text == "":
		return ""
	}
	return "without a route: " + text
}

// routeState says whether a route gets reports.
func routeState(r *inbox.RouteStatus, now time.Time) string {
	switch {
	case r.Name == "":
		return ""
	case r.PausedBy != "":
		return fmt.Sprintf("paused %s (%s)", since(r.PausedAt, now), r.PausedBy)
	case !r.Failing.IsZero():
		return "failing " + since(r.Failing, now)
	case r.Concurrency == 0:
		return "unknown"
	}
	return "ok"
}

func pauseCommand(name, short, long string, do func(store, context.Context, string, string) error) *cobra.Command {
	var f storeFlags
	var by actor
	var route string
	cmd := &cobra.Command{
		Use:     name + " --route <name>",
		Short:   short,
		Long:    long + storeHelp,
		Example: "  caddy klavi routes " + name + " --route cards",
		Args:    noArguments,
	}
	flags := cmd.Flags()
	addText(flags, &route, "route", "name of the route, as list shows it")
	by.addWho(flags)
	f.add(cmd)
	check := func() error {
		if route == "" {
			return errors.New("--route is needed; caddy klavi routes list shows their names")
		}
		return by.check()
	}
	cmd.RunE = f.run(check, func(ctx context.Context, cmd *cobra.Command, s store) error {
		if err := do(s, ctx, route, by.who); err != nil {
			return err
		}
		if f.json {
			return printLines(cmd.OutOrStdout(), []map[string]string{{"route": route}})
		}
		fmt.Fprintf(cmd.OutOrStdout(), "%s is %sd\n", clean(route), name)
		if f.alone == "" {
			return nil
		}
		if routes, err := s.ListRoutes(ctx); err != nil || !areKnown(routes) {
			cmd.PrintErrln(f.alone + ", so it is not known whether there is such a route")
		}
		return nil
	})
	return cmd
}
