package caddyfile_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
)

// Which directive answers a request, as far as it depends on Caddy's order.
func TestOrder(t *testing.T) {
	root := t.TempDir()
	if err := os.WriteFile(filepath.Join(root, "index.html"), []byte("index"), 0o600); err != nil {
		t.Fatal(err)
	}
	login := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusUnauthorized)
		fmt.Fprint(w, "login")
	}))
	defer login.Close()

	const (
		frontendAt = "klavi_frontend %s {\n\tpublic\n\tredirect_urls https://app.example.com/\n}\n"
		reportsAt  = "klavi_reports %s {\n\tall http://127.0.0.1:1/\n}\n"
		proxyAt    = "klavi_proxy %s\n"
		ready      = "klavi_ready /klavi\n"
		catchAll   = "handle {\n\trespond \"site\"\n}\n"
	)
	frontend, reports, proxy := fmt.Sprintf(frontendAt, "/klavi"), fmt.Sprintf(reportsAt, "/klavi"), fmt.Sprintf(proxyAt, "/klavi")
	loginAt := func(matcher string) string {
		return "forward_auth " + matcher + " " + login.URL + " {\n\turi /\n}\n"
	}
	files := "root * " + root + "\ntry_files {path} /index.html\nfile_server\n"

	// Requests to /klavi/x, of which no directive makes anything but a
	// refusal of its own, but for klavi_ready. This one and klavi_reports have no
	// prefix, so /klavi for them.
	const (
		us   = "us"
		site = "site"
	)
	tests := []struct{ name, site, path, want string }{
		{"frontend, catch-all handle", catchAll + frontend, "/klavi/x", us},
		{"reports, catch-all handle", catchAll + reports, "/klavi", us},
		{"ready, catch-all handle", catchAll + ready, "/klavi", us},
		{"ready, route", "route {\n\trespond \"site\"\n}\n" + ready, "/klavi", us},
		{"ready, respond", "respond \"site\"\n" + ready, "/klavi", us},
		{"ready, try_files", files + ready, "/klavi", "index"},
		{"ready, another path", ready + catchAll, "/klavi/x", site},
		{"ready, forward_auth", "forward_auth " + login.URL + " {\n\turi /\n}\n" + ready, "/klavi", "login"},
		{"proxy, catch-all handle", catchAll + proxy, "/klavi/x", site},

		{"frontend, handle of its path", "handle /klavi/* {\n\trespond \"site\"\n}\n" + frontend, "/klavi/x", us},
		{"frontend, handle_path of its path", "handle_path /klavi/* {\n\trespond \"site\"\n}\n" + frontend, "/klavi/x", us},
		{"proxy, handle_path of its path", "handle_path /klavi/* {\n\trespond \"site\"\n}\n" + proxy, "/klavi/x", site},

		{"frontend, route", "route {\n\trespond \"site\"\n}\n" + frontend, "/klavi/x", us},
		{"reports, route", "route {\n\trespond \"site\"\n}\n" + reports, "/klavi", us},
		{"proxy, route", "route {\n\trespond \"site\"\n}\n" + proxy, "/klavi/x", site},

		{"frontend, try_files", files + frontend, "/klavi/x", us},
		{"reports, try_files", files + reports, "/klavi", "index"},
		{"proxy with a prefix, try_files", files + proxy, "/klavi/x", "index"},
		{"reports in a handle, try_files", "handle /klavi {\n" + reports + "}\nhandle {\n" + files + "}\n", "/klavi", us},
		{"reports in a route before try_files", "route {\n" + reports + files + "}\n", "/klavi", us},

		{"frontend, respond", "respond \"site\"\n" + frontend, "/klavi/x", us},
		{"reports, respond", "respond \"site\"\n" + reports, "/klavi", us},
		{"proxy, respond", "respond \"site\"\n" + proxy, "/klavi/x", site},
		{"proxy, reverse_proxy", "reverse_proxy " + login.URL + "\n" + proxy, "/klavi/x", us},
		{"proxy in a handle", "handle /klavi/* {\n" + proxy + "}\n" + catchAll, "/klavi/x", us},
		{"proxy in a handle_path", "handle_path /bank/* {\n\tklavi_proxy\n}\n" + catchAll, "/bank/auth", us},
		{"frontend in a handle_path", "handle_path /api/* {\n" + fmt.Sprintf(frontendAt, "/api/klavi") + "}\n" + catchAll, "/api/klavi/x", us},
		{"frontend in a handle_path, stripped", "handle_path /api/* {\n" + frontend + "respond \"site\"\n}\n", "/api/klavi/x", site},
		{"reports in a handle_path", "handle_path /api/* {\n" + reports + "}\n" + catchAll, "/api/klavi", us},
		{"two frontends", frontend + fmt.Sprintf(frontendAt, "/bank"), "/bank/x", us},
		{"frontend, another path", frontend + catchAll, "/other", site},

		{"frontend, forward_auth", "forward_auth " + login.URL + " {\n\turi /\n}\n" + frontend, "/klavi/x", "login"},
		{"reports, forward_auth", "forward_auth " + login.URL + " {\n\turi /\n}\n" + reports, "/klavi", "login"},
		{"proxy, forward_auth", "forward_auth " + login.URL + " {\n\turi /\n}\n" + proxy, "/klavi/x", "login"},

		// A login with a path matcher looks at the path as others have left it,
		// the frontend at the one that the browser wrote: docs/production.md warns
		// of the ones that let everybody in.
		{"frontend, forward_auth and try_files", files + loginAt("") + frontend, "/klavi/x", "login"},
		{"frontend, forward_auth of its path", loginAt("/klavi/*") + frontend, "/klavi/x", "login"},
		{"frontend, forward_auth of its path and try_files", files + loginAt("/klavi/*") + frontend, "/klavi/x", us},
		{"frontend, forward_auth of its path and rewrite", "rewrite * /index.html\n" + loginAt("/klavi/*") + frontend, "/klavi/x", us},
		{"frontend, forward_auth of its path and strip_prefix", "uri strip_prefix /klavi\n" + loginAt("/klavi/*") + frontend, "/klavi/x", us},
		{"frontend, forward_auth of its path in a handle_path", "handle_path /klavi/* {\n" + loginAt("/klavi/*") + frontend + "}\n", "/klavi/x", us},
		{"frontend and forward_auth in a handle, try_files", "handle /klavi/* {\n" + loginAt("") + frontend + "}\nhandle {\n" + files + "}\n", "/klavi/x", "login"},
	}
	t.Cleanup(func() {
		if err := caddy.Stop(); err != nil {
			t.Error(err)
		}
	})
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			address := serve(t, test.site)
			res, err := http.Get("http://" + address + test.path)
			if err != nil {
				t.Fatal(err)
			}
			defer res.Body.Close()
			body, err := io.ReadAll(res.Body)
			if err != nil {
				t.Fatal(err)
			}
			got := string(body)
			// klavi_reports answers GET with 405 and has no need for a body.
			if strings.HasPrefix(res.Header.Get("Content-Type"), "application/problem+json") || res.StatusCode == http.StatusMethodNotAllowed ||
				strings.HasPrefix(got, `{"ready":`) {
				got = us
			}
			if got != test.want {
				t.Errorf("got status %d and %q, want an answer by %s", res.StatusCode, got, test.want)
			}
		})
	}
}

// serve starts Caddy with a site and returns its address.
func serve(t *testing.T, site string) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	listener.Close()
	caddyfile := fmt.Sprintf(`{
	admin off
	persist_config off
	log {
		output discard
	}
	klavi {
		base_url http://127.0.0.1:1/data/v1
		access_key access
		secret_key secret
	}
}

http://:%s {
	bind 127.0.0.1
	%s
}
`, address[strings.LastIndex(address, ":")+1:], site)
	config, _, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(caddyfile), nil)
	if err != nil {
		t.Fatalf("adapting %s: %v", caddyfile, err)
	}
	if err := caddy.Load(config, true); err != nil {
		t.Fatalf("loading %s: %v", caddyfile, err)
	}
	return address
}
