package main

import (
	"fmt"
	"io"
	"slices"
)

// measure is a column of the table.
type measure struct {
	title  string
	of     func(run) float64
	format string
}

var measures = []measure{
	{"requests/s", func(r run) float64 { return r.perSecond }, "%.0f"},
	{"CPU per request, µs", func(r run) float64 { return r.cpu }, "%.1f"},
	{"p99, ms", func(r run) float64 { return r.p99 / 1000 }, "%.2f"},
}

// values returns the measure in each run of a face.
func (m measure) values(f *face) []float64 {
	values := make([]float64, 0, len(f.runs))
	for _, r := range f.runs {
		values = append(values, m.of(r))
	}
	return values
}

// beside returns the median of what f had beside base, round by round: what
// else the machine did in a round, it did to both.
func (m measure) beside(f, base *face) float64 {
	return median(ratios(m.values(f), m.values(base)))
}

// cell shows a median, and in brackets the smallest and the largest.
func (m measure) cell(f *face) string {
	values := m.values(f)
	return fmt.Sprintf(m.format+" ("+m.format+"–"+m.format+")", median(values), slices.Min(values), slices.Max(values))
}

// writeTable writes a group as a table in Markdown, and what became of its aims.
func writeTable(w io.Writer, g group) {
	base := g.faces[0]
	fmt.Fprintf(w, "\n| %s |", g.title)
	for _, m := range measures {
		fmt.Fprintf(w, " %s | × |", m.title)
	}
	fmt.Fprint(w, "\n|---|")
	for range measures {
		fmt.Fprint(w, "---|---|")
	}
	fmt.Fprintln(w)
	for _, f := range g.faces {
		fmt.Fprintf(w, "| %s |", f.name)
		for _, m := range measures {
			fmt.Fprintf(w, " %s | %.2f |", m.cell(f), m.beside(f, base))
		}
		fmt.Fprintln(w)
	}
	fmt.Fprintln(w)
	for _, f := range g.faces {
		if f.atLeast > 0 {
			got := measures[0].beside(f, base)
			fmt.Fprintf(w, "* %s: requests/s × %.2f, to be at least %.2f: %s\n", f.name, got, f.atLeast, verdict(got >= f.atLeast))
		}
		if f.p99AtMost > 0 {
			got := measures[2].beside(f, base)
			fmt.Fprintf(w, "* %s: p99 × %.2f, to be at most %.2f: %s\n", f.name, got, f.p99AtMost, verdict(got <= f.p99AtMost))
		}
	}
}

func verdict(ok bool) string {
	if ok {
		return "met"
	}
	return "**missed**"
}
