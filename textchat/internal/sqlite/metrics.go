package sqlite

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

// Why a write was refused.
const (
	refusedQueue   = "queue"   // too many wait
	refusedStalled = "stalled" // the disk stands still: nothing was done
	refusedSilent  = "silent"  // it was begun, and the disk did not answer in time
)

// metrics tell how the disk does.
type metrics struct {
	refused *prometheus.CounterVec // by reason
	commit  prometheus.Histogram
}

func newMetrics(reg prometheus.Registerer, s *Store) (*metrics, error) {
	m := &metrics{
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "voicefleet_store_refused_total",
			Help: "Writes refused or given up: queue (too many wait), stalled (the disk stands still), silent (begun, but not durable in time)."}, []string{"reason"}),
		commit: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "voicefleet_store_commit_seconds", Help: "Time until a group of writes was durable.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10}}),
	}
	for _, reason := range []string{refusedQueue, refusedStalled, refusedSilent} {
		m.refused.WithLabelValues(reason)
	}
	stalled := prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "voicefleet_store_stalled", Help: "1 while a group of writes is late and no other is taken."}, func() float64 {
		if s.late() {
			return 1
		}
		return 0
	})
	if reg == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{m.refused, m.commit, stalled} {
		if err := reg.Register(c); err != nil {
			return nil, fmt.Errorf("register metrics: %w", err)
		}
	}
	return m, nil
}
