//go:build unix

package main

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
	"testing"

	"github.com/caddy-klavi/caddy-klavi/inbox"
)

// The tally sees what it is there to see.
func TestTally(t *testing.T) {
	digest := func(text string) [32]byte { return sha256.Sum256([]byte(text)) }
	record := func(text string, state inbox.State) inbox.Record {
		d := digest(text)
		return inbox.Record{Digest: hex.EncodeToString(d[:]), State: state}
	}
	sent, records, got := make(map[string]report), make(map[string][]inbox.Record), make(map[string][][32]byte)
	for id, r := range map[string]struct {
		refused bool
		records []inbox.Record
		got     []string
	}{
		"once":         {records: []inbox.Record{record("once", inbox.Delivered)}, got: []string{"once"}},
		"twice":        {records: []inbox.Record{record("twice", inbox.Delivered)}, got: []string{"twice", "twice"}},
		"waiting":      {records: []inbox.Record{record("waiting", inbox.Waiting)}},
		"dead":         {records: []inbox.Record{record("dead", inbox.Dead)}},
		"refused":      {refused: true},
		"no record":    {got: []string{"no record"}},
		"never there":  {records: []inbox.Record{record("never there", inbox.Delivered)}},
		"other bytes":  {records: []inbox.Record{record("other bytes", inbox.Delivered)}, got: []string{"othe"}},
		"other record": {records: []inbox.Record{record("other", inbox.Waiting)}},
		"two records":  {records: []inbox.Record{record("two records", inbox.Waiting), record("two records", inbox.Waiting)}},
	} {
		sent[id], records[id] = report{digest: digest(id), acknowledged: !r.refused}, r.records
		for _, text := range r.got {
			got[id] = append(got[id], digest(text))
		}
	}
	want := tally{sent: 10, acknowledged: 9, once: 3, twice: 1, waiting: 3, dead: 1, missing: 2, different: 2, recordedMoreThanOne: 1}
	tl := newTally(sent, records, got)
	if tl != want {
		t.Errorf("got %+v, want %+v", tl, want)
	}
	if err := tl.verdict(); err == nil {
		t.Error("got no error, want one")
	}
	var b strings.Builder
	tl.write(&b)
	if want := "       2  acknowledged and missing, to be 0\n"; !strings.Contains(b.String(), want) {
		t.Errorf("got\n%swant it with %q", b.String(), want)
	}
	fine := tally{sent: 2, acknowledged: 1, waiting: 1}
	if err := fine.verdict(); err != nil {
		t.Errorf("got %v, want no error", err)
	}
}
