package command

import (
	"fmt"
	"io"
	"os"

	"golang.org/x/term"

	"github.com/caddy-klavi/caddy-klavi/inbox"
)

// isTerminal says whether a person sees what is written to w.
var isTerminal = func(w io.Writer) bool {
	file, ok := w.(*os.File)
	return ok && term.IsTerminal(int(file.Fd()))
}

// progressOn shows on a terminal how far something is that takes more than one
// step. The func that it returns ends that.
func progressOn(w io.Writer, what string) (inbox.Progress, func()) {
	if !isTerminal(w) {
		return nil, func() {}
	}
	begun := false
	return func(done, total int) {
			if done == 0 || done == total && !begun {
				return // it is short
			}
			begun = true
			fmt.Fprintf(w, "\r%d of %d %s", done, total, what)
		}, func() {
			if begun {
				fmt.Fprintln(w)
			}
		}
}
