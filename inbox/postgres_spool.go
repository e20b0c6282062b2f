//go:build !klavi_nopostgres

package inbox

import (
	"context"
	"errors"
	"time"
)

const (
	// How long a transaction may take that stores a report which could go to the
	// spool as well. Klavi waits ten seconds.
	hastyTime      = 2 * time.Second
	hastyLargeTime = 6 * time.Second
	// How often it is tried whether the database can be used again.
	reachAgain = time.Second
)

func (p *postgres) spool() *spool { return p.sp }

// handOver hands over what is in the spool, as soon and as often as it can.
func (p *postgres) handOver(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	said := ""
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		timer.Reset(reachAgain)
		if p.usable.Load() && !p.sp.away.Load() && !p.sp.left.Load() {
			continue
		}
		err := p.reach(ctx)
		if err == nil {
			p.sp.away.Store(false)
			err = p.sp.handOver(ctx, p.Store)
		}
		switch {
		case ctx.Err() != nil:
			return
		case err == nil:
			said = ""
		case !errors.Is(err, ErrAway) && err.Error() != said: // that is said elsewhere
			said = err.Error()
			p.log.Error("what is in the spool cannot be handed over to the database of the inbox: it is kept, and it is tried again",
				"inbox", p.place, "dir", p.sp.store.dir, "error", err)
		}
	}
}

// reach returns an error if the database cannot be used. What an opening could not
// do without it is done when it can.
func (p *postgres) reach(ctx context.Context) error {
	begun := time.Now()
	if p.usable.Load() {
		if err := p.ask(hastyTime); err != nil {
			return err
		}
		p.recovered(begun)
		return nil
	}
	limited, cancel := context.WithTimeout(ctx, largeTime)
	defer cancel()
	if err := p.failure(p.open(limited, false)); err != nil {
		return err
	}
	p.usable.Store(true)
	p.recovered(begun)
	if err := p.engine.readPauses(); err != nil { // before anything is delivered
		p.usable.Store(false)
		return err
	}
	p.join(ctx)
	return nil
}
