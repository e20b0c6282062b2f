package gateway

import (
	"strings"

	"github.com/caddy-klavi/caddy-klavi/klavi"
)

// taxIDMatch is a CPF or CNPJ, or what can hardly be anything else.
type taxIDMatch struct {
	end        int
	checked    bool // the check digits fit
	usual      bool // the separators are those that everybody writes
	punctuated bool
	dotted     bool // in all its groups
	comma      bool // among the separators
	letters    bool // an alphanumeric CNPJ
}

// taxIDForm is a way to write a tax id: the lengths of its groups and the
// separators after each but the last. What has a usual form and only digits is
// taken for a tax id though the check digits do not fit: people mistype them.
// With one of the other separators, or glued to letters, they have to fit.
type taxIDForm struct {
	groups     []int
	separators []string
	others     string
	usual      bool
}

// separatorsOfTwo leaves out what makes one number of two groups.
const separatorsOfTwo = "-/ _"

var (
	cpfForms = []taxIDForm{
		{groups: []int{11}, usual: true},
		{groups: []int{3, 3, 3, 2}, separators: []string{".", ".", "-"}, others: anySeparators, usual: true},
		{groups: []int{9, 2}, separators: []string{"-"}, others: separatorsOfTwo},
	}
	// A hyphen for the slash is what file names have.
	cnpjForms = []taxIDForm{
		{groups: []int{14}, usual: true},
		{groups: []int{2, 3, 3, 4, 2}, separators: []string{".", ".", "/-", "-"}, others: anySeparators, usual: true},
		{groups: []int{8, 4, 2}, separators: []string{"/-", "-"}, others: anySeparators},
		{groups: []int{12, 2}, separators: []string{"-"}, others: separatorsOfTwo},
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
		if maskClass[m.b[i]] != maskDigit || !m.mayBeSeparator(end) {
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

// taxIDIn looks for a tax id in one form at i.
func (m *masker) taxIDIn(form *taxIDForm, i int) (taxIDMatch, bool) {
	var id [14]byte
	n, points := 0, 0
	match := taxIDMatch{punctuated: len(form.groups) > 1, dotted: len(form.groups) > 3}
	match.usual = form.usual
	alone := true
	for g, size := range form.groups {
		if g > 0 {
			char, length, plain := m.separator(i)
			if !plain || strings.IndexByte(form.separators[g-1], char) < 0 {
				if length == 0 || strings.IndexByte(form.others, char) < 0 {
					return taxIDMatch{}, false
				}
				match.usual = false
			}
			match.comma = match.comma || char == ','
			if char == '.' {
				points++
			}
			i += length
		}
		if i+size > len(m.b) {
			return taxIDMatch{}, false
		}
		n += copy(id[n:], m.b[i:i+size])
		i += size
		if i < len(m.b) && isWordByte(m.b[i]) {
			if g < len(form.groups)-1 || maskClass[m.b[i]] == maskDigit && !(match.dotted && match.usual) {
				return taxIDMatch{}, false
			}
			alone = false
		}
	}
	match.end = i
	for at, c := range id[:n] {
		if maskClass[c] != maskDigit {
			if n == 11 || at >= 12 || maskClass[c] != maskLetter {
				return taxIDMatch{}, false
			}
			match.letters = true
		}
	}
	if n == 11 {
		if points == 3 && isOctet(id[:3]) && isOctet(id[3:6]) && isOctet(id[6:9]) {
			return taxIDMatch{}, false // an IPv4 address
		}
		_, match.checked = klavi.CPF(string(id[:n]))
	} else {
		_, match.checked = klavi.CNPJ(string(id[:n]))
		if !match.checked && !match.punctuated && isCompactTime(id[:]) {
			return taxIDMatch{}, false
		}
	}
	return match, match.checked || match.usual && alone && !match.letters
}

// isOctet reports whether three digits can be a part of an IPv4 address.
func isOctet(digits []byte) bool { return string(digits) <= "255" }

// taxIDAfterDigits looks for a tax id with all its punctuation whose first group
// is the end of the number b[i:end], and masks it. Without punctuation, no digits
// in a longer number are more of a tax id than the others.
func (m *masker) taxIDAfterDigits(i, end int) (int, bool) {
	if end+4 >= len(m.b) || m.b[end] != '.' || m.b[end+4] != '.' {
		return end, false
	}
	for size := 3; size >= 2; size-- { // of a CPF, of a CNPJ
		from := end - size
		if from <= i {
			continue
		}
		if id, ok := m.taxID(from, end); ok && id.checked && id.dotted && id.usual {
			m.replace(from, id.end, "***")
			return id.end, true
		}
	}
	return end, false
}

// gluedTaxID looks in the word b[i:end] for a tax id that letters precede or
// follow, and masks it. Fraction is whether the word begins with one. One that has
// letters itself is only seen after the word CNPJ.
func (m *masker) gluedTaxID(i, end int, fraction bool) (int, bool) {
	if from := i + len("cnpj"); end-from >= 14 && strings.EqualFold(string(m.b[i:from]), "cnpj") {
		if id, ok := m.taxID(from, from+14); ok && id.checked {
			m.replace(from, id.end, "***")
			return id.end, true
		}
	}
	for from := i; from < end; from++ {
		if maskClass[m.b[from]] != maskDigit {
			continue
		}
		to := from + 1
		for to < end && maskClass[m.b[to]] == maskDigit {
			to++
		}
		if id, ok := m.taxID(from, to); ok && id.checked && (id.dotted || !fraction || from > i) {
			m.replace(from, id.end, "***")
			return id.end, true
		}
		from = to
	}
	return end, false
}
