package klavi

import (
	"strings"
	"testing"
)

func TestCPF(t *testing.T) {
	tests := []struct{ in, want string }{
		{"52998224725", "52998224725"},
		{"529.982.247-25", "52998224725"},
		{" 529 982 247 25 ", "52998224725"},
		{"111.444.777-35", "11144477735"},
		{"123.456.789-09", "12345678909"},
		{"00000000191", "00000000191"},
		{"25872252137", "25872252137"},

		{"", ""},
		{"52998224724", ""},
		{"52998224735", ""},
		{"5299822472", ""},
		{"529982247255", ""},
		{"00000000000", ""},
		{"11111111111", ""},
		{"99999999999", ""},
		{"5299822472a", ""},
		{"A2998224725", ""},
		{"529.982.247_25", ""},
		{"52998224725\n", ""},
		{"52998224725\x00", ""},
		{"\uff1529982247\uff1225", ""},
		{"11222333000181", ""},
	}
	for _, test := range tests {
		if got, ok := CPF(test.in); got != test.want || ok != (test.want != "") {
			t.Errorf("CPF(%q): got %q, %v, want %q", test.in, got, ok, test.want)
		}
	}
}

func TestCNPJ(t *testing.T) {
	tests := []struct{ in, want string }{
		{"11222333000181", "11222333000181"},
		{"11.222.333/0001-81", "11222333000181"},
		{"00.000.000/0001-91", "00000000000191"},
		{"11 222 333 0001 81", "11222333000181"},
		// The example of the Receita Federal's manual for the alphanumeric CNPJ.
		{"12.ABC.345/01DE-35", "12ABC34501DE35"},
		{"12abc34501de35", "12ABC34501DE35"},

		{"", ""},
		{"11222333000182", ""},
		{"11222333000191", ""},
		{"1122233300018", ""},
		{"112223330001811", ""},
		{"00000000000000", ""},
		{"12ABC34501DE36", ""},
		{"12ABC34501DE3F", ""},
		{"12ABC34501DEXX", ""},
		{"11.222.333/0001:81", ""},
		{"11222333000181\t", ""},
		{"52998224725", ""},
	}
	for _, test := range tests {
		if got, ok := CNPJ(test.in); got != test.want || ok != (test.want != "") {
			t.Errorf("CNPJ(%q): got %q, %v, want %q", test.in, got, ok, test.want)
		}
	}
}

func FuzzTaxID(f *testing.F) {
	for _, seed := range []string{"529.982.247-25", "11.222.333/0001-81", "12.ABC.345/01DE-35", "00000000000", "é", ""} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		for name, canonical := range map[string]func(string) (string, bool){"CPF": CPF, "CNPJ": CNPJ} {
			once, ok := canonical(s)
			if !ok {
				if once != "" {
					t.Errorf("%s(%q): got %q with false, want nothing", name, s, once)
				}
				continue
			}
			if twice, ok := canonical(once); !ok || twice != once {
				t.Errorf("%s(%q) is %q, and that again: %q, %v", name, s, once, twice, ok)
			}
			if want := map[string]int{"CPF": 11, "CNPJ": 14}[name]; len(once) != want || strings.ToUpper(once) != once {
				t.Errorf("%s(%q): got %q, want %d upper-case characters", name, s, once, want)
			}
			// Another last digit is another check digit.
			if _, ok := canonical(once[:len(once)-1] + string('0'+(once[len(once)-1]-'0'+1)%10)); ok {
				t.Errorf("%s(%q): holds with a changed check digit too", name, s)
			}
		}
	})
}
