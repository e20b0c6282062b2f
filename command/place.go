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
}

// find reads the flags, and the config if it is needed. Nothing is opened yet.
func (f *storeFlags) find() (*place, error) {
	switch {
	case f.dir != "" && f.urlFile != "":
		return nil, errors.New("--dir and --postgres-url-file are two inboxes: give one of them")
	case f.schema != "" && f.urlFile == "":
		return nil, errors.New("--schema is for the database in --postgres-url-file, which is not given")
	}
	w := &place{dir: f.dir, key: func() ([]byte, error) { return nil, nil }}
	database := &gateway.PostgresInbox{Schema: f.schema}
	if f.dir == "" && f.urlFile == "" || f.config != "" {
		c, err := f.readConfig()
		if err != nil {
			return nil, err
		}
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
	} else if f.account != "" || f.adapter != "" {
		return nil, errors.New("--account and --adapter are about a config: give --config, or --dir or --postgres-url-file without them")
	}
	if f.urlFile != "" {
		var err error
		if database.URL, err = readSecret("--postgres-url-file", f.urlFile); err != nil {
			return nil, err
		}
		if w.postgres, err = database.Resolve(f.accountName()); err != nil {
			return nil, fmt.Errorf("--postgres-url-file: %w", err)
		}
	}
	if f.keyFile != "" {
		w.key = func() ([]byte, error) { return readKey(f.keyFile) }
		w.keyFrom = "--encryption-key-file"
	}
	if w.postgres != nil {
		return w, nil
	}
	var err error
	w.dir, err = filepath.Abs(w.dir)
	return w, err
}

// locate finds the inbox that a config has.
func (w *place) locate(account string, c *gateway.Inbox) (err error) {
	if c.Postgres != nil {
		if w.postgres, err = c.Postgres.Resolve(account); err != nil {
			return fmt.Errorf("postgres: %w (placeholders are resolved with the environment of this command): "+
				"give --postgres-url-file, if the URL is not right here", err)
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
	if w.postgres != nil {
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
			"%w; give --encryption-key-file", w.alone(), err)
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

func readKey(path string) ([]byte, error) {
	const flag = "--encryption-key-file"
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
