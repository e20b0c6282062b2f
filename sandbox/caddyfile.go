package sandbox

import (
	"slices"
	"strconv"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/dustin/go-humanize"
)

func init() {
	httpcaddyfile.RegisterHandlerDirective("klavi_sandbox", parseCaddyfile)
	httpcaddyfile.RegisterDirectiveOrder("klavi_sandbox", httpcaddyfile.Before, "respond")
}

func parseCaddyfile(h httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
	var s Handler
	err := s.UnmarshalCaddyfile(h.Dispenser)
	return &s, err
}

// UnmarshalCaddyfile sets up the handler from Caddyfile tokens:
//
//	klavi_sandbox [<matcher>] {
//		access_key  <key>
//		secret_key  <key>
//		events_url  <url>
//		reports_url <url>
//		delivery    automatic|manual
//		products    <type...>
//		report_size <size>
//		seed        <number>
//		fixtures    <dir>
//	}
func (h *Handler) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // the directive's name
	if d.NextArg() {
		return d.Errf("unexpected argument %q: the options of klavi_sandbox stand in a block", d.Val())
	}
	seen := map[string]bool{}
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		option := d.Val()
		if seen[option] {
			return d.Errf("%s is given twice", option)
		}
		seen[option] = true
		if err := h.unmarshalOption(d, option); err != nil {
			return err
		}
	}
	return nil
}

func (h *Handler) unmarshalOption(d *caddyfile.Dispenser, option string) error {
	texts := map[string]*string{
		"access_key": &h.AccessKey, "secret_key": &h.SecretKey, "events_url": &h.EventsURL, "reports_url": &h.ReportsURL,
		"delivery": &h.Delivery, "fixtures": &h.Fixtures, "seed": new(string), "report_size": new(string),
	}
	if option == "products" {
		return h.unmarshalProducts(d)
	}
	to, ok := texts[option]
	if !ok {
		return d.Errf("unrecognized option %q: want access_key, secret_key, events_url, reports_url, delivery, products, report_size, seed or fixtures", option)
	}
	var value string
	if !d.AllArgs(&value) {
		return d.Errf("%s: want one argument", option)
	}
	if value == "" {
		return d.Errf("%s: must not be empty", option)
	}
	*to = value
	switch option {
	case "events_url", "reports_url":
		if err := checkURL(value); err != nil {
			return d.Errf("%s: %w", option, err)
		}
	case "delivery":
		if value != "automatic" && value != "manual" {
			return d.Errf("delivery: %q: want automatic or manual", value)
		}
	case "seed":
		n, err := strconv.ParseUint(value, 10, 64)
		if err != nil {
			return d.Errf("seed: %q: want a whole number, 0 or more", value)
		}
		h.Seed = n
	case "report_size":
		n, err := humanize.ParseBytes(value)
		if err != nil || n == 0 || n > maxReportSize {
			return d.Errf("report_size: %q: want a size such as 4KB or 20MB, up to 64MiB", value)
		}
		h.ReportSize = int64(n)
	}
	return nil
}

func (h *Handler) unmarshalProducts(d *caddyfile.Dispenser) error {
	h.Products = d.RemainingArgs()
	if len(h.Products) == 0 {
		return d.Err("products: want at least one report type, such as pf_checking_account")
	}
	for i, p := range h.Products {
		if !productName.MatchString(p) {
			return d.Errf("products: %q is not a report type: want pf_ or pj_ and lower-case letters, digits or _", p)
		}
		if slices.Contains(h.Products[:i], p) {
			return d.Errf("products: %s is listed twice", p)
		}
	}
	return nil
}

// Interface guards
var _ caddyfile.Unmarshaler = (*Handler)(nil)
