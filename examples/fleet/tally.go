//go:build unix

package main

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/caddy-klavi/caddy-klavi/inbox"
)

// test sends reports and kills gateways, and says what became of the reports.
func (f *fleet) test(ctx context.Context, up *upstream, lasts time.Duration, senders int) error {
	s := newSender(f.at("KLAVI_HOOKS_PORT", "/klavi/reports"))
	began := time.Now()
	limited, cancel := context.WithTimeout(ctx, lasts)
	defer cancel()
	var sending sync.WaitGroup
	for i := range senders {
		sending.Go(func() { s.send(limited, i) })
	}
	kills, err := f.killInTurn(limited, s, began)
	cancel()
	sending.Wait()
	if err != nil {
		return err
	}

	fmt.Println("waiting for what waits: a gateway that was killed is given up after 15 s, and the others deliver what it had begun")
	store, err := inbox.Open(ctx, inbox.Options{
		Postgres: &inbox.Postgres{URL: f.database, Schema: "klavi"}, Visit: true, Unencrypted: true, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		return err
	}
	defer store.Close()
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline) && ctx.Err() == nil; time.Sleep(100 * time.Millisecond) {
		st, err := store.Stats(ctx)
		if err != nil {
			return err
		}
		if st.Waiting == 0 {
			break
		}
	}
	records, err := recordsOf(ctx, store)
	if err != nil {
		return err
	}
	t := newTally(s.reports, records, up.got)
	fmt.Printf("\n%d kills in %s; %d reports, %d requests of Klavi's\n\n", kills, time.Since(began).Round(time.Second), t.sent, s.tries)
	t.write(os.Stdout)
	return t.verdict()
}

// killInTurn kills one gateway after the other until ctx is done, and starts it again.
func (f *fleet) killInTurn(ctx context.Context, s *klaviSender, began time.Time) (kills int, err error) {
	pause := func(d time.Duration) {
		select {
		case <-ctx.Done():
		case <-time.After(d):
		}
	}
	for {
		if pause(2 * time.Second); ctx.Err() != nil {
			return kills, nil
		}
		i := kills % gateways
		f.nodes[i].end(syscall.SIGKILL)
		kills++
		fmt.Printf("%6s  gateway %d killed; %d reports so far\n", time.Since(began).Round(time.Second), i+1, s.count())
		pause(2 * time.Second)
		if err := f.start(context.WithoutCancel(ctx), i); err != nil {
			return kills, err
		}
	}
}

// recordsOf returns the records of all reports, by id.
func recordsOf(ctx context.Context, store *inbox.Store) (map[string][]inbox.Record, error) {
	records := make(map[string][]inbox.Record)
	page := inbox.Page{Limit: 1000}
	for {
		list, err := store.Audit(ctx, inbox.Filter{}, page)
		if err != nil || len(list) == 0 {
			return records, err
		}
		for _, r := range list {
			records[r.ReportID] = append(records[r.ReportID], r)
		}
		page.After = list[len(list)-1].UID
	}
}

// tally is what became of the reports.
type tally struct {
	sent, acknowledged  int
	once, twice         int // they arrived
	waiting, dead       int
	missing, different  int // nothing of this may be
	recordedMoreThanOne int
}

// newTally holds what was sent against what the inbox says and what has arrived.
func newTally(sent map[string]report, records map[string][]inbox.Record, got map[string][][32]byte) (t tally) {
	for id, r := range sent {
		t.sent++
		if r.acknowledged {
			t.acknowledged++
		}
		switch n := len(got[id]); {
		case n == 1:
			t.once++
		case n > 1:
			t.twice++
		}
		for _, digest := range got[id] {
			if digest != r.digest {
				t.different++
			}
		}
		var state inbox.State
		for _, record := range records[id] {
			state = record.State
			if record.Digest != hex.EncodeToString(r.digest[:]) {
				t.different++
			}
		}
		switch {
		case state == inbox.Waiting:
			t.waiting++
		case state == inbox.Dead:
			t.dead++
		case r.acknowledged && (state != inbox.Delivered || len(got[id]) == 0):
			t.missing++
		}
		if len(records[id]) > 1 {
			t.recordedMoreThanOne++
		}
	}
	return t
}

func (t *tally) write(w io.Writer) {
	for _, line := range []struct {
		n    int
		what string
	}{
		{t.sent, "sent"},
		{t.acknowledged, "acknowledged with 200"},
		{t.once, "delivered once"},
		{t.twice, "delivered more than once"},
		{t.waiting, "waiting"},
		{t.dead, "dead"},
		{t.recordedMoreThanOne, "recorded more than once, to be 0"},
		{t.missing, "acknowledged and missing, to be 0"},
		{t.different, "with different bytes, to be 0"},
	} {
		fmt.Fprintf(w, "%8d  %s\n", line.n, line.what)
	}
}

func (t *tally) verdict() error {
	if t.missing+t.different+t.recordedMoreThanOne > 0 {
		return errors.New("the fleet has not kept what it promises")
	}
	return nil
}
