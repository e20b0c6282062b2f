package klavi

import (
	"strings"
	"testing"
	"unicode/utf8"
)

func TestSafeText(t *testing.T) {
	tests := []struct{ in, want string }{
		{"", ""},
		{"Invalid phone", "Invalid phone"},
		{"Autorização inválida", "Autorização inválida"},
		{"productName pf_categorized_checking_l3 unknown", "productName pf_categorized_checking_l3 unknown"},
		{"consent f55c899f-11eb-231f-97c4-4b2c16484587.", "consent f55c899f-11eb-231f-97c4-4b2c16484587."},
		{"expired at 2024-11-21T23:59:59Z", "expired at 2024-11-21T23:59:59Z"},
		{"code 4003, 10 digits 1740716924", "code 4003, 10 digits 1740716924"},
		{"two\r\nlines\x00\x1b[31m \u202e\u2028 \xff end", "two lines [31m end"},

		{"cpf 52998224725", "cpf [hidden]"},
		{"cpf=529.982.247-25!", "cpf=[hidden]!"},
		{"52998224724 with a wrong digit", "[hidden] with a wrong digit"},
		{"cnpj 11.222.333/0001-81", "cnpj [hidden]"},
		{"cnpj 12.ABC.345/01DE-35, 12abc34501de35", "cnpj [hidden], [hidden]"},
		{"phone +55 (11) 99999-8888", "phone +[hidden]"},
		{"mail someone@example.com", "mail [hidden]"},
		{"Bearer eyJhbGciOi.J9.x", "Bearer [hidden]"},
		{"https://conecte.klavi.ai/path?v=eyJhbGci.eyJzdWIi.abc", "https://conecte.klavi.ai/path?v=[hidden]"},
		{"key 0123456789abcdef0123456789abcdef", "key [hidden]"},
		{strings.Repeat("abcdefgh", 5), "[hidden]"},
	}
	for _, test := range tests {
		if got := safeText(test.in, 300); got != test.want {
			t.Errorf("safeText(%q): got %q, want %q", test.in, got, test.want)
		}
	}
}

func TestSafeTextIsCut(t *testing.T) {
	// A CPF across the cut must not show its first digits as something shorter.
	got := safeText(strings.Repeat("é ", 97)+"52998224725", 300)
	if strings.Contains(got, "5") {
		t.Errorf("got %q, want nothing of the CPF", got)
	}
	got = safeText(strings.Repeat("é", 300), 30)
	if len(got) > 30 || !utf8.ValidString(got) || !strings.HasSuffix(got, "...") {
		t.Errorf("got %q (%d bytes), want valid UTF-8 of at most 30 bytes that ends in ...", got, len(got))
	}
	if got := safeText("abc", 2); got != "" {
		t.Errorf("with room for nothing: got %q, want \"\"", got)
	}
}
