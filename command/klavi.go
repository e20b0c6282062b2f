// Package command is `caddy klavi`: what operators do from a shell.
package command

import (
	"errors"
	"strings"

	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

func init() {
	caddycmd.RegisterCommand(caddycmd.Command{
		Name:  "klavi",
		Usage: "<command>",
		Short: "Tools for the gateway to Klavi",
		Long: `Works with the gateway to Klavi from a shell: with the reports that wait in its
inbox for the services that they are for, with the routes to these services, with
the inbox as a whole, and against your own klavi_frontend, as an attacker would.`,
		CobraFunc: func(cmd *cobra.Command) {
			cmd.Args = noArguments
			cmd.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
			cmd.AddCommand(conformanceCommand(), reportsCommand(), routesCommand(), inboxCommand())
			// Those below it have it, too. Caddy's own points to its own pages.
			cmd.SetHelpTemplate(cmd.HelpTemplate() + helpFooter)
			speakForItself(cmd)
		},
	})
}

const helpFooter = `
With examples of what is printed: docs/commands.md and docs/conformance.md at
https://github.com/caddy-klavi/caddy-klavi
`

// speakForItself has a command and those below it print their own errors.
func speakForItself(cmd *cobra.Command) {
	cmd.SetFlagErrorFunc(flagError)
	cmd.SilenceUsage, cmd.SilenceErrors = true, true
	cmd.SuggestionsMinimumDistance = 2
	for _, c := range cmd.Commands() {
		speakForItself(c)
	}
}

// Exit codes.
const (
	exitOK     = 0
	exitFailed = 1 // what was asked for was done, and the answer is no
	exitUsage  = 2 // it could not be done
)

// text is the value of a flag that is not empty. A variable that a script has not
// set must not choose all reports, or another inbox.
type text string

func (t *text) Set(value string) error {
	if value == "" {
		return errors.New("it is empty")
	}
	*t = text(value)
	return nil
}

func (t *text) String() string { return string(*t) }

func (t *text) Type() string { return "string" }

func addText(flags *pflag.FlagSet, to *string, name, usage string) {
	flags.Var((*text)(to), name, usage)
}

// exit ends the process with that code. The message was printed already.
func exit(cmd *cobra.Command, code int) error {
	switch code {
	case exitOK:
		return nil
	case exitFailed:
		return errors.New("failed")
	}
	// Caddy keeps the error that carries a code to itself.
	return caddycmd.WrapCommandFuncForCobra(func(caddycmd.Flags) (int, error) { return code, nil })(cmd, nil)
}

// complain prints an error and exits.
func complain(cmd *cobra.Command, err error) error {
	cmd.PrintErrln("caddy klavi:", err)
	return exit(cmd, exitUsage)
}

// noArguments does not repeat what it refuses: it may be a secret whose flag was forgotten.
func noArguments(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	if cmd.HasSubCommands() {
		return noCommand(cmd, args[0])
	}
	return complain(cmd, errors.New("there are values without a flag; see "+cmd.CommandPath()+" --help"))
}

// noCommand says what else it could be.
func noCommand(cmd *cobra.Command, name string) error {
	text := "there is no such command"
	if near := cmd.SuggestionsFor(name); len(near) > 0 {
		text += " (is it " + strings.Join(near, " or ") + "?)"
	}
	return complain(cmd, errors.New(text+"; see "+cmd.CommandPath()+" --help"))
}

// flagError says which flag is wrong, and never its value.
func flagError(cmd *cobra.Command, err error) error {
	// The flags may be right, and those of the command that was meant.
	if args := cmd.Flags().Args(); cmd.HasSubCommands() && len(args) > 0 {
		return noCommand(cmd, args[0])
	}
	text := "the flags cannot be read"
	if missing, ok := errors.AsType[*pflag.ValueRequiredError](err); ok {
		text = "--" + missing.GetFlag().Name + " needs a value"
	}
	if invalid, ok := errors.AsType[*pflag.InvalidValueError](err); ok {
		text = "--" + invalid.GetFlag().Name + " does not take this value"
		switch {
		case invalid.GetValue() == "":
			text = "--" + invalid.GetFlag().Name + " is empty"
		case invalid.GetFlag().Value.Type() == (*age)(nil).Type():
			text = "--" + invalid.GetFlag().Name + " takes a time, such as 90s, 10m, 36h or 7d"
		}
	}
	if unknown, ok := errors.AsType[*pflag.NotExistError](err); ok {
		text = "there is no flag --" + unknown.GetSpecifiedName()
		if unknown.GetSpecifiedShortnames() != "" {
			text = "a flag begins with two dashes"
		}
	}
	return complain(cmd, errors.New(text+"; see "+cmd.CommandPath()+" --help"))
}
