package command

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/caddy-klavi/caddy-klavi/inbox"
)

// changed is what --json prints of a change.
type changed struct {
	Deliveries int `json:"deliveries"`
}

func retryCommand() *cobra.Command {
	var f storeFlags
	var filter filterFlags
	var by actor
	cmd := &cobra.Command{
		Use:   "retry",
		Short: "Deliver again what is dead, and at once what waits for its next attempt",
		Long: `Has what is dead delivered again, and what waits for its next attempt at once.
They go the way of all others, as many at a time as their routes take: a service
that was down is not flooded. What was delivered cannot be delivered again, since
its body is gone: Klavi's Console can send it again.

Without flags that choose, it is all that is dead or waits.` + filterHelp + storeHelp,
		Example: `  caddy klavi reports retry --state dead --route cards
  caddy klavi reports retry --uid 0199c6d2-7a0e-7c5b-b0a4-5f2f4d6c8e11`,
		Args: noArguments,
	}
	filter.add(cmd.Flags())
	by.addWho(cmd.Flags())
	f.add(cmd)
	cmd.RunE = f.run(by.check, func(ctx context.Context, cmd *cobra.Command, s store) error {
		progress, end := progressOn(cmd.ErrOrStderr(), "put back")
		n, err := s.Retry(ctx, filter.Filter, by.who, progress)
		end()
		when := ""
		if f.alone == notOpen {
			when = " once Caddy runs"
		}
		return f.printChange(cmd, n, "is tried again"+when, "are tried again"+when, err)
	})
	return cmd
}

func dropCommand() *cobra.Command {
	var f storeFlags
	var filter filterFlags
	var by actor
	cmd := &cobra.Command{
		Use:   "drop --why <reason>",
		Short: "Give up reports that wait or are dead",
		Long: `Gives up what waits or is dead: it is not delivered any more, and its body goes,
for good. The record of it stays, with who did it and why. What waits for other
routes in the same array of events goes on.

At least one flag that chooses is needed. Look with list and the same flags
first.` + filterHelp + storeHelp,
		Example: `  caddy klavi reports drop --state dead --type pf_credit_risk --why "OPS-113: not used any more"`,
		Args:    noArguments,
	}
	filter.add(cmd.Flags())
	by.add(cmd.Flags())
	f.add(cmd)
	check := func() error {
		if filter.Filter == (inbox.Filter{}) {
			return errors.New("everything would be dropped: say which reports; see caddy klavi reports drop --help")
		}
		return by.check()
	}
	cmd.RunE = f.run(check, func(ctx context.Context, cmd *cobra.Command, s store) error {
		progress, end := progressOn(cmd.ErrOrStderr(), "dropped")
		n, err := s.Drop(ctx, filter.Filter, by.who, by.why, progress)
		end()
		return f.printChange(cmd, n, "is dropped", "are dropped", err)
	})
	return cmd
}

// printChange says how many deliveries were changed, also before an error.
func (f *storeFlags) printChange(cmd *cobra.Command, n int, one, many string, err error) error {
	switch {
	case err != nil && n > 0:
		return fmt.Errorf("after %s: %w", count(n, "delivery"), err)
	case err != nil:
		return err
	case f.json:
		return printLines(cmd.OutOrStdout(), []changed{{n}})
	case n != 1:
		one = many
	}
	fmt.Fprintln(cmd.OutOrStdout(), count(n, "delivery"), one)
	return nil
}

func eraseCommand() *cobra.Command {
	f := storeFlags{erases: true}
	var by actor
	var consent, link, report string
	cmd := &cobra.Command{
		Use:   "erase (--consent | --link | --report) <id> --why <reason>",
		Short: "Destroy what is kept of a consent, a link or a report",
		Long: `Destroys the bodies of all reports of a consent, of a link, or under one id,
whether they wait, are dead or were set aside, and the keys that they were sealed
with. What still arrives for it is answered with 200, recorded, and not kept. The
records stay: they hold nothing personal. It prints a receipt.

A backup of the whole inbox that is older still has them, with their keys: erase
again after it was restored.

Events that the config lists under erase_on are left alone until they are
delivered: a service waits for them to forget its own copies.

What was delivered is not here any more: the services that have it must erase it
themselves. While Caddy is stopped, or with a database, --config is needed for its
erase_on.` + storeHelp,
		Example: `  caddy klavi reports erase --consent 5cd0b9a5-1d3c-4d24-9a3e-3a2b1c0d9e8f --why "LGPD-42"`,
		Args:    noArguments,
	}
	flags := cmd.Flags()
	addText(flags, &consent, "consent", "id of a consent")
	addText(flags, &link, "link", "id of a link")
	addText(flags, &report, "report", "Klavi's id of a report or event, or its uid in the inbox")
	by.add(flags)
	f.add(cmd)
	var kind, value string
	check := func() error {
		n := 0
		for name, text := range map[string]string{inbox.EraseConsent: consent, inbox.EraseLink: link, inbox.EraseReport: report} {
			if text != "" {
				n++
				kind, value = name, text
			}
		}
		if n != 1 {
			return errors.New("one of --consent, --link and --report is needed")
		}
		return by.check()
	}
	cmd.RunE = f.run(check, func(ctx context.Context, cmd *cobra.Command, s store) error {
		receipt, err := s.Erase(ctx, kind, value, by.who, by.why)
		if err != nil {
			return err
		}
		if f.json {
			return printLines(cmd.OutOrStdout(), []inbox.EraseReceipt{receipt})
		}
		return printReceipt(cmd.OutOrStdout(), &receipt, by.who)
	})
	return cmd
}

func printReceipt(w io.Writer, r *inbox.EraseReceipt, who string) error {
	fmt.Fprintf(w, "erased: %s %s\non %s by %s\n", r.Kind, clean(r.Value), stamp(r.At), clean(who))
	destroyed := 0
	if len(r.Reports) > 0 {
		fmt.Fprintln(w)
		out := newPrinter(w, "UID", "REPORT", "WAS", "BODY")
		for _, e := range r.Reports {
			body := "was gone"
			if e.Destroyed {
				body = "destroyed"
				destroyed++
			}
			out.row(e.UID, e.ReportID, e.State, body)
		}
		if err := out.flush(); err != nil {
			return err
		}
	}
	done := count(len(r.Reports), "report") + ", " + count(destroyed, "body") + " destroyed"
	if len(r.Reports) == 0 {
		done = "nothing destroyed, since no report has this id (is it right?)"
	}
	_, err := fmt.Fprintf(w, "\n%s; what still comes is not kept\n", done)
	for _, path := range r.Copies {
		fmt.Fprintln(w, "this file may still hold what was erased, until it is removed:", clean(path))
	}
	return err
}
