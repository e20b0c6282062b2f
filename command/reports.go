package command

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/caddy-klavi/caddy-klavi/inbox"
)

// pageSize is how many reports are asked for at once.
const pageSize = 500

func reportsCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "reports <command>",
		Short: "See, retry, drop, export and erase the reports in the inbox",
		Long: `Works with the reports that klavi_reports has stored: those that wait for the
service they are for, those that are dead, and the records of all others.`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(listCommand(), showCommand(), auditCommand(), retryCommand(), dropCommand(), exportCommand(), eraseCommand())
	return cmd
}

// filterFlags choose reports.
type filterFlags struct{ inbox.Filter }

// filterHelp explains them.
const filterHelp = `

The flags choose reports: those for which all of them are true. A type may end
in *. A route is the one that a report is to go to now, or went to; while Caddy
is stopped, it is the one that it was last tried at. Ages are times since the
report came, such as 90s, 10m, 36h or 7d.`

func (f *filterFlags) add(flags *pflag.FlagSet) {
	addText(flags, (*string)(&f.State), "state", "waiting, undeliverable (waiting, without a route), delivered, dead, dropped, erased or damaged")
	addText(flags, &f.Type, "type", "report type or event name, such as pf_credit_card or pf_*")
	addText(flags, &f.Route, "route", "name of the route")
	flags.Var((*age)(&f.OlderThan), "older-than", "came longer ago than this")
	flags.Var((*age)(&f.NewerThan), "newer-than", "came no longer ago than this")
	addText(flags, &f.UID, "uid", "the inbox's own id of a report, as list shows it")
	addText(flags, &f.ReportID, "report", "Klavi's id of a report or event; copies of it have the same")
	addText(flags, &f.RequestID, "request", "Klavi's id of the request that a report answers")
	addText(flags, &f.LinkID, "link", "id of a link")
	addText(flags, &f.ConsentID, "consent", "id of a consent")
	addText(flags, &f.EventID, "event", "id of an event")
}

// age is the value of a flag.
type age time.Duration

func (a *age) Set(text string) error {
	d, err := caddy.ParseDuration(text)
	if err == nil && d <= 0 {
		err = errors.New("it is not positive")
	}
	*a = age(d)
	return err
}

func (a *age) String() string {
	if *a == 0 {
		return ""
	}
	return time.Duration(*a).String()
}

func (a *age) Type() string { return "age" }

// pages calls fn with each page of what get returns.
func pages(ctx context.Context, get func(context.Context, inbox.Filter, inbox.Page) ([]inbox.Record, error), f inbox.Filter, fn func([]inbox.Record) error) error {
	page := inbox.Page{Limit: pageSize}
	for {
		records, err := get(ctx, f, page)
		if err != nil || len(records) == 0 {
			return err
		}
		if err := fn(records); err != nil {
			return err
		}
		page.After = records[len(records)-1].UID
	}
}

func listCommand() *cobra.Command {
	var f storeFlags
	var filter filterFlags
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List reports, the oldest first",
		Long: `Lists the reports in the inbox, the oldest first, with one line for each
delivery: an array of events has one for each name of its events.

TRIES is how many attempts were made, NEXT when what waits is tried again, at
the earliest, and LAST how the last attempt ended: with a status, or without an
answer. --json prints all that is known of each report but for its attempts and
what people did, which show and audit have.` + filterHelp + storeHelp,
		Example: `  caddy klavi reports list --state dead
  caddy klavi reports list --state waiting --older-than 1h
  caddy klavi reports list --consent 5cd0b9a5-1d3c-4d24-9a3e-3a2b1c0d9e8f --json`,
		Args: noArguments,
	}
	filter.add(cmd.Flags())
	f.add(cmd)
	cmd.RunE = f.run(noCheck, func(ctx context.Context, cmd *cobra.Command, s store) error {
		out := newPrinter(cmd.OutOrStdout(), "UID", "AGE", "STATE", "TYPE", "ROUTE", "TRIES", "NEXT", "LAST")
		n := 0
		err := pages(ctx, s.List, filter.Filter, func(records []inbox.Record) error {
			n += len(records)
			if f.json {
				return printLines(cmd.OutOrStdout(), records)
			}
			now := time.Now()
			for i := range records {
				addRows(out, &records[i], now)
			}
			return out.flush()
		})
		if err == nil && !f.json {
			cmd.PrintErrln(count(n, "report"))
		}
		return err
	})
	return cmd
}

// addRows adds a report to a table, with a row for each of its deliveries.
func addRows(out *printer, r *inbox.Record, now time.Time) {
	if len(r.Deliveries) == 0 {
		out.row(r.UID, since(r.Received, now), string(r.State), string(r.Kind), "", "", "", "")
	}
	for i := range r.Deliveries {
		d := &r.Deliveries[i]
		out.row(r.UID, since(r.Received, now), stateOf(r, d), d.Type, d.Route, fmt.Sprint(d.Attempts), next(d, now), last(r, d))
	}
}

// stateOf is the state of a delivery, or that of the report if it has ended for
// another reason.
func stateOf(r *inbox.Record, d *inbox.DeliveryRecord) string {
	switch {
	case r.State == inbox.Erased || r.State == inbox.Damaged:
		return string(r.State)
	case d.Undeliverable:
		return string(inbox.Undeliverable)
	}
	return string(d.State)
}

// last says how the last attempt of a delivery ended, shortly.
func last(r *inbox.Record, d *inbox.DeliveryRecord) string {
	if r.State == inbox.Erased {
		return brief(d.Status, "") // its reason is that it was erased
	}
	return brief(d.Status, d.Reason)
}

// next says when a delivery is tried again, at the earliest.
func next(d *inbox.DeliveryRecord, now time.Time) string {
	if d.State != inbox.Waiting || d.Undeliverable {
		return ""
	}
	return until(d.Due, now)
}

// outcome says how an attempt ended.
func outcome(status int, reason string) string {
	switch text := fmt.Sprint("status ", status); {
	case status == 0:
		return reason
	case reason == "" || strings.HasSuffix(reason, text): // the reason says no more than that
		return text
	default:
		return text + ": " + reason
	}
}

// brief is outcome for a table, where every column counts.
func brief(status int, reason string) string {
	return strings.TrimPrefix(outcome(status, reason), "status ")
}

func showCommand() *cobra.Command {
	var f storeFlags
	var filter inbox.Filter
	cmd := &cobra.Command{
		Use:   "show --uid <uid>",
		Short: "Show all that is known of a report",
		Long: `Shows all that is known of a report: its ids, where it went or is to go, each
attempt (the newest 100 of each delivery), and what people did with it. It does
not show its body: see export. Klavi's id of a report can have several copies:
with --report, all of them are shown.` + storeHelp,
		Example: `  caddy klavi reports show --uid 0199c6d2-7a0e-7c5b-b0a4-5f2f4d6c8e11`,
		Args:    noArguments,
	}
	flags := cmd.Flags()
	addText(flags, &filter.UID, "uid", "the inbox's own id of a report, as list shows it")
	addText(flags, &filter.ReportID, "report", "Klavi's id of a report or event")
	f.add(cmd)
	check := func() error {
		if (filter.UID == "") == (filter.ReportID == "") {
			return errors.New("one of --uid and --report is needed")
		}
		return nil
	}
	cmd.RunE = f.run(check, func(ctx context.Context, cmd *cobra.Command, s store) error {
		n := 0
		err := pages(ctx, s.Audit, filter, func(records []inbox.Record) error {
			if f.json {
				n += len(records)
				return printLines(cmd.OutOrStdout(), records)
			}
			for i := range records {
				if n++; n > 1 {
					fmt.Fprintln(cmd.OutOrStdout())
				}
				if err := printRecord(cmd.OutOrStdout(), &records[i], time.Now()); err != nil {
					return err
				}
			}
			return nil
		})
		if err == nil && n == 0 {
			err = errNothing
		}
		return err
	})
	return cmd
}

func auditCommand() *cobra.Command {
	var f storeFlags
	var filter filterFlags
	cmd := &cobra.Command{
		Use:   "audit",
		Short: "Say which reports went where and when, and who did what",
		Long: `Prints the record of reports, the oldest first: when each came, each attempt
(the newest 100 of each delivery) with where it went and how it ended, and what
people did with it and why. The record holds nothing personal; it outlives the
report by keep_record (1 year, unless the config says otherwise). All times are
UTC.` + filterHelp + storeHelp,
		Example: `  caddy klavi reports audit --consent 5cd0b9a5-1d3c-4d24-9a3e-3a2b1c0d9e8f
  caddy klavi reports audit --newer-than 30d --json`,
		Args: noArguments,
	}
	filter.add(cmd.Flags())
	f.add(cmd)
	cmd.RunE = f.run(noCheck, func(ctx context.Context, cmd *cobra.Command, s store) error {
		n := 0
		err := pages(ctx, s.Audit, filter.Filter, func(records []inbox.Record) error {
			n += len(records)
			if f.json {
				return printLines(cmd.OutOrStdout(), records)
			}
			for i := range records {
				if err := printHistory(cmd.OutOrStdout(), &records[i]); err != nil {
					return err
				}
			}
			return nil
		})
		if err == nil && !f.json {
			cmd.PrintErrln(count(n, "report"))
		}
		return err
	})
	return cmd
}
