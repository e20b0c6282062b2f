package gateway

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
)

// provisionApp loads a config that has only the klavi app.
func provisionApp(t testing.TB, config string) (*App, caddy.Context, error) {
	t.Helper()
	ctx, err := caddy.ProvisionContext(&caddy.Config{
		Admin:   &caddy.AdminConfig{Disabled: true},
		AppsRaw: caddy.ModuleMap{"klavi": json.RawMessage(config)},
	})
	if err != nil {
		return nil, ctx, err
	}
	app, err := ctx.App("klavi")
	if err != nil {
		return nil, ctx, err
	}
	return app.(*App), ctx, nil
}

func TestAccountConfig(t *testing.T) {
	t.Setenv("TEST_KLAVI_SECRET", "from-the-environment")
	for _, tt := range []struct {
		name, config, want string
	}{
		{"complete", `{"accounts":{"default":{"environment":"sandbox","access_key":"a","secret_key":"{env.TEST_KLAVI_SECRET}"}}}`, ""},
		{"loopback", `{"accounts":{"default":{"base_url":"http://127.0.0.1:9090/data/v1","access_key":"a","secret_key":"s"}}}`, ""},
		{"loopback by name and a slash", `{"accounts":{"default":{"base_url":"http://localhost:9090/data/v1/","access_key":"a","secret_key":"s"}}}`, ""},
		{"no account", `{}`, "no account is configured"},
		{"empty account", `{"accounts":{"default":null}}`, "needs access_key and secret_key"},
		{"neither address", `{"accounts":{"default":{"access_key":"a","secret_key":"s"}}}`, "exactly one of environment"},
		{"both addresses", `{"accounts":{"default":{"environment":"sandbox","base_url":"https://x.example/data/v1","access_key":"a","secret_key":"s"}}}`, "exactly one of environment"},
		{"unknown environment", `{"accounts":{"default":{"environment":"prod","access_key":"a","secret_key":"s"}}}`, `environment "prod" is unknown: it is one of`},
		{"http", `{"accounts":{"default":{"base_url":"http://api.klavi.ai/data/v1","access_key":"a","secret_key":"s"}}}`, "must be https, or http on loopback"},
		{"loopback look-alike", `{"accounts":{"default":{"base_url":"http://127.0.0.1.example/data/v1","access_key":"a","secret_key":"s"}}}`, "must be https"},
		{"other path", `{"accounts":{"default":{"base_url":"https://api.klavi.ai/","access_key":"a","secret_key":"s"}}}`, "must end in /data/v1"},
		{"userinfo", `{"accounts":{"default":{"base_url":"https://u:p@api.klavi.ai/data/v1","access_key":"a","secret_key":"s"}}}`, "more than scheme, host and path"},
		{"no access key", `{"accounts":{"default":{"environment":"sandbox","secret_key":"s"}}}`, "access_key is missing"},
		{"empty secret key", `{"accounts":{"default":{"environment":"sandbox","access_key":"a","secret_key":"{env.TEST_KLAVI_UNSET}"}}}`, "secret_key: "},
		{"unknown placeholder", `{"accounts":{"default":{"environment":"sandbox","access_key":"a","secret_key":"{nope}"}}}`, "secret_key: "},
		{"empty accepted key", `{"accounts":{"default":{"environment":"sandbox","access_key":"a","secret_key":"s","accept_secret_keys":["x",""]}}}`, "accept_secret_keys: key 2"},
		{"bad seal key", `{"accounts":{"default":{"environment":"sandbox","access_key":"a","secret_key":"s","seal_key":"short"}}}`, "seal_key is not 32 bytes"},
		{"negative", `{"accounts":{"default":{"environment":"sandbox","access_key":"a","secret_key":"s","klavi_timeout":-1}}}`, "cannot be negative"},
		{"unknown field", `{"accounts":{"default":{"environment":"sandbox","access_key":"a","secret_key":"s","secretkey":"s"}}}`, "unknown field"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, _, err := provisionApp(t, tt.config)
			if tt.want == "" {
				if err != nil {
					t.Errorf("got %v, want no error", err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want an error with %q", err, tt.want)
			}
			if err != nil && strings.Contains(err.Error(), "from-the-environment") {
				t.Errorf("the error shows a secret: %v", err)
			}
		})
	}
}

func TestForAccount(t *testing.T) {
	_, ctx, err := provisionApp(t, `{"accounts":{
		"default":{"environment":"sandbox","access_key":"a","secret_key":"s"},
		"other":{"environment":"sandbox","access_key":"b","secret_key":"s"}}}`)
	if err != nil {
		t.Fatal(err)
	}
	if _, a, err := ForAccount(ctx, ""); err != nil || a.Name() != DefaultAccount {
		t.Errorf("got %v, %v for no name, want the account %q", a, err, DefaultAccount)
	}
	if _, _, err := ForAccount(ctx, "nope"); err == nil || !strings.Contains(err.Error(), "default, other") {
		t.Errorf("got %v, want an error that lists default, other", err)
	}
}

func TestReportRoutesMustBeEqual(t *testing.T) {
	app, _, err := provisionApp(t, `{"accounts":{"default":{"environment":"sandbox","access_key":"a","secret_key":"s"},
		"other":{"environment":"sandbox","access_key":"a","secret_key":"s"}}}`)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		account, owner, routes string
		reports                Reports
		want                   string
	}{
		{"default", "server srv0", "[1]", nil, ""},
		{"default", "server srv1", "[1]", nil, ""},
		{"other", "server srv1", "[2]", nil, ""},
		{"default", "server srv2", "[2]", nil, "server srv0 and server srv2"},
		{"default", "server srv3", "[1]", &fakeReports{}, "with and without direct, server srv0 and server srv3"},
	} {
		err := app.AddReportRoutes(app.Accounts[tt.account], tt.owner, []byte(tt.routes), tt.reports)
		if (err == nil) != (tt.want == "") || (err != nil && !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%s, %s: got %v, want %q", tt.account, tt.owner, err, tt.want)
		}
	}
}

// A config that takes over keeps what the old one had; one that fails must not
// take it away.
func TestSharedSurvivesReloads(t *testing.T) {
	config := `{"accounts":{"default":{"environment":"sandbox","access_key":"survivor","secret_key":"s"}}}`
	first, _, err := provisionApp(t, config)
	if err != nil {
		t.Fatal(err)
	}
	key, want := first.Accounts["default"].poolKey, first.Accounts["default"].shared
	wantRefs := func(want int) {
		t.Helper()
		if got, _ := pool.References(key); got != want {
			t.Errorf("got %d references, want %d", got, want)
		}
	}
	wantRefs(1)

	failing := `{"accounts":{"default":{"environment":"sandbox","access_key":"survivor","secret_key":"s"},"x":{}}}`
	if _, _, err := provisionApp(t, failing); err == nil {
		t.Fatal("got no error for the failing config")
	}
	wantRefs(1)

	second, _, err := provisionApp(t, config)
	if err != nil {
		t.Fatal(err)
	}
	wantRefs(2)
	if err := first.Cleanup(); err != nil {
		t.Fatal(err)
	}
	wantRefs(1)
	if got := second.Accounts["default"].shared; got != want {
		t.Error("the second config has a state of its own, want that of the first")
	}
	if err := second.Cleanup(); err != nil {
		t.Fatal(err)
	}
	wantRefs(0)
}

func TestSecretsStayOutOfTheConfig(t *testing.T) {
	t.Setenv("TEST_KLAVI_SECRET", "from-the-environment")
	app, _, err := provisionApp(t, `{"accounts":{"default":{"environment":"sandbox","access_key":"a",
		"secret_key":"{env.TEST_KLAVI_SECRET}","accept_secret_keys":["{env.TEST_KLAVI_SECRET}"]}}}`)
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(app)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(text), "from-the-environment") {
		t.Errorf("the config shows the secret: %s", text)
	}
	if got := string(app.Accounts["default"].Secrets()[0]); got != "from-the-environment" {
		t.Errorf("got secret %q, want the resolved one", got)
	}
}

// Neither a new seal_key nor a new secret key takes away links that live.
func TestSealKeyIntroduced(t *testing.T) {
	account := func(extra string) *Account {
		app, _, err := provisionApp(t, `{"accounts":{"default":{"environment":"sandbox","access_key":"a",`+extra+`}}}`)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = app.Cleanup() })
		return app.Accounts["default"]
	}
	const key = `"seal_key":"0123456789abcdef0123456789abcdef"`
	before := account(`"secret_key":"s1"`)
	text := mustSeal(t, before, sampleLink())
	for name, after := range map[string]*Account{
		"seal_key added":                     account(`"secret_key":"s1",` + key),
		"seal_key added, secret key changed": account(`"secret_key":"s2","accept_secret_keys":["s1"],` + key),
	} {
		if _, err := after.OpenLinkToken(text, sealedAt); err != nil {
			t.Errorf("%s: got %v for a token sealed before, want none", name, err)
		}
		if _, err := before.OpenLinkToken(mustSeal(t, after, sampleLink()), sealedAt); err == nil {
			t.Errorf("%s: the new token opens without seal_key", name)
		}
	}
}
