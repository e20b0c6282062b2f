// Package caddyklavi is what `xcaddy build --with github.com/caddy-klavi/caddy-klavi`
// builds into Caddy: a gateway between Klavi, a partner's services and the
// browsers of the partner's users.
//
// It has no code of its own. It is the table of contents: each package below
// registers modules with Caddy when it is imported.
package caddyklavi

import (
	// The Caddyfile: the global option klavi, and the directives
	// klavi_frontend, klavi_proxy, klavi_ready and klavi_reports.
	_ "github.com/caddy-klavi/caddy-klavi/caddyfile"
	// The command caddy klavi.
	_ "github.com/caddy-klavi/caddy-klavi/command"
	// The app klavi, which holds the accounts at Klavi; the log encoder klavi,
	// which masks tax ids and tokens; and /klavi/ in the admin API, which shows
	// what the inboxes hold.
	_ "github.com/caddy-klavi/caddy-klavi/gateway"
	// The handler klavi_frontend: browsers create links, and use them for what
	// they were created for.
	_ "github.com/caddy-klavi/caddy-klavi/handler/frontend"
	// The reverse_proxy transport klavi: services call Klavi with the account's
	// access token.
	_ "github.com/caddy-klavi/caddy-klavi/handler/proxy"
	// The handler klavi_ready: a load balancer learns whether reports can be kept.
	_ "github.com/caddy-klavi/caddy-klavi/handler/ready"
	// The handler klavi_reports: Klavi delivers signed reports, each to the
	// service that waits for it.
	_ "github.com/caddy-klavi/caddy-klavi/handler/reports"
)
