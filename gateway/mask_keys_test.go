package gateway

import (
	"encoding/json"
	"net/url"
	"strings"
	"testing"
)

// Every field of Klavi's that carries a credential or a tax id hides its value,
// whatever it looks like, in all ways to write a key and a value.
func TestMaskKeys(t *testing.T) {
	const value = "9k.Q-x_7"
	keys := []string{
		// docs.klavi.ai/connect: auth, links, consents, reports
		"accessKey", "secretKey", "accessToken", "linkToken", "connectionKey", "refreshToken", "consentRedirectURL", "consentRedirectUrl",
		"personalTaxId", "businessTaxId", "taxId", "enquiryCpf", "enquiryCnpj", "companyCnpj", "partieCnpjCpf",
		"cpf", "CNPJ", "cpfCnpj", "cpf_cnpj", "cpf_number", "cnpjNumber", "cpfNumber", "password",
		// basic-links, the older Open Data, and Klavi's other products
		"personal_tax_id", "business_tax_id", "enquiry_cpf", "connection_key", "client_secret", "partner_token", "presignedURL",
		// ours: config, environment, headers
		"access_key", "secret_key", "seal_key", "KLAVI_ACCESS_KEY", "KLAVI_SECRET_KEY", "klavi-secret-key",
		"X-Cpf", "X-Cnpj", "X-Personal-Tax-Id", "Klavi-Link-Token", "klavi_link_token", "X-Access-Token",
		"Authorization", "Proxy-Authorization", "Cookie", "Set-Cookie",
	}
	inJSON := func(text string) string {
		quoted, err := json.Marshal(text)
		if err != nil {
			t.Fatal(err)
		}
		return string(quoted)
	}
	for _, key := range keys {
		object := `{"` + key + `":"` + value + `","x":1}`
		list := `{"` + key + `":["` + value + `","` + value + `"],"x":1}`
		for name, text := range map[string]string{
			"JSON":               object,
			"JSON array":         list,
			"JSON, spaces":       `{ "` + key + `" : "` + value + `" , "x":1}`,
			"JSON in JSON":       `{"body":` + inJSON(object) + `}`,
			"JSON in it, twice":  `{"body":` + inJSON(`{"body":`+inJSON(object)+`}`) + `}`,
			"array in JSON":      `{"body":` + inJSON(list) + `}`,
			"JSON, quotes as u":  `{"body":"{\u0022` + key + `\u0022:\u0022` + value + `\u0022}"}`,
			"JSON, percent":      "/a?info=" + url.QueryEscape(object) + "&b=1",
			"JSON, percent, =":   "/a?u=" + url.QueryEscape("/b?info="+url.QueryEscape(object)+"&b=1"),
			"single quotes":      "{'" + key + "': '" + value + "', 'x': 1}",
			"query":              "/a?x=1&" + key + "=" + value + "&y=2",
			"query, percent":     "/a?u=" + url.QueryEscape("/b?x=1&"+key+"="+value+"&y=2") + "&z=3",
			"query in JSON":      `{"uri":"/a?x=1\u0026` + key + `=` + value + `\u0026y=2"}`,
			"environment":        key + "=" + value,
			"quoted environment": `export ` + key + `="` + value + `"`,
			"Go map":             "map[" + key + ":" + value + " x:1]",
			"Go map of lists":    "map[" + key + ":[" + value + " " + value + "] X:[1]]",
			"Go struct":          `{` + key + `:"` + value + `", X:1}`,
			"Go struct in JSON":  `{"msg":"{` + key + `:\"` + value + `\", X:1}"}`,
			"HTTP/2 debug line":  `encoding header "` + key + `" = "` + value + `"`,
		} {
			got := string(Mask([]byte(text)))
			if strings.Contains(got, value) || !strings.Contains(got, "***") {
				t.Errorf("%s, %s: got %s from %s", key, name, got, text)
			}
			if json.Valid([]byte(text)) && !json.Valid([]byte(got)) {
				t.Errorf("%s, %s: got invalid JSON %s from %s", key, name, got, text)
			}
			if strings.Count(got, "x") < strings.Count(strings.ReplaceAll(text, value, ""), "x") {
				t.Errorf("%s, %s: got %s from %s, want what is around the value", key, name, got, text)
			}
		}
	}
}

func TestMaskKeysWithOtherValues(t *testing.T) {
	for name, tc := range map[string]struct{ in, want string }{
		"number that lost its zero":      {`{"cpf":2998224720,"x":2998224720}`, `{"cpf":0,"x":2998224720}`},
		"number mistyped":                {`{"taxId":52998224724,"a":[1]}`, `{"taxId":0,"a":[1]}`},
		"number in a string":             {`{"b":"{\"cnpj\":11222333000180}"}`, `{"b":"{\"cnpj\":0}"}`},
		"number, percent":                {"i=%7B%22cpf%22%3A2998224720%7D&x", "i=%7B%22cpf%22%3A0%7D&x"},
		"too short":                      {"?personalTaxId=529.982.247-2&x=1", "?personalTaxId=***&x=1"},
		"AES text":                       {`{"enquiryCpf":"KGqy-V_11=="}`, `{"enquiryCpf":"***"}`},
		"spaces in a query":              {"cpf=529 982 247 25 next", "cpf=*** next"},
		"a scheme of its own":            {"Authorization=Basic YWNjZXNzOnNlY3JldA== x", "Authorization=Basic *** x"},
		"Go map, scheme":                 {"map[Authorization:[Bearer abc] Accept:[*/*]]", "map[Authorization:[***] Accept:[*/*]]"},
		"Go struct, scheme":              {"{Authorization:Bearer abc}", "{Authorization:Bearer ***}"},
		"header lines":                   {"Host: a\r\nCookie: a=b; c=d\r\nAccept: */*\r\n", "Host: a\r\nCookie: ***\r\nAccept: */*\r\n"},
		"header lines in JSON":           {`{"e":"Host: a\r\nKlavi-Link-Token: a b\r\nX: y"}`, `{"e":"Host: a\r\nKlavi-Link-Token: ***\r\nX: y"}`},
		"header line, scheme":            {"Authorization: Basic YWNjZXNzOnNlY3JldA==", "Authorization: Basic ***"},
		"HTTP/2 debug data":              {`read DATA data="{\"secretKey\":\"abc\",\"x\":1`, `read DATA data="{\"secretKey\":\"***\",\"x\":1`},
		"cut in the value":               {`{"body":"{\"linkToken\":\"abcdef","x":1}`, `{"body":"{\"linkToken\":\"***","x":1}`},
		"no value in JSON":               {`{"a":"{\"password\":","b":"c"}`, `{"a":"{\"password\":","b":"c"}`},
		"a key that ends in a backslash": {`{"C:\\password\\":"abc","n":52998224725}`, `{"C:\\password\\":"abc","n":0}`},
		"ampersand of its own":           {"u=%3Fpassword%3Dab%2526cd%26x", "u=%3Fpassword%3D***%26x"},
		"basic":                          {"with Basic YWNjZXNzOnNlY3JldA== and BASIC Og==", "with Basic *** and BASIC ***"},
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

// The name of a key alone is no secret: errors are about names.
func TestMaskKeepsTalkOfKeys(t *testing.T) {
	for _, text := range []string{
		`{"error":"account \"default\": secret_key: unrecognized placeholder {env.KLAVI_SECRET_KEY}"}`,
		`{"error":"accept_secret_keys: key 2 is empty","type":"invalid-field","field":"personalTaxId"}`,
		`{"msg":"request refused: a placeholder has no usable value","setting":"set personalTaxId","placeholder":"{http.request.header.X-Cpf}"}`,
		`{"detail":"productsCallbackURL: only the server's config sets this field."}`,
		`{"msg":"missing secretKey:","next":"v"} {"a":["password","cookie"]}`,
		`{"resp_headers":{"Vary":["Cookie, Authorization"],"Access-Control-Allow-Headers":["authorization,klavi-link-token"]}}`,
		"invalid Cookie: it has no name, Authorization: header is missing, basic auth is needed, Basic realm=\"x\"",
		"taxId is not valid; the cpf, the cnpj: both are needed",
		"https://github.com/password/cookie/cpf/cnpj",
	} {
		if got := string(Mask([]byte(text))); got != text {
			t.Errorf("got  %s\nwant %s", got, text)
		}
	}
}
