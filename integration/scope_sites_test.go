package integration

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"

	gw "github.com/caddy-klavi/caddy-klavi/gateway"
)

// placement is a way to write klavi_frontend into a site.
type placement struct {
	name string
	// site is what stands in the site's block, with BLOCK for that of
	// klavi_frontend.
	site  string
	host  string // of the site's address
	at    string // path before /klavi, as browsers write it
	user  string // whom the site's login takes everybody for
	proxy string // header lines of a proxy before Caddy
	more  string // at the level of sites
	block string // more in klavi_frontend's block
}

const (
	sitePage  = "respond \"the site\"\n"
	fileSite  = "root {{root}}\ntry_files {path} /index.html\nfile_server\n"
	scopeHost = "gw.example"
)

// placements are those that users have. In each of them the public path is as
// the browser writes it, and the scope is the same.
var placements = []placement{
	{name: "bare", site: "klavi_frontend /klavi BLOCK\n" + sitePage},
	{name: "star", site: "klavi_frontend /klavi/* BLOCK\n" + sitePage},
	{name: "path_matcher", site: "@bank path /klavi /klavi/*\nklavi_frontend @bank /klavi BLOCK\n" + sitePage},
	{name: "other_matcher", site: "@bank {\nmethod GET POST\nnot header X-Internal *\n}\nklavi_frontend @bank /klavi BLOCK\n" + sitePage},
	{name: "handle", site: "handle /klavi/* {\nklavi_frontend /klavi BLOCK\n}\nhandle {\n" + sitePage + "}\n"},
	{name: "handle_path", site: "handle_path /klavi* {\nklavi_frontend /klavi BLOCK\n}\nhandle {\n" + sitePage + "}\n"},
	{name: "handle_path_below", site: "handle_path /klavi/* {\nklavi_frontend /klavi BLOCK\n}\nhandle {\n" + sitePage + "}\n"},
	{name: "route", site: "route {\nklavi_frontend /klavi BLOCK\n" + sitePage + "}\n"},
	{name: "route_of_path", site: "route /klavi/* {\nuri strip_prefix /klavi\nklavi_frontend /klavi BLOCK\n}\n" + sitePage},
	{name: "files", site: fileSite + "klavi_frontend /klavi BLOCK\n"},
	{name: "files_in_handle", site: "handle /klavi/* {\nklavi_frontend /klavi BLOCK\n}\nhandle {\n" + fileSite + "}\n"},
	{name: "sibling_handle", site: "handle /klavi/* {\n" + sitePage + "}\nklavi_frontend /klavi BLOCK\n" + sitePage},
	{name: "sibling_proxy", site: "klavi_frontend /klavi BLOCK\nreverse_proxy 127.0.0.1:{{login}}\n"},
	{name: "forward_auth", user: scopeUser, site: "forward_auth 127.0.0.1:{{login}} {\nuri /whoami\ncopy_headers X-User\n}\n" +
		"klavi_frontend /klavi BLOCK\n" + sitePage},
	{name: "strip_prefix", site: "uri strip_prefix /klavi\nklavi_frontend /klavi BLOCK\n" + sitePage},
	{name: "strip_parent", at: "/api", site: "uri strip_prefix /api\nklavi_frontend /api/klavi BLOCK\n" + sitePage},
	{name: "slashes_merged", site: "uri path_regexp /{2,} /\nklavi_frontend /klavi BLOCK\n" + sitePage},
	{name: "rewrite", site: "rewrite * /klavi/institutions\nklavi_frontend /klavi BLOCK\n" + sitePage},
	{name: "rewrite_method", site: "method GET\nrewrite * /klavi/institutions\nklavi_frontend /klavi BLOCK\n" + sitePage},
	{name: "hosts", host: scopeHost, site: "klavi_frontend /klavi BLOCK\n" + sitePage},
	{
		name: "trusted_proxy", site: "klavi_frontend /klavi BLOCK\n" + sitePage,
		proxy: "X-Forwarded-For: 203.0.113.7, 198.51.100.4\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: evil.example\r\n" +
			"X-Forwarded-Prefix: /klavi\r\nX-Forwarded-Uri: /klavi/links\r\n",
	},
	{name: "snippet", site: "import bank /klavi\n" + sitePage},
	{name: "snippet_below", at: "/api", site: "handle_path /api/* {\nimport bank /api/klavi\n}\nhandle {\n" + sitePage + "}\n"},
	{name: "named_route", site: "invoke bank_route\n" + sitePage, more: "&(bank_route) {\nklavi_frontend /klavi BLOCK\n}\n"},
	{name: "busy_site", site: "encode\ntemplates\nheader -Server\nrequest_header -X-Internal\nrequest_body {\nmax_size 1MB\n}\n" +
		"handle_errors {\nrespond \"the site\"\n}\nklavi_frontend /klavi BLOCK\n" + sitePage},
	{name: "origins", block: "allow_origins https://other.example", site: "klavi_frontend /klavi BLOCK\n" + sitePage},
}

// caddyfile returns the site of p, over TLS if tls is its directive. Each has an
// account of its own: the limits of creations are those of an account.
func (p placement) caddyfile(tls string) string {
	who := "public"
	if p.user != "" {
		who = "user {http.request.header.X-User}"
	}
	scheme := "http://"
	if tls != "" {
		scheme = "https://"
	}
	addresses := scheme + p.host + ":{{" + p.name + "}}"
	if p.host != "" {
		addresses += ", " + scheme + "other.example:{{" + p.name + "}}"
	}
	text := p.more + addresses + " {\nbind 127.0.0.1\n" + tls + "\n" + p.site + "}\n"
	if strings.Contains(text, "import bank") {
		name := "bank_of_" + p.name
		text = "(" + name + ") {\nklavi_frontend {args[0]} BLOCK\n}\n" + strings.ReplaceAll(text, "import bank", "import "+name)
	}
	return strings.ReplaceAll(text, "BLOCK", "{\naccount "+p.name+"\n"+who+"\nredirect_urls "+scopeRedirect+"\n"+p.block+"\n}")
}

func (p placement) account() string {
	return "klavi " + p.name + " {\nbase_url http://127.0.0.1:{{klavi}}/data/v1\naccess_key access-" + p.name + "\nsecret_key secret-" + p.name +
		"\nklavi_timeout 1m\n}\n"
}

// sealer seals link tokens as the gateway with that Caddyfile does.
type sealer struct {
	t   testing.TB
	ctx caddy.Context
}

func newSealer(t testing.TB, caddyfile string) sealer {
	t.Helper()
	text, err := adapt(caddyfile)
	if err != nil {
		t.Fatal(err)
	}
	var config caddy.Config
	if err := json.Unmarshal(text, &config); err != nil {
		t.Fatal(err)
	}
	ctx, err := caddy.ProvisionContext(&caddy.Config{AppsRaw: caddy.ModuleMap{"klavi": config.AppsRaw["klavi"]}})
	if err != nil {
		t.Fatal(err)
	}
	return sealer{t, ctx}
}

// seal returns the form in which a browser has the link token raw. A fixed link
// is for one person at one institution.
func (s sealer) seal(p placement, raw string, fixed bool) string {
	s.t.Helper()
	_, account, err := gw.ForAccount(s.ctx, p.name)
	if err != nil {
		s.t.Fatal(err)
	}
	link := gw.LinkToken{Token: raw, LinkID: "link-1", User: p.user, Expires: time.Now().Add(time.Hour)}
	if fixed {
		link.PersonalTaxID, link.InstitutionCode = testCPF, scopeInstitution
	}
	sealed, err := account.SealLinkToken(link)
	if err != nil {
		s.t.Fatal(err)
	}
	return sealed
}

// scopeSites is a gateway with placements, a login and a stand-in for Klavi.
type scopeSites struct {
	*gateway
	klavi  *scopeKlavi
	sealer sealer
}

// startScope runs the placements. Klavi calls hold, if it is not nil, before it answers.
func startScope(t *testing.T, globals, tls string, hold func(*http.Request), placements ...placement) *scopeSites {
	t.Helper()
	root := t.TempDir()
	if err := os.WriteFile(filepath.Join(root, "index.html"), []byte("the site"), 0o600); err != nil {
		t.Fatal(err)
	}
	login := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("X-User", scopeUser)
		_, _ = io.WriteString(w, "the site")
	}))
	t.Cleanup(login.Close)
	klavi := newScopeKlavi(t, hold)
	caddyfile := "{\nadmin off\npersist_config off\nauto_https off\nlog {\noutput discard\n}\n" + globals
	for _, p := range placements {
		caddyfile += p.account()
	}
	caddyfile += "}\n"
	for _, p := range placements {
		caddyfile += p.caddyfile(tls)
	}
	g := start(t, caddyfile, "klavi", klavi.port(), "login", login.URL[strings.LastIndex(login.URL, ":")+1:], "root", root)
	return &scopeSites{g, klavi, newSealer(t, g.expand(caddyfile))}
}

func (s *scopeSites) address(p placement) string { return "127.0.0.1:" + s.port(p.name) }
