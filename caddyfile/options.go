// Package caddyfile holds the Caddyfile directives: the global option klavi,
// and klavi_frontend, klavi_proxy, klavi_ready and klavi_reports. A directive does nothing
// but write the JSON config of the modules that do the work.
package caddyfile

import (
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/dustin/go-humanize"

	"github.com/caddy-klavi/caddy-klavi/gateway"
	"github.com/caddy-klavi/caddy-klavi/klavi"
)

// option is a subdirective of a block whose result is a T.
type option[T any] struct {
	// usage is how the option is written. Its first word is the name.
	usage string

	// repeatable options may stand in a block more than once.
	repeatable bool

	// parse reads the option from a dispenser that holds nothing else and
	// stands at its name. What it leaves over is an error.
	parse func(into *T, d *caddyfile.Dispenser) error
}

func (o option[T]) name() string {
	name, _, _ := strings.Cut(o.usage, " ")
	return name
}

// errUsage says that the arguments of an option are not those of its usage.
var errUsage = errors.New("wrong arguments")

// parseOptions reads the block behind the current token, if there is one. Errors
// call the block by the name what.
func parseOptions[T any](d *caddyfile.Dispenser, what string, into *T, options []option[T]) error {
	var seen []string
	return eachOption(d, func(d *caddyfile.Dispenser) error {
		known, err := parseOption(d, into, options, &seen)
		if !known {
			return d.Errf("%s has no option %q: %s", what, d.Val(), suggest(d.Val(), names(options)))
		}
		return err
	})
}

// parseOption reads the option at which d stands, if it is a known one. The names
// of those read so far are in seen.
func parseOption[T any](d *caddyfile.Dispenser, into *T, options []option[T], seen *[]string) (known bool, err error) {
	i := slices.IndexFunc(options, func(o option[T]) bool { return o.name() == d.Val() })
	if i < 0 {
		return false, nil
	}
	o := options[i]
	if !o.repeatable && slices.Contains(*seen, o.name()) {
		return true, d.Errf("%s is already specified", o.name())
	}
	*seen = append(*seen, o.name())
	err = o.parse(into, d)
	switch {
	case errors.Is(err, errUsage):
		return true, d.Errf("wrong arguments for %s, which is written: %s", o.name(), o.usage)
	case err != nil:
		return true, err
	case d.NextArg():
		return true, d.Errf("unexpected %q: the option is written: %s", d.Val(), o.usage)
	case d.Next():
		return true, d.Errf("unexpected block: the option is written: %s", o.usage)
	}
	return true, nil
}

// eachOption calls f with each option of the block behind the current token.
func eachOption(d *caddyfile.Dispenser, f func(*caddyfile.Dispenser) error) error {
	open := d.Nesting()
	for d.NextBlock(open) {
		segment := d.NextSegment()
		if d.Val() == "}" && len(segment) > 0 && segment[len(segment)-1].Text != "}" {
			return d.Errf("the block of %s is empty", segment.Directive())
		}
		option := caddyfile.NewDispenser(segment)
		option.Next()
		if err := f(option); err != nil {
			return err
		}
	}
	return nil
}

// names returns the names of options.
func names[T any](options []option[T]) []string {
	list := make([]string, len(options))
	for i, o := range options {
		list[i] = o.name()
	}
	return list
}

// suggest ends the sentence about a name that is not among the known ones.
func suggest(name string, known []string) string {
	if nearest, ok := klavi.Nearest(name, known); ok {
		return "did you mean " + nearest + "?"
	}
	return "it has " + strings.Join(known, ", ")
}

// one reads an option with one argument.
func one(into *string, d *caddyfile.Dispenser) error {
	if !d.NextArg() || d.Val() == "" {
		return errUsage
	}
	*into = d.Val()
	return nil
}

// several reads an option with at least one argument. Each must pass check, if
// there is one.
func several(into *[]string, d *caddyfile.Dispenser, check func(string) error) error {
	name := d.Val()
	for d.NextArg() {
		if d.Val() == "" {
			return d.Errf("%s has an empty argument", name)
		}
		if slices.Contains(*into, d.Val()) {
			return d.Errf("%s has %q twice", name, d.Val())
		}
		if check != nil {
			if err := check(d.Val()); err != nil {
				return d.Errf("%s: %w", name, err)
			}
		}
		*into = append(*into, d.Val())
	}
	if len(*into) == 0 {
		return errUsage
	}
	return nil
}

// pair reads a repeatable option that gives a name a value. Both must pass check.
func pair(into *map[string]string, d *caddyfile.Dispenser, check func(name, value string) error) error {
	option := d.Val()
	var name, value string
	if !d.Args(&name, &value) || name == "" || value == "" {
		return errUsage
	}
	if d.CountRemainingArgs() > 0 {
		return nil // the caller says what is too much
	}
	if _, ok := (*into)[name]; ok {
		return d.Errf("%s %s is already specified", option, name)
	}
	if err := check(name, value); err != nil {
		return d.Errf("%s: %w", option, err)
	}
	if *into == nil {
		*into = make(map[string]string)
	}
	(*into)[name] = value
	return nil
}

// literal makes a check of values one of texts, in which placeholders may stand:
// what they stand for is known, and checked, when the config is loaded.
func literal(check func(string) error) func(string) error {
	return func(text string) error {
		if err := gateway.CheckPlaceholders(text); err != nil {
			return err
		}
		if gateway.HasPlaceholder(text) {
			return nil
		}
		return check(text)
	}
}

// choice reads an option whose argument is one of a few words.
func choice(into *string, d *caddyfile.Dispenser, words ...string) error {
	name := d.Val()
	if err := one(into, d); err != nil {
		return err
	}
	if !slices.Contains(words, *into) {
		return d.Errf("%s cannot be %q: it is %s", name, *into, strings.Join(words, " or "))
	}
	return nil
}

// duration reads an option whose argument is a time span above zero.
func duration(into *caddy.Duration, d *caddyfile.Dispenser) error {
	name := d.Val()
	var text string
	if err := one(&text, d); err != nil {
		return err
	}
	span, err := caddy.ParseDuration(text)
	if err != nil {
		return d.Errf("%s is %q, which is not a duration such as 90s, 2h or 30d", name, text)
	}
	if span < time.Nanosecond {
		return d.Errf("%s is %s: it must be above zero", name, text)
	}
	*into = caddy.Duration(span)
	return nil
}

// size reads an option whose argument is a number of bytes, above zero and up to
// most.
func size(into *int64, d *caddyfile.Dispenser, most, example string) error {
	name := d.Val()
	var text string
	if err := one(&text, d); err != nil {
		return err
	}
	limit, _ := humanize.ParseBytes(most)
	n, err := humanize.ParseBytes(text)
	switch {
	case err != nil:
		return d.Errf("%s is %q, which is not a size such as %s", name, text, example)
	case n == 0 || n > limit:
		return d.Errf("%s is %s: it must be above zero, and at most %s", name, text, most)
	}
	*into = int64(n) //nolint:gosec // the limit fits
	return nil
}
