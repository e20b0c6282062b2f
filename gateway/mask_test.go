package gateway

import (
	"bytes"
	"encoding/json"
	"net"
	"net/url"
	"regexp"
	"strings"
	"testing"
)

const (
	testJWT    = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl_-x"
	testSealed = "KLT1c2VhbGVkIHRva2VuIG9mIHRoZSBnYXRld2F5-_ab01234567890123"
)

func TestMaskText(t *testing.T) {
	for name, tc := range map[string]struct{ in, want string }{
		"cpf":                      {"cpf 52998224725.", "cpf ***."},
		"cpf alone":                {"52998224725", "***"},
		"cpf punctuated":           {"cpf 529.982.247-25!", "cpf ***!"},
		"cpf with a hyphen":        {"529982247-25", "***"},
		"cpf mistyped":             {"52998224724 529.982.247-24", "*** ***"},
		"cpf in a path":            {"/users/52998224725/accounts", "/users/***/accounts"},
		"cpf in a file name":       {"/tmp/cpf_52998224725.json", "/tmp/cpf_***.json"},
		"cpf in a query":           {"?cpf=52998224725&x=1", "?cpf=***&x=1"},
		"cpf percent-encoded":      {"?cpf=529%2E982%2e247%2D25&x=1", "?cpf=***&x=1"},
		"cpf after an escape":      {"?u=%2F52998224725&q=%2052998224725", "?u=%2F***&q=%20***"},
		"cpf after escape letter":  {"?u=cpf%3D52998224725%26x", "?u=cpf%3D***%26x"},
		"cpf escaped twice":        {"cpf%253D52998224725%2526y 529%252E982%252E247%252D25", "cpf%253D***%2526y ***"},
		"cpf after a bare percent": {"%52998224725", "%***"},
		"cpf after a version":      {"v1.52998224725", "v1.***"},
		"cpf after four numbers":   {"1.2.52998224725", "1.2.***"},
		"cpf after another":        {"52998224725.52998224725", "***.***"},
		"cpf after a percent, too": {"%00000000000.52998224725", "%***.***"},
		"phone":                    {"tel:11987654321", "tel:***"},

		"cnpj":                 {"cnpj=11222333000181", "cnpj=***"},
		"cnpj punctuated":      {"11.222.333/0001-81", "***"},
		"cnpj half punctuated": {"11222333/0001-81 112223330001-81", "*** ***"},
		"cnpj mistyped":        {"11222333000180 11.222.333/0001-80", "*** ***"},
		"cnpj percent-encoded": {"c=11%2E222%2E333%2F0001%2D81&", "c=***&"},
		"cnpj slash escaped":   {"11.222.333%2f0001-81", "***"},
		"cnpj slash for JSON":  {`{\"c\":\"11.222.333\\/0001-81\"}`, `{\"c\":\"***\"}`},
		"cnpj in a file name":  {"11.222.333-0001-81.pdf", "***.pdf"},
		"cnpj letters":         {"12ABC34501DE35 12abc34501de35", "*** ***"},
		"cnpj letters, dots":   {"12.ABC.345/01DE-35,12.abc.345%2F01de%2D35", "***,***"},

		"bearer":           {"Authorization: Bearer xyz", "Authorization: Bearer ***"},
		"bearer any case":  {"bearer  a.b-c_d~e+f/g== BEARER x,y", "bearer  *** BEARER ***,y"},
		"bearer encoded":   {"h=Bearer%20abc&i=Bearer+abc", "h=Bearer%20***&i=Bearer+***"},
		"jwt":              {"token=" + testJWT + "; next", "token=***; next"},
		"jwt escaped":      {"token%3D" + testJWT + "%26", "token%3D***%26"},
		"jwt cut short":    {"eyJhbGciOiJIUzI1NiJ9.eyJz", "***"},
		"jwt at each dash": {"eyJ-eyJ-" + testJWT, "***"},
		"sealed":           {"with " + testSealed + ".", "with ***."},
		"sealed escaped":   {"%22" + testSealed + "%22", "%22***%22"},

		"link url":         {"https://w.klavi.ai/a?v=abc.def&x=1", "https://w.klavi.ai/a?v=***&x=1"},
		"link url second":  {"/a?x=1&v=abc", "/a?x=1&v=***"},
		"link url json":    {`/a?x=1\u0026v=abc\u0026y=2`, `/a?x=1\u0026v=***\u0026y=2`},
		"link url json 2":  {`/a?x=1\\u0026v=abc\\u0026y=2`, `/a?x=1\\u0026v=***\\u0026y=2`},
		"link url gson":    {`/a?v\u003dabc`, `/a?v\u003d***`},
		"link url html":    {"/a?x=1&amp;v=abc", "/a?x=1&amp;v=***"},
		"link url encoded": {"u=https%3A%2F%2Fh%2Fa%3Fv%3Dabc&z=1", "u=https%3A%2F%2Fh%2Fa%3Fv%3D***&z=1"},
		"link url query":   {"v=abc", "v=***"},

		"json in text":            {`refused: {"linkToken":"abc"}`, `refused: {"linkToken":"***"}`},
		"json in text, number":    {`got {"cpf":52998224725,"n":52998224724} of 52998224724`, `got {"cpf":0,"n":52998224724} of ***`},
		"json in text, then text": {"x {\"a\":1}\ngoroutine 52998224724", "x {\"a\":1}\ngoroutine ***"},
		"secret cut short":        {"body {\"password\":\"abc def\n", "body {\"password\":\"***\n"},
		"not json after all":      {`[error] cpf 52998224724`, `[error] cpf ***`},
		"brace and a word":        {`{cpf: 52998224724}`, `{cpf: ***}`},
	} {
		t.Run(name, func(t *testing.T) {
			if got := string(Mask([]byte(tc.in))); got != tc.want {
				t.Errorf("masking %s:\ngot  %s\nwant %s", tc.in, got, tc.want)
			}
		})
	}
}

func TestMaskKeeps(t *testing.T) {
	for name, text := range map[string]string{
		"empty":              "",
		"timestamps":         `{"ts":1732281234.1234567,"a":1732281234567.891,"b":1732281234567890123,"c":"2023-12-08T09:19:19.253Z"}`,
		"durations":          `{"duration":0.00012345678,"d":0.52998224725,"e":"0.52998224725s","f":1.2345678901e-05,"g":529.98224725}`,
		"sizes":              `{"size":52998224724,"bytes_read":11222333000180,"neg":-52998224724}`,
		"numbers":            `{"a":52998224725.5,"b":52998224725e3,"c":12345678901e-23,"d":[1,2,3],"e":true,"f":false,"g":null}`,
		"uuids":              `{"id":"123e4567-e89b-12d3-a456-426614174000","t":"4bf92f3577b34da6a3ce929d0e0e4736","s":"00f067aa0ba902b7"}`,
		"ids in hexadecimal": `{"span":"a52998224724","n":"52998224724a","h":"9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"}`,
		"longer numbers":     `{"a":"529982247251","b":"5299822472","c":"112223330001812"}`,
		"address like a cpf": `100.100.100.27 {"remote_ip":"100.100.100.27","addr":"100.100.100.27:8080","host":"ip-10-0-12-34.ec2.internal"}`,
		"numbers in a row":   `{"a":[529,982,247,25],"b":"529-982-247-24 529 982 247 24 2026-11-22 13:08:11,123"}`,
		"versions":           `v1.26.0-rc.1+52998 go1.26 caddy/v2.11.9 2026.11.22-13`,
		"report ids":         `4b2c1648-231f-11eb-97c4-f45c899f4587 ed812-81fcec-7ec55-7aa7d29-2a3188b75 1495468585434-0e73d1719173766fe4dfe1a8`,
		"addresses":          `{"remote_ip":"100.100.100.25","addr":"192.168.123.45:52998","v6":"2001:db8::5299"}`,
		"user agent":         `Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/138.0.0.0`,
		"accept":             `application/signed-exchange;v=b3;q=0.7`,
		"client hints":       `{"Sec-Ch-Ua":["\"Not A(Brand\";v=\"8\", \"Chromium\";v=\"138\""]}`,
		"words":              "configuration12 klavi-link-token password KLT1short v = 1, rev=2, /v=3 eyJ eyJx.",
		"about tokens":       `missing bearer token; Bearer realm="klavi", error="invalid_token"; the bearer`,
		"letters, wrong":     "12ABC34501DE36 12.ABC.345/01DE-36",
		"halves, wrong":      "529982247-24 11222333/0001-80",
		"keys, no strings":   `{"password":null,"linkToken":false,"Cookie":[],"secretKey":"","accessKey":{"a":"b"}}`,
		"keys, no values":    `["password","x"] "cookie" :`,
		"escapes":            `{"a":"\\\"\n\t\u00e9\\u12 %zz %2 % \\"}`,
	} {
		t.Run(name, func(t *testing.T) {
			in := []byte(text)
			got := Mask(in)
			if string(got) != text {
				t.Errorf("got  %s\nwant %s", got, text)
			}
			if len(in) > 0 && &got[0] != &in[0] {
				t.Error("got a copy of text that is kept, want the text itself")
			}
		})
	}
}

func TestMaskJSON(t *testing.T) {
	for name, tc := range map[string]struct{ in, want string }{
		"access log": {
			`{"level":"info","ts":1732281234.5,"request":{"uri":"/klavi/users/529.982.247-25?id=11222333000181\u0026v=tok","headers":{"Cookie":["a=b"],"X-Cpf":["52998224725"]}},"size":52998224725}`,
			`{"level":"info","ts":1732281234.5,"request":{"uri":"/klavi/users/***?id=***\u0026v=***","headers":{"Cookie":["***"],"X-Cpf":["***"]}},"size":0}`,
		},
		"upstream roundtrip": {
			`{"msg":"upstream roundtrip","request":{"headers":{"Klavi-Link-Token":["` + testSealed + `","b"],"Authorization":["Bearer abc"],"Accept":["*/*"]}},"status":200}`,
			`{"msg":"upstream roundtrip","request":{"headers":{"Klavi-Link-Token":["***","***"],"Authorization":["***"],"Accept":["*/*"]}},"status":200}`,
		},
		"keys in any case": {
			`{"LINKTOKEN":"a","accesstoken" : "b", "SecretKey":[ "c" , "d", 1, "e" ],"proxy-authorization":"f"}`,
			`{"LINKTOKEN":"***","accesstoken" : "***", "SecretKey":[ "***" , "***", 1, "e" ],"proxy-authorization":"***"}`,
		},
		"secret with quotation marks": {`{"password":"a\"b\\","b":"c"}`, `{"password":"***","b":"c"}`},
		"json in a string": {
			`{"body":"{\"linkToken\": \"a\\\"b\\\\\",\"n\":52998224725,\"enquiryCpf\":[\"1\",\"2\"],\"x\":\"y\"}"}`,
			`{"body":"{\"linkToken\": \"***\",\"n\":***,\"enquiryCpf\":[\"***\",\"***\"],\"x\":\"y\"}"}`,
		},
		"indented json in a string": {
			`{"body":"{\n  \"Cookie\": [\n    \"a\",\n    \"b\"\n  ]\n}"}`,
			`{"body":"{\n  \"Cookie\": [\n    \"***\",\n    \"***\"\n  ]\n}"}`,
		},
		"json in json in a string": {
			`{"a":"{\"b\":\"{\\\"password\\\":\\\"p\\\\\\\"q\\\",\\\"x\\\":1}\"}"}`,
			`{"a":"{\"b\":\"{\\\"password\\\":\\\"***\\\",\\\"x\\\":1}\"}"}`,
		},
		"json cut short in a string": {
			`{"a":"{\"password\":\"pq","b":"c"}`,
			`{"a":"{\"password\":\"***","b":"c"}`,
		},
		"json cut short after a backslash": {
			`{"a":"{\"password\":\"pq\\","b":"c"}`,
			`{"a":"{\"password\":\"***\\","b":"c"}`,
		},
		"stack trace": {
			`{"error":"boom","stacktrace":"main.f(\"52998224725\")\n\tmain.go:1\n52998224725\t11222333000181\\n52998224725"}`,
			`{"error":"boom","stacktrace":"main.f(\"***\")\n\tmain.go:1\n***\t***\\n***"}`,
		},
		"numbers": {
			`[52998224725,-52998224725,11222333000181, 52998224725 ,{"a":52998224725}]`,
			`[0,-0,0, 0 ,{"a":0}]`,
		},
		"a key": {`{"52998224725":1}`, `{"***":1}`},
		// The letter of an escape sequence belongs to no word.
		"escape before letters":          {`{"a":"x\n12ABC34501DE35 \\n12ABC34501DE35"}`, `{"a":"x\n*** \\n***"}`},
		"path that looks like an escape": {`{"a":"C:\\bearer x \\12ABC34501DE35"}`, `{"a":"C:\\bearer *** \\***"}`},
		"indented":                       {"\n{\n  \"cpf\": 52998224725\n}\n", "\n{\n  \"cpf\": 0\n}\n"},
	} {
		t.Run(name, func(t *testing.T) {
			if !json.Valid([]byte(tc.in)) {
				t.Fatalf("the test's own input is not JSON: %s", tc.in)
			}
			got := Mask([]byte(tc.in))
			if string(got) != tc.want {
				t.Errorf("masking %s:\ngot  %s\nwant %s", tc.in, got, tc.want)
			}
			if !json.Valid(got) {
				t.Errorf("got invalid JSON: %s", got)
			}
		})
	}
}

func TestMaskLeavesItsInput(t *testing.T) {
	in := []byte(`{"cpf":"52998224725"}`)
	if got, want := string(Mask(in)), `{"cpf":"***"}`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if got, want := string(in), `{"cpf":"52998224725"}`; got != want {
		t.Errorf("the input became %s, want %s", got, want)
	}
}

// Whoever sends a request decides what stands in a log line. If one of these
// took more than linear time, this would not end before the test's time is up.
func TestMaskIsLinear(t *testing.T) {
	for _, part := range []string{
		"eyJ-", "eyJ", "%25", "%", `\`, `\\n`, `\"password`, `"password":`, `"password"  `, `"Cookie":["`, "KLT1-", "Bearer ",
		"v=", "529.", "12.", `{"`, "[", " ", `\n`, "529 ", "a529-", "12%20", "KLT1", "%35", "%2535", "%4BLT1-", "linkToken=", "s_", "a12345678901",
		"Cookie:[", "Cookie: ", "cpf=", "'cpf':'", "%22cpf%22%3A", `\"cpf\":`, "cpf:", "basic ", "basic+", "Basic abc ", "cnpj", "529 - ", "1529.",
		`\u0035`, `\\u0035`, `password\`, "\u00a0", "\u2013", "12345678-", "0123456789abcdef", "a://", "a:", "a://b@",
	} {
		text := []byte("a" + strings.Repeat(part, 2<<20/len(part)))
		if got := Mask(text); len(got) > 4*len(text) {
			t.Errorf("masking %q...: got %d bytes of %d", part, len(got), len(text))
		}
	}
}

var (
	plainCPF  = regexp.MustCompile(`[0-9]{11}`)
	dottedCPF = regexp.MustCompile(`[0-9]{3}[-./ _,+][0-9]{3}[-./ _,+][0-9]{3}[-./ _,+][0-9]{2}`)
)

// findCPF is a second opinion on what Mask must not leave behind.
func findCPF(text string) string {
	for _, form := range []*regexp.Regexp{plainCPF, dottedCPF} {
		for from := 0; ; {
			at := form.FindStringIndex(text[from:])
			if at == nil {
				break
			}
			start, end := from+at[0], from+at[1]
			from = start + 1
			found := text[start:end]
			alone := (start == 0 || !isDigit(text[start-1])) && (end == len(text) || !isDigit(text[end]))
			fraction := form == plainCPF && start > 1 && text[start-1] == '.' && isDigit(text[start-2])
			address := strings.Count(found, ".") == 3 && net.ParseIP(found) != nil
			if alone && !fraction && !address && !inID(text, start, end) && goodCPF(strings.NewReplacer(".", "", "-", "", "/", "", " ", "", "_", "", ",", "", "+", "").Replace(found)) {
				return found
			}
		}
	}
	return ""
}

var idPattern = regexp.MustCompile(`^(?:[0-9a-f]{32}|[0-9a-f]{40}|[0-9a-f]{64}|(?i:[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}))$`)

// inID reports whether text[start:end] is a part of an id, which stays readable
// whatever its digits are. An id ends where its last word does, and begins with a
// word, or where an escape has ended.
func inID(text string, start, end int) bool {
	for end < len(text) && isWordByte(text[end]) {
		end++
	}
	for from := max(0, end-64); from <= start; from++ {
		begins := from == 0 || !isWordByte(text[from-1]) || from > 1 && text[from-2] == '\\' || from > 2 && text[from-3] == '%'
		if begins && idPattern.MatchString(text[from:end]) {
			return true
		}
	}
	return false
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

func goodCPF(digits string) bool {
	if strings.Count(digits, digits[:1]) == len(digits) {
		return false // never issued
	}
	first, second := 0, 0
	for i, weight := range []int{10, 9, 8, 7, 6, 5, 4, 3, 2} {
		first += int(digits[i]-'0') * weight
		second += int(digits[i]-'0') * (weight + 1)
	}
	first = first * 10 % 11 % 10
	second = (second + 2*first) * 10 % 11 % 10
	return int(digits[9]-'0') == first && int(digits[10]-'0') == second
}

// stringsIn returns all keys and string values of a JSON value.
func stringsIn(value any) []string {
	switch v := value.(type) {
	case string:
		return []string{v}
	case []any:
		var all []string
		for _, element := range v {
			all = append(all, stringsIn(element)...)
		}
		return all
	case map[string]any:
		var all []string
		for key, element := range v {
			all = append(append(all, key), stringsIn(element)...)
		}
		return all
	}
	return nil
}

func FuzzMask(f *testing.F) {
	for _, seed := range []string{
		`{"uri":"/a/52998224725?v=x\u0026cpf=529.982.247-25","n":52998224725,"f":0.52998224725,"headers":{"Cookie":["a","b"]}}`,
		`{"body":"{\"linkToken\":\"a\\\"b\",\"n\":11222333000181}","e":"\\n52998224725 \n12ABC34501DE35"}`,
		"2026/11/22 13:08:11.123\tINFO\tmsg 529.982.247-25\t{\"linkToken\": \"" + testSealed + "\"}\nstack 52998224725",
		"?a=%2F52998224725%2520529%2E982%2E247%2D25 Bearer " + testJWT,
		`["password","52998224725",52998224725,-1.5e+10,true,null,{"secretKey":["a\\",1]}]`,
		"52998224725.52998224725.529.982.247-25%52998224725",
		"529-982-247-25 529/982/247/25 529%20982%20247%2025 cpf52998224725a b529.982.247-25c 5299%38224725 %253529982%2E24725",
		`{"a":"x52998224725\u00e9 a%4BLT1","linkToken":["%35"],"n":[529,982,247,25]}`,
		`{"a":"5\u00329.982.247-25 \\u0035","X-Cpf":[1],"b":"Cookie:[a] cpf=529 982 247 25 secret_key:'x' %22cpf%22%3A1","cnpj":1.5}`,
		`["` + strings.Repeat(`\`, 17) + `u00352998224725","\u0025352998224725 %5Cu00352998224725 52%39%3982%3224725"]`,
		"725 529 982 24529.982.247-25",
		"0000 00000000000000000000a52998224725 0 5f69111d-5cc3-43ea-ba97-a52998224725 a52998224725",
		"%A52998224725A529 982 247 25 %2552998224725A529 982 247 25",
		`["\\u52998224725A529 982 247 25","\\n52998224725A529 982 247 25"]`,
		`["0\\\u00352998224725","\u00352998224725\\u0030","0\\\\\\u00352998224725","\u0025352998224725%5Cu0030"]`,
		`{"":"%5\u00329 982 247 25","a":"%52\u0039 982 247 25","b":"%25\u0035529 982 247 25","c":"%2535\u00329 982 247 25"}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		before := bytes.Clone(in)
		out := Mask(in)
		if !bytes.Equal(in, before) {
			t.Fatalf("the input was changed: got %q, want %q", in, before)
		}
		start := bytes.TrimLeft(in, " \t\r\n")
		if !json.Valid(in) || start[0] != '{' && start[0] != '[' {
			if found := findCPF(string(out)); found != "" && !bytes.ContainsAny(in, `{[\`) {
				t.Errorf("masking %q leaves %s in %q", in, found, out)
			}
			return
		}
		var value any
		decoder := json.NewDecoder(bytes.NewReader(out))
		decoder.UseNumber() // JSON has numbers that Go has not
		if err := decoder.Decode(&value); err != nil || !json.Valid(out) {
			t.Fatalf("masking %q gives invalid JSON %q: %v", in, out, err)
		}
		for _, text := range stringsIn(value) {
			found := findCPF(text)
			if unescaped, err := url.PathUnescape(text); err == nil && found == "" {
				found = findCPF(unescaped)
			}
			if found != "" {
				t.Errorf("masking %q leaves %s in %q", in, found, out)
			}
		}
	})
}

var benchmarkLine = []byte(`{"level":"info","ts":1732281234.1234567,"logger":"http.log.access.log0","msg":"handled request",` +
	`"request":{"remote_ip":"203.0.113.7","remote_port":"52814","client_ip":"203.0.113.7","proto":"HTTP/2.0","method":"GET",` +
	`"host":"app.example.com","uri":"/klavi/institutions?page=2","headers":{"User-Agent":["Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36"],` +
	`"Accept":["application/json"],"Traceparent":["00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"]}},"bytes_read":0,"user_id":"",` +
	`"duration":0.00412345678,"size":5120,"status":200,"resp_headers":{"Content-Type":["application/json"]}}` + "\n")

func BenchmarkMask(b *testing.B) {
	for name, line := range map[string][]byte{
		"nothing": benchmarkLine,
		"found":   bytes.Replace(benchmarkLine, []byte("?page=2"), []byte("?cpf=52998224725"), 1),
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(line)))
			for b.Loop() {
				if masked := maskToBuffer(line); masked != nil {
					masked.Free()
				}
			}
		})
	}
}
