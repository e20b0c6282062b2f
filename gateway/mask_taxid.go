package gateway

import (
	"strings"

	"github.com/caddy-klavi/caddy-klavi/klavi"
)

// taxIDMatch is a CPF or CNPJ, or what can hardly be anything else.
type taxIDMatch struct {
	end        int
	checked    bool // the check digits fit
	punctuated bool
	dotted     bool
	letters    bool // an alphanumeric CNPJ
}

// taxIDForm is a way to write a tax id: the lengths of its groups and the
// separators after each but the last. What has a usual form and only digits is
// taken for a tax id though the check digits do not fit: people mistype them.
type taxIDForm struct {
	groups     []int
	separators []string
	usual      bool
}

var (
	cpfForms = []taxIDForm{
		{groups: []int{11}, usual: true},
		{groups: []int{3, 3, 3, 2}, separators: []string{".", ".", "-"}, usual: true},
		{groups: []int{9, 2}, separators: []string{"-"}},
	}
	// A hyphen for the slash is what file names have.
	cnpjForms = []taxIDForm{
		{groups: []int{14}, usual: true},
		{groups: []int{2, 3, 3, 4, 2}, separators: []string{".", ".", "/-", "-"}, usual: true},
		{groups: []int{8, 4, 2}, separators: []string{"/-", "-"}},
		{groups: []int{12, 2}, separators: []string{"-"}},
	}
)

// taxID looks for a tax id that begins with the word b[i:end].
func (m *masker) taxID(i, end int) (taxIDMatch, bool) {
	forms := cnpjForms
	switch end - i {
	case 2, 8, 12:
		if !m.mayBeSeparator(end) {
			return taxIDMatch{}, false
		}
	case 3, 9:
		if !m.mayBeSeparator(end) {
			return taxIDMatch{}, false
		}
		forms = cpfForms
	case 11:
		forms = cpfForms
	case 14:
	default:
		return taxIDMatch{}, false
	}
	for n := range forms {
		if forms[n].groups[0] == end-i {
			return m.taxIDIn(&forms[n], i)
		}
	}
	return taxIDMatch{}, false
}

// mayBeSeparator spares most words a closer look.
func (m *masker) mayBeSeparator(i int) bool {
	return i < len(m.b) && strings.IndexByte(`.-/%\`, m.b[i]) >= 0
}

// taxIDIn looks for a tax id in one form at i.
func (m *masker) taxIDIn(form *taxIDForm, i int) (taxIDMatch, bool) {
	var id [14]byte
	n := 0
	for g, size := range form.groups {
		if g > 0 {
			char, length := m.decode(i)
			if strings.IndexByte(form.separators[g-1], char) < 0 {
				return taxIDMatch{}, false
			}
			i += length
		}
		if m.wordEnd(i) != i+size {
			return taxIDMatch{}, false
		}
		n += copy(id[n:], m.b[i:i+size])
		i += size
	}
	match := taxIDMatch{end: i, punctuated: len(form.groups) > 1, dotted: len(form.groups) > 3}
	for at, c := range id[:n] {
		if maskClass[c] != maskDigit {
			if n == 11 || at >= 12 {
				return taxIDMatch{}, false
			}
			match.letters = true
		}
	}
	if n == 11 {
		_, match.checked = klavi.CPF(string(id[:n]))
	} else {
		_, match.checked = klavi.CNPJ(string(id[:n]))
	}
	return match, match.checked || form.usual && !match.letters
}
