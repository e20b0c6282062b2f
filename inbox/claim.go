package inbox

import (
	"cmp"
	"context"
	"math"
	"slices"
	"time"
)

// claimMargin is for how much longer than its attempt a delivery is claimed.
const claimMargin = 30 * time.Second

// claimAgain is how soon it is looked again at what another claim had locked.
const claimAgain = 50 * time.Millisecond

// job is a report on its way to a route: all its deliveries that go there.
type job struct {
	report     int64
	uid        string // once it is loaded
	deliveries []int64
	subjects   []subject // of the deliveries
	attempts   int       // before this one
	failures   int
	since      int64
	probe      probe
	gone       int // the engine's, when it was claimed

	set   *set // it is delivered with
	route Route
	due   int64 // next, never if it does not wait any more
}

// claim takes the reports that are due of some subjects, the oldest first.
type claim struct {
	set    *set
	route  string
	queues []claimQueue
	n      int   // reports at most
	kind   probe // newestProbe takes the newest instead
	turn   int   // how many were chosen so far
	gone   int   // the engine's, before it began
	// retries is how many of those that failed before may be among them. More may
	// be at next.
	retries int
	next    time.Time
	now     int64
	until   int64
	// doubtful: an earlier one may have been made though it failed, of all but these.
	doubtful bool
	known    []int64
	busy     func(delivery int64) bool // it is claimed here already

	jobs    []*job
	retried bool // one of them was tried before
}

type claimQueue struct {
	subject
	woken int   // when the claim began
	due   int64 // when there may be more
}

// candidate is a delivery that is due.
type candidate struct {
	id, report, due, since int64
	attempts, failures     int
	queue                  int
	retried                bool
}

// One index gives each of these its rows in their order. What is fresh is due
// whatever the clock says.
const (
	selectWaiting = `SELECT id, report, due, since, attempts, failures FROM deliveries
		WHERE state = 'waiting' AND kind = ? AND subject = ? AND retried = ? AND due <= ? AND (claimed_until IS NULL OR claimed_until < ?) `
	selectOldest = selectWaiting + `ORDER BY due, id LIMIT ?`
	selectNewest = selectWaiting + `ORDER BY due DESC, id DESC LIMIT ?`
	selectNext   = `SELECT coalesce(min(due), ?) FROM deliveries WHERE state = 'waiting' AND kind = ? AND subject = ? AND retried = 1 AND due > ?`
	// The events of an array that no route has accepted yet.
	selectSiblings = `SELECT id, subject, attempts, failures, since FROM deliveries
		WHERE report = ? AND state = 'waiting' AND (claimed_until IS NULL OR claimed_until < ?)`
	// What nobody has claimed, though somebody may be about to.
	selectSkipped = `SELECT EXISTS (SELECT 1 FROM deliveries
		WHERE state = 'waiting' AND kind = ? AND subject = ? AND retried = ? AND due <= ? AND (claimed_until IS NULL OR claimed_until < ?))`
	selectOwn     = `SELECT id FROM deliveries WHERE state = 'waiting' AND kind = ? AND subject = ? AND claimed_by = ?`
	updateClaims  = `UPDATE deliveries SET claimed_by = ?, claimed_until = ? WHERE id IN `
	updateRelease = `UPDATE deliveries SET claimed_by = NULL, claimed_until = NULL WHERE id = ? AND claimed_by = ?`
)

// forgotten gives up what an earlier claim of this lane has taken, if that failed and
// was made all the same: nobody delivers it. What this node knows of stays claimed.
func (c *claim) forgotten(s *Store, t *tx) error {
	for _, q := range c.queues {
		ids, err := t.ids(selectOwn, string(q.kind), q.name, s.owner)
		if err != nil {
			return err
		}
		for _, id := range ids {
			if slices.Contains(c.known, id) {
				continue
			}
			if err := t.exec(updateRelease, id, s.owner); err != nil {
				return err
			}
		}
	}
	return nil
}

// take makes the claim. A claim that is forgotten costs nothing: the next
// opening gives up all of them.
func (c *claim) take(s *Store) error {
	return s.writeLazy(context.Background(), func(t *tx) error {
		c.jobs, c.retried = nil, false
		if c.doubtful {
			if err := c.forgotten(s, t); err != nil {
				return err
			}
		}
		fresh, err := c.candidates(s, t, 0, math.MaxInt64)
		if err != nil {
			return err
		}
		retried, err := c.candidates(s, t, 1, c.now)
		if err != nil {
			return err
		}
		left, err := c.choose(s, t, fresh, retried)
		if err != nil {
			return err
		}
		var ids []int64
		for _, j := range c.jobs {
			ids = append(ids, j.deliveries...)
		}
		for some := range slices.Chunk(ids, maxBatch) {
			list, values := among(some)
			if err := t.exec(updateClaims+list, append([]any{s.owner, c.until}, values...)...); err != nil {
				return err
			}
		}
		if err := c.findNext(t, left); err != nil || s.lockRows == "" {
			return err
		}
		return c.findSkipped(t)
	})
}

// candidates returns the first deliveries of all queues, one more of each than
// can be taken.
func (c *claim) candidates(s *Store, t *tx, retried int, due int64) ([]candidate, error) {
	query := selectOldest
	if c.kind == newestProbe {
		query = selectNewest
	}
	var found []candidate
	for i, q := range c.queues {
		err := t.each(func(r row) error {
			d := candidate{queue: i, retried: retried == 1}
			err := r.Scan(&d.id, &d.report, &d.due, &d.since, &d.attempts, &d.failures)
			if !c.busy(d.id) {
				found = append(found, d)
			}
			return err
		}, query+s.lockRows, string(q.kind), q.name, retried, due, c.now, c.n+1)
		if err != nil {
			return nil, err
		}
	}
	slices.SortFunc(found, func(a, b candidate) int {
		order := cmp.Or(cmp.Compare(a.due, b.due), cmp.Compare(a.id, b.id))
		if c.kind == newestProbe {
			return -order
		}
		return order
	})
	return found, nil
}

// choose makes jobs of the candidates, and returns those that are left. What is
// fresh goes before what failed before, but each fourth place is for the latter,
// so that neither keeps the other from its route. A probe prefers what is fresh.
func (c *claim) choose(s *Store, t *tx, fresh, retried []candidate) (left []candidate, err error) {
	taken := make(map[int64]bool)
	retries := c.retries
	for i := c.turn; len(c.jobs) < c.n; i++ {
		from, again := &fresh, len(retried) > 0 && retries > 0
		if again && (len(fresh) == 0 || i%4 == 3 && c.kind == noProbe) {
			from = &retried
		}
		if len(*from) == 0 {
			break
		}
		d := (*from)[0]
		*from = (*from)[1:]
		if taken[d.report] {
			continue
		}
		taken[d.report] = true
		if d.retried {
			retries--
			c.retried = true
		}
		j, err := c.job(s, t, d)
		if err != nil {
			return nil, err
		}
		c.jobs = append(c.jobs, j)
	}
	left = slices.Concat(fresh, retried)
	return slices.DeleteFunc(left, func(d candidate) bool { return taken[d.report] }), nil
}

// job returns the job for a delivery. An array of events goes to a route once,
// for all its events that have this route.
func (c *claim) job(s *Store, t *tx, d candidate) (*job, error) {
	sub := c.queues[d.queue].subject
	j := &job{
		report: d.report, deliveries: []int64{d.id}, subjects: []subject{sub},
		attempts: d.attempts, failures: d.failures, since: d.since, due: never, probe: c.kind, gone: c.gone, set: c.set,
	}
	if sub.kind != KindEvent {
		return j, nil
	}
	err := t.each(func(r row) error {
		var id, since int64
		var attempts, failures int
		other := subject{kind: sub.kind}
		if err := r.Scan(&id, &other.name, &attempts, &failures, &since); err != nil {
			return err
		}
		if id == d.id || c.busy(id) || c.set.route(other) != c.route {
			return nil
		}
		j.deliveries = append(j.deliveries, id)
		j.subjects = append(j.subjects, other)
		j.attempts, j.failures, j.since = max(j.attempts, attempts), max(j.failures, failures), max(j.since, since)
		return nil
	}, selectSiblings+s.lockRows, d.report, c.now)
	return j, err
}

// findNext finds out when each queue has more.
func (c *claim) findNext(t *tx, left []candidate) error {
	for i := range c.queues {
		q := &c.queues[i]
		limited := c.retries < math.MaxInt
		if slices.ContainsFunc(left, func(d candidate) bool { return d.queue == i && !(d.retried && limited) }) {
			q.due = 0
			continue
		}
		if err := t.get([]any{&q.due}, selectNext, never, string(q.kind), q.name, c.now); err != nil {
			return err
		}
		if !limited {
			continue
		}
		next := c.next.UnixMilli() + 1 // no part of a millisecond before it
		if slices.ContainsFunc(left, func(d candidate) bool { return d.queue == i }) {
			q.due = next
		} else {
			q.due = max(q.due, next)
		}
	}
	return nil
}

// findSkipped has the queues that seem to be empty looked at again soon if another
// claim had locked what they have: it may take none of it.
func (c *claim) findSkipped(t *tx) error {
	for i := range c.queues {
		q := &c.queues[i]
		if q.due <= c.now {
			continue
		}
		for retried, due := range []int64{math.MaxInt64, c.now} {
			if retried == 1 && c.retries < math.MaxInt {
				continue
			}
			var skipped bool
			if err := t.get([]any{&skipped}, selectSkipped, string(q.kind), q.name, retried, due, c.now); err != nil {
				return err
			}
			if skipped {
				q.due = min(q.due, c.now+claimAgain.Milliseconds())
			}
		}
	}
	return nil
}

// unclaim gives up the claims of jobs that have not begun.
func (s *Store) unclaim(jobs []*job) error {
	return s.writeLazy(context.Background(), func(t *tx) error {
		for _, j := range jobs {
			for _, id := range j.deliveries {
				if err := t.exec(updateRelease, id, s.owner); err != nil {
					return err
				}
			}
		}
		return nil
	})
}
