//go:build !klavi_nopostgres

package inbox

import (
	"context"
	"database/sql"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	// How often a node says that it is there, and after how long in which it has
	// not, the others take over what it had claimed.
	beatInterval = 3 * time.Second
	nodeGone     = 15 * time.Second
	// A node that could not say so for so long begins no attempt any more.
	nodeUnsure = 10 * time.Second
	// The others are told at most so often: each time takes a lock that all who
	// tell something share.
	tellInterval = 50 * time.Millisecond
	listenAgain  = time.Second
)

// databaseNow is the time in milliseconds by the clock that all nodes share.
const databaseNow = `(extract(epoch FROM clock_timestamp()) * 1000)::bigint`

// fleet is what a node knows of the others.
type fleet struct {
	visit  bool
	deaf   bool
	hurry  time.Duration
	joined bool
	begun  bool          // to join: it may have joined without knowing
	beats  chan struct{} // has it beat now
	said   chan struct{} // something is to be said to the others

	mu     sync.Mutex
	last   time.Time // that it was said that this node is there
	steady time.Time // since when without a gap
}

func (f *fleet) init(visit bool) {
	f.visit = visit
	f.beats = make(chan struct{}, 1)
	f.said = make(chan struct{}, 1)
}

// sure says whether the others know that this node is there.
func (f *fleet) sure() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return time.Since(f.last) < nodeUnsure/f.hurry
}

func (f *fleet) beaten() {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := time.Now()
	if now.Sub(f.last) >= nodeUnsure/f.hurry {
		f.steady = now
	}
	f.last = now
}

// mayBury says whether who is silent is gone: after a time in which this node could
// not say anything either, the others get time to.
func (f *fleet) mayBury() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := time.Now()
	return now.Sub(f.last) < nodeUnsure/f.hurry && now.Sub(f.steady) >= nodeGone/f.hurry
}

func nudge(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// keepBeating says again and again that this node is there.
func (p *postgres) keepBeating(ctx context.Context) {
	ticker := time.NewTicker(beatInterval / p.fleet.hurry)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		case <-p.fleet.beats:
		}
		limited, cancel := context.WithTimeout(ctx, transactTime)
		err := p.beat(limited)
		cancel()
		if err != nil && ctx.Err() == nil {
			_ = p.failure(err)
		}
	}
}

// beat says that this node is there, takes over what nodes that are gone had
// claimed, and shares the concurrency of the routes with the others.
func (p *postgres) beat(ctx context.Context) error {
	begun := time.Now()
	p.fleet.begun = true
	view, routes := p.here()
	var slots map[string]int
	var gone, known bool
	err := p.inTx(ctx, func(t *tx) error {
		if err := t.exec(`SELECT pg_advisory_xact_lock(?)`, p.lockKey("nodes", "")); err != nil {
			return err
		}
		err := t.get([]any{&known}, `SELECT EXISTS (SELECT 1 FROM nodes WHERE id = ?)`, p.owner)
		if err != nil {
			return err
		}
		err = t.exec(`INSERT INTO nodes (id, name, seen, routes) VALUES (?, ?, `+databaseNow+`, ?)
			ON CONFLICT (id) DO UPDATE SET seen = excluded.seen, routes = excluded.routes`, p.owner, p.node, view.text())
		if err != nil {
			return err
		}
		if gone, err = p.bury(t); err != nil {
			return err
		}
		slots, err = p.share(t, routes)
		return err
	})
	if err != nil {
		return err
	}
	p.recovered(begun)
	p.engine.setSlots(slots, p.fleet.joined && !known)
	p.fleet.joined = true
	p.fleet.beaten()
	p.engine.kick() // the lanes may have been unsure
	if gone {
		p.engine.look()
	}
	return nil
}

// bury gives up the claims and slots of nodes that are gone.
func (p *postgres) bury(t *tx) (bool, error) {
	if !p.fleet.mayBury() {
		return false, nil
	}
	gone, err := t.texts(`DELETE FROM nodes WHERE seen < `+databaseNow+` - ? RETURNING id`, (nodeGone / p.fleet.hurry).Milliseconds())
	if err != nil {
		return false, err
	}
	if len(gone) == 0 {
		return false, nil
	}
	if err := t.exec(`DELETE FROM slots WHERE node NOT IN (SELECT id FROM nodes)`); err != nil {
		return false, err
	}
	err = t.exec(`UPDATE deliveries SET claimed_by = NULL, claimed_until = NULL WHERE state = 'waiting' AND claimed_by IS NOT NULL
		AND claimed_by NOT IN (SELECT id FROM nodes)`)
	p.log.Warn("a node of the fleet is gone: what it had claimed is delivered by the others", "inbox", p.place, "nodes", len(gone))
	return true, err
}

// share takes this node's part of the concurrency of each route. What is still used
// beyond that is this node's until it has ended.
func (p *postgres) share(t *tx, routes []Route) (map[string]int, error) {
	taken, had := make(map[string]map[string]int), make(map[string]int) // by route and node, and by route
	err := t.each(func(r row) error {
		var route, node string
		var n int
		if err := r.Scan(&route, &node, &n); err != nil {
			return err
		}
		if taken[route] == nil {
			taken[route] = make(map[string]int)
		}
		taken[route][node] = n
		if node == p.owner {
			had[route] = n
		}
		return nil
	}, `SELECT route, node, n FROM slots`)
	if err != nil {
		return nil, err
	}
	own := make(map[string]int, len(routes))
	for _, r := range routes {
		nodes := taken[r.Name]
		if nodes == nil {
			nodes = make(map[string]int)
		}
		nodes[p.owner] = 0
		free := r.Concurrency
		for _, n := range nodes {
			free -= n
		}
		own[r.Name] = max(min(fairShare(r.Concurrency, slices.Sorted(maps.Keys(nodes)), p.owner), free), 0)
	}
	// What is given up is given up before others can take it.
	used := p.engine.lowerSlots(own)
	for name, n := range used {
		if before, was := had[name]; was && n == before {
			continue
		}
		err := t.exec(`INSERT INTO slots (route, node, n) VALUES (?, ?, ?) ON CONFLICT (route, node) DO UPDATE SET n = excluded.n`, name, p.owner, n)
		if err != nil {
			return nil, err
		}
	}
	for name := range had {
		if _, is := used[name]; is {
			continue
		}
		if err := t.exec(`DELETE FROM slots WHERE route = ? AND node = ?`, name, p.owner); err != nil {
			return nil, err
		}
	}
	return own, nil
}

// fairShare divides a concurrency among nodes, which are in order.
func fairShare(concurrency int, nodes []string, own string) int {
	n := concurrency / len(nodes)
	if slices.Index(nodes, own) < concurrency%len(nodes) {
		n++
	}
	return n
}

// leave says that this node is gone, and gives up what it had claimed.
func (p *postgres) leave(ctx context.Context) error {
	return p.inTx(ctx, func(t *tx) error {
		for _, statement := range []string{
			`DELETE FROM nodes WHERE id = ?`,
			`DELETE FROM slots WHERE node = ?`,
			`UPDATE deliveries SET claimed_by = NULL, claimed_until = NULL WHERE state = 'waiting' AND claimed_by = ?`,
		} {
			if err := t.exec(statement, p.owner); err != nil {
				return err
			}
		}
		return t.exec(`SELECT pg_notify(?, ?)`, p.channel(), p.owner)
	})
}

// others returns the names of the other nodes that are there.
func (p *postgres) others(ctx context.Context) (names []string, err error) {
	err = p.scan(ctx, `SELECT DISTINCT name FROM nodes WHERE id <> ? AND seen >= `+databaseNow+` - ? ORDER BY name`,
		[]any{p.owner, (nodeGone / p.fleet.hurry).Milliseconds()}, func(rows *sql.Rows) error {
			var name string
			err := rows.Scan(&name)
			names = append(names, name)
			return err
		})
	return names, err
}

// here is what this node publishes, and the routes that it has.
func (p *postgres) here() (nodeView, []Route) {
	e := p.engine
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.set == nil || e.stopped {
		return nodeView{}, nil
	}
	routes := make([]Route, 0, len(e.set.byName))
	for _, r := range e.set.byName {
		routes = append(routes, r)
	}
	return e.view(), routes
}

// readViews learns what the nodes deliver to.
func (p *postgres) readViews(ctx context.Context) error {
	var views []nodeView
	err := p.scan(ctx, `SELECT routes FROM nodes ORDER BY seen`, nil, func(rows *sql.Rows) error {
		var text string
		err := rows.Scan(&text)
		views = append(views, parseView(text))
		return err
	})
	if err != nil || len(views) == 0 {
		return err
	}
	p.engine.mu.Lock()
	defer p.engine.mu.Unlock()
	p.engine.elsewhere = newFleetView(views)
	return nil
}

// channel is where the nodes of this inbox tell each other that something has
// changed. The name of a schema may be as long as that of a channel.
func (p *postgres) channel() string { return fmt.Sprint("klavi_inbox_", p.lockKey("channel", "")) }

// tell has the other nodes look what has changed, soon.
func (p *postgres) tell() { nudge(p.fleet.said) }

// keepTelling tells the others, as often as it may.
func (p *postgres) keepTelling(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		select {
		case <-ctx.Done():
			return
		case <-p.fleet.said:
		}
		p.notify(ctx)
		timer.Reset(tellInterval)
	}
}

// notify has the others look. They look by themselves if it fails.
func (p *postgres) notify(ctx context.Context) {
	limited, cancel := context.WithTimeout(ctx, transactTime)
	defer cancel()
	_, _ = p.db.ExecContext(limited, `SELECT pg_notify($1, $2)`, p.channel(), p.owner)
}

// listen hears what other nodes tell. What is missed meanwhile is found by looking.
func (p *postgres) listen(ctx context.Context) {
	for ctx.Err() == nil {
		conn, err := pgx.ConnectConfig(ctx, p.config)
		if err == nil {
			err = p.listenOn(ctx, conn)
			_ = conn.Close(context.WithoutCancel(ctx))
		}
		if err != nil && ctx.Err() == nil {
			_ = p.failure(err)
		}
		timer := time.NewTimer(listenAgain)
		select {
		case <-ctx.Done():
		case <-timer.C:
		}
		timer.Stop()
	}
}

func (p *postgres) listenOn(ctx context.Context, conn *pgx.Conn) error {
	if _, err := conn.Exec(ctx, `LISTEN "`+p.channel()+`"`); err != nil {
		return err
	}
	p.engine.look() // for what was missed
	for {
		told, err := conn.WaitForNotification(ctx)
		if err != nil {
			return err
		}
		if told.Payload != p.owner {
			p.engine.look()
		}
	}
}
