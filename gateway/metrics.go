package gateway

import (
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/caddy-klavi/caddy-klavi/klavi"
)

// The collectors belong to the process and are registered anew with each
// config's registry, so that a reload does not set the counters back. Labels
// come from the config or from fixed lists, never from a request.
var metrics = struct {
	calls    *prometheus.CounterVec
	duration *prometheus.HistogramVec
	logins   *prometheus.CounterVec
	refusals *prometheus.CounterVec
	reports  *prometheus.CounterVec
	took     *prometheus.HistogramVec
	refused  *prometheus.CounterVec
	keys     *prometheus.CounterVec
	kept     *prometheus.CounterVec
	deaths   *prometheus.CounterVec
}{
	calls: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "caddy_klavi_calls_total",
		Help: "Calls to Klavi by endpoint and class of status; error is no answer at all.",
	}, []string{"account", "endpoint", "status"}),
	duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name:    "caddy_klavi_call_duration_seconds",
		Help:    "Time until Klavi's answer begins.",
		Buckets: []float64{.01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 15},
	}, []string{"account", "endpoint"}),
	logins: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "caddy_klavi_logins_total",
		Help: "Logins to Klavi by result: ok or failed.",
	}, []string{"account", "result"}),
	refusals: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "caddy_klavi_refusals_total",
		Help: "Requests answered with a problem, by face (frontend, proxy) and type of problem.",
	}, []string{"account", "face", "type"}),
	reports: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "caddy_klavi_reports_total",
		Help: "Attempts to deliver signed reports and events by route and result: accepted or failed; unroutable had no route to try.",
	}, []string{"account", "route", "result"}),
	took: prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name:    "caddy_klavi_delivery_duration_seconds",
		Help:    "Time of an attempt to deliver a report or event to a route.",
		Buckets: []float64{.01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60},
	}, []string{"account", "route"}),
	refused: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "caddy_klavi_reports_refused_total",
		Help: "Requests to klavi_reports that were no signed report, or one that could not be kept, by reason; connectivity_test is Klavi's empty one, answered 200.",
	}, []string{"account", "reason"}),
	keys: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "caddy_klavi_signatures_total",
		Help: "Signatures that fit, by key: secret_key, or accept_secret_keys with its position.",
	}, []string{"account", "key"}),
	kept: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "caddy_klavi_inbox_reports_total",
		Help: "Reports and events that came for the inbox, by what became of them: stored, repeat, conflict and unreadable are kept anew; " +
			"duplicate and erased were answered 200; quarantined and not_quarantined had the signature of an unknown key; " +
			"released were quarantined and are kept now.",
	}, []string{"account", "result"}),
	deaths: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "caddy_klavi_inbox_deaths_total",
		Help: "Reports and events that will not be tried any more, by route; without a route it is empty.",
	}, []string{"account", "route"}),
}

func registerMetrics(registry *prometheus.Registry) error {
	for _, c := range []prometheus.Collector{
		metrics.calls, metrics.duration, metrics.logins, metrics.refusals, metrics.reports, metrics.took,
		metrics.refused, metrics.keys, metrics.kept, metrics.deaths,
		inboxGauges{},
	} {
		var already prometheus.AlreadyRegisteredError
		if err := registry.Register(c); err != nil && !errors.As(err, &already) {
			return fmt.Errorf("registering metrics: %w", err)
		}
	}
	return nil
}

// meter counts the calls to one endpoint. It finds what it counts with at the
// first call of its kind: to look it up by its labels takes longer than to count.
type meter struct {
	endpoint string // such as "GET /consents": never an id
	calls    [len(outcomes)]func() prometheus.Counter
	duration func() prometheus.Observer
}

// outcomes are the values of the label status. That of a status from 200 to 599
// stands at its class.
var outcomes = [...]string{"error", "other", "2xx", "3xx", "4xx", "5xx"}

// newMeters returns a meter for each of Klavi's endpoints, and one for all else
// under the zero Endpoint.
func newMeters(account string) map[klavi.Endpoint]*meter {
	meters := map[klavi.Endpoint]*meter{{}: newMeter(account, "other")}
	for _, e := range klavi.Endpoints() {
		meters[e] = newMeter(account, e.Method+" "+e.Path)
	}
	return meters
}

func newMeter(account, endpoint string) *meter {
	m := &meter{endpoint: endpoint}
	for i, outcome := range outcomes {
		m.calls[i] = sync.OnceValue(func() prometheus.Counter {
			return metrics.calls.WithLabelValues(account, endpoint, outcome)
		})
	}
	m.duration = sync.OnceValue(func() prometheus.Observer {
		return metrics.duration.WithLabelValues(account, endpoint)
	})
	return m
}

// count counts a call that Klavi answered with status, or not at all: 0.
func (m *meter) count(status int, took time.Duration) {
	outcome := status / 100
	if outcome == 1 || outcome >= len(outcomes) {
		outcome = 1
	}
	m.calls[outcome]().Inc()
	m.duration().Observe(took.Seconds())
}

func countLogin(account, result string) {
	metrics.logins.WithLabelValues(account, result).Inc()
}

// CountRefusal counts a request that was answered with a problem.
func (a *Account) CountRefusal(face, problem string) {
	metrics.refusals.WithLabelValues(a.name, face, problem).Inc()
}

// CountAttempt counts an attempt to deliver a report that is not in the inbox.
func (a *Account) CountAttempt(route string, accepted bool, took time.Duration) {
	countAttempt(a.name, route, accepted, took)
}

func countAttempt(account, route string, accepted bool, took time.Duration) {
	result := "failed"
	if accepted {
		result = "accepted"
	}
	metrics.reports.WithLabelValues(account, route, result).Inc()
	metrics.took.WithLabelValues(account, route).Observe(took.Seconds())
}

// CountUnroutable counts a signed report or event that no route takes.
func (a *Account) CountUnroutable() {
	metrics.reports.WithLabelValues(a.name, "", "unroutable").Inc()
}

// CountReportRefused counts a request that was no signed report, or one that could not be kept.
func (a *Account) CountReportRefused(reason string) {
	metrics.refused.WithLabelValues(a.name, reason).Inc()
}

// CountKept counts a report that came for the inbox.
func (a *Account) CountKept(result string) {
	metrics.kept.WithLabelValues(a.name, result).Inc()
}

// countReleased counts reports that were quarantined.
func countReleased(account string, n int) {
	metrics.kept.WithLabelValues(account, "released").Add(float64(n))
}

// CountKey counts a signature that fits the key at that position of Secrets.
func (a *Account) CountKey(position int) {
	key := "secret_key"
	if position > 0 {
		key = "accept_secret_keys-" + strconv.Itoa(position)
	}
	metrics.keys.WithLabelValues(a.name, key).Inc()
}
