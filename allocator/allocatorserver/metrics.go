package allocatorserver

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"voicefleet/allocator"
	"voicefleet/allocator/keeper"
	"voicefleet/internal/telemetry"
)

type metrics struct {
	seats    *prometheus.CounterVec
	took     prometheus.Histogram
	races    prometheus.Counter
	live     prometheus.Gauge
	reserved prometheus.Gauge
	headroom prometheus.Gauge
	regions  *prometheus.GaugeVec
	fenced   prometheus.Counter
	refused  *prometheus.CounterVec

	unwritten prometheus.Counter

	nodes    *prometheus.GaugeVec
	verdicts *prometheus.CounterVec
	moves    *prometheus.CounterVec
	tells    *prometheus.CounterVec
	leaving  *prometheus.GaugeVec
}

func newMetrics(reg prometheus.Registerer) *metrics {
	return &metrics{
		nodes: telemetry.Register(reg, prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "voicefleet_allocator_doubtful_nodes", Help: "Nodes that are suspect, held or lost, as this allocator sees them.",
		}, []string{"state"})),
		verdicts: telemetry.Register(reg, prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "voicefleet_allocator_verdicts_total", Help: "What this allocator found out about nodes: suspect, hold, lost, back, degraded, recovered, refused, and of listeners: mend.",
		}, []string{"deed"})),
		moves: telemetry.Register(reg, prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "voicefleet_allocator_moves_total", Help: "Calls that this allocator gave another node, by cause.",
		}, []string{"cause"})),
		tells: telemetry.Register(reg, prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "voicefleet_allocator_moves_told_total", Help: "Moves told to the guilds, by cause; those that nobody followed are told again.",
		}, []string{"cause"})),
		leaving: telemetry.Register(reg, prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "voicefleet_allocator_leaving_sessions", Help: "Sessions whose calls are still to be moved away from their node, by cause.",
		}, []string{"cause"})),
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
		regions: telemetry.Register(reg, prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "voicefleet_allocator_region_headroom_sessions", Help: "The same for each region; one without nodes is missing.",
		}, []string{"region"})),
		fenced: telemetry.Register(reg, prometheus.NewCounter(prometheus.CounterOpts{
			Name: "voicefleet_allocator_fenced_total", Help: "Calls ended on a node that they had been moved away from while it was out of reach.",
		})),
		refused: telemetry.Register(reg, prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "voicefleet_allocator_refused_total", Help: "What heartbeats say that cannot be and is not believed, by kind: name, capacity, load, CPU, loss, weight, epoch, call.",
		}, []string{"kind"})),
		unwritten: telemetry.Register(reg, prometheus.NewCounter(prometheus.CounterOpts{
			Name: "voicefleet_allocator_journal_dropped_total", Help: "Entries of the journal given up because the bus was away for long.",
		})),
	}
}

// room replaces what each region has room for.
func (m *metrics) room(regions map[string]int) {
	m.regions.Reset()
	for id, n := range regions {
		m.regions.WithLabelValues(id).Set(float64(n))
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

func (m *metrics) told(moved allocator.Moved) { m.tells.WithLabelValues(string(moved.Cause)).Inc() }

// stand shows how the fleet stands.
func (m *metrics) stand(now time.Time, core *keeper.Core) {
	place := core.Place()
	m.live.Set(float64(place.Live()))
	reserved := 0
	for _, load := range place.Reserved(now) {
		reserved += load.Sessions
	}
	m.reserved.Set(float64(reserved))
	m.headroom.Set(float64(place.Headroom(now)))
	m.room(place.RegionHeadroom(now))
	suspects, holds, losts := core.Watch().Count()
	m.nodes.WithLabelValues("suspect").Set(float64(suspects))
	m.nodes.WithLabelValues("held").Set(float64(holds))
	m.nodes.WithLabelValues("lost").Set(float64(losts))
	m.leaving.Reset()
	for cause, sessions := range core.Leaving() {
		m.leaving.WithLabelValues(string(cause)).Set(float64(sessions))
	}
}
