package command

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"os"
	"os/user"
	"unicode"
	"unicode/utf8"

	"github.com/spf13/pflag"

	"github.com/caddy-klavi/caddy-klavi/gateway"
)

// actor is who does something, and why: it stands in the record.
type actor struct {
	who, why string
	needsWhy bool
}

// The most that the record takes.
const (
	maxWho = 100
	maxWhy = 500
)

func (a *actor) addWho(flags *pflag.FlagSet) {
	addText(flags, &a.who, "who", "who does it, for the record (default: your user name, also under sudo)")
}

func (a *actor) add(flags *pflag.FlagSet) {
	a.needsWhy = true
	a.addWho(flags)
	addText(flags, &a.why, "why", "why, for the record: the number of a ticket is best; nothing personal")
}

// check fills in who it is, and refuses what the record must not hold.
func (a *actor) check() error {
	if a.who == "" {
		a.who = osUser()
	}
	if a.needsWhy && a.why == "" {
		return errors.New("--why is needed: it stands in the record")
	}
	return cmp.Or(checkText("--who", a.who, maxWho), checkText("--why", a.why, maxWhy))
}

func checkText(flag, text string, most int) error {
	if !utf8.ValidString(text) || bytes.ContainsFunc([]byte(text), unicode.IsControl) {
		return fmt.Errorf("%s must be one line of text", flag)
	}
	if n := utf8.RuneCountInString(text); n > most {
		return fmt.Errorf("%s has %d characters: the record takes %d", flag, n, most)
	}
	if masked := gateway.Mask([]byte(text)); string(masked) != text {
		return fmt.Errorf("%s has what looks like a tax id or a secret: the record outlives the report, and must hold nothing personal", flag)
	}
	return nil
}

// osUser is the person at the keyboard.
func osUser() string {
	if name := os.Getenv("SUDO_USER"); name != "" {
		return name
	}
	if u, err := user.Current(); err == nil && u.Username != "" {
		return u.Username
	}
	return fmt.Sprint("uid ", os.Getuid())
}
