package integration

import "strings"

// odds are requests as no well-meant client writes them. Where a server may mend
// them, what goes to Klavi is the constant request all the same.
func odds() []odd {
	const evil = "Bearer OTHER"
	list := []odd{
		{"GET", get(), 1, 1},
		{"POST", post(), 1, 1},
		{"POST with its length", post(field{"content-length", "23"}), 1, 1},
		{"GET with a length of 0", get(field{"content-length", "0"}), 1, 1},
		{"GET with an empty body behind it", get().with(""), 1, 1},
		{"GET with trailers", get(field{"te", "trailers"}), 1, 1},
		{"cookies in fields of their own", get(field{"+cookie", "a=b"}, field{"+cookie", "c=d"}), 1, 1},
		{"Host in place of :authority", get(field{":authority", without}, field{"host", scopeHost}), 1, 1},
		{"both, the same", get(field{"host", scopeHost}), 1, 1},

		{"no :path", get(field{":path", without}), 0, 0},
		{"no :method", get(field{":method", without}), 0, 0},
		{"no :scheme", get(field{":scheme", without}), 0, 1},
		{"no host at all", get(field{":authority", without}), 0, 1},
		{"a pseudo-header field behind a regular one", get(field{":path", without}, field{"+:path", "/klavi/institutions"}), 0, 0},
		{"a pseudo-header field that does not exist", get(field{"^:token", "TOKEN"}), 0, 0},
		{"a pseudo-header field of answers", get(field{"^:status", "200"}), 0, 0},
		{"a pseudo-header field in upper case", get(field{":path", without}, field{"^:Path", "/klavi/institutions"}), 0, 0},
		{":protocol without CONNECT", get(field{"^:protocol", "websocket"}), 0, 0},

		{"CONNECT to the path", get(field{":method", "CONNECT"}), 0, 0},
		{"CONNECT to Klavi", get(field{":method", "CONNECT"}, field{":scheme", without}, field{":path", without}, field{":authority", "api.klavi.ai:443"}), 0, 0},
		{"extended CONNECT", get(field{":method", "CONNECT"}, field{"^:protocol", "websocket"}), 0, 0},
		{"extended CONNECT, a made-up protocol", get(field{":method", "CONNECT"}, field{"^:protocol", "GET /klavi/institutions"}), 0, 0},

		{"names in upper case", get(field{"authorization", without}, field{"Authorization", "Bearer TOKEN"}), 0, 0},
		{"the same name in two cases", get(field{"Authorization", evil}), 0, 0},
		{"two credentials", get(field{"+authorization", evil}), 0, 0},
		{"two credentials, the same", get(field{"+authorization", "Bearer TOKEN"}), 0, 0},
		{"two credentials, the other first", get(field{"authorization", evil}, field{"+authorization", "Bearer TOKEN"}), 0, 0},
		{"two credentials in the own header", get(field{"klavi-link-token", "TOKEN"}, field{"+klavi-link-token", "TOKEN"}), 0, 0},
		{"white space before the scheme", get(field{"authorization", " Bearer TOKEN"}), 0, 0},
		{"white space behind the token", get(field{"authorization", "Bearer TOKEN "}), 0, 0},
		{"a field in a value", get(field{"x-a", "b\r\nauthorization: " + evil}), 0, 0},
		{"a request in a value", get(field{"x-a", "b\r\n\r\nGET /data/v1/refresh HTTP/1.1\r\n\r\n"}), 0, 0},
		{"a NUL in a value", get(field{"x-a", "b\x00c"}), 0, 0},
		{"a line feed in a name", get(field{"x-a\nauthorization", evil}), 0, 0},
		{"a colon in a name", get(field{"x-a: b", evil}), 0, 0},
		{"a space in a name", get(field{"x a", "b"}), 0, 0},
		{"an empty name", get(field{"+", "b"}), 0, 0},
		{"a name that is not ASCII", get(field{"x-\u00e9", "b"}), 0, 0},

		{"the method in the path", get(field{":path", "/klavi/institutions HTTP/1.1\r\nHost: evil\r\n\r\nGET /"}), 0, 0},
		{"two hosts", get(field{"+host", scopeHost}, field{"+host", "api.klavi.ai"}), 0, 1},
		{"another host beside :authority", get(field{"host", "api.klavi.ai"}), 0, 1},

		{"a body with GET", get().with("{}"), 0, 0},
		{"a body with GET and its length", get(field{"content-length", "2"}).with("{}"), 0, 0},
		{"a body with GET and a length of 0", get(field{"content-length", "0"}).with("{}"), 0, 1},
		{"a length without a body", get(field{"content-length", "5"}), 0, 1},
		{"a length that is too long", post(field{"content-length", "100"}), 0, 1},
		{"a length that is too short", post(field{"content-length", "5"}), 0, 0},
		{"a length that is negative", post(field{"content-length", "-1"}), 0, 1},
		{"two lengths", post(field{"+content-length", "23"}, field{"+content-length", "5"}), 0, 1},
		{"two lengths, the same", post(field{"+content-length", "23"}, field{"+content-length", "23"}), 0, 1},

		{"a trailer with a credential", post(field{"trailer", "authorization"}).with(post().body, field{"authorization", evil}), 0, 1},
		{"a trailer that is not announced", post().with(post().body, field{"authorization", evil}), 0, 1},
		{"a trailer with the only credential", post(field{"authorization", without}, field{"trailer", "authorization"}).
			with(post().body, field{"authorization", "Bearer TOKEN"}), 0, 0},
		{"a trailer with the only credential, own header", post(field{"authorization", without}, field{"trailer", "klavi-link-token"}).
			with(post().body, field{"klavi-link-token", "TOKEN"}), 0, 0},
		{"a trailer with a pseudo-header field", post().with(post().body, field{":path", "/klavi/links"}), 0, 0},
		{"a trailer behind a GET", get().with("", field{"authorization", evil}), 0, 1},

		{"early data, as a proxy marks it", post(field{"early-data", "1"}), 0, 0},
		{"fields of 24 KiB", get(field{"x-a", strings.Repeat("a", 24<<10)}), 0, 0},
	}
	for _, path := range []string{
		"", "*", "/", "klavi/institutions", "http://gw.example/klavi/institutions", "https://api.klavi.ai/klavi/institutions",
		"//gw.example/klavi/institutions", "/klavi/institutions#x", "/klavi/institutions\x00", "/klavi/institutions\r\nx: y",
		"/klavi/institutions\n", "/klavi/institutions ", " /klavi/institutions", "/klavi/institutions\t", "/klavi/institutions\x7f",
		"gw.example:443", "?", "#", "/klavi/institutions\u00e9", "/klavi/institutions\xff", "\\klavi\\institutions", "/klavi/institutions%",
	} {
		list = append(list, odd{":path " + path, get(field{":path", path}), 0, 0})
	}
	for _, method := range []string{
		"", "get", "GET ", " GET", "GET\x00", "GET\r\n", "G T", "HEAD", "OPTIONS", "TRACE", "PRI", "GET /klavi/institutions", strings.Repeat("G", 40),
	} {
		list = append(list, odd{":method " + method, get(field{":method", method}), 0, 0})
	}
	// klavi_frontend does not look at the host: what a server lets pass is served.
	for _, host := range []string{
		"", "api.klavi.ai", "user@gw.example", "user:pass@gw.example", "gw.example/klavi", "gw.example:0", "gw.example:x", "gw.example api.klavi.ai",
		"gw.example\r\nx: y", "gw.example\x00", "...", "[::1", "gw.example#", "\u0261w.example",
	} {
		list = append(list, odd{":authority " + host, get(field{":authority", host}), 0, 1})
	}
	for _, scheme := range []string{"", "http", "ftp", "HTTPS", "https://gw.example/x?", "javascript", "a b"} {
		list = append(list, odd{":scheme " + scheme, get(field{":scheme", scheme}), 0, 1})
	}
	for _, name := range []string{":path", ":method", ":authority", ":scheme"} {
		for _, f := range get().fields {
			if f.name == name {
				list = append(list, odd{"two " + name, get(field{"^" + name, f.value}), 0, 0})
			}
		}
		list = append(list, odd{"two different " + name, get(field{"^" + name, "/klavi/consents"}), 0, 0})
	}
	for name, value := range map[string]string{
		"connection": "authorization", "keep-alive": "timeout=5", "proxy-connection": "authorization", "transfer-encoding": "chunked", "upgrade": "h2c",
		"te": "gzip",
	} {
		list = append(list,
			odd{"GET with " + name, get(field{name, value}), 0, 0},
			odd{"POST with " + name, post(field{name, value}), 0, 0})
	}
	return list
}
