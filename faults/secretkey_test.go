package faults

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/caddy-klavi/caddy-klavi/sandbox"
)

// Two gateways change to another secret key of Klavi's, one after the other: one by
// reloads, the other by restarts. Whichever a report comes to knows its signature, and
// whichever a link token comes to opens it, also when the other has sealed it.
func TestSecretKeyOfTwoNodes(t *testing.T) {
	t.Parallel()
	const both = "accept_secret_keys "
	toNext := []func(*keyChange){
		func(c *keyChange) { c.set(0, nextKey, both+secret) },
		func(c *keyChange) { c.set(1, nextKey, both+secret) },
	}
	klaviSigns := func(c *keyChange) { c.signs.Store(nextKey) }
	for name, middle := range map[string][]func(*keyChange){
		"Klavi changes last":  append(slices.Clone(toNext), klaviSigns),
		"Klavi changes first": append([]func(*keyChange){klaviSigns}, toNext...),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newKeyChange(t)
			steps := []func(*keyChange){
				func(c *keyChange) { c.set(0, secret, both+nextKey) },
				func(c *keyChange) { c.set(1, secret, both+nextKey) },
			}
			steps = append(append(steps, middle...),
				func(c *keyChange) { c.set(0, nextKey, "") },
				func(c *keyChange) { c.set(1, nextKey, "") })
			c.check(false)
			stop := c.load()
			t.Cleanup(stop)
			for i, step := range steps {
				step(c)
				c.check(false)
				c.settle()
				if t.Failed() {
					t.Fatalf("that was after step %d", i+1)
				}
			}
			stop()
			for node, p := range c.nodes {
				for _, s := range c.senders[node] {
					s.drain(p, c.upstream)
				}
			}
		})
	}
}

// keyChange is two gateways of one account that change their secret key, and Klavi.
type keyChange struct {
	t        *testing.T
	upstream *upstream
	nodes    [2]*process
	reports  [2]string             // the addresses of klavi_reports
	apps     [2]string             // and of klavi_frontend
	senders  [2]map[string]*sender // by the key with which they sign
	signs    atomic.Value          // the key with which Klavi signs

	checks, done atomic.Int64 // which were begun, and are over
	kept         []keptToken
}

// keptToken is a link token of some steps ago.
type keptToken struct{ user, token, sealedWith string }

func newKeyChange(t *testing.T) *keyChange {
	t.Helper()
	klavi, err := sandbox.New(sandbox.Options{AccessKey: "an-access-key", SecretKey: secret, Manual: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = klavi.Close() })
	// Klavi knows both keys of who logs in, or else no gateway could change alone.
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		body = bytes.ReplaceAll(body, []byte(nextKey), []byte(secret))
		r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
		klavi.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	c := &keyChange{t: t, upstream: newUpstream(t)}
	c.signs.Store(secret)
	for i := range c.nodes {
		config, port := newSetup(t, c.upstream.URL), freePort(t)
		config.klavi = server.URL
		config.global = "grace_period 5s"
		config.sites = fmt.Sprintf(`http://:%s {
			bind 127.0.0.1
			klavi_frontend /klavi {
				user {http.request.header.X-User}
				link_token sealed
				redirect_urls https://app.example.com/connected
				reports_url http://127.0.0.1:%s/klavi/reports
			}
		}`, port, config.port)
		c.nodes[i] = start(t, config)
		c.reports[i], c.apps[i] = c.nodes[i].url, "http://127.0.0.1:"+port+"/klavi/"
		c.senders[i] = map[string]*sender{secret: newSender(t), nextKey: newSender(t)}
		c.senders[i][nextKey].key = nextKey
	}
	return c
}

// set changes the keys of a gateway: of the first by a reload, of the second by a restart.
func (c *keyChange) set(node int, key, accept string) {
	c.t.Helper()
	p := c.nodes[node]
	p.setup.secret, p.setup.account = key, accept
	if accept == "" { // they have run out long since
		c.kept = slices.DeleteFunc(c.kept, func(k keptToken) bool { return k.sealedWith != key })
	}
	if node == 0 {
		if err := p.load(p.setup); err != nil {
			c.t.Fatal(err)
		}
		return
	}
	p.stop()
	c.nodes[node] = start(c.t, p.setup)
}

// check sends a report to each gateway, and takes a link token from each to both. While
// one of them changes, it may be away.
func (c *keyChange) check(changing bool) {
	c.t.Helper()
	want := func(what string, node int, ask func() int) {
		c.t.Helper()
		status := ask()
		for n := 0; n < 3 && status == 0 && !changing; n++ {
			status = ask() // the listener of an old config has closed it unread
		}
		if status != http.StatusOK && (status != 0 || !changing) {
			c.t.Errorf("got status %d for %s at gateway %d, want 200", status, what, node)
		}
	}
	opens := func(what, user, token string) {
		c.t.Helper()
		for node := range c.nodes {
			want(what, node, func() (status int) {
				status, _ = c.ask(http.MethodGet, c.apps[node]+"institutions", user, token)
				return status
			})
		}
	}
	if !changing {
		for _, k := range c.kept {
			opens("a token of some steps ago", k.user, k.token)
		}
	}
	n := c.checks.Add(1)
	key := c.signs.Load().(string)
	for node := range c.nodes {
		id := fmt.Sprintf("report-%d-%d", n, node)
		want("a report", node, func() int {
			return c.senders[node][key].once(c.reports[node], id, reportOf("pf_loans", id, 2000))
		})
		user, token := fmt.Sprintf("user-%d-%d", n, node), ""
		want("a link", node, func() (status int) {
			status, token = c.ask(http.MethodPost, c.apps[node]+"links", user, "")
			return status
		})
		if token == "" {
			continue
		}
		opens(fmt.Sprint("a token of gateway ", node), user, token)
		if !changing {
			c.kept = append(c.kept, keptToken{user, token, c.nodes[node].setup.secret})
		}
	}
	c.done.Add(1)
}

// ask makes a request of a browser's, and returns the status, 0 without an answer, and
// the link token that it gets.
func (c *keyChange) ask(method, url, user, token string) (status int, linkToken string) {
	body := io.Reader(http.NoBody)
	if method == http.MethodPost {
		body = strings.NewReader(`{"personalTaxId":"` + testCPF + `"}`)
	}
	req, err := http.NewRequest(method, url, body)
	if err != nil {
		c.t.Error(err)
		return 0, ""
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("X-User", user)
	if token != "" {
		req.Header.Set("Klavi-Link-Token", token)
	}
	res, err := c.senders[0][secret].fresh.Do(req)
	if err != nil {
		return 0, ""
	}
	defer res.Body.Close()
	var link struct{ LinkToken string }
	if err := json.NewDecoder(res.Body).Decode(&link); method == http.MethodPost && err != nil {
		return 0, ""
	}
	return res.StatusCode, link.LinkToken
}

// settle waits until what was begun before is over.
func (c *keyChange) settle() {
	c.t.Helper()
	done := c.done.Load()
	eventually(c.t, "two more checks", func() bool { return c.done.Load() >= done+2 })
}

// load checks without end until stop is called.
func (c *keyChange) load() (stop func()) {
	end := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			select {
			case <-end:
				return
			default:
				c.check(true)
			}
		}
	})
	return sync.OnceFunc(func() {
		close(end)
		wg.Wait()
	})
}
