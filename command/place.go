package command

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"go.uber.org/zap"

	"github.com/caddy-klavi/caddy-klavi/gateway"
	"github.com/caddy-klavi/caddy-klavi/inbox"
)

// place is where an inbox is, and what is needed to open it.
type place struct {
	dir       string
	postgres  *inbox.Postgres // in place of dir
	byDefault bool            // the config does not say so
	relative  bool            // the config has it relative to where Caddy was started
	eraseOn   []string
	// knowsConfig: the config was read, for erase_on and the key.
	knowsConfig bool
	// key returns the encryption key, nil if there is none. It is read only when
	// it is needed.
	key     func() ([]byte, error)
	keyFrom string // where it is read, empty for nowhere
	side    side
}

// side is which one of two inboxes flags are about, from or to; empty where there is
// but one.
type side string

// flag returns the name of a flag of that side.
func (d side) flag(name string) string {
	switch {
	case d == "":
		return "--" + name
	case name == "dir":
		return "--" + string(d)
	case name == "encryption-key-file":
		return "--" + string(d) + "-key-file"
	}
	return "--" + string(d) + "-" + name
}

// find reads the flags, and the config if it is needed. Nothing is opened yet.
func (f *storeFlags) find() (*place, error) {
	if err := f.conflict(); err != nil {
		return nil, err
	}
	if f.given() && f.config == "" {
		if f.account != "" || f.adapter != "" {
			return nil, errors.New("--account and --adapter are about a config: give --config, or --dir or --postgres-url-file without them")
		}
		return f.findIn(nil)
	}
	c, err := f.readConfig()
	if err != nil {
		return nil, err
	}
	return f.findIn(c)
}

// given says whether the flags name an inbox, else it is that of the config.
func (f *storeFlags) given() bool { return f.dir != "" || f.urlFile != "" }

// conflict returns what flags cannot both be there.
func (f *storeFlags) conflict() error {
	flag := f.side.flag
	switch {
	case f.dir != "" && f.urlFile != "":
		return fmt.Errorf("%s and %s are two inboxes: give one of them", flag("dir"), flag("postgres-url-file"))
	case f.schema != "" && f.urlFile == "":
		return fmt.Errorf("%s is for the database in %s, which is not given", flag("schema"), flag("postgres-url-file"))
	}
	return nil
}

// findIn is find with what the config says, nil if it was not read.
func (f *storeFlags) findIn(c *gateway.Inbox) (w *place, err error) {
	w = &place{dir: f.dir, side: f.side, key: func() ([]byte, error) { return nil, nil }}
	database := &gateway.PostgresInbox{Schema: f.schema}
	if c != nil {
		switch {
		case f.dir != "":
		case f.urlFile == "":
			err = w.locate(f.accountName(), c)
		case f.schema == "" && c.Postgres != nil:
			database.Schema = c.Postgres.Schema
		}
		if err != nil {
			return nil, fmt.Errorf("the inbox in the config: %w", err)
		}
		w.eraseOn, w.knowsConfig = c.EraseOn, true
		w.key = func() ([]byte, error) { return w.configKey(c) }
		w.keyFrom = "encryption_key of the config"
	}
	if f.urlFile != "" {
		flag := f.side.flag("postgres-url-file")
		if database.URL, err = readSecret(flag, f.urlFile); err != nil {
			return nil, err
		}
		if w.postgres, err = database.Resolve(f.accountName()); err != nil {
			return nil, fmt.Errorf("%s: %w", flag, err)
		}
	}
	if f.keyFile != "" {
		w.keyFrom = f.side.flag("encryption-key-file")
		w.key = func() ([]byte, error) { return readKey(w.keyFrom, f.keyFile) }
	}
	if w.postgres != nil {
		return w, nil
	}
	w.dir, err = filepath.Abs(w.dir)
	return w, err
}

// locate finds the inbox that a config has.
func (w *place) locate(account string, c *gateway.Inbox) (err error) {
	if c.Postgres != nil {
		if w.postgres, err = c.Postgres.Resolve(account); err != nil {
			return fmt.Errorf("postgres: %w (placeholders are resolved with the environment of this command): "+
				"give %s, if the URL is not right here", err, w.side.flag("postgres-url-file"))
		}
		return nil
	}
	w.byDefault = c.Dir == ""
	w.relative = c.Dir != "" && !filepath.IsAbs(c.Dir) && c.Dir[0] != '{'
	w.dir, err = gateway.InboxDir(account, c.Dir)
	return err
}

// String names it for people.
func (w *place) String() string {
	if w.postgres != nil {
		return w.postgres.Place()
	}
	return w.dir
}

// alone says why no Caddy is asked.
func (w *place) alone() string {
	switch {
	case w.side != "":
		return opensItself
	case w.postgres != nil:
		return asksDatabase
	}
	return notOpen
}

func (f *storeFlags) accountName() string {
	if f.account == "" {
		return gateway.DefaultAccount
	}
	return f.account
}

// loadConfig reads a config as Caddy does, but for what Caddy logs of it: that is
// not what was asked for.
func loadConfig(path, adapter string) ([]byte, error) {
	_, before, buffer := caddy.BufferedLog()
	defer func() {
		buffer.FlushTo(zap.NewNop())
		caddy.UnbufferDefaultLogger(before)
	}()
	text, _, _, err := caddycmd.LoadConfig(path, adapter)
	return text, err
}

// readConfig returns what Caddy's config says of the account's inbox.
func (f *storeFlags) readConfig() (*gateway.Inbox, error) {
	text, err := loadConfig(f.config, f.adapter)
	if err != nil {
		return nil, fmt.Errorf("the config: %w", err)
	}
	if len(text) == 0 {
		if f.side != "" {
			return nil, errors.New("erase_on and encryption_key of a config are needed: give --config, or do this where the Caddyfile is")
		}
		return nil, errors.New("which inbox? Give --dir or --config, or do this where the Caddyfile is")
	}
	var config struct {
		Apps struct {
			Klavi struct {
				Accounts map[string]struct {
					Inbox gateway.Inbox `json:"inbox"`
				} `json:"accounts"`
			} `json:"klavi"`
		} `json:"apps"`
	}
	if err := json.Unmarshal(text, &config); err != nil {
		return nil, errors.New("the config is not one that Caddy would take: caddy validate says more")
	}
	accounts := config.Apps.Klavi.Accounts
	account, ok := accounts[f.accountName()]
	if !ok {
		var names []string
		for name := range accounts {
			names = append(names, name)
		}
		if len(names) == 0 {
			return nil, errors.New("the config has no account at Klavi: is it that of another Caddy?")
		}
		slices.Sort(names)
		return nil, fmt.Errorf("the config has no account %q: give --account; there is %s", f.accountName(), strings.Join(names, ", "))
	}
	return &account.Inbox, nil
}

// configKey returns the config's encryption key.
func (w *place) configKey(c *gateway.Inbox) ([]byte, error) {
	if c.EncryptionKey == "" {
		return nil, nil
	}
	text, err := caddy.NewReplacer().ReplaceOrErr(c.EncryptionKey, true, true)
	if err != nil {
		return nil, fmt.Errorf("%s, so the encryption key is needed, and it is not in the environment of this command: "+
			"%w; give %s", w.alone(), err, w.side.flag("encryption-key-file"))
	}
	key, err := gateway.ParseKey(text)
	if err != nil {
		return nil, fmt.Errorf("the encryption_key of the config %w", err)
	}
	return key, nil
}

// maxSecret is more than a key has in any of its forms, or the URL of a database.
const maxSecret = 4096

// readSecret reads the file of a flag as {file.*} would: a line end behind the
// secret is no part of it.
func readSecret(flag, path string) (string, error) {
	info, err := os.Stat(path)
	if err == nil && info.Size() > maxSecret {
		err = fmt.Errorf("%s is too large for a key or a URL", path)
	}
	if err != nil {
		return "", fmt.Errorf("%s: %w", flag, err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("%s: %w", flag, err)
	}
	return strings.TrimSuffix(strings.TrimSuffix(string(text), "\n"), "\r"), nil
}

func readKey(flag, path string) ([]byte, error) {
	text, err := readSecret(flag, path)
	if err != nil {
		return nil, err
	}
	key, err := gateway.ParseKey(text)
	if err != nil {
		return nil, fmt.Errorf("%s: what is in %s %w", flag, path, err)
	}
	return key, nil
}
