package chatserver

import (
	"errors"
	"runtime/debug"

	"github.com/prometheus/client_golang/prometheus"
)

func stack() string {
	const most = 8 << 10
	b := debug.Stack()
	return string(b[:min(len(b), most)])
}

// metrics are what the server counts. No label holds anything a stranger can
// choose: routes are our own patterns, codes a closed list.
type metrics struct {
	requests        *prometheus.CounterVec
	latency         prometheus.Histogram
	limited         prometheus.Counter
	connections     prometheus.Gauge
	sessions        prometheus.Gauge
	frames          prometheus.Counter
	events          prometheus.Counter
	closes          *prometheus.CounterVec
	resumes         *prometheus.CounterVec
	presenceDropped prometheus.Counter
	effectDropped   prometheus.Counter
	effects         *prometheus.CounterVec
	guilds          prometheus.Gauge
	unloaded        prometheus.Counter
	instances       prometheus.Gauge
	led             prometheus.Gauge
	entries         prometheus.Counter
	leadMoves       *prometheus.CounterVec
	panics          *prometheus.CounterVec
	cacheHits       *prometheus.CounterVec
	cacheMisses     *prometheus.CounterVec
	cacheEvicted    *prometheus.CounterVec
	cacheBytes      *prometheus.GaugeVec
}

func newMetrics(r prometheus.Registerer) (*metrics, error) {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	}
	vec := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	}
	gauge := func(name, help string) prometheus.Gauge {
		return prometheus.NewGauge(prometheus.GaugeOpts{Name: name, Help: help})
	}
	m := &metrics{
		requests: vec("voicefleet_rest_requests_total", "REST requests by route and status.", "route", "status"),
		latency: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "voicefleet_rest_seconds", Help: "How long REST requests take.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 2, 14)}),
		limited:         counter("voicefleet_rest_limited_total", "REST requests refused for their rate."),
		connections:     gauge("voicefleet_gateway_connections", "Open gateway connections."),
		sessions:        gauge("voicefleet_gateway_sessions", "Gateway sessions, resumable ones included."),
		frames:          counter("voicefleet_gateway_frames_total", "Frames from clients."),
		events:          counter("voicefleet_gateway_events_total", "Events delivered to sessions."),
		closes:          vec("voicefleet_gateway_closes_total", "Connections this side closed, by code.", "code"),
		resumes:         vec("voicefleet_gateway_resumes_total", "Resumes, by outcome.", "outcome"),
		presenceDropped: counter("voicefleet_gateway_presence_dropped_total", "Call events and moves dropped because the queue was full."),
		effectDropped:   counter("voicefleet_gateway_voice_orders_dropped_total", "Voice orders dropped because a user's lane was full."),
		effects:         vec("voicefleet_gateway_voice_orders_total", "Voice orders, by kind and outcome.", "kind", "outcome"),
		guilds:          gauge("voicefleet_gateway_guilds", "Guilds loaded."),
		unloaded:        counter("voicefleet_gateway_guilds_unloaded_total", "Guilds unloaded because nobody used them."),
		instances:       gauge("voicefleet_text_instances", "Text instances that serve guilds together, as this one sees them."),
		led:             gauge("voicefleet_text_guilds_led", "Guilds that this instance leads, of those loaded here."),
		entries:         counter("voicefleet_text_entries_led_total", "Entries of guilds that this instance led."),
		leadMoves:       vec("voicefleet_text_lead_moves_total", "Guilds that this instance gave to another one to lead, or back, by why.", "why"),
		cacheHits:       vec("voicefleet_cache_hits_total", "Look-ups that a cache answered, by cache.", "cache"),
		cacheMisses:     vec("voicefleet_cache_misses_total", "Look-ups that it could not answer, by cache.", "cache"),
		cacheEvicted:    vec("voicefleet_cache_evictions_total", "What a cache forgot because it was full, by cache.", "cache"),
		cacheBytes:      prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "voicefleet_cache_bytes", Help: "What a cache holds, by cache."}, []string{"cache"}),
		panics:          vec("voicefleet_panics_total", "Panics recovered, by the unit that ended with it. Every one is a bug.", "unit"),
	}
	for _, c := range []prometheus.Collector{m.requests, m.latency, m.limited, m.connections, m.sessions, m.frames, m.events,
		m.closes, m.resumes, m.presenceDropped, m.effectDropped, m.effects, m.guilds, m.unloaded, m.instances, m.led, m.entries, m.leadMoves, m.cacheHits, m.cacheMisses, m.cacheEvicted, m.cacheBytes} {
		if err := r.Register(c); err != nil {
			return nil, err
		}
	}
	// The other rooms of the process count there too.
	if err := r.Register(m.panics); err != nil {
		var already prometheus.AlreadyRegisteredError
		if !errors.As(err, &already) {
			return nil, err
		}
		m.panics = already.ExistingCollector.(*prometheus.CounterVec)
	}
	return m, nil
}
