package command

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// maxCell is how much of a text a table shows, so that its rows stay readable.
const maxCell = 40

// printer prints a table page by page. A tabwriter would align each page for
// itself.
type printer struct {
	w      io.Writer
	rows   [][]string
	widths []int
}

func newPrinter(w io.Writer, header ...string) *printer {
	return &printer{w: w, rows: [][]string{header}, widths: make([]int, len(header))}
}

// newFields returns a printer of names and their values, without a header.
func newFields(w io.Writer) *printer {
	return &printer{w: w, widths: make([]int, 2)}
}

func (p *printer) row(cells ...string) {
	for i := range cells {
		cells[i] = clean(cells[i])
		if runes := []rune(cells[i]); len(runes) > maxCell {
			cells[i] = string(runes[:maxCell-1]) + "…"
		}
	}
	p.rows = append(p.rows, cells)
}

// flush prints the rows so far. Later ones may need wider columns, which begin
// with them.
func (p *printer) flush() error {
	var b strings.Builder
	for _, row := range p.rows {
		for i, cell := range row {
			p.widths[i] = max(p.widths[i], utf8.RuneCountInString(cell))
		}
	}
	for _, row := range p.rows {
		for i, cell := range row {
			row[i] = cell + strings.Repeat(" ", p.widths[i]-utf8.RuneCountInString(cell))
		}
		b.WriteString(strings.TrimRight(strings.Join(row, "  "), " ") + "\n")
	}
	p.rows = p.rows[:0]
	_, err := io.WriteString(p.w, b.String())
	return err
}

// printLines prints one JSON object per line.
func printLines[T any](w io.Writer, list []T) error {
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false)
	for i := range list {
		if err := encoder.Encode(list[i]); err != nil {
			return err
		}
	}
	return nil
}

// clean replaces what a terminal would not show, but do.
func clean(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return '?'
	}, text)
}

// since says how long ago something was.
func since(t, now time.Time) string {
	if t.IsZero() {
		return ""
	}
	return short(now.Sub(t))
}

// until says in what time something will be, empty if it is over.
func until(t, now time.Time) string {
	if !t.After(now) {
		return ""
	}
	return "in " + short(t.Sub(now))
}

// short is a time in its largest unit.
func short(d time.Duration) string {
	const day = 24 * time.Hour
	switch {
	case d < time.Minute:
		return fmt.Sprint(max(int(d/time.Second), 0), "s")
	case d < 2*time.Hour:
		return fmt.Sprint(int(d/time.Minute), "m")
	case d < 2*day:
		return fmt.Sprint(int(d/time.Hour), "h")
	}
	return fmt.Sprint(int(d/day), "d")
}

// stamp is a time in full.
func stamp(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339)
}

// count says how many of something there are.
func count(n int, what string) string {
	switch {
	case n == 1:
		return "1 " + what
	case strings.HasSuffix(what, "y"):
		what = strings.TrimSuffix(what, "y") + "ie"
	}
	return fmt.Sprint(n, " ", what, "s")
}
