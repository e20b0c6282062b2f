package gateway

import (
	"errors"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"
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
	refused  *prometheus.CounterVec
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
		Help: "Signed reports and events by route and result: accepted, failed or unroutable.",
	}, []string{"account", "route", "result"}),
	refused: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "caddy_klavi_reports_refused_total",
		Help: "Requests to klavi_reports that were not a signed report, by reason; connectivity_test is Klavi's empty one, answered 200.",
	}, []string{"account", "reason"}),
}

func registerMetrics(registry *prometheus.Registry) error {
	for _, c := range []prometheus.Collector{
		metrics.calls, metrics.duration, metrics.logins, metrics.refusals, metrics.reports, metrics.refused,
	} {
		var already prometheus.AlreadyRegisteredError
		if err := registry.Register(c); err != nil && !errors.As(err, &already) {
			return fmt.Errorf("registering metrics: %w", err)
		}
	}
	return nil
}

func countCall(account, endpoint, status string, took time.Duration) {
	metrics.calls.WithLabelValues(account, endpoint, status).Inc()
	metrics.duration.WithLabelValues(account, endpoint).Observe(took.Seconds())
}

func countLogin(account, result string) {
	metrics.logins.WithLabelValues(account, result).Inc()
}

// CountRefusal counts a request that was answered with a problem.
func (a *Account) CountRefusal(face, problem string) {
	metrics.refusals.WithLabelValues(a.name, face, problem).Inc()
}

// CountReport counts a signed report or event that came to its end at a route.
func (a *Account) CountReport(route, result string) {
	metrics.reports.WithLabelValues(a.name, route, result).Inc()
}

// CountReportRefused counts a request that was not a signed report.
func (a *Account) CountReportRefused(reason string) {
	metrics.refused.WithLabelValues(a.name, reason).Inc()
}

func statusClass(status int) string {
	switch status / 100 {
	case 2:
		return "2xx"
	case 3:
		return "3xx"
	case 4:
		return "4xx"
	case 5:
		return "5xx"
	default:
		return "other"
	}
}
