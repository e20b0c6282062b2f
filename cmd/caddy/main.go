// Command caddy is Caddy with the gateway to Klavi and the sandbox, a stand-in
// for Klavi, built in. It is for trying and for developing: a build for
// production takes the gateway alone, with xcaddy.
package main

import (
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	_ "github.com/caddyserver/caddy/v2/modules/standard"

	_ "github.com/caddy-klavi/caddy-klavi"
	_ "github.com/caddy-klavi/caddy-klavi/sandbox"
	_ "github.com/caddy-klavi/caddy-klavi/sandbox/demo"
)

func main() { caddycmd.Main() }
