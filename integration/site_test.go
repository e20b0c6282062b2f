package integration

import (
	"crypto/sha256"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/caddy-klavi/caddy-klavi/sandbox"
)

// site is a gateway with everything: three faces, the sandbox, and an upstream.
const site = faces + outside

// faces is the gateway alone. Logs of all levels go through the encoder to the
// file {{log}}.
const faces = `
{
	admin 127.0.0.1:{{admin}}
	auto_https off
	debug
	log {
		output file {{log}}
		format klavi {
			wrap json
		}
	}
	servers {
		protocols h1
		trace
	}
	klavi {
		base_url http://127.0.0.1:{{klavi}}/data/v1
		access_key sandbox-access-key
		secret_key {env.TEST_SECRET_KEY}
		klavi_timeout 2s
	}
}
http://:{{app}} {
	bind 127.0.0.1
	log
	klavi_frontend /klavi {
		user {http.request.header.X-User}
		set personalTaxId {http.request.header.X-Cpf}
		redirect_urls https://app.example.com/connected
		reports_url http://127.0.0.1:{{hooks}}/klavi/reports
	}
	handle_errors {
		respond "{err.message} {http.request.header.Authorization} {http.request.orig_uri}"
	}
	respond "the app"
}
http://:{{hooks}} {
	bind 127.0.0.1
	log
	klavi_reports /klavi/reports {
		specific pf_checking_account http://127.0.0.1:{{upstream}}/checking
		other http://127.0.0.1:{{upstream}}/other
		event * http://127.0.0.1:{{upstream}}/events
	}
}
http://:{{services}} {
	bind 127.0.0.1
	log
	klavi_proxy {
		reports_url http://127.0.0.1:{{hooks}}/klavi/reports
	}
	handle_errors {
		respond "{err.message} {http.request.header.Authorization}"
	}
}
`

// outside is what stands around the gateway.
const outside = `
http://:{{klavi}} {
	bind 127.0.0.1
	klavi_sandbox {
		secret_key {env.TEST_SECRET_KEY}
		delivery manual
		events_url http://127.0.0.1:{{hooks}}/klavi/reports
	}
}
http://:{{upstream}} {
	bind 127.0.0.1
	klavi_demo_upstream
}
`

const (
	testSecret = "the-secret-key-of-this-test"
	testCPF    = "52998224725"
)

// asMaria are the headers that the site's login would set.
var asMaria = []string{"X-User", "maria", "X-Cpf", "529.982.247-25"}

func (g *gateway) institutions(token string) answer {
	g.t.Helper()
	return g.do("GET", g.url("app", "/klavi/institutions"), "", append(asMaria, "Klavi-Link-Token", token)...)
}

func (g *gateway) link() answer {
	g.t.Helper()
	return g.do("POST", g.url("app", "/klavi/links"), "{}", asMaria...)
}

func (g *gateway) fault(faults string) {
	g.t.Helper()
	if faults == "" {
		g.do("DELETE", g.url("klavi", "/_sandbox/faults"), "")
		return
	}
	if a := g.do("PUT", g.url("klavi", "/_sandbox/faults"), faults); a.status/100 != 2 {
		g.t.Fatalf("setting %s: got %d %s", faults, a.status, a.body)
	}
}

// besides is what stands around a gateway and does not reload with it.
type besides struct {
	*gateway
	links    atomic.Int64 // how many POST /links have reached Klavi
	mu       sync.Mutex
	accepted map[[sha256.Size]byte]bool // the bodies that the upstream has accepted
}

// startAlone runs the faces alone, with everything else outside of this Caddy.
func startAlone(t *testing.T) *besides {
	t.Helper()
	b := &besides{accepted: make(map[[sha256.Size]byte]bool)}
	klavi, err := sandbox.New(sandbox.Options{SecretKey: testSecret, Manual: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := klavi.Close(); err != nil {
			t.Error(err)
		}
	})
	serve := func(h http.HandlerFunc) string {
		server := httptest.NewServer(h)
		t.Cleanup(server.Close)
		return server.URL[strings.LastIndex(server.URL, ":")+1:]
	}
	atKlavi := serve(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost && r.URL.Path == "/data/v1/links" {
			b.links.Add(1)
		}
		klavi.ServeHTTP(w, r)
	})
	upstream := serve(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		b.mu.Lock()
		b.accepted[sha256.Sum256(body)] = true
		b.mu.Unlock()
		w.WriteHeader(http.StatusOK)
	})
	b.gateway = start(t, faces, "klavi", atKlavi, "upstream", upstream)
	return b
}
