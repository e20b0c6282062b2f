package integration

import (
	"os"
	"testing"
)

// axe-core looks at each state of the page and at the hosted pages, in light and in
// English and again in dark and in Portuguese. It is not a part of this project:
// AXE_CORE is the path of its axe.min.js.
func (b *browser) accessibility(t *testing.T) {
	path := os.Getenv("AXE_CORE")
	if path == "" {
		t.Skip("AXE_CORE is not set: accessibility was not audited")
	}
	axe := readFile(t, path)
	for _, l := range []look{{language: "en"}, {language: "pt-BR", dark: true}} {
		t.Run(l.language, func(t *testing.T) {
			tb := b.tab(t, l)
			tb.mayBeRefused()
			audit := func(state string) {
				t.Helper()
				tb.audit(axe, state)
			}

			tb.open(b.url("app", "/"))
			audit("the page as it opens")
			tb.fill("#cpf", "123")
			tb.click("#create-link")
			tb.until(`!document.getElementById('cpf-error').hidden`)
			audit("with a wrong CPF")
			tb.fill("#cpf", "")
			tb.click("#create-link")
			tb.until(`!document.getElementById('ways').hidden`)
			audit("with a link that has no CPF")

			// The hosted page asks for it.
			tb.click("#go-hosted")
			tb.untilAt("sandbox", "/path")
			audit("the hosted page")
			tb.click("button[value=continue]")
			tb.until(`document.querySelector('.error')`)
			audit("the hosted page with an error")
			tb.fill("input[name=personalTaxId]", "529.982.247-25")
			tb.click("button[value=continue]")
			tb.untilAt("sandbox", "/bank")
			audit("the bank's page")
			tb.click("button[value=refuse]")
			tb.untilAt("app", "/")
			audit("back with a no")

			tb.fill("#cpf", "529.982.247-25")
			tb.click("#create-link")
			tb.until(`document.getElementById('returned').hidden`)
			tb.listInstitutions()
			tb.createConsent()
			audit("with a consent")
			tb.click("#institutions input[value='237']") // has too many consents
			tb.click("#create-consent")
			tb.until(`document.querySelector('#api-problem .problem')`)
			audit("with a problem")
			tb.click("#institutions input[value='001']")
			tb.later()
			tb.createConsent()
			tb.until(`!document.getElementById('notice').hidden`)
			audit("with a notice")
			tb.click("#go-bank")
			tb.decide(asksBank)
			tb.untilAt("sandbox", "/lgpd")
			audit("the LGPD's page")
			tb.decide(agrees)
			tb.untilAt("app", "/")
			for lane := range lanes {
				tb.until(`document.querySelector('#` + lane + ` li.new')`)
			}
			tb.click("#try-all")
			tb.until(`Array.from(document.querySelectorAll('.answer')).every((e) => e.dataset.verdict)`)
			audit("back with a yes, with reports and refusals")

			tb.open(b.url("sandbox", "/path?v=unknown"))
			audit("the page of an unknown link")
		})
	}
}

// audit wants axe-core to find nothing. What the protocol evaluates is not subject
// to the page's Content-Security-Policy.
func (tb *tab) audit(axe, state string) {
	tb.t.Helper()
	eval[bool](tb, `{ if (!window.axe) { `+axe+` }; true }`)
	for _, violation := range eval[[]string](tb, `axe.run({
		runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'],
		resultTypes: ['violations'],
		preload: false,
	}).then(({ violations }) => violations.map(({ id, help, nodes }) => id + ': ' + help + nodes.slice(0, 3).map(({ html, any }) =>
		'\n\t' + html.slice(0, 120) + ' ' + (any[0]?.message ?? '')).join('')))`) {
		tb.t.Errorf("%s: %s", state, violation)
	}
}
