package allocatorserver

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"voicefleet/internal/telemetry"
)

type metrics struct {
	seats    *prometheus.CounterVec
	took     prometheus.Histogram
	races    prometheus.Counter
	live     prometheus.Gauge
	reserved prometheus.Gauge
	headroom prometheus.Gauge
	fenced   prometheus.Counter

	unwritten prometheus.Counter
}

func newMetrics(reg prometheus.Registerer) *metrics {
	return &metrics{
		seats: telemetry.Register(reg, prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "voicefleet_allocator_seats_total", Help: "Requests to place a user, by result: ok, or the code of the refusal.",
		}, []string{"result"})),
		took: telemetry.Register(reg, prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "voicefleet_allocator_place_seconds", Help: "Time to decide, write and sign one placement.",
			Buckets: prometheus.ExponentialBuckets(0.0001, 2, 14),
		})),
		races: telemetry.Register(reg, prometheus.NewCounter(prometheus.CounterOpts{
			Name: "voicefleet_allocator_races_total", Help: "Placements that found the call written by somebody else meanwhile, and decided again.",
		})),
		live: telemetry.Register(reg, prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "voicefleet_allocator_calls", Help: "Entries in the calls bucket.",
		})),
		reserved: telemetry.Register(reg, prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "voicefleet_allocator_reserved_sessions", Help: "Sessions this allocator has placed or expects that no heartbeat shows yet.",
		})),
		headroom: telemetry.Register(reg, prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "voicefleet_allocator_headroom_sessions", Help: "Sessions the ready nodes have room for beyond load and reservations.",
		})),
		fenced: telemetry.Register(reg, prometheus.NewCounter(prometheus.CounterOpts{
			Name: "voicefleet_allocator_fenced_total", Help: "Calls ended on a node that they had been moved away from while it was out of reach.",
		})),
		unwritten: telemetry.Register(reg, prometheus.NewCounter(prometheus.CounterOpts{
			Name: "voicefleet_allocator_journal_dropped_total", Help: "Entries of the journal given up because the bus was away for long.",
		})),
	}
}

func (m *metrics) placed(took time.Duration, err error) {
	result := "ok"
	if err != nil {
		result = string(codeOf(err))
	}
	m.seats.WithLabelValues(result).Inc()
	m.took.Observe(took.Seconds())
}
