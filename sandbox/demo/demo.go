// Package demo is what the quickstart example needs beside the gateway and the
// sandbox: ports that are looked at before they are opened, a banner, and an
// upstream that shows which reports arrived. It is not for production.
package demo

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyevents"
)

func init() {
	caddy.RegisterModule(Demo{})
	httpcaddyfile.RegisterGlobalOption("klavi_demo", parseDemo)
}

// Demo prints where everything is once Caddy has started.
type Demo struct {
	// Banner is the text. Lines are printed to standard error as they are.
	Banner []string `json:"banner,omitempty"`

	out io.Writer
}

// CaddyModule returns the Caddy module information.
func (Demo) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "klavi_demo",
		New: func() caddy.Module { return new(Demo) },
	}
}

// Provision asks to be told when Caddy has started.
func (d *Demo) Provision(ctx caddy.Context) error {
	if d.out == nil {
		d.out = os.Stderr
	}
	app, err := ctx.App("events")
	if err != nil {
		return fmt.Errorf("getting events app: %w", err)
	}
	return app.(*caddyevents.App).On("started", d)
}

// Start does nothing: what there is to do is done when everything has started.
func (*Demo) Start() error { return nil }

// Stop does nothing.
func (*Demo) Stop() error { return nil }

// Handle prints the banner.
func (d *Demo) Handle(context.Context, caddy.Event) error {
	if len(d.Banner) == 0 {
		return nil
	}
	_, err := fmt.Fprintf(d.out, "\n%s\n\n", strings.Join(d.Banner, "\n"))
	return err
}

// parseDemo sets up the demo out of Caddyfile tokens. Syntax:
//
//	klavi_demo {
//		port   <number> <environment variable> <what listens there>
//		banner <line>
//	}
//
// Each port is looked at when the Caddyfile is read to be run. Caddy itself does
// not notice that another process has a port: it opens it beside that.
func parseDemo(d *caddyfile.Dispenser, existing any) (any, error) {
	if existing != nil {
		return nil, d.Err("klavi_demo is already specified")
	}
	d.Next()
	if d.NextArg() {
		return nil, d.ArgErr()
	}
	demo := new(Demo)
	var ports []port
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		switch d.Val() {
		case "port":
			args := d.RemainingArgs()
			if len(args) != 3 {
				return nil, d.Err("port takes a number, the environment variable that changes it, and what listens there")
			}
			ports = append(ports, port{number: args[0], variable: args[1], what: args[2]})
			if err := checkPorts(ports, &looked); err != nil {
				return nil, d.WrapErr(err)
			}
		case "banner":
			if !d.NextArg() {
				return nil, d.ArgErr()
			}
			demo.Banner = append(demo.Banner, d.Val())
			if d.NextArg() {
				return nil, d.ArgErr()
			}
		default:
			return nil, d.Errf("unrecognized option '%s': klavi_demo has port and banner", d.Val())
		}
	}
	return httpcaddyfile.App{
		Name:  "klavi_demo",
		Value: caddyconfig.JSON(demo, nil),
	}, nil
}

// Interface guards
var (
	_ caddy.App           = (*Demo)(nil)
	_ caddy.Provisioner   = (*Demo)(nil)
	_ caddyevents.Handler = (*Demo)(nil)
)
