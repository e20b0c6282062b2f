package integration

import (
	"fmt"
	"slices"
	"strings"
)

// frontendWalk makes the steps of the quickstart, with what programs do besides.
type frontendWalk struct {
	user, origin, reports string
	walk                  int
}

func (g *clientsGateway) newFrontendWalk(v visitor) frontendWalk {
	g.walks++
	return frontendWalk{user: v.user, origin: origin(v.base), reports: g.url("hooks", "/klavi/reports"), walk: g.walks}
}

// frontendWalk is everything that a program may do.
func (g *clientsGateway) frontendWalk(v visitor) []walkStep {
	w := g.newFrontendWalk(v)
	return slices.Concat(w.links(), w.lists(), w.consents())
}

// briefFrontendWalk is for where only the way to the gateway is another.
func (g *clientsGateway) briefFrontendWalk(v visitor) []walkStep {
	w := g.newFrontendWalk(v)
	return []walkStep{
		w.link("of Ana", ofAna, ana, ""),
		w.link("without a length", ofAna, ana, "").streamed(),
		w.list("with the token's own header", "Klavi-Link-Token", "{token}"),
		w.list("that a cache may have", "Klavi-Link-Token", "{token}", "If-None-Match", `W/"1-abc"`, "Cache-Control", "max-age=0").lowLevel(),
		w.consent("with Authorization", `{"institutionCode":"341"}`, madeUp, "", "Authorization", "Bearer {token}"),
		w.consent("with Expect", `{"institutionCode":"341"}`, madeUp, "", "Klavi-Link-Token", "{token}", "Expect", "100-continue").lowLevel(),
	}
}

// origin returns a URL without its path.
func origin(base string) string {
	scheme, rest, _ := strings.Cut(base, "://")
	host, _, _ := strings.Cut(rest, "/")
	return scheme + "://" + host
}

// What a program may send of one person, and what Klavi gets of that.
const (
	redirect = "https://app.example.com/connected"

	ofAna  = `{"personalTaxId":"529.982.247-25","email":"ana@exemplo.com.br","phone":"+5511987654321"}`
	pretty = "{\r\n\t\"phone\": \"+5511987654321\",\r\n\t\"email\": \"ana@exemplo.com.br\",\r\n\t\"personalTaxId\": \"52998224725\"\r\n}\r\n"
	quoted = `{"personalTaxId":"529.982.247-25","email":"ana\u0040exemplo.com.br","phone":"\u002B5511987654321"}` + "\n"
	named  = `{"externalInfo":{"nome":"Jo\u00e3o da Concei\u00e7ão 🎉","\u00e9":["\ud83c\udf89",1.50,null]},"personalTaxId":"52998224725"}`

	ana   = `"personalTaxId":"52998224725","email":"ana@exemplo.com.br","phone":"+5511987654321",`
	cpf   = `"personalTaxId":"52998224725",`
	names = `{"nome":"João da Conceição 🎉","é":["🎉",1.50,null]}`
)

// byProxies is what proxies and tracers add on the way.
var byProxies = []string{
	"Via", "2 edge, 1.1 balancer", "X-Forwarded-For", "203.0.113.7, 10.0.0.3", "X-Forwarded-Proto", "https", "X-Forwarded-Host", "app.example.com",
	"X-Real-IP", "203.0.113.7", "Forwarded", "for=203.0.113.7;proto=https", "X-Request-Id", "8e03978e", "X-Amzn-Trace-Id", "Root=1-67891233-abcdef",
	"traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "tracestate", "a=1", "baggage", "b=2", "CDN-Loop", "cdn",
}

func (w frontendWalk) links() []walkStep {
	key := fmt.Sprintf("link-%d", w.walk)
	return []walkStep{
		w.link("of nobody", `{}`, "", ""),
		w.link("pretty-printed in another order", pretty, ana, ""),
		w.link("with escapes", quoted, ana, ""),
		w.link("with charset", ofAna, ana, "", "Content-Type", "application/json; charset=utf-8"),
		w.link("with charset as axios writes it", ofAna, ana, "", "Content-Type", "application/json;charset=UTF-8"),
		w.link("with charset in quotes", ofAna, ana, "", "Content-Type", `Application/JSON; charset="utf-8"`),
		w.link("with Accept", ofAna, ana, "", "Accept", "application/json, text/plain, */*", "Accept-Language", "pt-BR,pt;q=0.9"),
		w.link("with a redirect and an institution", `{"institutionCode":"341","redirectURL":"`+redirect+`","personalTaxId":"52998224725"}`,
			cpf+`"institutionCode":"341",`, ""),
		w.link("with names of all kinds", named, cpf, names),
		w.link("with a query", ofAna, ana, "").query("utm_source=mail&v=2"),
		w.link("without a length", ofAna, ana, "").streamed(),
		w.link("through proxies", ofAna, ana, "", byProxies...).lowLevel(),
		w.link("as Safari before 16.4", ofAna, ana, "", "Origin", w.origin, "Referer", w.origin+"/").lowLevel(),
		w.link("with Expect", ofAna, ana, "", "Expect", "100-continue").lowLevel(),
		w.link("with a key", ofAna, ana, "", "Idempotency-Key", key),
		w.link("with the same key", pretty, ana, "", "Idempotency-Key", key).answered(),
	}
}

// link is POST /links. person and client are what reaches Klavi of the body: of
// the person and, as JSON, of externalInfo.
func (w frontendWalk) link(name, body, person, client string, headers ...string) walkStep {
	var info []string
	if client != "" {
		info = append(info, `"client":`+client)
	}
	if w.user != "" {
		info = append(info, `"user":"`+w.user+`"`)
	}
	klavi := "{" + person + `"redirectURL":"` + redirect + `","productsCallbackURL":{"all":"` + w.reports + `"}`
	if len(info) > 0 {
		klavi += `,"externalInfo":{` + strings.Join(info, ",") + "}"
	}
	klavi += "}"
	s := newStep("a link "+name, "POST", "/klavi/links", &body,
		&request{Method: "POST", Target: "/data/v1/links", Token: "access", Headers: ofGateway(klavi), Body: klavi}, headers)
	s.check = members("linkId", "linkToken", "linkURL", "expireIn", "expiresAt")
	return s
}

func (w frontendWalk) lists() []walkStep {
	steps := []walkStep{
		w.list("with Authorization", "Authorization", "Bearer {token}"),
		w.list("with Authorization in lower case", "Authorization", "bearer {token}"),
		w.list("with the token's own header", "Klavi-Link-Token", "{token}"),
		w.list("past caches", "Klavi-Link-Token", "{token}").query("_=1795356876"),
		w.list("with an empty query", "Klavi-Link-Token", "{token}").query(""),
		w.list("with a type of no body", "Klavi-Link-Token", "{token}", "Content-Type", "application/json"),
	}
	for _, as := range []struct {
		name    string
		headers []string
	}{
		{"as Chrome", []string{
			"Accept", "*/*", "Accept-Language", "pt-BR,pt;q=0.9,en;q=0.8", "Cache-Control", "no-cache", "Pragma", "no-cache", "Cookie", "session=1; theme=dark",
			"DNT", "1", "Priority", "u=1, i", "Referer", w.origin + "/bank?step=2", "Sec-CH-UA", `"Chromium";v="156", "Not)A;Brand";v="8"`,
			"Sec-CH-UA-Mobile", "?0", "Sec-CH-UA-Platform", `"Linux"`, "Sec-Fetch-Dest", "empty", "Sec-Fetch-Mode", "cors", "Sec-Fetch-Site", "same-origin",
			"User-Agent", "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/156.0.0.0 Safari/537.36",
		}},
		{"as Firefox in a private window", []string{
			"Accept", "*/*", "Accept-Language", "en-US,en;q=0.5", "Connection", "keep-alive", "DNT", "1", "Sec-GPC", "1", "Sec-Fetch-Dest", "empty",
			"Sec-Fetch-Mode", "cors", "Sec-Fetch-Site", "same-origin", "Priority", "u=4", "TE", "trailers",
			"User-Agent", "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
		}},
		{"as Safari before 16.4", []string{
			"Accept", "*/*", "Accept-Language", "pt-BR", "Connection", "keep-alive", "Cookie", "session=1", "Referer", w.origin + "/",
			"User-Agent", "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/15.6 Safari/605.1.15",
		}},
		{"as a WebView", []string{
			"Accept", "*/*", "X-Requested-With", "br.com.example.app", "Sec-Fetch-Dest", "empty", "Sec-Fetch-Mode", "cors", "Sec-Fetch-Site", "same-origin",
			"User-Agent", "Mozilla/5.0 (Linux; Android 14; wv) AppleWebKit/537.36 (KHTML, like Gecko) Version/4.0 Chrome/124.0.0.0 Mobile Safari/537.36",
		}},
		{"as an extension", []string{"Sec-Fetch-Site", "none", "Sec-Fetch-Mode", "cors", "Upgrade-Insecure-Requests", "1"}},
		{"that a cache may have", []string{
			"If-None-Match", `W/"1-abc"`, "If-Modified-Since", "Sat, 21 Nov 2026 10:00:00 GMT", "Range", "bytes=0-99", "Cache-Control", "max-age=0",
		}},
		{"through proxies", byProxies},
		{"in early data", []string{"Early-Data", "1"}}, // which asks for nothing to be done
	} {
		steps = append(steps, w.list(as.name, slices.Concat(as.headers, []string{"Klavi-Link-Token", "{token}"})...).lowLevel())
	}
	return steps
}

func (w frontendWalk) list(name string, headers ...string) walkStep {
	s := newStep("the institutions "+name, "GET", "/klavi/institutions", nil,
		&request{Method: "GET", Target: "/data/v1/links/institutions", Token: "link", Headers: ofGateway("")}, headers)
	s.check = bank
	return s
}

func (w frontendWalk) consents() []walkStep {
	key, id := fmt.Sprintf("consent-%d", w.walk), fmt.Sprintf("track-%d", w.walk)
	const at341 = `{"institutionCode":"341"}`
	return []walkStep{
		w.consent("with Authorization", at341, madeUp, "", "Authorization", "Bearer {token}"),
		w.consent("with the token's own header", "{ \"institutionCode\" :\n\"\\u0033\\u0034\\u0031\" }\n", madeUp, "", "Klavi-Link-Token", "{token}"),
		w.consent("with all fields", `{"externalTrackId":"`+id+`","personalTaxId":"529.982.247-25","phone":"+5511987654321","email":"ana@exemplo.com.br",`+
			`"redirectURL":"`+redirect+`","institutionCode":"341","validityPeriod":12,"clientMetadata":{"canal":"aplicação"}}`,
			id, `,"phone":"+5511987654321","email":"ana@exemplo.com.br","clientMetadata":{"canal":"aplicação"},"validityPeriod":12`,
			"Klavi-Link-Token", "{token}", "Content-Type", "application/json;charset=UTF-8"),
		w.consent("without a length", at341, madeUp, "", "Klavi-Link-Token", "{token}").streamed(),
		w.consent("through proxies", at341, madeUp, "", slices.Concat(byProxies, []string{"Klavi-Link-Token", "{token}"})...).lowLevel(),
		w.consent("as Safari before 16.4", at341, madeUp, "", "Klavi-Link-Token", "{token}", "Origin", w.origin).lowLevel(),
		w.consent("with Expect", at341, madeUp, "", "Klavi-Link-Token", "{token}", "Expect", "100-continue").lowLevel(),
		w.consent("with a key", at341, madeUp, "", "Klavi-Link-Token", "{token}", "Idempotency-Key", key),
		w.consent("with the same key", at341+"\n", madeUp, "", "Klavi-Link-Token", "{token}", "Idempotency-Key", key).answered(),
	}
}

// consent is POST /consents at the institution 341. id and more are what reaches
// Klavi besides what the link and the config fix.
func (w frontendWalk) consent(name, body, id, more string, headers ...string) walkStep {
	klavi := `{"externalTrackId":"` + id + `","personalTaxId":"52998224725","institutionCode":"341","redirectURL":"` + redirect + `"` + more + "}"
	s := newStep("a consent "+name, "POST", "/klavi/consents", &body,
		&request{Method: "POST", Target: "/data/v1/consents", Token: "link", Headers: ofGateway(klavi), Body: klavi}, headers)
	s.check = members("consentId", "consentRedirectURL")
	return s
}
