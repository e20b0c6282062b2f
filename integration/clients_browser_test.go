package integration

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
)

// inChromium has pages call klavi_frontend.
func (g *clientsGateway) inChromium(t *testing.T) {
	b := &browser{g.gateway, t, g.openChromium(t)}
	app, api := place{base: g.url("app", "/pages")}, place{base: g.url("api", "")}
	front, quic := place{base: g.secure("localhost", "front") + "/pages"}, place{base: g.secure("127.0.0.1", "tls") + "/pages"}
	elsewhere := "http://localhost:" + g.port("page")
	for _, v := range []visitor{
		{"fetch", app, b.page(origin(app.base), "http/1.1", `withFetch(BASE)`)},
		{"fetch with options", app, b.page(origin(app.base), "http/1.1", `withFetch(BASE, {referrerPolicy: 'no-referrer', cache: 'no-cache', mode: 'same-origin'})`)},
		{"XMLHttpRequest", app, b.page(origin(app.base), "http/1.1", `withXHR(BASE, false)`)},
		{"fetch with HTTP/2", front, b.page(origin(front.base), "h2", `withFetch(BASE)`)},
		{"fetch with HTTP/3", quic, b.page(origin(quic.base), "h3", `withFetch(BASE)`)},
		{"fetch from another origin", api, b.page(elsewhere, "", `withFetch(BASE, {
			mode: 'cors', credentials: 'include', cache: 'no-store', keepalive: true, priority: 'high',
		})`)},
		{"XMLHttpRequest from another origin", api, b.page(elsewhere, "", `withXHR(BASE, true)`)},
	} {
		t.Run(v.name, func(t *testing.T) { g.visit(t, v, g.frontendWalk(v)) })
	}
	t.Run("behind nginx", func(t *testing.T) {
		g.startNginx(t)
		for _, name := range []string{"nginx", "nginxfull"} {
			at := place{base: g.url(name, "/pages")}
			v := visitor{name, at, b.page(origin(at.base), "http/1.1", `withFetch(BASE)`)}
			t.Run(name, func(t *testing.T) { g.visit(t, v, g.frontendWalk(v)) })
		}
	})
}

// page is the page of that origin, which asks as the script how says; BASE in it
// is where. protocol is what it is expected to speak, empty if the browser does not
// tell a page.
func (b *browser) page(origin, protocol, how string) program {
	// Chromium does not stream bodies over HTTP/1.1.
	return program{streams: protocol == "h2" || protocol == "h3", ask: func(t *testing.T, base string, steps []walkStep) []answer {
		t.Helper()
		tb := b.tab(t, look{})
		tb.foreign = true // it may ask whom it likes
		tb.open(origin + "/")
		tb.until(`window.walk`)
		plan, err := json.Marshal(steps)
		if err != nil {
			t.Fatal(err)
		}
		text := eval[string](tb, fmt.Sprintf(`walk(%s, %s).then(JSON.stringify)`, plan, strings.ReplaceAll(how, "BASE", strconv.Quote(base))))
		spoken := eval[[]string](tb, `Array.from(new Set(performance.getEntriesByType('resource')
			.filter((e) => e.name.includes('/klavi/')).map((e) => e.nextHopProtocol)))`)
		if !slices.Equal(spoken, []string{protocol}) {
			t.Errorf("the page spoke %q, want %q", spoken, protocol)
		}
		return readAnswers(t, []byte(text))
	}}
}

// openChromium runs one until the test ends that trusts Caddy's own certificates,
// and speaks HTTP/3 where TLS has it.
func (g *clientsGateway) openChromium(t *testing.T) context.Context {
	t.Helper()
	path := findBrowser()
	if path == "" {
		t.Skip("no Chromium on this machine: pages were not tried as clients")
	}
	var keys []string
	for _, name := range []string{"tls", "front"} {
		for _, certificate := range g.certificates(t, "localhost:"+g.port(name))[1:] { // that which has signed
			sum := sha256.Sum256(certificate.RawSubjectPublicKeyInfo)
			keys = append(keys, base64.StdEncoding.EncodeToString(sum[:]))
		}
	}
	ctx, cancel := chromedp.NewExecAllocator(t.Context(),
		chromedp.ExecPath(path), chromedp.Headless, chromedp.NoSandbox, chromedp.DisableGPU, chromedp.NoFirstRun, chromedp.NoDefaultBrowserCheck,
		chromedp.UserDataDir(profile(t)),
		chromedp.Flag("origin-to-force-quic-on", "127.0.0.1:"+g.port("tls")),
		chromedp.Flag("ignore-certificate-errors-spki-list", strings.Join(keys, ",")),
		chromedp.Flag("disable-background-networking", true),
		chromedp.Flag("disable-component-update", true),
		chromedp.Flag("disable-sync", true),
		chromedp.Flag("disable-default-apps", true),
		chromedp.Flag("disable-extensions", true),
		chromedp.Flag("disable-dev-shm-usage", true), // small in containers
		// Whatever a page asks for, nothing leaves this machine.
		chromedp.Flag("host-resolver-rules", "MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost"),
	)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewContext(ctx)
	t.Cleanup(cancel)
	if err := chromedp.Do(ctx); err != nil {
		t.Fatalf("starting %s: %v", path, err)
	}
	return ctx
}
