package cql

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/gocql/gocql"
	"github.com/prometheus/client_golang/prometheus"
)

// metrics count what goes to the cluster, and what does not.
type metrics struct {
	queries *prometheus.CounterVec   // by verb
	failed  *prometheus.CounterVec   // by verb
	seconds *prometheus.HistogramVec // by verb
	joined  prometheus.Counter
	refused *prometheus.CounterVec // by reason
	left    prometheus.Counter
	passed  prometheus.Counter
	// Of the remembered buckets, by set: known, empty.
	hits, misses *prometheus.CounterVec
}

func newMetrics(reg prometheus.Registerer, s *Store) (*metrics, error) {
	m := &metrics{
		queries: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "voicefleet_store_queries_total", Help: "Statements sent to the CQL cluster."}, []string{"verb"}),
		failed:  prometheus.NewCounterVec(prometheus.CounterOpts{Name: "voicefleet_store_failures_total", Help: "Statements that the CQL cluster did not answer or refused."}, []string{"verb"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "voicefleet_store_query_seconds", Help: "Time to the answer of a statement.",
			Buckets: []float64{.0005, .001, .002, .005, .01, .015, .025, .05, .1, .25, .5, 1}}, []string{"verb"}),
		joined:  prometheus.NewCounter(prometheus.CounterOpts{Name: "voicefleet_store_coalesced_total", Help: "Reads that shared the query of an equal one."}),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "voicefleet_store_refused_total", Help: "Operations refused or given up: lane (one channel asks too much), breaker, silent (no answer in time)."}, []string{"reason"}),
		left:    prometheus.NewCounter(prometheus.CounterOpts{Name: "voicefleet_store_left_over_total", Help: "Clean-ups after a change that did not succeed; they are harmless."}),
		passed:  prometheus.NewCounter(prometheus.CounterOpts{Name: "voicefleet_store_passed_over_total", Help: "Times that a node was put behind the others for a statement, as it is silent."}),
	}
	m.hits = prometheus.NewCounterVec(prometheus.CounterOpts{Name: "voicefleet_store_bucket_hits_total", Help: "Buckets of messages that were remembered, by set: known (it is in the index), empty (nothing is in it)."}, []string{"set"})
	m.misses = prometheus.NewCounterVec(prometheus.CounterOpts{Name: "voicefleet_store_bucket_misses_total", Help: "Buckets that were not remembered: their index was written, or they were read."}, []string{"set"})
	broken := prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "voicefleet_store_breaker_open", Help: "1 while the CQL cluster is not asked."}, func() float64 {
		if s.breaker.open() {
			return 1
		}
		return 0
	})
	silent := prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "voicefleet_store_silent_nodes", Help: "Nodes of the CQL cluster that are asked and say nothing."}, func() float64 {
		return float64(s.nodes.count(time.Now()))
	})
	for _, c := range []prometheus.Collector{m.queries, m.failed, m.seconds, m.joined, m.refused, m.left, m.passed, m.hits, m.misses, broken, silent} {
		if err := reg.Register(c); err != nil {
			return nil, fmt.Errorf("register metrics: %w", err)
		}
	}
	return m, nil
}

func (m *metrics) observe(stmt string, seconds float64, err error) {
	verb, _, _ := strings.Cut(stmt, " ")
	verb = strings.ToLower(verb)
	m.queries.WithLabelValues(verb).Inc()
	m.seconds.WithLabelValues(verb).Observe(seconds)
	if err != nil {
		m.failed.WithLabelValues(verb).Inc()
	}
}

// ObserveQuery counts a query.
func (m *metrics) ObserveQuery(_ context.Context, q gocql.ObservedQuery) {
	m.observe(q.Statement, q.End.Sub(q.Start).Seconds(), q.Err)
}

// ObserveBatch counts a batch as one statement.
func (m *metrics) ObserveBatch(_ context.Context, b gocql.ObservedBatch) {
	m.observe("batch", b.End.Sub(b.Start).Seconds(), b.Err)
}
