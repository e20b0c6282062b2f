package klavi

import (
	"regexp"
	"strings"
	"testing"
)

var (
	notPunctuation = regexp.MustCompile(`[^0-9A-Za-z./ -]`)
	cpfForm        = regexp.MustCompile(`^[0-9]{11}$`)
	cnpjForm       = regexp.MustCompile(`^[0-9A-Z]{12}[0-9]{2}$`)
)

// secondCPF and secondCNPJ are the Receita Federal's rules once more, from its
// tables of weights rather than from the loops of the code.
func secondCPF(s string) (string, bool) {
	id := strings.NewReplacer(".", "", "-", "", "/", "", " ", "").Replace(s)
	if notPunctuation.MatchString(s) || !cpfForm.MatchString(id) || strings.Count(id, id[:1]) == 11 {
		return "", false
	}
	for i, weights := range [][]int{{10, 9, 8, 7, 6, 5, 4, 3, 2}, {11, 10, 9, 8, 7, 6, 5, 4, 3, 2}} {
		if sum := weigh(id, weights); sum*10%11%10 != int(id[9+i]-'0') {
			return "", false
		}
	}
	return id, true
}

func secondCNPJ(s string) (string, bool) {
	id := strings.ToUpper(strings.NewReplacer(".", "", "-", "", "/", "", " ", "").Replace(s))
	if notPunctuation.MatchString(s) || !cnpjForm.MatchString(id) || strings.Count(id, id[:1]) == 14 {
		return "", false
	}
	for i, weights := range [][]int{{5, 4, 3, 2, 9, 8, 7, 6, 5, 4, 3, 2}, {6, 5, 4, 3, 2, 9, 8, 7, 6, 5, 4, 3, 2}} {
		digit := 11 - weigh(id, weights)%11
		if digit > 9 {
			digit = 0
		}
		if digit != int(id[12+i]-'0') {
			return "", false
		}
	}
	return id, true
}

func weigh(id string, weights []int) int {
	sum := 0
	for i, weight := range weights {
		sum += int(id[i]-48) * weight
	}
	return sum
}

func checkTaxID(t *testing.T, s string) (valid bool) {
	t.Helper()
	for name, readings := range map[string][2]func(string) (string, bool){"CPF": {CPF, secondCPF}, "CNPJ": {CNPJ, secondCNPJ}} {
		got, ok := readings[0](s)
		want, wantOK := readings[1](s)
		if got != want || ok != wantOK {
			t.Errorf("%s(%q): got %q, %t, want %q, %t", name, s, got, ok, want, wantOK)
		}
		valid = valid || ok
	}
	return valid
}

// Of each number the one or two right check digits are found, and no other.
func TestTaxIDsAgainstASecondReading(t *testing.T) {
	valid := 0
	for _, root := range []string{"000000000", "000000001", "123456789", "529982247", "999999998", "100000000", "111111111", "987654321"} {
		for i := range 100 {
			if checkTaxID(t, root+string([]byte{'0' + byte(i/10), '0' + byte(i%10)})) {
				valid++
			}
		}
	}
	for _, root := range []string{"112223330001", "12ABC34501DE", "12abc34501de", "ZZZZZZZZZZZZ", "000000000000", "00000000000A", "114447770001"} {
		for i := range 100 {
			if checkTaxID(t, root+string([]byte{'0' + byte(i/10), '0' + byte(i%10)})) {
				valid++
			}
		}
	}
	// All but the three of one repeated digit have one pair of check digits.
	if want := 8 - 2 + 7 - 1; valid != want {
		t.Errorf("got %d of them valid, want %d", valid, want)
	}
}

func FuzzTaxID(f *testing.F) {
	for _, seed := range []string{
		"529.982.247-25", "11.222.333/0001-81", "12.ABC.345/01DE-35", "12abc34501de35", "00000000000", "00000000000000", "11111111111111",
		"5 2 9 9 8 2 2 4 7 2 5", "é", "", "５2998224725", "529.982.247-25\n", "12345678909", "98765432100",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) { checkTaxID(t, s) })
}
