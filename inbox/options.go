package inbox

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"
)

// Options is how a Store is opened.
type Options struct {
	// Dir is the directory of the store. It is made if it is not there. One
	// process at a time can have it open.
	Dir string
	// Postgres is where the store is, in place of Dir.
	Postgres *Postgres
	// Spool has reports kept in Dir while the database of Postgres cannot be
	// used, and handed over to it as soon as it can, by whoever has it open then with
	// this Spool and Dir. Without them nobody knows of what is left there.
	Spool bool
	// Visit is for people who look into the inbox of a process that has ended. It
	// must be there, else it is ErrNotFound; it must belong to this user, because
	// its owner could not write what another one makes; and nothing of it is
	// removed because it is too old: that is for the settings of its process.
	Visit bool
	// EncryptionKey is the 32 bytes under which the key of each report is kept.
	EncryptionKey []byte
	// Unencrypted stands in for EncryptionKey: reports are sealed all the same,
	// but the keys lie beside them.
	Unencrypted bool
	// Node is the name of this machine in the records. Default: the host's name.
	Node string
	// Now is the clock. Default: time.Now.
	Now func() time.Time
	// Logger gets what somebody should know. Default: slog.Default().
	Logger *slog.Logger
	// Observer is told of attempts and deaths.
	Observer Observer

	Settings
}

// Settings can be changed while the store is open, with Configure.
type Settings struct {
	// MaxSize is how many bytes of bodies may wait or be dead. More reports are
	// refused. 0: as many as the disk takes.
	MaxSize int64
	// MaxShare is the part of MaxSize that the reports of one route may take up,
	// between 0 and 1. 0: all of it.
	MaxShare float64
	// RetryFor is how long a report is tried before it is dead. Default: 3 days.
	RetryFor time.Duration
	// RetryMaxInterval is the longest wait between two attempts. Default: 1 minute.
	RetryMaxInterval time.Duration
	// KeepDead is how long a dead report is kept. Default: 30 days.
	KeepDead time.Duration
	// KeepRecord is how long the record of a report is kept after its end.
	// Default: 365 days.
	KeepRecord time.Duration
	// EraseOn are the names of the events that say that somebody asked for the
	// data of a consent to be forgotten.
	EraseOn []string
}

// The defaults of Settings.
const (
	DefaultRetryFor         = 3 * 24 * time.Hour
	DefaultRetryMaxInterval = time.Minute
	DefaultKeepDead         = 30 * 24 * time.Hour
	DefaultKeepRecord       = 365 * 24 * time.Hour
)

func (o *Options) fill() error {
	if o.Dir == "" && (o.Postgres == nil || o.Spool) {
		return errors.New("inbox: no directory is given")
	}
	switch {
	case o.Unencrypted && len(o.EncryptionKey) > 0:
		return errors.New("inbox: an encryption key and unencrypted exclude each other: give one of them")
	case !o.Unencrypted && len(o.EncryptionKey) != keySize:
		return fmt.Errorf("inbox: the encryption key has %d bytes: it needs %d", len(o.EncryptionKey), keySize)
	}
	if o.Node == "" {
		o.Node, _ = os.Hostname()
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	o.fillDefaults()
	return nil
}

// fillDefaults puts the defaults where nothing is set.
func (st *Settings) fillDefaults() {
	for _, d := range []struct {
		value   *time.Duration
		initial time.Duration
	}{
		{&st.RetryFor, DefaultRetryFor},
		{&st.RetryMaxInterval, DefaultRetryMaxInterval},
		{&st.KeepDead, DefaultKeepDead},
		{&st.KeepRecord, DefaultKeepRecord},
	} {
		if *d.value <= 0 {
			*d.value = d.initial
		}
	}
}
