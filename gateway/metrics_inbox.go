package gateway

import (
	"context"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/caddy-klavi/caddy-klavi/inbox"
)

// observeInbox counts what happens to the deliveries of an account.
func observeInbox(account string) inbox.Observer {
	return inbox.Observer{
		Attempt: func(route string, o inbox.Outcome, took time.Duration) {
			countAttempt(account, route, o.Accepted, took)
		},
		Dead: func(route string, n int) {
			metrics.deaths.WithLabelValues(account, route).Add(float64(n))
		},
	}
}

// inboxGauges says how the inboxes are that the running configs have. It asks them
// when it is asked, and has nothing to say of an inbox that is not used any more.
type inboxGauges struct{}

var (
	ofAccount = []string{"account"}
	ofRoute   = []string{"account", "route"}

	gauges = struct{ ready, bytes, quarantined, damaged, waiting, oldest, dead, paused, failing *prometheus.Desc }{
		ready:       prometheus.NewDesc("caddy_klavi_inbox_ready", "Whether the inbox can take a report: 1 or 0.", ofAccount, nil),
		bytes:       prometheus.NewDesc("caddy_klavi_inbox_bytes", "Bytes of the bodies in the inbox, which max_size limits.", ofAccount, nil),
		quarantined: prometheus.NewDesc("caddy_klavi_inbox_quarantined", "Bodies with the signature of an unknown key, which become reports when it is known.", ofAccount, nil),
		damaged:     prometheus.NewDesc("caddy_klavi_inbox_damaged", "Reports whose bodies cannot be read back.", ofAccount, nil),
		waiting:     prometheus.NewDesc("caddy_klavi_inbox_waiting", "Deliveries that wait, by route; without a route it is empty.", ofRoute, nil),
		oldest:      prometheus.NewDesc("caddy_klavi_inbox_oldest_seconds", "For how long the oldest of those that wait has waited; 0 if none does.", ofRoute, nil),
		dead:        prometheus.NewDesc("caddy_klavi_inbox_dead", "Deliveries that are dead: kept, but not tried any more.", ofRoute, nil),
		paused:      prometheus.NewDesc("caddy_klavi_inbox_paused", "Whether a person has paused the route: 1 or 0.", ofRoute, nil),
		failing:     prometheus.NewDesc("caddy_klavi_inbox_failing", "Whether the route accepts nothing any more, and is only probed: 1 or 0.", ofRoute, nil),
	}
)

// Describe implements prometheus.Collector.
func (inboxGauges) Describe(descs chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		gauges.ready, gauges.bytes, gauges.quarantined, gauges.damaged,
		gauges.waiting, gauges.oldest, gauges.dead, gauges.paused, gauges.failing,
	} {
		descs <- d
	}
}

// Collect implements prometheus.Collector. An inbox that does not answer is not
// waited for: it is not ready.
func (inboxGauges) Collect(out chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), askTime)
	defer cancel()
	var wg sync.WaitGroup
	for _, k := range keepersInForce() {
		wg.Go(func() {
			g := gaugesOf{k.account, out}
			ready := k.ready(ctx) == nil
			g.send(gauges.ready, number(ready))
			if held, err := k.held(ctx); err == nil {
				g.sendHeld(held)
			}
		})
	}
	wg.Wait()
}

// gaugesOf sends the gauges of an account.
type gaugesOf struct {
	account string
	out     chan<- prometheus.Metric
}

func (g gaugesOf) send(d *prometheus.Desc, value float64, route ...string) {
	m, err := prometheus.NewConstMetric(d, prometheus.GaugeValue, value, append([]string{g.account}, route...)...)
	if err == nil { // a name that somebody has paused may be no text
		g.out <- m
	}
}

func (g gaugesOf) sendHeld(h held) {
	g.send(gauges.bytes, float64(h.stats.Bytes))
	g.send(gauges.quarantined, float64(h.stats.Quarantined))
	g.send(gauges.damaged, float64(h.stats.Damaged))
	for _, r := range h.routes {
		oldest := 0.0
		if !r.Oldest.IsZero() {
			oldest = max(0, time.Since(r.Oldest).Seconds()) // clocks go back, too
		}
		g.send(gauges.waiting, float64(r.Waiting), r.Name)
		g.send(gauges.oldest, oldest, r.Name)
		g.send(gauges.dead, float64(r.Dead), r.Name)
		g.send(gauges.paused, number(r.PausedBy != ""), r.Name)
		g.send(gauges.failing, number(!r.Failing.IsZero()), r.Name)
	}
}

func number(yes bool) float64 {
	if yes {
		return 1
	}
	return 0
}
