package integration

import "testing"

// expiry is the test of a link that runs out between two steps. A link lives for 30
// minutes; whoever comes later gets a new one, and notices no more than a word
// about it.
func expiry(before, then func(*tab)) func(*browser, *testing.T) {
	return func(b *browser, t *testing.T) {
		tb := b.tab(t, look{})
		tb.mayBeRefused() // this is how the client learns of it
		tb.createLink()
		before(tb)
		first := tb.shownLink()

		tb.later()
		then(tb)

		if got := b.created(); got != 2 {
			t.Errorf("Klavi made %d links, want 2", got)
		}
		if eval[string](tb, `location.pathname`) == "/path" {
			tb.decide(leaves)
			tb.untilAt("app", "/")
		} else if !eval[bool](tb, `document.getElementById('notice').checkVisibility()`) {
			t.Error("the page does not say that it has a new link")
		}
		if tb.shownLink() == first {
			t.Error("the page still shows the link that has run out")
		}
		if got := eval[string](tb, `Array.from(document.querySelectorAll('.problem'), (e) => e.innerText).join()`); got != "" {
			t.Errorf("the page shows a problem: %s", got)
		}
	}
}

// goHosted goes to Klavi's page.
func (tb *tab) goHosted() {
	tb.t.Helper()
	tb.click("#go-hosted")
	tb.untilAt("sandbox", "/path")
	tb.until(`document.querySelector('button[value=continue]')`) // the page of a link that has run out has none
}

func (tb *tab) shownLink() string {
	tb.t.Helper()
	return eval[string](tb, `JSON.parse(document.getElementById('link-json').textContent).linkId`)
}

// created counts the links that Klavi has made. Its access token runs out, too,
// which makes the gateway ask twice.
func (b *browser) created() int {
	b.t.Helper()
	count := 0
	for _, r := range b.atKlavi("POST", "/links") {
		if r.Status == 200 {
			count++
		}
	}
	return count
}

// later moves the clocks of Klavi and of the page by 31 minutes.
func (tb *tab) later() {
	tb.t.Helper()
	if a := tb.do("POST", tb.url("klavi", "/_sandbox/clock"), `{"advance":"31m"}`); a.status != 200 {
		tb.t.Fatalf("got %d %s", a.status, a.body)
	}
	eval[bool](tb, `{ const now = Date.now; Date.now = () => now() + 31 * 60 * 1000; true }`)
}
