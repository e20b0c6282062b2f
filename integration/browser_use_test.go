package integration

import (
	"strconv"
	"strings"
	"testing"

	"github.com/chromedp/chromedp/kb"
)

// From the first Tab to the bank's page and back without a mouse.
func (b *browser) keyboard(t *testing.T) {
	tb := b.tab(t, look{})
	tb.open(b.url("app", "/"))

	tb.press(kb.Tab)
	tb.wantFocus("skip link", `.skip`)
	tb.press(kb.Enter)
	tb.until(`document.activeElement.id === 'main'`)

	tb.tabTo("#create-link")
	tb.press(kb.Enter)
	tb.until(`!document.getElementById('ways').hidden`)
	tb.tabTo("#go-hosted")
	tb.tabTo("#load-institutions")
	tb.press(" ")
	tb.until(`document.activeElement.matches('#institutions input:checked')`)
	tb.wantFocus("the institution", "#institutions input")
	tb.press(kb.ArrowDown)
	tb.until(`document.querySelector('#institutions input:checked').value === '341'`)
	tb.wantFocus("the next institution", "#institutions input")
	tb.press(kb.ArrowUp)
	tb.until(`document.querySelector('#institutions input:checked').value === '001'`)
	tb.tabTo("#create-consent")
	tb.press(kb.Enter)
	tb.until(`document.activeElement.id === 'go-bank'`)
	tb.wantFocus("the way to the bank", "#go-bank")
	tb.press(kb.Enter)

	tb.untilAt("sandbox", "/bank")
	tb.tabTo("button[value=approve]")
	tb.press(" ")
	tb.untilAt("sandbox", "/lgpd")
	tb.tabTo("button[value=approve]")
	tb.press(kb.Enter)

	tb.untilAt("app", "/")
	tb.until(`document.activeElement.id === 'returned-title'`)
	tb.tabTo("#see-reports")
	tb.press(kb.Enter)
	tb.until(`document.querySelector('#lane-checking li.new')`)
	tb.tabTo("#lane-checking ol")
	tb.tabTo("#try-no-token")
	tb.mayBeRefused()
	tb.press(" ")
	tb.until(`document.getElementById('answer-no-token').dataset.verdict === 'refused'`)
}

// tabTo presses Tab until that element has the focus. On each stop of the way one
// must see where the focus is.
func (tb *tab) tabTo(css string) {
	tb.t.Helper()
	for range 40 {
		tb.press(kb.Tab)
		tb.wantFocus(css, "*")
		if eval[bool](tb, `document.activeElement.matches(`+strconv.Quote(css)+`)`) {
			return
		}
	}
	tb.t.Fatalf("40 times Tab do not lead to %s, %s", css, tb.where())
}

// wantFocus fails the test unless such an element has the focus, in sight and with
// an outline, its own or that of its label.
func (tb *tab) wantFocus(what, css string) {
	tb.t.Helper()
	if got := eval[string](tb, `(() => {
		const e = document.activeElement;
		const shown = [e, e.closest('label')].find((one) => {
			if (!one) return false;
			const { outlineStyle, outlineWidth, outlineColor } = getComputedStyle(one);
			return outlineStyle !== 'none' && parseFloat(outlineWidth) >= 2 && outlineColor !== 'rgba(0, 0, 0, 0)';
		});
		const name = e.outerHTML.slice(0, 120);
		if (e === document.body || !e.matches(`+strconv.Quote(css)+`)) return 'at ' + name;
		if (!shown) return 'invisible at ' + name;
		const { top, bottom, left, right } = shown.getBoundingClientRect();
		if (bottom <= 0 || top >= innerHeight || right <= 0 || left >= innerWidth) return 'out of sight at ' + name;
		// Nothing covers what is to be seen of it.
		const x = (Math.max(left, 0) + Math.min(right, innerWidth)) / 2, y = (Math.max(top, 0) + Math.min(bottom, innerHeight)) / 2;
		return shown.contains(document.elementFromPoint(x, y)) ? '' : 'covered at ' + name;
	})()`); got != "" {
		tb.t.Errorf("%s: the focus is %s", what, got)
	}
}

// On a phone nothing is wider than the screen, and everything can be touched, in
// each state of the page and on the hosted pages.
func (b *browser) narrow(t *testing.T) {
	for _, language := range []string{"en", "pt-BR"} {
		t.Run(language, func(t *testing.T) {
			tb := b.tab(t, look{language: language, width: 390, height: 844, touch: true})
			tb.open(b.url("app", "/"))
			tb.wantReachable("the page as it opens")
			tb.createLink()
			tb.wantReachable("with a link")
			tb.listInstitutions()
			tb.wantReachable("with institutions")
			tb.createConsent()
			tb.wantReachable("with a consent")
			tb.click("#go-hosted")
			for _, d := range []decision{chooses, asksBank, agrees} {
				tb.untilAt("sandbox", d.page)
				tb.wantReachable(d.page)
				tb.decide(d)
			}
			tb.untilAt("app", "/")
			for lane := range lanes {
				tb.until(`document.querySelector('#` + lane + ` li.new')`)
			}
			tb.mayBeRefused()
			tb.click("#try-all")
			tb.until(`Array.from(document.querySelectorAll('.answer')).every((e) => e.dataset.verdict)`)
			tb.wantReachable("with reports and refusals")
		})
	}
}

// wantReachable fails the test if the page is wider than the screen, or if
// something that is to be used cannot be brought under a finger.
func (tb *tab) wantReachable(state string) {
	tb.t.Helper()
	for _, bad := range eval[[]string](tb, `(() => {
		const bad = [], width = 390;
		if (document.documentElement.scrollWidth > width) {
			const wide = Array.from(document.querySelectorAll('body *')).filter((e) => e.checkVisibility() && e.getBoundingClientRect().right > width);
			bad.push('it is ' + document.documentElement.scrollWidth + ' wide: ' + wide.slice(0, 3).map((e) => e.outerHTML.slice(0, 100)).join(', '));
		}
		for (const e of document.querySelectorAll('a[href], button, input:not([type=hidden]), [tabindex="0"]')) {
			if (!e.checkVisibility() || e.disabled) continue;
			e.focus({ preventScroll: true }); // the skip link can be seen then only
			e.scrollIntoView({ block: 'center' });
			const { left, right, top, bottom } = e.getClientRects()[0]; // a link may take two lines
			const name = e.outerHTML.slice(0, 100);
			if (left < 0 || right > width) bad.push('beyond the edge: ' + name);
			const x = (left + right) / 2, y = (Math.max(0, top) + Math.min(innerHeight, bottom)) / 2;
			const hit = document.elementFromPoint(x, y);
			if (!e.contains(hit)) bad.push('under ' + hit?.outerHTML.slice(0, 100) + ': ' + name);
			const target = e.closest('label') ?? e, size = target.getBoundingClientRect();
			if (getComputedStyle(target).display !== 'inline' && (size.width < 24 || size.height < 24)) {
				bad.push('too small, ' + size.width + '×' + size.height + ': ' + name);
			}
		}
		return bad;
	})()`) {
		tb.t.Errorf("%s: %s", state, bad)
	}
}

// The browser's language decides, until the person does.
func (b *browser) languages(t *testing.T) {
	tests := []struct {
		language, accept, create, other, hosted string
	}{
		{"en", "en-GB,en;q=0.9", "Create a link", "pt-BR", "Continue"},
		{"pt-BR", "pt-BR,pt;q=0.9,en;q=0.8", "Criar link", "en", "Continuar"},
	}
	for i, test := range tests {
		t.Run(test.language, func(t *testing.T) {
			tb := b.tab(t, look{language: test.accept})
			tb.createLink()
			tb.wantLanguage(test.language, test.create)
			tb.click("#go-hosted")
			tb.untilAt("sandbox", "/path")
			tb.wantTexts(test.language, "button[value=continue]", test.hosted)
			tb.click("button[value=cancel]")
			tb.untilAt("app", "/")
			tb.wantLanguage(test.language, test.create)

			// The switch, which lasts over reloads and the way to the bank and back.
			other := tests[1-i]
			tb.click(map[string]string{"en": "#lang-en", "pt-BR": "#lang-pt"}[test.other])
			tb.wantLanguage(other.language, other.create)
			tb.open(tb.url("app", "/"))
			tb.wantLanguage(other.language, other.create)
			tb.click("#go-hosted")
			tb.decide(leaves)
			tb.untilAt("app", "/")
			tb.wantLanguage(other.language, other.create)
		})
	}
	t.Run("another", func(t *testing.T) {
		tb := b.tab(t, look{language: "de-DE,de;q=0.9"})
		tb.open(tb.url("app", "/"))
		tb.wantLanguage("en", tests[0].create)
	})
}

// wantLanguage looks at what the page says in which language, and that it says everything.
func (tb *tab) wantLanguage(language, create string) {
	tb.t.Helper()
	tb.wantTexts(language, "#create-link", create)
	pressed := eval[string](tb, `Array.from(document.querySelectorAll('.switch [aria-pressed=true]'), (e) => e.lang).join()`)
	if pressed != language {
		tb.t.Errorf("got %q marked as the language, want %s", pressed, language)
	}
	if empty := eval[string](tb, `Array.from(document.querySelectorAll('[data-text]')).filter((e) => !e.textContent.trim()).map((e) => e.dataset.text).join()`); empty != "" {
		tb.t.Errorf("%s: nothing is said at %s", language, empty)
	}
}

func (tb *tab) wantTexts(language, css, text string) {
	tb.t.Helper()
	if got := eval[string](tb, `document.documentElement.lang`); got != language {
		tb.t.Errorf("got %s as the document's language, want %s", got, language)
	}
	if got := strings.TrimSpace(eval[string](tb, `document.querySelector(`+strconv.Quote(css)+`).innerText`)); got != text {
		tb.t.Errorf("%s says %q, want %q", css, got, text)
	}
}
