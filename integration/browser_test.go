package integration

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

// browserTime bounds what happens in a tab. On two cores it takes a few seconds.
const browserTime = 60 * time.Second

// pageReady is when the demo's page has been filled: it is without texts before.
const pageReady = `document.title && document.title !== 'caddy-klavi'`

// The demo's page in a browser, each time with a gateway of its own behind it.
func TestBrowser(t *testing.T) {
	chromium := openChromium(t)
	tests := []struct {
		name string
		test func(*browser, *testing.T)
	}{
		{"flows", (*browser).flows},
		{"expiry before the list of institutions", expiry(func(*tab) {}, (*tab).listInstitutions)},
		{"expiry before the consent", expiry((*tab).listInstitutions, (*tab).createConsent)},
		{"expiry before Klavi's page", expiry(func(*tab) {}, (*tab).goHosted)},
		{"break out", (*browser).breakOut},
		{"foreign origin", (*browser).foreignOrigin},
		{"keyboard", (*browser).keyboard},
		{"narrow screen", (*browser).narrow},
		{"languages", (*browser).languages},
		{"accessibility", (*browser).accessibility},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) { test.test(newBrowser(t, chromium), t) })
	}
}

// browser is a Chromium with the quickstart.
type browser struct {
	*gateway
	t   *testing.T
	ctx context.Context
}

// newBrowser runs the quickstart until the test ends.
func newBrowser(t *testing.T, chromium context.Context) *browser {
	t.Helper()
	g := quickstart(t)
	g.ports["klavi"] = g.port("sandbox")
	return &browser{g, t, chromium}
}

// openChromium runs one until the test ends.
func openChromium(t *testing.T) context.Context {
	t.Helper()
	path := findBrowser()
	if path == "" {
		t.Skip("no Chromium on this machine: the page was not tested in a browser")
	}
	ctx, cancel := chromedp.NewExecAllocator(t.Context(),
		chromedp.ExecPath(path), chromedp.Headless, chromedp.NoSandbox, chromedp.DisableGPU, chromedp.NoFirstRun, chromedp.NoDefaultBrowserCheck,
		chromedp.UserDataDir(profile(t)),
		chromedp.Flag("lang", "en-US"),
		chromedp.Flag("disable-quic", true),
		chromedp.Flag("disable-background-networking", true),
		chromedp.Flag("disable-component-update", true),
		chromedp.Flag("disable-sync", true),
		chromedp.Flag("disable-default-apps", true),
		chromedp.Flag("disable-extensions", true),
		chromedp.Flag("disable-dev-shm-usage", true), // small in containers
		chromedp.Flag("disable-features", "Translate"),
		chromedp.Flag("force-color-profile", "srgb"),
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

func findBrowser() string {
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	return ""
}

// profile is an empty folder for the browser. Its processes may write there for
// a moment after it has ended, which t.TempDir would report.
func profile(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "caddy-klavi-browser")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for range 100 {
			if os.RemoveAll(dir) == nil {
				return
			}
			time.Sleep(20 * time.Millisecond)
		}
	})
	return dir
}

// look is how a tab appears to the page.
type look struct {
	language      string // Accept-Language and navigator.language; en if empty
	dark          bool
	width, height int64 // 1280×900 if 0
	scale         float64
	touch         bool
}

// tab is one without the memory of others. When the test ends, whatever the
// pages in it wrote to the console, or asked of another host, fails the test.
type tab struct {
	*browser
	t   *testing.T
	ctx context.Context

	mu         sync.Mutex
	refusals   bool // answers of 400 and above are part of the test
	foreign    bool // the page is one of another origin, which may ask whom it likes and complain
	complaints []string
	statuses   []int64 // of the answers, as the server sent them
}

// tab opens one that shows nothing yet.
func (b *browser) tab(t *testing.T, l look) *tab {
	t.Helper()
	ctx, stop := context.WithTimeout(b.ctx, browserTime)
	ctx, cancel := chromedp.NewContext(ctx, chromedp.WithNewBrowserContext())
	tb := &tab{browser: b, t: t, ctx: ctx}
	if err := chromedp.Listen(ctx, tb.hear); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		stop()
		tb.mu.Lock()
		defer tb.mu.Unlock()
		for _, c := range tb.complaints {
			t.Error(c)
		}
	})
	if l.language == "" {
		l.language = "en"
	}
	if l.width == 0 {
		l.width, l.height = 1280, 900
	}
	options := []chromedp.EmulateViewportOption{chromedp.EmulateScale(max(1, l.scale))}
	if l.touch {
		options = append(options, chromedp.EmulateMobile, chromedp.EmulateTouch, chromedp.EmulatePortrait)
	}
	tb.act(chromedp.EmulateViewport(l.width, l.height, options...))
	if _, err := chromedp.Call(ctx, emulation.SetUserAgentOverride, emulation.SetUserAgentOverrideParams{AcceptLanguage: l.language}); err != nil {
		t.Fatal(err)
	}
	scheme := "light"
	if l.dark {
		scheme = "dark"
	}
	// Nothing moves by itself: what moves cannot be clicked reliably.
	if _, err := chromedp.Call(ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{
		{Name: "prefers-color-scheme", Value: scheme}, {Name: "prefers-reduced-motion", Value: "reduce"},
	}}); err != nil {
		t.Fatal(err)
	}
	return tb
}

// hear takes what the browser reports. It runs between the browser's messages.
func (tb *tab) hear(event any) {
	tb.mu.Lock()
	defer tb.mu.Unlock()
	switch e := event.(type) {
	case *runtime.EventExceptionThrown:
		tb.complain("uncaught: %v", &chromedp.ExceptionError{ExceptionDetails: e.ExceptionDetails})
	case *runtime.EventConsoleAPICalled:
		text := make([]string, len(e.Args))
		for i, arg := range e.Args {
			text[i] = string(arg.Value) + arg.Description
		}
		tb.complain("console.%s: %s", e.Type, strings.Join(text, " "))
	case *log.EventEntryAdded: // a breach of the Content-Security-Policy is one, too
		refused := e.Entry.Source == log.EntrySourceNetwork && tb.refusals && strings.Contains(e.Entry.Text, "responded with a status of 4")
		if !refused && (e.Entry.Level == log.EntryLevelError || e.Entry.Level == log.EntryLevelWarning) {
			tb.complain("the browser's log: %s: %s (%s)", e.Entry.Source, e.Entry.Text, e.Entry.URL)
		}
	case *network.EventRequestWillBeSent:
		if !tb.own(e.Request.URL) {
			tb.complain("%s asked for %s", strings.SplitN(e.DocumentURL, "?", 2)[0], e.Request.URL)
		}
	case *network.EventResponseReceivedExtraInfo:
		tb.statuses = append(tb.statuses, e.StatusCode)
	}
}

func (tb *tab) complain(format string, args ...any) {
	complaint := fmt.Sprintf(format, args...)
	if !tb.foreign && !slices.Contains(tb.complaints, complaint) {
		tb.complaints = append(tb.complaints, complaint)
	}
}

// own reports whether a URL is the app's, or of what stands for Klavi and the banks.
func (tb *tab) own(text string) bool {
	u, err := url.Parse(text)
	return err == nil && u.Scheme == "http" && slices.Contains([]string{"127.0.0.1:" + tb.ports["app"], "127.0.0.1:" + tb.ports["sandbox"]}, u.Host)
}

// mayBeRefused says that answers of 400 to 499 belong to the test.
func (tb *tab) mayBeRefused() {
	tb.mu.Lock()
	defer tb.mu.Unlock()
	tb.refusals = true
}

func (tb *tab) act(steps ...chromedp.Action[chromedp.Void]) {
	tb.t.Helper()
	if err := chromedp.Do(tb.ctx, steps...); err != nil {
		tb.t.Fatalf("%v, %s", err, tb.where())
	}
}

// open goes to a URL, and waits for the demo's page, if it is that, to be ready.
func (tb *tab) open(url string) {
	tb.t.Helper()
	tb.act(chromedp.Navigate(url))
	if strings.HasPrefix(url, tb.url("app", "/")) {
		tb.until(pageReady)
	}
}

// click waits until that element can be seen, and clicks it with the mouse.
func (tb *tab) click(css string) {
	tb.t.Helper()
	tb.act(chromedp.Click(chromedp.CSS(css)))
}

func (tb *tab) press(keys string) {
	tb.t.Helper()
	tb.act(chromedp.KeyEvent(keys))
}

// until waits for that expression to be true in the page, whichever page that is by then.
func (tb *tab) until(expression string) {
	tb.t.Helper()
	ctx, cancel := context.WithTimeout(tb.ctx, 20*time.Second)
	defer cancel()
	for tick := time.Tick(20 * time.Millisecond); ; {
		yes, err := chromedp.Run(ctx, chromedp.Evaluate[bool]("Boolean("+expression+")"))
		if err == nil && yes {
			return
		}
		select {
		case <-tick:
		case <-ctx.Done():
			tb.t.Fatalf("waited in vain for %s (%v), %s", expression, err, tb.where())
		}
	}
}

// untilAt waits until the tab shows that path of the app or of the sandbox.
func (tb *tab) untilAt(face, path string) {
	tb.t.Helper()
	ready := `document.readyState === 'complete'`
	if face == "app" {
		ready = pageReady
	}
	tb.until(fmt.Sprintf(`location.origin === %q && location.pathname === %q && %s`, tb.url(face, ""), path, ready))
}

// eval returns the value of an expression, also of a promise, in the page.
func eval[T any](tb *tab, expression string) T {
	tb.t.Helper()
	value, err := chromedp.Run(tb.ctx, chromedp.Evaluate[T](expression, chromedp.EvalAwaitPromise))
	if err != nil {
		tb.t.Fatalf("%.200s: %v, %s", expression, err, tb.where())
	}
	return value
}

// where says what the tab shows, for a test that fails.
func (tb *tab) where() string {
	ctx, cancel := context.WithTimeout(tb.ctx, time.Second)
	defer cancel()
	text, err := chromedp.Run(ctx, chromedp.Evaluate[string](`location.href + ': ' + document.title + ': ' +
		Array.from(document.querySelectorAll('.problem, .error, #notice-text, #announcer'), (e) => e.innerText).join(' | ')`))
	if err != nil {
		return "at a page that does not answer"
	}
	return "at " + text
}

// fill types a text into a field, in place of what is there.
func (tb *tab) fill(css, text string) {
	tb.t.Helper()
	eval[bool](tb, fmt.Sprintf(`{ const e = document.querySelector(%q); e.focus(); e.select(); true }`, css))
	if text == "" {
		text = kb.Backspace
	}
	tb.press(text)
}
