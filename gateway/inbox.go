package gateway

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"

	"github.com/caddy-klavi/caddy-klavi/inbox"
	"github.com/caddy-klavi/caddy-klavi/klavi"
)

// defaultMaxShare leaves the other routes half of the room when one of them takes
// nothing any more.
const defaultMaxShare = 0.5

// Inbox is where an account's reports lie, from the moment in which Klavi gets its
// 200 until a route has taken them: a directory that one process has open, or a
// database that several share. It is there as soon as a klavi_reports of the
// account is not `direct`.
//
// Where it is and EncryptionKey are those of the process that is running: a reload
// that changes the key of an inbox is refused, and one that changes its directory,
// database or schema leaves behind what waits in the old one. All else can be
// changed by a reload.
type Inbox struct {
	// Dir is the directory. It is made if it is not there; a relative one is in the
	// process's working directory. Two accounts cannot have the same. With postgres,
	// it is that of the spool. Default: `klavi/inbox/<account>` in Caddy's data directory.
	Dir string `json:"dir,omitempty"`

	// Postgres has the inbox in a database that several processes share, in place
	// of a directory. Default: none.
	Postgres *PostgresInbox `json:"postgres,omitempty"`

	// Spool has this process keep reports in Dir while the database cannot be
	// reached, and hand them over to it afterwards: until then they are on this
	// machine only. Default: false, and reports are answered 503 meanwhile.
	Spool bool `json:"spool,omitempty"`

	// EncryptionKey keeps the keys under which reports are sealed: 32 bytes, as
	// they are, as 64 hex digits or in base64. Who has lost it has lost the
	// reports. With postgres, all processes need the same. Production needs it, or
	// unencrypted.
	EncryptionKey string `json:"encryption_key,omitempty"`

	// Unencrypted has the keys of the reports lie beside them: whoever can read
	// the directory or the database can read the reports. Default: false in
	// production, and true elsewhere if there is no encryption_key.
	Unencrypted bool `json:"unencrypted,omitempty"`

	// MaxSize is how many bytes of bodies may wait or be dead. Reports beyond it are
	// answered 503. What is quarantined has 256 MiB of its own. Default: as many as the disk takes, up
	// to the last 5 % of it, or 256 MiB if these are less; with postgres, as many as
	// the database takes.
	MaxSize int64 `json:"max_size,omitempty"`

	// MaxShare is the part of max_size that the reports of one route may take up,
	// above 0 and up to 1. It counts where there are two routes or more. Default: 0.5.
	MaxShare float64 `json:"max_share,omitempty"`

	// RetryFor is how long a report is tried before it is dead. Default: 72h,
	// which a weekend fits in.
	RetryFor caddy.Duration `json:"retry_for,omitempty"`

	// RetryMaxInterval is the longest wait between two attempts, unless the
	// route asks for a longer one with Retry-After. It is not above retry_for.
	// Default: 1m.
	RetryMaxInterval caddy.Duration `json:"retry_max_interval,omitempty"`

	// KeepDead is how long a dead report is kept, for somebody to see and retry
	// it. Default: 30d.
	KeepDead caddy.Duration `json:"keep_dead,omitempty"`

	// KeepRecord is how long the record of a report is kept after its end: which
	// it was and where it went, and nothing of what it said. Default: 365d.
	KeepRecord caddy.Duration `json:"keep_record,omitempty"`

	// EraseOn are names of events such as `consent_deleted_by_user`, at which all
	// reports of the consents that they name are destroyed, and those that still
	// come for them. Default: none.
	EraseOn []string `json:"erase_on,omitempty"`
}

// check reports what is wrong with the settings.
func (i *Inbox) check() error {
	switch {
	case i.Spool && i.Postgres == nil:
		return errors.New("spool is for an inbox in postgres, which is not there")
	case i.Dir != "" && i.Postgres != nil && !i.Spool:
		return errors.New("dir and postgres are there, and no spool: the dir is that of the spool, so leave dir out or add spool")
	case i.MaxSize < 0:
		return errors.New("max_size cannot be negative")
	case i.MaxShare < 0 || i.MaxShare > 1:
		return fmt.Errorf("max_share is %v: it is a part of max_size, above 0 and up to 1", i.MaxShare)
	case i.MaxShare != 0 && i.MaxSize == 0:
		return errors.New("max_share is a part of max_size, which is not set")
	case i.RetryFor < 0 || i.RetryMaxInterval < 0 || i.KeepDead < 0 || i.KeepRecord < 0:
		return errors.New("retry_for, retry_max_interval, keep_dead and keep_record cannot be negative")
	case i.EncryptionKey != "" && i.Unencrypted:
		return errors.New("encryption_key and unencrypted cannot both be there")
	case time.Duration(i.RetryMaxInterval) > cmp.Or(time.Duration(i.RetryFor), inbox.DefaultRetryFor):
		return errors.New("retry_max_interval is longer than retry_for: a report would die before it is tried again")
	}
	for _, name := range i.EraseOn {
		if name == "" || strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789_") != "" {
			return fmt.Errorf("erase_on: %q is no name of an event, such as consent_deleted_by_user", name)
		}
		if strings.HasPrefix(name, "pf_") || strings.HasPrefix(name, "pj_") {
			return fmt.Errorf("erase_on: %q is a type of reports, and no event, such as consent_deleted_by_user", name)
		}
	}
	return nil
}

// unknownEvents returns the names in erase_on that Klavi does not document. It adds
// events, so that they are no error.
func (i *Inbox) unknownEvents() (unknown []string) {
	for _, name := range i.EraseOn {
		if !slices.Contains(klavi.KnownEventNames(), name) {
			unknown = append(unknown, name)
		}
	}
	return unknown
}

// settings returns what can be changed while the inbox is open.
func (i *Inbox) settings(routes int) inbox.Settings {
	share := i.MaxShare
	if share == 0 {
		share = defaultMaxShare
	}
	if routes < 2 {
		share = 1
	}
	return inbox.Settings{
		MaxSize:          i.MaxSize,
		MaxShare:         share,
		RetryFor:         time.Duration(i.RetryFor),
		RetryMaxInterval: time.Duration(i.RetryMaxInterval),
		KeepDead:         time.Duration(i.KeepDead),
		KeepRecord:       time.Duration(i.KeepRecord),
		EraseOn:          i.EraseOn,
	}
}

// provisionInbox reads the settings. It opens nothing.
func (a *Account) provisionInbox() error {
	a.inboxWritten = a.Inbox != nil
	if !a.inboxWritten {
		a.Inbox = new(Inbox)
	}
	if err := a.Inbox.check(); err != nil {
		return err
	}
	if unknown := a.Inbox.unknownEvents(); len(unknown) > 0 {
		a.logger.Warn("erase_on has events that are not known: nothing is erased at them if they are misspelt", zap.Strings("events", unknown))
	}
	if p := a.Inbox.Postgres; p != nil {
		var err error
		if a.postgres, err = p.Resolve(a.name); err != nil {
			return fmt.Errorf("postgres: %w", err)
		}
	}
	if a.Inbox.EncryptionKey == "" {
		return nil
	}
	text, err := resolve(caddy.NewReplacer(), "encryption_key", a.Inbox.EncryptionKey)
	if err != nil {
		return err
	}
	if a.inboxKey, err = ParseKey(text); err != nil {
		return fmt.Errorf("encryption_key %w", err)
	}
	return nil
}

// useInbox takes a reference to the account's inbox, which this config opens when
// it is started. It is called where a handler needs one.
func (a *Account) useInbox() error {
	encrypted := a.inboxKey != nil
	if !encrypted && !a.Inbox.Unencrypted && isProduction(a.client.Base) {
		return errors.New("inbox: production needs encryption_key: `openssl rand -hex 32` makes one, to be kept outside of this machine, too; " +
			"or the word unencrypted, where the disk is encrypted")
	}
	place, err := a.findInbox()
	if err != nil {
		return fmt.Errorf("inbox: %w", err)
	}
	if !encrypted && !a.Inbox.Unencrypted && a.client.Base.Scheme == "https" {
		a.logger.Warn("reports are kept with the keys beside them: set encryption_key in inbox", zap.Stringer(place.field(), place))
	}
	a.place = place
	a.keeper, err = acquireKeeper(a.name, place)
	return err
}

func isProduction(base *url.URL) bool {
	text, _ := klavi.BaseURL("production")
	production, err := url.Parse(text)
	return err == nil && strings.EqualFold(production.Hostname(), base.Hostname())
}

// checkRoom refuses an inbox in which the largest body that is taken would never
// find room.
func (i *Inbox) checkRoom(maxBody int64, routes int) error {
	st := i.settings(routes)
	room := int64(st.MaxShare * float64(st.MaxSize))
	if st.MaxSize == 0 || maxBody+maxBody/bodyOverhead < room {
		return nil
	}
	if st.MaxShare == 1 {
		return fmt.Errorf("inbox: max_size is %d bytes, in which a report of max_body (%d bytes) never fits: "+
			"make max_size larger, or max_body smaller", st.MaxSize, maxBody)
	}
	return fmt.Errorf("inbox: max_size with max_share leaves %d bytes for the reports of one route, in which one of max_body (%d bytes) "+
		"never fits: make max_size or max_share larger, or max_body smaller", room, maxBody)
}

// bodyOverhead is the part of a body, or less, that its sealing adds.
const bodyOverhead = 100

// OpenInbox returns the inbox of an account of which a handler keeps reports, for
// one request, which calls done when it has ended. One that is being opened is waited
// for, up to 5 s. Its error wraps one of package inbox, and says why the inbox takes
// no reports.
func (a *Account) OpenInbox(ctx context.Context) (store *inbox.Store, done func(), err error) {
	if !a.keeper.enter() {
		return nil, nil, fmt.Errorf("%w: the config of this request is gone, and its inbox closed", inbox.ErrUnavailable)
	}
	store, err = a.keeper.wait(ctx)
	if err == nil {
		err = a.keeper.admit(store)
	}
	if err != nil {
		a.keeper.leave()
		return nil, nil, err
	}
	return store, a.keeper.leave, nil
}

// Quarantined says that a body was quarantined, because it fits none of the
// account's keys. A config that was started meanwhile may have more.
func (a *Account) Quarantined() { a.keeper.quarantined(a) }
