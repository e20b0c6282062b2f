package integration

import (
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
)

// literalSecret is a key that somebody wrote into the config, where it should
// not be.
const literalSecret = "literal-S3cret/of{a}careless=person"

// A config with a mistake in it does not load, and says so without the keys that
// it has, be they literal or of the environment.
func TestLoadErrorsShowNoSecrets(t *testing.T) {
	t.Setenv("TEST_SECRET_KEY", testSecret)
	t.Setenv("TEST_TWO_WORDS", testSecret+" "+literalSecret)
	t.Setenv("TEST_EMPTY", "")
	g := &gateway{t: t, ports: make(map[string]string), logs: t.TempDir() + "/log"}
	var h hidden
	h.add("a key", testSecret, literalSecret, strings.TrimRight(literalSecret, "}"), "S3cret")

	const good = "\taccess_key sandbox-access-key\n\tsecret_key {env.TEST_SECRET_KEY}\n"
	account := func(lines string) string {
		return "{\nadmin off\nauto_https off\nklavi {\n\tbase_url http://127.0.0.1:9/data/v1\n" + lines + "}\n}\nhttp://:{{app}} {\n\tbind 127.0.0.1\n\tklavi_proxy\n}\n"
	}
	json := func(account string) string {
		return `{"admin":{"disabled":true},"apps":{"klavi":{"accounts":{"default":` + account + `}}}}`
	}
	for name, text := range map[string]string{
		"JSON, an unknown field":      json(`{"environment":"sandbox","access_key":"a","secretKey":"` + literalSecret + `"}`),
		"JSON, a list for a key":      json(`{"environment":"sandbox","access_key":"a","secret_key":["` + literalSecret + `"]}`),
		"JSON, no environment":        json(`{"access_key":"a","secret_key":"` + testSecret + `"}`),
		"JSON, cut":                   json(`{"environment":"sandbox","access_key":"a","secret_key":"` + literalSecret),
		"JSON, an empty accepted key": json(`{"environment":"sandbox","access_key":"a","secret_key":"` + testSecret + `","accept_secret_keys":["` + testSecret + `",""]}`),
		"JSON, a short seal_key":      json(`{"environment":"sandbox","access_key":"a","secret_key":"` + testSecret + `","seal_key":"S3cret"}`),
		"JSON, a key as the account":  json(`"` + literalSecret + `"`),
		"a key of two words":          account("access_key a\nsecret_key {$TEST_TWO_WORDS}\n"),
		"two keys":                    account("access_key a\nsecret_key " + literalSecret + " " + testSecret + "\n"),
		"a key twice":                 account("access_key a\nsecret_key a\nsecret_key " + literalSecret + "\n"),
		"a key in a block":            account("access_key a\nsecret_key {\n" + literalSecret + "\n}\n"),
		"a block behind the key":      account("access_key a\nsecret_key " + literalSecret + " {\na b\n}\n"),
		"a key on a line of its own":  account("access_key a\nsecret_key\n" + literalSecret + "\n"),
		"a misspelt option":           account("access_key a\nsecret_kye " + literalSecret + "\n"),
		"no access key":               account("secret_key " + literalSecret + "\n"),
		"an empty key beside it":      account("access_key {env.TEST_EMPTY}\nsecret_key " + testSecret + "\n"),
		"a key accepted twice":        account(good + "accept_secret_keys " + literalSecret + " " + literalSecret + "\n"),
		"an empty key accepted":       account(good + "accept_secret_keys " + literalSecret + " \"\"\n"),
		"a short seal_key":            account(good + "seal_key " + literalSecret + "\n"),
		"a seal_key of the env":       account(good + "seal_key {env.TEST_SECRET_KEY}\n"),
		"a key as base_url":           account("base_url " + testSecret + "\n" + good),
		"a key in base_url":           "{\nklavi {\nbase_url https://user:" + testSecret + "@api.klavi.ai/data/v1\n" + good + "}\n}\n",
		"a key in base_url's query":   "{\nklavi {\nbase_url https://api.klavi.ai/data/v1?secretKey=" + testSecret + "\n" + good + "}\n}\n",
		"no brace at the end":         "{\nklavi {\nenvironment sandbox\nsecret_key " + literalSecret + "\n",
		"an open quotation mark":      account("access_key a\nsecret_key \"" + literalSecret + "\n"),
		"a key in the routes' table":  "{\nklavi {\nenvironment sandbox\n" + good + "}\n}\n:{{hooks}} {\nklavi_reports /r {\nall https://user:" + testSecret + "@ledger\n}\n}\n",
		"a key in reports_url":        "{\nklavi {\nenvironment sandbox\n" + good + "}\n}\n:{{app}} {\nklavi_proxy {\nreports_url http://user:" + testSecret + "@hooks/\n}\n}\n",
	} {
		t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) {
			config, err := []byte(text), error(nil)
			if !strings.HasPrefix(name, "JSON") {
				config, err = adapt(g.expand(text))
			}
			if err == nil {
				var cfg caddy.Config
				if err = caddy.StrictUnmarshalJSON(config, &cfg); err == nil {
					err = caddy.Validate(&cfg)
				}
			}
			if err == nil {
				t.Fatal("it loads: this test shows nothing")
			}
			h.wantNone(t, "the error", err.Error())
		})
	}
}
