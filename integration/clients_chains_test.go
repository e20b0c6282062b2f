package integration

import "testing"

// behindCaddy has programs call a gateway that stands behind another Caddy.
func (g *clientsGateway) behindCaddy(t *testing.T) {
	front := place{base: g.secure("localhost", "front") + "/chains"}
	for _, v := range []visitor{
		{"Go with HTTP/1.1", front, g.goClient("HTTP/1.1", overHTTP1)},
		{"Node's fetch", front, g.script("node", "fetch.mjs")},
	} {
		t.Run(v.name, func(t *testing.T) { g.visit(t, v, g.frontendWalk(v)) })
	}
}

// behindNginx has programs call a gateway that stands behind an nginx, with as
// little of a config as works and with as much as is usual.
func (g *clientsGateway) behindNginx(t *testing.T) {
	g.startNginx(t)
	little, much := place{base: g.url("nginx", "/chains"), renamed: true}, place{base: g.url("nginxfull", "/chains")}
	for _, v := range []visitor{
		{"Go, little", little, g.goClient("HTTP/1.1", overHTTP1)},
		{"Go, much", much, g.goClient("HTTP/1.1", overHTTP1)},
		{"node:http, much", much, g.script("node", "http.mjs")},
	} {
		t.Run(v.name, func(t *testing.T) { g.visit(t, v, g.frontendWalk(v)) })
	}
}
