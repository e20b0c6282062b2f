package caddyfile

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/caddy-klavi/caddy-klavi/gateway"
	"github.com/caddy-klavi/caddy-klavi/inbox"
	"github.com/caddy-klavi/caddy-klavi/klavi"
)

// parseInbox reads the option inbox of klavi. Syntax:
//
//	inbox {
//	    dir                <path>
//	    postgres           <url> {
//	        schema    <name>
//	        pool_size <number>
//	    }
//	    spool
//	    encryption_key     <key>
//	    unencrypted
//	    max_size           <size>
//	    max_share          <percent>%
//	    retry_for          <duration>
//	    retry_max_interval <duration>
//	    keep_dead          <duration>
//	    keep_record        <duration>
//	    erase_on           <event...>
//	}
func parseInbox(a *gateway.Account, d *caddyfile.Dispenser) error {
	if ahead := *d; !ahead.NextBlock(0) {
		return errUsage
	}
	a.Inbox = new(gateway.Inbox)
	if err := parseOptions(d, "inbox", a.Inbox, inboxOptions); err != nil {
		return err
	}
	switch {
	case a.Inbox.Spool && a.Inbox.Postgres == nil:
		return d.Err("inbox has spool, which is for one in postgres, and no postgres")
	case a.Inbox.Dir != "" && a.Inbox.Postgres != nil && !a.Inbox.Spool:
		return d.Err("inbox has dir and postgres, and no spool: the dir is that of the spool, so leave dir out or add spool")
	case a.Inbox.EncryptionKey != "" && a.Inbox.Unencrypted:
		return d.Err("inbox has encryption_key and unencrypted: leave one of them out")
	case a.Inbox.MaxShare != 0 && a.Inbox.MaxSize == 0:
		return d.Err("inbox has max_share, which is a part of max_size, and no max_size")
	case time.Duration(a.Inbox.RetryMaxInterval) > cmp.Or(time.Duration(a.Inbox.RetryFor), inbox.DefaultRetryFor):
		return d.Errf("retry_max_interval is longer than retry_for, which is %s: a report would die before it is tried again",
			cmp.Or(time.Duration(a.Inbox.RetryFor), inbox.DefaultRetryFor))
	}
	return nil
}

var inboxOptions = []option[gateway.Inbox]{
	{usage: "dir <path>", parse: func(i *gateway.Inbox, d *caddyfile.Dispenser) error {
		if err := one(&i.Dir, d); err != nil {
			return err
		}
		if err := gateway.CheckPlaceholders(i.Dir); err != nil {
			return d.Errf("dir: %w", err)
		}
		return nil
	}},
	{usage: "postgres <url> [{ ... }]", parse: parsePostgres},
	{usage: "spool", parse: func(i *gateway.Inbox, _ *caddyfile.Dispenser) error {
		i.Spool = true
		return nil
	}},
	{usage: "encryption_key <key>", parse: func(i *gateway.Inbox, d *caddyfile.Dispenser) error {
		return key(&i.EncryptionKey, d)
	}},
	{usage: "unencrypted", parse: func(i *gateway.Inbox, _ *caddyfile.Dispenser) error {
		i.Unencrypted = true
		return nil
	}},
	{usage: "max_size <size>", parse: func(i *gateway.Inbox, d *caddyfile.Dispenser) error {
		return size(&i.MaxSize, d, "1EiB", "10GiB")
	}},
	{usage: "max_share <percent>%", parse: parseMaxShare},
	{usage: "retry_for <duration>", parse: func(i *gateway.Inbox, d *caddyfile.Dispenser) error {
		return duration(&i.RetryFor, d)
	}},
	{usage: "retry_max_interval <duration>", parse: func(i *gateway.Inbox, d *caddyfile.Dispenser) error {
		return duration(&i.RetryMaxInterval, d)
	}},
	{usage: "keep_dead <duration>", parse: func(i *gateway.Inbox, d *caddyfile.Dispenser) error {
		return duration(&i.KeepDead, d)
	}},
	{usage: "keep_record <duration>", parse: func(i *gateway.Inbox, d *caddyfile.Dispenser) error {
		return duration(&i.KeepRecord, d)
	}},
	{usage: "erase_on <event...>", parse: parseEraseOn},
}

// parsePostgres reads where the database is. Its errors do not show the URL, which
// has a password in it.
func parsePostgres(i *gateway.Inbox, d *caddyfile.Dispenser) error {
	p := new(gateway.PostgresInbox)
	if !d.AllArgs(&p.URL) || p.URL == "" {
		return errUsage
	}
	check := func(text string) error { return (&inbox.Postgres{URL: text, Schema: "klavi"}).Check() }
	if err := literal(check)(p.URL); err != nil {
		return d.Errf("postgres: %w", err)
	}
	i.Postgres = p
	return parseOptions(d, "postgres", p, postgresOptions)
}

var postgresOptions = []option[gateway.PostgresInbox]{
	{usage: "schema <name>", parse: func(p *gateway.PostgresInbox, d *caddyfile.Dispenser) error {
		if err := one(&p.Schema, d); err != nil {
			return err
		}
		if err := (&inbox.Postgres{URL: "postgres:///klavi", Schema: p.Schema}).Check(); err != nil {
			return d.Errf("schema: %w", err)
		}
		return nil
	}},
	{usage: "pool_size <number>", parse: func(p *gateway.PostgresInbox, d *caddyfile.Dispenser) error {
		var text string
		if err := one(&text, d); err != nil {
			return err
		}
		n, err := strconv.Atoi(text)
		if err != nil || n < 2 {
			return d.Errf("pool_size is %q, which is not a number of connections, 2 or more", text)
		}
		p.PoolSize = n
		return nil
	}},
}

func parseMaxShare(i *gateway.Inbox, d *caddyfile.Dispenser) error {
	var text string
	if err := one(&text, d); err != nil {
		return err
	}
	number, isPercent := strings.CutSuffix(text, "%")
	percent, err := strconv.ParseFloat(number, 64)
	if !isPercent || err != nil || !(percent > 0 && percent <= 100) {
		return d.Errf("max_share is %q, which is not a part of max_size such as 50%%", text)
	}
	i.MaxShare = percent / 100
	return nil
}

// parseEraseOn reads names of events. Klavi adds some, but what erases reports is
// not to be a typing error.
func parseEraseOn(i *gateway.Inbox, d *caddyfile.Dispenser) error {
	if err := several(&i.EraseOn, d, nil); err != nil {
		return err
	}
	for _, name := range i.EraseOn {
		if strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789_") != "" {
			return d.Errf("erase_on has %q, which is not the name of an event, such as consent_deleted_by_user", name)
		}
		if isReportType(name) {
			return d.Errf("erase_on has %q, which is a type of reports: it takes events, such as consent_deleted_by_user", name)
		}
		if near, ok := klavi.Nearest(name, klavi.KnownEventNames()); ok && !slices.Contains(klavi.KnownEventNames(), name) {
			return d.Errf("erase_on has %q, which is not known: did you mean %s?", name, near)
		}
	}
	return nil
}
