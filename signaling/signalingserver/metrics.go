package signalingserver

import (
	"errors"
	"strconv"

	"github.com/prometheus/client_golang/prometheus"

	"voicefleet/signaling"
)

type metrics struct {
	connections prometheus.Gauge
	sessions    prometheus.Gauge
	ops         *prometheus.CounterVec
	closes      *prometheus.CounterVec
	refused     *prometheus.CounterVec
	lost        prometheus.Counter
	stages      *prometheus.HistogramVec
	panics      prometheus.Counter
}

// closed counts a close code the server sent. The codes are a closed list.
func (m *metrics) closed(code signaling.CloseCode) {
	m.closes.WithLabelValues(strconv.Itoa(int(code))).Inc()
}

func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	if reg == nil {
		reg = prometheus.NewRegistry()
	}
	gauge := func(name, help string) prometheus.Gauge {
		return prometheus.NewGauge(prometheus.GaugeOpts{Name: "voicefleet_signaling_" + name, Help: help})
	}
	counter := func(name, help, label string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: "voicefleet_signaling_" + name, Help: help}, []string{label})
	}
	m := &metrics{
		connections: gauge("connections", "Voice WebSockets open."),
		sessions:    gauge("sessions", "Voice sessions held, those that wait for a resume included."),
		ops:         counter("ops_total", "Messages of clients by op.", "op"),
		closes:      counter("closes_total", "Voice WebSockets closed by the server, by close code.", "code"),
		refused:     counter("refused_total", "Upgrades refused, by reason.", "reason"),
		lost: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "voicefleet_signaling_call_events_lost_total", Help: "Call events dropped because a session took them too slowly.",
		}),
		// Half a millisecond to two seconds; the goal is 8 ms.
		stages: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "voicefleet_signaling_stage_seconds", Help: "Time a stage of joining took, by stage.",
			Buckets: []float64{.0005, .001, .002, .004, .008, .016, .032, .064, .125, .25, .5, 1, 2},
		}, []string{"stage"}),
	}
	for _, c := range []prometheus.Collector{m.connections, m.sessions, m.ops, m.closes, m.refused, m.lost, m.stages} {
		if err := reg.Register(c); err != nil {
			return nil, err
		}
	}
	// Shared by all rooms of the process: whoever comes first registers it.
	panics := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "voicefleet_panics_total", Help: "Panics recovered, by the unit that ended.",
	}, []string{"unit"})
	if err := reg.Register(panics); err != nil {
		var have prometheus.AlreadyRegisteredError
		vec, ok := (*prometheus.CounterVec)(nil), errors.As(err, &have)
		if ok {
			vec, ok = have.ExistingCollector.(*prometheus.CounterVec)
		}
		if !ok {
			return nil, err
		}
		panics = vec
	}
	m.panics = panics.WithLabelValues("voice_session")
	return m, nil
}
