package gateway

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"
	"go.uber.org/zap"

	"github.com/caddy-klavi/caddy-klavi/inbox"
	"github.com/caddy-klavi/caddy-klavi/klavi"
)

const (
	defaultRefreshAhead = 2 * time.Minute
	defaultKlaviTimeout = 15 * time.Second
)

// Account is one application at Klavi: where its API is, and its credentials.
//
// The keys are best written as placeholders such as `{env.KLAVI_SECRET_KEY}` or
// `{file./run/secrets/klavi}`: they are resolved when the config is loaded and
// the values appear neither in `/config/` nor in the autosaved config.
type Account struct {
	// Environment is Klavi's: `sandbox`, `testing` or `production`. Exactly
	// one of environment and base_url is required.
	Environment string `json:"environment,omitempty"`

	// BaseURL is the address of Klavi's API, which ends in `/data/v1`. It is
	// https, except on loopback.
	BaseURL string `json:"base_url,omitempty"`

	// AccessKey is the application's access key. Required.
	AccessKey string `json:"access_key,omitempty"`

	// SecretKey is the application's secret key. It logs in, verifies the
	// signatures of reports and, without a seal_key, seals link tokens.
	// Required.
	SecretKey string `json:"secret_key,omitempty"`

	// AcceptSecretKeys are older or coming secret keys. They verify
	// signatures and open sealed link tokens, but are not used for logging in.
	AcceptSecretKeys []string `json:"accept_secret_keys,omitempty"`

	// SealKey seals link tokens: 32 bytes, as they are, as 64 hex digits or
	// in base64. Tokens sealed under keys that were derived from the secret
	// keys still open. Default: derived from the secret key.
	SealKey string `json:"seal_key,omitempty"`

	// RefreshAhead is how long before its expiry the access token is renewed;
	// at most a third of its life. Default: 2m.
	RefreshAhead caddy.Duration `json:"refresh_ahead,omitempty"`

	// KlaviTimeout bounds one call to Klavi, from dialing to the last byte.
	// Default: 15s.
	KlaviTimeout caddy.Duration `json:"klavi_timeout,omitempty"`

	// Transport is how Klavi is reached: Caddy's own HTTP transport, for an
	// egress proxy, a private CA or a client certificate.
	Transport *reverseproxy.HTTPTransport `json:"transport,omitempty"`

	// Inbox is where reports are kept until they have been delivered. Default:
	// one with the defaults of all its settings.
	Inbox *Inbox `json:"inbox,omitempty"`

	name      string
	client    klavi.Client
	logIn     klavi.Login // a.login, bound once: reading a token allocates nothing
	secrets   [][]byte
	seal      sealer
	transport *reverseproxy.HTTPTransport
	poolKey   string
	shared    *shared
	meters    map[klavi.Endpoint]*meter
	keeper    *keeper

	inboxWritten bool            // it stands in the config
	inboxKey     []byte          // nil: none
	postgres     *inbox.Postgres // nil: the inbox is in a directory
	place        inboxPlace      // once the inbox is used
	logger       *zap.Logger
}

// Name returns the account's name.
func (a *Account) Name() string { return a.name }

// Secrets returns the keys that verify the signature of a report, the current
// one first.
func (a *Account) Secrets() [][]byte { return a.secrets }

func (a *Account) provision(ctx caddy.Context, name string) error {
	a.name = name
	a.logger = ctx.Logger().With(zap.String("account", name))
	a.meters = newMeters(name)
	if a.RefreshAhead < 0 || a.KlaviTimeout < 0 {
		return errors.New("refresh_ahead and klavi_timeout cannot be negative")
	}
	repl := caddy.NewReplacer()

	base, err := a.baseURL(repl)
	if err != nil {
		return err
	}
	access, err := resolve(repl, "access_key", a.AccessKey)
	if err != nil {
		return err
	}
	secret, err := resolve(repl, "secret_key", a.SecretKey)
	if err != nil {
		return err
	}
	a.secrets = [][]byte{[]byte(secret)}
	for i, key := range a.AcceptSecretKeys {
		key, err := resolve(repl, fmt.Sprintf("accept_secret_keys: key %d", i+1), key)
		if err != nil {
			return err
		}
		a.secrets = append(a.secrets, []byte(key))
	}
	if a.seal, err = a.newSealer(repl, base.String(), access); err != nil {
		return err
	}
	if err := a.provisionTransport(ctx, base); err != nil {
		return err
	}
	a.client = klavi.Client{Base: base, AccessKey: access, SecretKey: secret, Transport: callTransport{a}}

	if err := a.provisionInbox(); err != nil {
		return fmt.Errorf("inbox: %w", err)
	}

	a.logIn = a.login
	if base.Scheme == "https" { // on loopback it is a test, or the sandbox
		a.warnOfLiterals()
	}

	// The hash, not the keys: what is a key of the pool stays in memory.
	sum := sha256.Sum256([]byte(base.String() + "\x00" + access + "\x00" + secret))
	a.poolKey = hex.EncodeToString(sum[:])
	a.shared, err = acquire(a.poolKey)
	return err
}

func (a *Account) cleanup() error {
	if a.transport != nil {
		_ = a.transport.Cleanup()
	}
	// The fields stay: a request that outlives its config still reads them.
	var errs []error
	if a.keeper != nil {
		errs = append(errs, a.keeper.giveBack())
	}
	if a.poolKey != "" && a.shared != nil {
		errs = append(errs, release(a.poolKey))
	}
	return errors.Join(errs...)
}

func (a *Account) refreshAhead() time.Duration {
	if a.RefreshAhead == 0 {
		return defaultRefreshAhead
	}
	return time.Duration(a.RefreshAhead)
}

func (a *Account) klaviTimeout() time.Duration {
	if a.KlaviTimeout == 0 {
		return defaultKlaviTimeout
	}
	return time.Duration(a.KlaviTimeout)
}

// newSealer makes the keys for link tokens out of seal_key and the secret keys.
// All of them open; the first seals.
func (a *Account) newSealer(repl *caddy.Replacer, base, access string) (sealer, error) {
	var keys [][]byte
	if a.SealKey != "" {
		text, err := resolve(repl, "seal_key", a.SealKey)
		if err != nil {
			return nil, err
		}
		key, err := ParseKey(text)
		if err != nil {
			return nil, fmt.Errorf("seal_key %w", err)
		}
		keys = append(keys, key)
	}
	for _, secret := range a.secrets {
		key, err := deriveSealKey(secret, base, access, a.name)
		if err != nil {
			return nil, err
		}
		keys = append(keys, key)
	}
	return newSealer(keys)
}

// warnOfLiterals tells that secrets are written out in the config, which Caddy
// shows at /config/ and saves to disk.
func (a *Account) warnOfLiterals() {
	for name, text := range map[string]string{
		"access_key": a.AccessKey, "secret_key": a.SecretKey, "seal_key": a.SealKey, "inbox: encryption_key": a.Inbox.EncryptionKey,
	} {
		if text != "" && !strings.Contains(text, "{") {
			a.logger.Warn("a key is written out in the config, where /config/ and the autosaved config show it: "+
				"use a placeholder such as {env.KLAVI_SECRET_KEY}", zap.String("option", name))
		}
	}
	if p := a.Inbox.Postgres; p != nil && p.hasPassword() {
		a.logger.Warn("a password is written out in the config, where /config/ and the autosaved config show it: "+
			"use a placeholder such as {env.KLAVI_DB_PASSWORD}", zap.String("option", "inbox: postgres"))
	}
}

func (a *Account) baseURL(repl *caddy.Replacer) (*url.URL, error) {
	if (a.Environment == "") == (a.BaseURL == "") {
		return nil, fmt.Errorf("exactly one of environment (%s) and base_url is needed", strings.Join(klavi.Environments(), ", "))
	}
	if a.Environment != "" {
		name, err := resolve(repl, "environment", a.Environment)
		if err != nil {
			return nil, err
		}
		base, ok := klavi.BaseURL(name)
		if !ok {
			return nil, fmt.Errorf("environment %q is unknown: it is one of %s", name, strings.Join(klavi.Environments(), ", "))
		}
		return url.Parse(base)
	}
	text, err := resolve(repl, "base_url", a.BaseURL)
	if err != nil {
		return nil, err
	}
	return ParseBaseURL(text)
}

// ParseBaseURL checks the address of an API like Klavi's: https, except on
// loopback, and ending in /data/v1.
func ParseBaseURL(text string) (*url.URL, error) {
	base, err := url.Parse(strings.TrimSuffix(text, "/"))
	if err != nil || base.Host == "" {
		return nil, errors.New("base_url is not a URL such as https://api.klavi.ai/data/v1")
	}
	if base.User != nil || base.RawQuery != "" || base.Fragment != "" || base.ForceQuery {
		return nil, errors.New("base_url has more than scheme, host and path")
	}
	if base.RawPath != "" || !strings.HasSuffix(base.Path, "/data/v1") {
		return nil, fmt.Errorf("base_url has the path %q: it must end in /data/v1", base.Path)
	}
	switch {
	case base.Scheme == "https":
	case base.Scheme == "http" && isLoopback(base.Hostname()):
	default:
		return nil, fmt.Errorf("base_url has the scheme %q: it must be https, or http on loopback", base.Scheme)
	}
	return base, nil
}

func isLoopback(host string) bool {
	if host == "localhost" {
		return true
	}
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.Unmap().IsLoopback()
}

// resolve replaces the placeholders of a setting. Its value is never part of an
// error: it may be a secret.
func resolve(repl *caddy.Replacer, what, text string) (string, error) {
	if text == "" {
		return "", fmt.Errorf("%s is missing", what)
	}
	value, err := repl.ReplaceOrErr(text, true, true)
	if err != nil {
		return "", fmt.Errorf("%s: %w", what, err)
	}
	if value == "" {
		return "", fmt.Errorf("%s is empty", what)
	}
	return value, nil
}
