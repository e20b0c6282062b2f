package integration

import (
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddy-klavi/caddy-klavi/sandbox"
)

// clientsSite is a gateway as users write it: over HTTP and TLS, for pages of its
// own and of another origin, behind a proxy, a login or compression. Programs call
// it below different prefixes, since all are at one address, and limits are those
// of an address below a prefix.
const clientsSite = `
{
	admin 127.0.0.1:{{admin}}
	auto_https disable_redirects
	skip_install_trust
	storage file_system {{storage}}
	log {
		output file {{log}}
		format klavi
	}
	servers {
		protocols h1 h2 h2c h3
		trusted_proxies static 127.0.0.1/8
		trusted_proxies_strict
	}
	servers 127.0.0.1:{{front}} {
		protocols h1 h2
	}
	klavi {
		base_url http://127.0.0.1:{{klavi}}/data/v1
		access_key sandbox-access-key
		secret_key {env.TEST_SECRET_KEY}
	}
}
(frontend) {
	klavi_frontend {args[0]} {
		accept externalInfo
		redirect_urls https://app.example.com/connected
		reports_url http://127.0.0.1:{{hooks}}/klavi/reports
		{block}
	}
}
(app) {
	bind 127.0.0.1
	encode
	import frontend /curl/klavi {
		public
	}
	import frontend /go/klavi {
		public
	}
	import frontend /scripts/klavi {
		public
	}
	import frontend /pages/klavi {
		public
	}
	import frontend /chains/klavi {
		public
	}
	root testdata/clients
	file_server
}
http://:{{app}} {
	import app
}
https://localhost:{{tls}}, https://127.0.0.1:{{tls}} {
	tls internal
	import app
}
https://localhost:{{front}} {
	bind 127.0.0.1
	tls internal
	reverse_proxy 127.0.0.1:{{app}}
}
http://:{{api}} {
	bind 127.0.0.1
	import frontend /klavi {
		public
		allow_origins http://localhost:{{page}}
	}
}
http://:{{page}} {
	bind 127.0.0.1
	root testdata/clients
	file_server
}
http://:{{login}} {
	bind 127.0.0.1
	basic_auth {
		maria $2b$04$abcdefghijklmnopqrstuuXcjcm5avyCiJoD2uS24xa2lb6fjMB3G
	}
	handle_path /app/* {
		import frontend /app/klavi {
			user {http.auth.user.id}
		}
	}
}
http://:{{services}} {
	bind 127.0.0.1
	klavi_proxy
}
http://:{{prefixed}} {
	bind 127.0.0.1
	encode
	klavi_proxy /bank {
		reports_url http://127.0.0.1:{{hooks}}/klavi/reports
		external_info service {http.request.header.X-Service}
	}
}
http://:{{guarded}} {
	bind 127.0.0.1
	basic_auth {
		ledger $2b$04$abcdefghijklmnopqrstuuXcjcm5avyCiJoD2uS24xa2lb6fjMB3G
	}
	request_body {
		max_size 8MB
	}
	klavi_proxy {
		header_down -Server
	}
}
http://:{{hooks}} {
	bind 127.0.0.1
	respond 200
}
`

// Programs as users have them call both faces, each in its own way. Nothing of
// what they send may be refused, and Klavi must see the same whoever asks.
func TestClients(t *testing.T) {
	g := startForClients(t)
	app := func(path string) place { return place{base: g.url("app", path)} }
	tls := func(path string) place { return place{base: g.secure("localhost", "tls") + path} }
	login := place{base: g.url("login", "/app"), user: "maria"}
	fetch, nodeHTTP := g.script("node", "fetch.mjs"), g.script("node", "http.mjs")
	urllib, httpClient := g.script("python3", "urllib_request.py"), g.script("python3", "http_client.py")
	for _, v := range []visitor{
		{"curl", app("/curl"), g.curl("1.1")},
		{"curl with HTTP/2", tls("/curl"), g.curl("2", "--compressed")},
		{"curl with HTTP/3", tls("/curl"), g.curl("3", "--http3-only")},
		{"Go", app("/go"), g.goClient("HTTP/1.1", overHTTP1)},
		{"Go with HTTP/2", tls("/go"), g.goClient("HTTP/2.0", overHTTP2)},
		{"Go with h2c", app("/go"), g.goClient("HTTP/2.0", overH2C)},
		{"Node's fetch", app("/scripts"), fetch},
		{"node:http", app("/scripts"), nodeHTTP},
		{"urllib.request", app("/scripts"), urllib},
		{"http.client", app("/scripts"), httpClient},
	} {
		t.Run("frontend/"+v.name, func(t *testing.T) { g.visit(t, v, g.frontendWalk(v)) })
	}
	for _, v := range []visitor{
		{"curl with HTTP/1.0", app("/curl"), g.curl("1", "--http1.0", "--expect100-timeout", "0.1")},
		{"curl that offers h2c", app("/curl"), g.curl("1.1", "--http2")},
		{"curl with h2c", app("/curl"), g.curl("2", "--http2-prior-knowledge")},
		{"curl that decompresses", app("/curl"), g.curl("1.1", "--compressed")},
		{"curl over TLS", tls("/curl"), g.curl("1.1", "--http1.1")},
		{"curl with a login", login, g.curl("1.1", "--user", "maria:open-sesame")},
		{"Node's fetch over TLS", tls("/scripts"), fetch},
		{"node:https", tls("/scripts"), nodeHTTP},
		{"urllib.request over TLS", tls("/scripts"), urllib},
		{"http.client over TLS", tls("/scripts"), httpClient},
	} {
		t.Run("frontend/"+v.name, func(t *testing.T) { g.visit(t, v, g.briefFrontendWalk(v)) })
	}
	t.Run("frontend in Chromium", g.inChromium)
	t.Run("frontend behind Caddy", g.behindCaddy)
	t.Run("frontend behind nginx", g.behindNginx)
	t.Run("proxy", g.callProxy)
	t.Run("connections", g.connections)
}

// clientsGateway is one gateway for all clients.
type clientsGateway struct {
	*gateway
	storage string
	walks   int    // how many there have been, so that each has keys of its own
	latest  string // when what was read last of Klavi's journal came
}

func startForClients(t *testing.T) *clientsGateway {
	t.Helper()
	t.Setenv("TEST_SECRET_KEY", testSecret)
	klavi, err := sandbox.New(sandbox.Options{SecretKey: testSecret, Manual: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := klavi.Close(); err != nil {
			t.Error(err)
		}
	})
	server := httptest.NewServer(takeLarge(klavi))
	t.Cleanup(server.Close)
	storage := t.TempDir()
	g := start(t, clientsSite, "storage", storage, "klavi", server.URL[strings.LastIndex(server.URL, ":")+1:])
	clients := &clientsGateway{gateway: g, storage: storage}
	for _, address := range []string{"localhost:" + g.port("tls"), "127.0.0.1:" + g.port("tls"), "localhost:" + g.port("front")} {
		g.eventually("the certificate of "+address, func() bool { return len(clients.certificates(t, address)) > 1 })
	}
	return clients
}

// certificates returns those with which a site answers, none before Caddy has
// made them.
func (g *clientsGateway) certificates(t *testing.T, address string) []*x509.Certificate {
	t.Helper()
	conn, err := tls.Dial("tcp", address, g.trusting(t))
	if err != nil {
		return nil
	}
	defer conn.Close()
	return conn.ConnectionState().PeerCertificates
}

// sandboxLimit is how large a body may be for the sandbox. What Klavi's own limit
// is, nobody knows.
const sandboxLimit = 1 << 20

// takeLarge answers larger requests in place of the sandbox, and says what came.
func takeLarge(klavi http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		if len(body) > sandboxLimit && strings.HasPrefix(r.Header.Get("Authorization"), "Bearer ") {
			w.Header().Set("Content-Type", "application/json")
			fmt.Fprintf(w, `{"requestId":%q}`, sha256Of(string(body)))
			return
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		klavi.ServeHTTP(w, r)
	})
}

func sha256Of(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}

// root returns the certificate of Caddy's own authority, as a file.
func (g *clientsGateway) root() string {
	return filepath.Join(g.storage, "pki", "authorities", "local", "root.crt")
}

// secure returns a URL of a face under TLS.
func (g *clientsGateway) secure(host, name string) string {
	return "https://" + host + ":" + g.port(name)
}

// trusting trusts the certificates of Caddy's own authority, once it has made one.
func (g *clientsGateway) trusting(t *testing.T) *tls.Config {
	t.Helper()
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM([]byte(readFile(t, g.root()))) {
		t.Fatal("Caddy's own authority has no certificate")
	}
	return &tls.Config{RootCAs: pool}
}
