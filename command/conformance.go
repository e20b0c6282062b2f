package command

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/caddy-klavi/caddy-klavi/command/conformance"
)

// conformanceFlags are the flags of `caddy klavi conformance`.
type conformanceFlags struct {
	target    string
	linkToken string
	headers   []string
	ca        string
	create    bool
	json      bool
}

func conformanceCommand() *cobra.Command {
	var f conformanceFlags
	cmd := &cobra.Command{
		Use:   "conformance --target <url> --link-token <token>",
		Short: "Test a running klavi_frontend with requests that it must serve or refuse",
		Long: `Sends requests to a running klavi_frontend, most of which it must refuse, and
shows what became of each. Paths, headers and bodies are sent byte by byte as an
attacker would write them, one request at a time.

The target is the public URL of the site with the prefix of klavi_frontend. The
link token is what POST <prefix>/links of that site answered as linkToken;
create the link with a personalTaxId and without an institutionCode.

No consent and no link is created: lines that could create one are skipped, and
shown as such, unless --create-consents is given.

Exit codes: 0 all lines that were sent are as they must be; 1 some are not; 2 it
could not be run, or not to its end.

What can be seen from outside, and what cannot: docs/conformance.md.`,
		Example: `  caddy klavi conformance --target https://app.example.com/klavi --link-token "$TOKEN"`,
		Args:    noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return runConformance(cmd, f)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&f.target, "target", "", "URL of the site with the prefix of klavi_frontend")
	flags.StringVar(&f.linkToken, "link-token", "", "linkToken of a link that the site created")
	flags.StringArrayVar(&f.headers, "header", nil, "header for each request, 'Name: value', for sites with a login; can be repeated")
	flags.StringVar(&f.ca, "ca", "", "PEM file with the authority that signed the certificate of the site (default: those of the system)")
	flags.BoolVar(&f.create, "create-consents", false, "also send what creates consents")
	flags.BoolVar(&f.json, "json", false, "print the results as JSON")
	return cmd
}

// options reads the flags. Errors name them, and no value that may be secret.
func (f *conformanceFlags) options() (conformance.Options, error) {
	o := conformance.Options{LinkToken: f.linkToken, CreateConsents: f.create}
	if f.target == "" || f.linkToken == "" {
		return o, errors.New("--target and --link-token are needed; see caddy klavi conformance --help")
	}
	var err error
	if o.Target, err = conformance.ParseTarget(f.target); err != nil {
		return o, fmt.Errorf("--target: %w", err)
	}
	if err := conformance.CheckLinkToken(f.linkToken); err != nil {
		return o, fmt.Errorf("--link-token: %w", err)
	}
	for _, text := range f.headers {
		h, err := conformance.ParseHeader(text)
		if err != nil {
			return o, fmt.Errorf("--header: %w", err)
		}
		o.Headers = append(o.Headers, h)
	}
	if f.ca == "" {
		return o, nil
	}
	pem, err := os.ReadFile(f.ca)
	if err != nil {
		return o, fmt.Errorf("--ca: %w", err)
	}
	if o.Roots, err = conformance.Roots(pem); err != nil {
		return o, fmt.Errorf("--ca: %s: %w", f.ca, err)
	}
	return o, nil
}

func runConformance(cmd *cobra.Command, f conformanceFlags) error {
	o, err := f.options()
	if err != nil {
		return complain(cmd, err)
	}
	o.Log = func(text string) { cmd.PrintErrln(text) }
	results, stopped := conformance.Run(cmd.Context(), o)
	if len(results) == 0 {
		return complain(cmd, stopped)
	}
	s := summarize(results)
	s.Target = o.Target.String()
	if stopped != nil {
		s.Stopped = stopped.Error()
	}
	print := s.printTable
	if f.json {
		print = s.printJSON
	}
	if err := print(cmd.OutOrStdout()); err != nil {
		return complain(cmd, err)
	}
	if stopped != nil {
		return complain(cmd, stopped)
	}
	if s.Failed > 0 {
		return exit(cmd, exitFailed)
	}
	return nil
}

// summary is what `caddy klavi conformance` prints.
type summary struct {
	Target  string               `json:"target"`
	OK      int                  `json:"ok"`
	Failed  int                  `json:"failed"`
	Skipped int                  `json:"skipped"`
	Stopped string               `json:"stopped,omitempty"` // why it ended early
	Lines   []conformance.Result `json:"lines"`
}

func summarize(results []conformance.Result) summary {
	s := summary{Lines: results}
	for _, r := range results {
		switch r.Verdict {
		case conformance.OK:
			s.OK++
		case conformance.Fail:
			s.Failed++
		case conformance.Skipped:
			s.Skipped++
		}
	}
	return s
}

func (s *summary) printJSON(w io.Writer) error {
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	return encoder.Encode(s)
}

func (s *summary) printTable(w io.Writer) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "ID\tCATEGORY\tWHAT\tWANT\tGOT\tVERDICT\tNOTE")
	for _, r := range s.Lines {
		answers := make([]string, 0, len(r.Got))
		for _, a := range r.Got {
			answers = append(answers, a.String())
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n",
			r.ID, r.Category, r.What, r.Want, strings.Join(answers, ", "), r.Verdict, r.Note)
	}
	if err := table.Flush(); err != nil {
		return err
	}
	fmt.Fprintf(w, "\n%s: %d ok, %d failed, %d skipped\n", s.Target, s.OK, s.Failed, s.Skipped)
	for _, v := range []conformance.Verdict{conformance.Fail, conformance.Skipped} {
		if ids := s.ids(v); len(ids) > 0 {
			fmt.Fprintf(w, "%s: %s\n", v, strings.Join(ids, " "))
		}
	}
	return nil
}

func (s *summary) ids(v conformance.Verdict) []string {
	var ids []string
	for _, r := range s.Lines {
		if r.Verdict == v {
			ids = append(ids, r.ID)
		}
	}
	return ids
}
