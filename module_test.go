package caddyklavi_test

import (
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"

	_ "github.com/caddy-klavi/caddy-klavi"
)

// The IDs are public API. The sandbox, http.handlers.klavi_sandbox, is a plugin
// of its own and must not come with the gateway.
func TestModules(t *testing.T) {
	want := []string{
		"admin.api.klavi",
		"caddy.logging.encoders.klavi",
		"http.handlers.klavi_frontend",
		"http.handlers.klavi_ready",
		"http.handlers.klavi_reports",
		"http.reverse_proxy.transport.klavi",
		"klavi",
	}
	var got []string
	for _, id := range caddy.Modules() {
		info, err := caddy.GetModule(id)
		if err != nil {
			t.Fatal(err)
		}
		module := reflect.TypeOf(info.New())
		if module.Kind() == reflect.Pointer {
			module = module.Elem()
		}
		if strings.HasPrefix(module.PkgPath(), "github.com/caddy-klavi/caddy-klavi") {
			got = append(got, id)
		}
	}
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("got the modules %q, want %q", got, want)
	}
}
