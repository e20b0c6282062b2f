package command

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/caddy-klavi/caddy-klavi/inbox"
)

// exportFlags say where bodies go.
type exportFlags struct {
	storeFlags
	actor
	filter   filterFlags
	file     string
	folder   string
	terminal bool
}

// exported is what --json prints of a body.
type exported struct {
	UID    string `json:"uid"`
	File   string `json:"file"`
	Size   int64  `json:"size"`
	Digest string `json:"digest"`
}

func exportCommand() *cobra.Command {
	var f exportFlags
	cmd := &cobra.Command{
		Use:   "export (--output <file> | --output-dir <directory>) --why <reason>",
		Short: "Write the bodies of reports to files",
		Long: `Writes the body of a report to a file, as Klavi sent it: that is somebody's bank
data. Who exports it and why stands in the record before the first byte of it
leaves the inbox. Only reports that wait or are dead have a body.

--output takes the one report that the flags choose; - writes it to stdout.
--output-dir takes all that they choose, each to <uid>.json in that directory,
which is made if it is not there. Files are for you alone to read (0600); one
that is there is never overwritten.

--json prints a line for each file: its uid, file, size and digest (SHA-256).` + filterHelp + storeHelp,
		Example: `  caddy klavi reports export --uid 0199c6d2-7a0e-7c5b-b0a4-5f2f4d6c8e11 --output report.json --why OPS-113
  caddy klavi reports export --state dead --route cards --output-dir dead-cards --why OPS-113`,
		Args: noArguments,
	}
	flags := cmd.Flags()
	flags.VarP((*text)(&f.file), "output", "o", "file to write the one report to; - is stdout")
	addText(flags, &f.folder, "output-dir", "directory to write all the reports to")
	flags.BoolVar(&f.terminal, "to-terminal", false, "write to stdout even if it is a terminal")
	f.filter.add(flags)
	f.actor.add(flags)
	f.storeFlags.add(cmd)
	check := func() error { return f.check(cmd.OutOrStdout()) }
	cmd.RunE = f.run(check, func(ctx context.Context, cmd *cobra.Command, s store) error {
		if f.folder != "" {
			return f.exportAll(ctx, cmd, s)
		}
		return f.exportOne(ctx, cmd, s)
	})
	return cmd
}

func (f *exportFlags) check(stdout io.Writer) error {
	switch {
	case (f.file == "") == (f.folder == ""):
		return errors.New("where to? Give --output or --output-dir")
	case f.filter.Filter == (inbox.Filter{}):
		return errors.New("which reports? Give --uid, or other flags that choose; see caddy klavi reports export --help")
	case f.file == "-" && f.json:
		return errors.New("--output - writes the body to stdout, where --json would print: leave one of them out")
	case f.file == "-" && !f.terminal && isTerminal(stdout):
		return errors.New("stdout is a terminal, whose history would keep the report: give --output a file, or add --to-terminal")
	}
	return f.actor.check()
}

// exportOne exports the one report that the flags choose.
func (f *exportFlags) exportOne(ctx context.Context, cmd *cobra.Command, s store) error {
	records, err := s.List(ctx, f.filter.Filter, inbox.Page{Limit: 2})
	switch {
	case err != nil:
		return err
	case len(records) == 0:
		return errNothing
	case len(records) > 1:
		return errors.New("more than one report is chosen: give --uid, or --output-dir for all of them")
	}
	if f.file != "-" {
		return f.exportTo(ctx, cmd, s, f.file, &records[0])
	}
	body, err := s.Export(ctx, records[0].UID, f.who, f.why)
	if err != nil {
		return err
	}
	defer body.Close()
	_, err = io.Copy(cmd.OutOrStdout(), body)
	return err
}

// exportAll exports all reports that the flags choose, and says which could not
// be.
func (f *exportFlags) exportAll(ctx context.Context, cmd *cobra.Command, s store) error {
	if err := os.Mkdir(f.folder, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	done, failed := 0, 0
	var last error
	err := pages(ctx, s.List, f.filter.Filter, func(records []inbox.Record) error {
		for i := range records {
			r := &records[i]
			err := f.exportTo(ctx, cmd, s, filepath.Join(f.folder, r.UID+".json"), r)
			switch {
			case err == nil:
				done++
			case errors.Is(err, inbox.ErrGone), errors.Is(err, inbox.ErrDamaged), errors.Is(err, inbox.ErrNotFound):
				failed++
				last = err
			default:
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	if done == 0 && failed == 0 {
		return errNothing
	}
	if !f.json {
		cmd.PrintErrln(count(done, "report"), "exported")
	}
	if failed > 0 {
		return fmt.Errorf("%s could not be exported, the last because: %w", count(failed, "report"), last)
	}
	return nil
}

// exportTo writes the body of a report to a file that is not there yet. Nothing
// is left of it after an error.
func (f *exportFlags) exportTo(ctx context.Context, cmd *cobra.Command, s store, path string, r *inbox.Record) error {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%s is there already, and is not overwritten", path)
	}
	if err != nil {
		return err
	}
	n, err := copyBody(ctx, s, file, r.UID, f.who, f.why)
	if err = cmp.Or(err, file.Sync(), file.Close()); err != nil {
		_ = file.Close()
		return errors.Join(err, os.Remove(path))
	}
	if f.json {
		return printLines(cmd.OutOrStdout(), []exported{{r.UID, path, n, r.Digest}})
	}
	fmt.Fprintln(cmd.OutOrStdout(), path)
	return nil
}

func copyBody(ctx context.Context, s store, w io.Writer, uid, who, why string) (int64, error) {
	body, err := s.Export(ctx, uid, who, why)
	if err != nil {
		return 0, err
	}
	defer body.Close()
	return io.Copy(w, body)
}
