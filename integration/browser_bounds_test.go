package integration

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
)

// The panel sends what somebody would send who has taken over the page.
func (b *browser) breakOut(t *testing.T) {
	tb := b.tab(t, look{})
	tb.mayBeRefused()
	tb.open(tb.url("app", "/"))
	tb.click("#try-all")
	tb.until(`document.querySelectorAll('.attempt').length > 0 && !document.getElementById('try-all').hasAttribute('aria-busy') &&
		Array.from(document.querySelectorAll('.answer')).every((e) => e.dataset.verdict)`)

	want := map[string]string{
		"list-consents": "405 method-not-allowed", "refresh": "404 not-found", "disguise": "404 not-found", "revoke": "404 not-found",
		"other-person": "403 consent-mismatch", "other-bank": "403 consent-mismatch", "redirect": "400 redirect-not-listed",
		"callback": "400 unknown-field", "pretend": "400 unknown-field", "twice": "400 invalid-field",
		"klavi-token": "401 link-invalid", "changed-token": "401 link-invalid", "no-token": "401 link-invalid",
	}
	got := eval[map[string]string](tb, `Object.fromEntries(Array.from(document.querySelectorAll('.answer'),
		(e) => [e.id.replace('answer-', ''), e.dataset.verdict === 'refused' ? e.querySelector('.refusal > code').innerText : e.innerText]))`)
	for name, refusal := range want {
		if got[name] != refusal {
			t.Errorf("%s: the page shows %q, want %q", name, got[name], refusal)
		}
	}
	if len(got) != len(want) {
		t.Errorf("got %d attempts, want %d", len(got), len(want))
	}
	if total, all := eval[string](tb, `document.getElementById('breakout-total').innerText`), fmt.Sprint(len(want)); strings.Count(total, all) != 2 {
		t.Errorf("the page shows %q, want %s of %s", total, all, all)
	}
	// Of all this, Klavi saw the link that is needed to try.
	if links := b.created(); links != 1 {
		t.Errorf("Klavi made %d links, want 1", links)
	}
	for _, r := range [][2]string{{"GET", "/links"}, {"POST", "/consents"}, {"GET", "/consents"}, {"DELETE", "/consents"}, {"GET", "/refresh"}} {
		if seen := b.atKlavi(r[0], r[1]); len(seen) != 0 {
			t.Errorf("%s %s reached Klavi %d times", r[0], r[1], len(seen))
		}
	}
}

// A page of another origin makes the browser ask the gateway, and neither gets
// anything to Klavi nor reads the answer.
func (b *browser) foreignOrigin(t *testing.T) {
	page := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		io.WriteString(w, "<!doctype html><title>a page of somebody else</title><link rel=icon href=data:,>")
	}))
	t.Cleanup(page.Close)
	link := b.do("POST", b.url("app", "/klavi/links"), `{"personalTaxId":"52998224725"}`) // its token has leaked
	b.want(link, 200, "")
	token := link.field("linkToken")

	origins := map[string]string{
		"another port": page.URL, // the same site, as browsers see it
		"another site": strings.Replace(page.URL, "127.0.0.1", "localhost", 1),
	}
	requests := map[string]string{
		"a link":                      `fetch('/klavi/links', {method: 'POST', headers: {'Content-Type': 'application/json'}, body: '{}'})`,
		"a link without a preflight":  `fetch('/klavi/links', {method: 'POST', body: '{}'})`,
		"a link, blindly":             `fetch('/klavi/links', {method: 'POST', mode: 'no-cors', credentials: 'include', body: '{}'})`,
		"institutions":                `fetch('/klavi/institutions', {headers: {'Klavi-Link-Token': 'TOKEN'}})`,
		"institutions as Klavi would": `fetch('/klavi/institutions', {headers: {Authorization: 'Bearer TOKEN'}})`,
		"institutions, blindly":       `fetch('/klavi/institutions', {mode: 'no-cors'})`,
		"a consent":                   `fetch('/klavi/consents', {method: 'POST', headers: {'Klavi-Link-Token': 'TOKEN'}, body: '{"institutionCode":"341"}'})`,
	}
	// What the page gets out of a request: the answer as it can read it, or the name of the error.
	const reading = `.then(async (r) => r.type + ' ' + r.status + ' ' + await r.text(), (e) => e.name)`
	before := b.passed()
	for name, origin := range origins {
		t.Run(name, func(t *testing.T) {
			tb := b.tab(t, look{})
			tb.foreign = true
			tb.open(origin)
			tb.answered()
			for what, code := range requests {
				code = strings.NewReplacer("'/klavi", "'"+b.url("app", "/klavi"), "TOKEN", token).Replace(code)
				got := eval[string](tb, code+reading)
				if got != "TypeError" && got != "opaque 0 " {
					t.Errorf("%s: the page reads %s", what, got)
				}
				if statuses := tb.answered(); !slices.Equal(statuses, []int64{403}) {
					t.Errorf("%s: got %v, want one answer of 403", what, statuses)
				}
			}
			// A form may go anywhere, and takes the person along.
			eval[bool](tb, `document.body.innerHTML = '<form method="post" enctype="text/plain" action="`+b.url("app", "/klavi/links")+
				`"><input name=\'{"a":"\' value=\'"}\'><button>a form</button></form>', true`)
			tb.click("button")
			tb.until(`location.pathname === '/klavi/links'`)
			if text := eval[string](tb, `document.body.innerText`); !strings.Contains(text, `"type":"origin"`) {
				t.Errorf("a form: got %s, want a problem of type origin", text)
			}
		})
	}
	if after := b.passed(); after != before {
		t.Errorf("%d requests reached Klavi", after-before)
	}

	// The same requests work from the app's own page.
	tb := b.tab(t, look{})
	tb.open(b.url("app", "/"))
	for _, what := range []string{"a link", "institutions"} {
		got := eval[string](tb, strings.Replace(requests[what], "TOKEN", token, 1)+reading)
		if !strings.HasPrefix(got, "basic 200 ") {
			t.Errorf("%s from the app's own page: got %s", what, got)
		}
	}
}

// passed counts what reached Klavi for a browser.
func (b *browser) passed() int {
	b.t.Helper()
	return len(b.atKlavi("POST", "/links")) + len(b.atKlavi("GET", "/links")) + len(b.atKlavi("POST", "/consents"))
}

// answered waits for an answer, and returns the statuses of those since the last
// call, as the server sent them. The page may know earlier than this process.
func (tb *tab) answered() (statuses []int64) {
	tb.t.Helper()
	tb.eventually("an answer", func() bool {
		tb.mu.Lock()
		defer tb.mu.Unlock()
		statuses, tb.statuses = tb.statuses, nil
		return len(statuses) > 0
	})
	return statuses
}
