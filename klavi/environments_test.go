package klavi

import (
	"net/netip"
	"slices"
	"testing"
)

func TestBaseURL(t *testing.T) {
	want := map[string]string{
		"sandbox":    "https://api-sandbox.klavi.ai/data/v1",
		"testing":    "https://api-testing.klavi.ai/data/v1",
		"production": "https://api.klavi.ai/data/v1",
	}
	for name, url := range want {
		if got, ok := BaseURL(name); !ok || got != url {
			t.Errorf("BaseURL(%q): got %q, %v, want %q", name, got, ok, url)
		}
		if !slices.Contains(Environments(), name) {
			t.Errorf("Environments(): %q is missing in %q", name, Environments())
		}
	}
	if n := len(Environments()); n != len(want) {
		t.Errorf("Environments(): got %d names, want %d", n, len(want))
	}
	for _, name := range []string{"", "Sandbox", "prod", "sandbox "} {
		if got, ok := BaseURL(name); ok {
			t.Errorf("BaseURL(%q): got %q, want none", name, got)
		}
	}
}

func TestEgressAddrs(t *testing.T) {
	contains := func(addr string) bool {
		return slices.ContainsFunc(EgressAddrs(), func(p netip.Prefix) bool { return p.Contains(netip.MustParseAddr(addr)) })
	}
	for addr, want := range map[string]bool{
		"18.231.92.86": true, "18.230.43.17": true,
		"18.231.92.87": false, "18.230.43.16": false, "18.231.92.0": false,
	} {
		if got := contains(addr); got != want {
			t.Errorf("%s among EgressAddrs(): got %v, want %v", addr, got, want)
		}
	}
}
