package gateway

import (
	"encoding/json"
	"strings"
	"testing"
)

// Whatever the gateway takes for a tax id or a token, and whatever a server reads
// as one, is masked in a log line, too.
func TestMaskForms(t *testing.T) {
	encoded := "%35%32%39%39%38%32%32%34%37%32%35"
	for name, tc := range map[string]struct{ in, want string }{
		"hyphens":          {"/users/529-982-247-25/x", "/users/***/x"},
		"slashes":          {"/users/529/982/247/25", "/users/***"},
		"spaces":           {"of 529 982 247 25.", "of ***."},
		"plus signs":       {"?cpf=529+982+247+25&x", "?cpf=***&x"},
		"escaped spaces":   {"?cpf=529%20982%20247%2025", "?cpf=***"},
		"escaped twice":    {"?cpf=529%2520982%2520247%252025", "?cpf=***"},
		"underscores":      {"cpf_529_982_247_25.pdf", "cpf_***.pdf"},
		"commas":           {"529,982,247,25", "***"},
		"points":           {"529.982.247.25", "***"},
		"mixed":            {"529.982/247 25", "***"},
		"in JSON":          {`{"a":"529 982 247 25","b":"529\u002d982-247-25"}`, `{"a":"***","b":"***"}`},
		"not JSON":         {"[529-982-247-25]", "[***]"},
		"cnpj hyphens":     {"11-222-333-0001-81", "***"},
		"cnpj slashes":     {"/c/11/222/333/0001/81", "/c/***"},
		"cnpj spaces":      {"11 222 333 0001 81", "***"},
		"cnpj, escaped":    {"11%20222%20333%2F0001%2081", "***"},
		"cnpj underscores": {"11_222_333_0001_81", "***"},
		"cnpj letters":     {"12-ABC-345-01DE-35 12 abc 345 01de 35", "*** ***"},

		"after a word":        {"cpf52998224725 taxId52998224725=", "cpf*** taxId***="},
		"before a letter":     {"52998224725a", "***a"},
		"amid letters":        {"a52998224725b11222333000181c", "a***b***c"},
		"glued, punctuated":   {"cpf529.982.247-25a CNPJ11.222.333/0001-81", "cpf***a CNPJ***"},
		"glued, escaped":      {"%3Fcpf52998224725%26 %252Fcpf52998224725", "%3Fcpf***%26 %252Fcpf***"},
		"glued, in JSON":      {`{"a":"\tcpf52998224725\n"}`, `{"a":"\tcpf***\n"}`},
		"after a longer word": {"configuration52998224725", "configuration***"},

		"first digit escaped":  {"/%352998224725/x", "/***/x"},
		"digit escaped":        {"5299%38224725", "***"},
		"digit escaped twice":  {"5299%2538224725", "***"},
		"all digits escaped":   {"?cpf=" + encoded + "&x=%41", "?cpf=***&x=%41"},
		"escape signs escaped": {strings.ReplaceAll(encoded, "%", "%25"), "***"},
		"escaped and again":    {strings.NewReplacer("%", "%25", "3", "%33", "2", "%32").Replace(encoded), "***"},
		"separators, digits":   {"%3529%2E982.247%2d25", "***"},
		"cnpj letter escaped":  {"12%41BC34501DE35", "***"},
		"one of two":           {"52998224725 and %352998224725 at %7Eana", "*** and *** at %7Eana"},
		"escaped in JSON":      {`{"uri":"/a/%352998224725?b=%2F\u0026c","n":52998224725}`, `{"uri":"/a/***?b=%2F\u0026c","n":0}`},

		"sealed escaped":     {"%4BLT1" + testSealed[4:], "***"},
		"sealed glued":       {"a" + testSealed + " x1K" + testSealed, "a*** x1K***"},
		"sealed, two starts": {"KLT1KLT1" + testSealed, "***"},
		"jwt, dots escaped":  {"t=" + strings.ReplaceAll(testJWT, ".", "%2E") + "&x", "t=***&x"},

		"V":               {"/a?V=abc.def&x=1", "/a?V=***&x=1"},
		"v escaped":       {"/a?%76=abc.def&x=1", "/a?%76=***&x=1"},
		"v, semicolon":    {"/a?x=1;v=abc.def;y=2", "/a?x=1;v=***;y=2"},
		"v, %3B":          {"/a?x=1%3Bv=abc.def&y", "/a?x=1%3Bv=***&y"},
		"linkToken":       {"/a?linkToken=abc.def&x=1", "/a?linkToken=***&x=1"},
		"access_token":    {"/a?x=1&access_token=abc;y=1", "/a?x=1&access_token=***;y=1"},
		"accessToken":     {`{"uri":"/a?x=1\u0026accessToken=a~b\u0026y"}`, `{"uri":"/a?x=1\u0026accessToken=***\u0026y"}`},
		"accessToken, %":  {"u=%2Fa%3FaccessToken%3Dabc", "u=%2Fa%3FaccessToken%3D***"},
		"link%54oken":     {"/a?link%54oken=abc", "/a?link%54oken=***"},
		"cookie by name":  {"klavi_link_token=abc; theme=dark", "klavi_link_token=***; theme=dark"},
		"bearer in query": {"access_token=Bearer abc", "access_token=Bearer ***"},

		"spaces around":       {"CPF 529.982.247 - 25, 529. 982. 247-25, 11.222.333 / 0001 - 81", "CPF ***, ***, ***"},
		"spaces, form":        {"?c=529.+982.+247+-+25&x", "?c=***&x"},
		"spaces, escaped":     {`{"a":"529\t982\n247\u002025"}`, `{"a":"***"}`},
		"no-break spaces":     {"529\u00a0982\u202f247\u00a025 529%C2%A0982%C2%A0247%C2%A025", "*** ***"},
		"hyphens of Word":     {"529.982.247\u201325 529\u2011982\u2011247\u221225", "*** ***"},
		"the same, escaped":   {`{"a":"529.982.247\u201325","b":"529%E2%80%93982%E2%80%93247%E2%80%9325"}`, `{"a":"***","b":"***"}`},
		"two groups":          {"529982247 25, 529982247/25; 112223330001 81", "***, ***; ***"},
		"cnpj, three groups":  {"11222333 0001 81 11222333.0001.81 11222333_0001_81", "*** *** ***"},
		"before a digit":      {"529.982.247-252 11.222.333/0001-819", "***2 ***9"},
		"after a digit":       {"1529.982.247-25 0529.982.247-25 911.222.333/0001-81", "1*** 0*** 9***"},
		"twice":               {"529.982.247-25529.982.247-25", "******"},
		"glued, cnpj letters": {"cnpj12ABC34501DE35 CNPJ12abc34501de35.pdf", "cnpj*** CNPJ***.pdf"},

		"digits as u":         {`{"a":"5\u00329982247\u00325","b":"\u0035\u0032\u0039\u0039\u0038\u0032\u0032\u0034\u0037\u0032\u0035"}`, `{"a":"***","b":"***"}`},
		"digits as u, deeper": {`{"a":"{\"b\":\"5\\u00329982247\\u00325 \\\\u003529.982.247-25\"}"}`, `{"a":"{\"b\":\"*** ***\"}"}`},
		"escaped percent":     {`{"a":"\u0025352998224725 \u0025\u0033\u00352998224725"}`, `{"a":"*** ***"}`},
		"JSON in a URL":       {"%7B%22a%22%3A%22%5Cu00352998224725%22%7D %255Cu00352998224725", "%7B%22a%22%3A%22***%22%7D ***"},
		"half an escape":      {`%A52998224725A529 982 247 25 {"a":"\\u52998224725A529 982 247 25"}`, `%A***A*** {"a":"\\u***A***"}`},
		"many backslashes": {
			`["` + strings.Repeat(`\`, 16) + `u00352998224725","` + strings.Repeat(`\`, 17) + `u00352998224725","` + strings.Repeat(`\`, 18) + `u00352998224725"]`,
			`["***","` + strings.Repeat(`\`, 16) + `***","` + strings.Repeat(`\`, 16) + `***"]`,
		},

		"password in a URL": {"proxy http://ana:pass:w@rd@proxy:3128/?a@b, https://token@host", "proxy http://***@proxy:3128/?a@b, https://***@host"},
		"password, escaped": {`{"u":"http:\/\/ana:word@proxy","e":"parse \"http://ana:word@proxy:x\""} u=http%3A%2F%2Fana%3Aword%40proxy`, `{"u":"http:\/\/***@proxy","e":"parse \"http://***@proxy:x\""} u=http%3A%2F%2F***%40proxy`},

		"config": {
			`{"access_key":"a","secret_key":"b","seal_key":"c","accept_secret_keys":["d","e"],"account":"main"}`,
			`{"access_key":"***","secret_key":"***","seal_key":"***","accept_secret_keys":["***","***"],"account":"main"}`,
		},
		"config in a string": {`{"c":"{\"secret_key\":\"b\",\"x\":1}"}`, `{"c":"{\"secret_key\":\"***\",\"x\":1}"}`},
		"header spellings":   {`{"Klavi_Link_Token":["a"],"KLAVI-LINK-TOKEN":"b","KlaviLinkToken":"c"}`, `{"Klavi_Link_Token":["***"],"KLAVI-LINK-TOKEN":"***","KlaviLinkToken":"***"}`},
	} {
		t.Run(name, func(t *testing.T) {
			got := string(Mask([]byte(tc.in)))
			if got != tc.want {
				t.Errorf("masking %s:\ngot  %s\nwant %s", tc.in, got, tc.want)
			}
			if json.Valid([]byte(tc.in)) != json.Valid([]byte(got)) {
				t.Errorf("got JSON from none, or none from JSON: %s", got)
			}
		})
	}
}

func TestMaskFormsKeeps(t *testing.T) {
	for name, text := range map[string]string{
		"escapes":      "%20 %2F%41%7e 100%25 %3529982247 %%% %5",
		"not a secret": "/a?linkTokens=1&token=x&secret=&access_tokenize=1 linkToken= cookies=1",
		"short v":      "text/html;v=b3;q=0.7,a/b;v=1.2",
		"fractions":    "0.52998224725s 1.52998224725e3 took 0.52998224725seconds",
		"short KLT1":   "aKLT1short KLT1KLT1",
		"other keys":   `{"key":"a","secret":"b","keys":["c"],"access_keys":"d","sealed_key":"e"}`,
		"URLs":         "https://host:80/@ana http://[2001:db8::1]:80 mailto:ana@host a: //b@c https://host?u=a@b x%3A%2Fy@z",
		"two groups":   "529982247.25 529982247,25 112223330001.81",
		"other digits": "1529.982.247-24 529.982.247-249 1529-982-247-25",
		"prose":        "it is the key, so the old 12 use 3456 or 78",
	} {
		t.Run(name, func(t *testing.T) {
			if got := string(Mask([]byte(text))); got != text {
				t.Errorf("got  %s\nwant %s", got, text)
			}
		})
	}
}
